# Formwork: one command per wish. Each target sets up what it needs on a machine that has only Python 3.11 or later.
#
#   make serve        set up, then serve the bundled model on 127.0.0.1:8000   (PORT=…, HOST=…, MODEL=…, FLAGS="…")
#   make test         set up, then run the tests (about ten minutes at most on two cores)
#   make test-all     the same and the slow ones
#   make check        ruff, mypy, import contracts, then make test
#   make bench        print the benchmark tables
#   make clean        remove the virtual environment and every cache

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	if command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8000
MODEL ?= models/formwork-mini
FLAGS ?=

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help serve test test-all check lint format types contracts bench clean

help:
	@sed -n 's/^#   //p' Makefile

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Formwork needs Python 3.11 or later; set PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml | $(BIN)/python
	@echo "Installing Formwork into $(VENV) (a minute or two the first time) …"
	$(PIP) install -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "Installing Formwork and its development tools into $(VENV) (a minute or two the first time) …"
	$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.serve

$(VENV)/.clients: pyproject.toml $(VENV)/.dev
	$(PIP) install -e '.[dev,clients,ray]'
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.dev
	$(PIP) install -e '.[bench]'
	@touch $@

serve: $(VENV)/.serve
	exec $(BIN)/formwork serve $(MODEL) --host $(HOST) --port $(PORT) $(FLAGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest

test-all: $(VENV)/.clients
	$(BIN)/python -m pytest -m 'not gpu'

check: lint types contracts test

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

bench: $(VENV)/.bench
	$(BIN)/formwork bench grammar
	$(BIN)/formwork bench engine
	$(BIN)/formwork bench serving

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache
