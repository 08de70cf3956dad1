"""One script for each question that has a number for an answer; `formwork bench` runs them."""

from engine.logs import hush_imports

hush_imports()  # whichever of a script's imports brings transformers first
