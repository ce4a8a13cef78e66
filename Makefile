# Everything a newcomer needs: `make demo` and `make test`. Nothing here calls apt or sudo.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test check lint types imports clean reproduce-results

help:
	@echo "make demo    install into $(VENV), train on a rendered world, answer three descriptions"
	@echo "make test    install into $(VENV), run every check and test"
	@echo "make check   the same checks without installing"
	@echo "make clean   remove $(VENV), caches and the demo's output"

# A fresh machine may lack venv or have an old Python: say so instead of a traceback.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than 3.11; run: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "make: $(PYTHON) has no venv; on Debian: apt install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	@echo "installing: about 7 GB with torch, a few minutes" >&2
	$(BIN)/python -m pip install --quiet --editable '.[train,dev]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/demo.py

test: $(STAMP)
	$(MAKE) --no-print-directory check

check: lint types imports
	$(BIN)/python -m pytest

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports

# The tables of docs/results.md from real imagery; DATA names its folder.
DATA ?= ../shared/data
reproduce-results: $(STAMP)
	$(BIN)/python benchmarks/small.py $(DATA)

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
