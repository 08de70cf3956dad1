"""What an open value is waiting for: labelled automata for scalars, formulas in motion for the rest."""
