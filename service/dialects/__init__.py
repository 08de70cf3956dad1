"""service.dialects: pieces of text into each dialect's shapes; plain functions to plain dictionaries."""
