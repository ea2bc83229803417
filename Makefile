# make book    a fresh clone to a rendered book; STUDY=name for another study
# make test    format, lint, types and all tests
# make help    this list
.DEFAULT_GOAL := help
PYTHON ?= python3
STUDY ?= laptop
CORES ?= 2
BIN := .venv/bin
# After a kill or a power cut the same command goes on; two runs at once are kept apart by the locks of each model.
SNAKEMAKE := snakemake --cores $(CORES) --rerun-incomplete --nolock --quiet host progress rules
# Idle threads that spin would halve the speed of whatever runs beside them.
export OMP_WAIT_POLICY := PASSIVE
export PATH := $(CURDIR)/$(BIN):$(PATH)
export HF_HUB_DISABLE_TELEMETRY := 1
# One thread each, a process a core.
UNIT := OMP_NUM_THREADS=1 pytest -n $(CORES) --dist worksteal

.PHONY: help book run check test reproduce class lint clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/'

book: $(BIN)/.installed  ## install what is missing, run the study, render the book into _build/html
	mkdir -p _build
	$(SNAKEMAKE) --configfile studies/$(STUDY).yml -- all book
	@echo "The book: _build/html/index.html"

run: $(BIN)/.installed  ## run a study without rendering the book: make run STUDY=campaign
	$(SNAKEMAKE) --configfile studies/$(STUDY).yml

check: lint  ## the inner loop, in three minutes: format, lint, imports, types and unit tests
	$(UNIT) -m "not (pages or browser or cluster or slow)"

test: lint book  ## everything: lint, the default study and its book, and every test on them
	$(UNIT) --durations=5 -m "not (pages or browser or cluster)"
	pytest --durations=5 -m "pages or browser or cluster"

reproduce: book  ## train, measure and execute everything again in an empty folder, and compare all outputs
	rm -rf runs/reproduced
	python tests/reproduce.py runs/reproduced

class: $(BIN)/.installed  ## write the exercises as notebooks, for students and instructors, into _build/class
	prunecast class _build/class

lint: $(BIN)/.installed  ## check format, lint, imports and types
	ruff format --check .
	ruff check .
	lint-imports --no-logo --no-cache
	deptry .
	mypy

clean:  ## remove what was made, except the virtual environment
	rm -rf runs _build .snakemake

$(BIN)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Prunecast needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	touch $@
