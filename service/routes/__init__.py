"""service.routes: one file per family of routes; each parses, asks the generation to run, and renders."""
