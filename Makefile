# make run    set everything up and compare the attention dataflows on the built-in networks
# make test   set everything up and run the quick tests
# make slow   the sets that are too slow for it
# Needs Python 3.11 to 3.13 and git; everything else goes into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TEST_JOBS ?= 2
# A file's tests run in one worker, so that what they share is made once.
WORKERS = -n $(TEST_JOBS) --dist loadfile
N ?= 10000
MACHINE ?= edge-16x16
OUT ?= out

# pytest answers 5 when it found no test; that is no failure.
PYTEST = run_pytest() { $(BIN)/pytest "$$@" || { rc=$$?; [ $$rc -eq 5 ] || exit $$rc; }; }; run_pytest

.PHONY: help setup setup-core run test browser processes lint extras slow trained docs bench fuzz validation gpu clean

help:
	@echo 'make run         set up, then compare the dataflows on the built-in networks; reports in $(OUT)/'
	@echo 'make test        set up, then run the quick tests'
	@echo 'make browser     the pages in a real browser, where there is one'
	@echo 'make processes   sweeps that are killed, interrupted, short of disk, or share a store'
	@echo 'make lint        style, types and import layers'
	@echo 'make extras      what stands on PyTorch and the other optional libraries (installs them)'
	@echo 'make slow        all sets that are marked slow, those of make trained too (installs as make extras; about 10 minutes)'
	@echo 'make trained     bit widths and formats on networks that are trained for it (after make extras; 3 minutes)'
	@echo 'make docs        the documentation with the Python reference, into $(OUT)/site'
	@echo 'make validation  compare with published figures'
	@echo 'make gpu         all suites of kernels, shapes that no fit has seen, energy and networks on the GPU here, in 8 minutes'
	@echo 'make bench       speed of the engine and of the search'
	@echo 'make fuzz N=...  random programs, engine against reference; N damaged inputs of all kinds of files'
	@echo 'make setup       only install, with the tools of the developers'
	@echo 'make clean       remove what the other targets made'

# --- set-up, once -----------------------------------------------------------------------------------------------

setup: $(VENV)/.installed-dev

setup-core: $(VENV)/.installed-core

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo 'Tilewright needs Python 3.11 to 3.13; none was found.' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo 'Tilewright needs Python 3.11 to 3.13; $(PYTHON) is another (choose one with make PYTHON=...).' >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
	  if [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then \
	    echo 'Installing python3-venv, which Debian keeps in a package of its own'; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; \
	  else \
	    echo 'Python has no venv module here. On Debian: sudo apt-get install python3-venv' >&2; exit 1; \
	  fi; }
	@echo 'Making $(VENV)'
	@"$(PYTHON)" -m venv "$(VENV)" || { rm -rf "$(VENV)"; exit 1; }

$(VENV)/.installed-core: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing Tilewright and what it stands on (about a minute, once)'
	@$(PIP_INSTALL) setuptools
	@$(PIP_INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-core
	@echo 'Installing the tools of the developers'
	@$(PIP_INSTALL) --no-build-isolation --editable '.[dev]'
	@touch $@

# --- the main job ------------------------------------------------------------------------------------------------

run: setup-core
	@echo 'Compiling the engine: about 10 s the first time, cached afterwards'
	@$(BIN)/tilewright simulate bert-small -a $(MACHINE) --json - >/dev/null
	@mkdir -p "$(OUT)"
	$(BIN)/tilewright compare --all -a $(MACHINE) --report "$(OUT)" --csv "$(OUT)/results.csv" --json "$(OUT)/results.json"

# --- checks ------------------------------------------------------------------------------------------------------

test: setup
	@$(PYTEST) $(WORKERS) -m 'not slow and not extras and not browser and not processes' --benchmark-skip -q

# Reports in a real browser; they skip themselves where there is no Chromium.
browser: setup
	@$(PYTEST) $(WORKERS) -m 'browser and not slow' -q

# What kill -9, Ctrl-C, full disks and several processes on one store do to a sweep.
processes: setup
	@$(PYTEST) -m 'processes and not slow and not extras' -q

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@MYPY=$(BIN)/mypy .ci/typecheck
	$(BIN)/lint-imports

# What stands on the optional libraries: PyTorch, Hugging Face, Triton, Dask, pymoo, Optuna, pyarrow (about 2 GB).
$(VENV)/.installed-extras: $(VENV)/.installed-dev constraints-extras.txt
	@echo 'Installing PyTorch and the other optional libraries'
	@$(PIP_INSTALL) --constraint constraints-extras.txt --no-build-isolation --editable '.[dev,all]'
	@touch $@

extras: $(VENV)/.installed-extras
	@$(PYTEST) $(WORKERS) -q -m 'extras and not slow' --benchmark-skip

slow: $(VENV)/.installed-extras
	@$(PYTEST) $(WORKERS) -q -m slow --benchmark-skip

trained: $(VENV)/.installed-extras
	@$(PYTEST) -n $(TEST_JOBS) -q tests/validation/test_bits_on_trained_networks.py tests/validation/test_weight_formats.py

$(VENV)/.installed-docs: $(VENV)/.installed-core constraints-extras.txt
	@echo 'Installing what builds the documentation'
	@$(PIP_INSTALL) --constraint constraints-extras.txt --no-build-isolation --editable '.[docs]'
	@touch $@

docs: $(VENV)/.installed-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --site-dir "$(OUT)/site"
	@echo 'The documentation is in $(OUT)/site/index.html'

validation: setup
	@$(PYTEST) tests/validation -s

# Needs PyTorch with a GPU, Triton and torchvision where TILEWRIGHT runs; goes on where it was, so it may be cut off.
TILEWRIGHT ?= $(BIN)/tilewright
gpu:
	@mkdir -p "$(OUT)"
	$(TILEWRIGHT) measure --suite unseen,energy,attention,sparse,scan,gemm,fusion,elementwise -o "$(OUT)/gpu.json" --budget 5m
	$(TILEWRIGHT) measure --suite networks -o "$(OUT)/gpu-networks.json" --budget 2m

bench: setup
	@$(PYTEST) tests/benchmarks -q --benchmark-columns=min,median,max,rounds

fuzz: setup
	@export TILEWRIGHT_FUZZ=$(N); $(PYTEST) tests/property tests/fuzz -n $(TEST_JOBS)

clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks .grimp_cache .import_linter_cache .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
