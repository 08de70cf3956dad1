"""training: data, tokenizer, model, trainer and evaluation of the bundled model. Nothing in the service imports it."""
