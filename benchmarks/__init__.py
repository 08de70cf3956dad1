"""One script for each question that has a number for an answer; `formwork bench` runs them."""
