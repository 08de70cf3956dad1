"""service: HTTP, streaming, access, settings, the error table and the command line; no tensors, no scheduling."""
