"""Scripts of clients that cannot live beside us: each runs in a virtual environment that its test makes."""
