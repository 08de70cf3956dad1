"""What an open value is waiting for: strings and numbers as labelled automata, objects and arrays as formulas in motion."""
