"""models: the bundled model, its tokenizer and card, and the scripts that make and measure it."""
