"""Tests of the bundled model and of what makes it."""
