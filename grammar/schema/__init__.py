"""JSON Schema → formulas: documents and references, drafts, keywords. Nothing here knows of bytes or tokens."""
