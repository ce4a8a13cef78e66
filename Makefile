# Everything a newcomer needs: `make demo` and `make test`. Nothing here calls apt or sudo.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test check lint types imports track4 bench tower reproduce reproduce-results clean

help:
	@echo "make demo    install into $(VENV), train on a rendered world, answer three descriptions"
	@echo "make test    install into $(VENV), run every check and test"
	@echo "make check   the same checks without installing"
	@echo "make track4  train and evaluate on real imagery: make track4 DATA=../shared/data"
	@echo "make reproduce  remake the experts that come with the package: make reproduce DATA=../shared/data"
	@echo "make tower   tune the image tower's last blocks that come with the package, about an hour: make tower DATA=../shared/data"
	@echo "make bench   measure speed and memory: make bench DATA=../shared/data, about 15 minutes"
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
	$(BIN)/python -m pip install --quiet --editable '.[train,refine,robustness,plots,dev]'
	sh scripts/install_small_llm.sh $(BIN)/python
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

# Real imagery: DATA names a folder with geotext-mini/, track4-mini/ and rsicd/.
DATA ?= ../shared/data

# Trains three experts and evaluates operator queries, platforms unknown.
track4: $(STAMP)
	$(BIN)/saywhere train $(DATA)/geotext-mini/train.json --out runs/experts --overwrite
	$(BIN)/saywhere evaluate $(DATA)/track4-mini --experts runs/experts --unknown-platforms --out runs/track4.json

# Remakes the tuned blocks of the image tower that come with the package.
tower: $(STAMP)
	$(BIN)/saywhere towers tune $(DATA)/rsicd/train-without-valid --config examples/tower.toml \
	  --set towers.image.tuned= --out runs/tower-rsicd.safetensors --overwrite
	$(BIN)/saywhere towers tune $(DATA)/geotext-mini/train.json --config examples/tower-geotext.toml \
	  --set towers.image.tuned=runs/tower-rsicd.safetensors --out runs/tower.safetensors --overwrite
	@echo "compare runs/tower.safetensors with saywhere/towers/shipped.safetensors"

# Remakes the experts that come with the package; their card is saywhere/shipped/README.md.
reproduce: $(STAMP)
	$(BIN)/saywhere train $(DATA)/geotext-mini/train.json --more $(DATA)/rsicd/train-without-valid \
	  --config examples/shipped.toml --out runs/ship --overwrite
	$(BIN)/saywhere expert export runs/ship runs/shipped --half --no-towers --overwrite
	$(BIN)/saywhere evaluate $(DATA)/track4-mini --experts runs/shipped --unknown-platforms
	$(BIN)/saywhere evaluate --benchmark rsicd --data $(DATA)/rsicd --experts runs/shipped
	@echo "compare runs/shipped with saywhere/shipped: saywhere expert show runs/shipped"

# The table of speed. Mining is compared with sentence-transformers' only where `datasets` is
# installed, too: it brings pandas and more for this one comparison, so it is in no extra.
bench: $(STAMP)
	$(BIN)/python benchmarks/speed.py $(DATA)

# The tables of docs/results.md.
reproduce-results: $(STAMP)
	$(BIN)/python benchmarks/small.py $(DATA) --seeds 3 --out runs/small

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
