"""Context-free constraints: rules over regular words and embedded JSON, from several spellings, on one automaton."""
