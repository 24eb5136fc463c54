# Two commands do everything: `make demo` and `make test`. Both make .venv first, and are quick the second time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint docs bench clean

demo: $(STAMP)-local
	$(BIN)/weft run examples/changelog.py --input repo=. --input limit=40 \
	  --allow write:./CHANGELOG.generated.md
	@echo "The changelog is in CHANGELOG.generated.md"

test: $(STAMP)-test lint
	$(BIN)/python -m pytest -n 3

lint: $(STAMP)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)-test
	$(BIN)/python -m pip install --quiet '.[bench]'
	$(BIN)/python -m benchmarks.durable

docs: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	$(BIN)/zensical build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Weft needs Python 3.11 or newer; $(PYTHON) is older. Say which one: make PYTHON=python3.12 $(MAKECMDGOALS)"; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP)-local: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[local]'
	@touch $@

$(STAMP)-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[all,test]'
	@touch $@ $(STAMP)-local

clean:
	rm -rf $(VENV) site dist build
