"""engine: scheduling, cache pages, model execution and sampling, behind a process boundary."""
