# Everything here sets itself up: a virtual environment in .venv with the pinned versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
GPAW_READY := $(VENV)/.gpaw
GPAW_MPI ?= 0
GPAW_PACKAGES := g++ libxc-dev libopenblas-dev
QE_PACKAGES := quantum-espresso quantum-espresso-data
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

.DEFAULT_GOAL := help
.PHONY: help setup gpaw qe triton browser demo bench test kill-test fuzz docs lint format wheel clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "deepdft needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,pymatgen,view,xarray]'
	touch $@

setup: $(READY) ## Make the virtual environment

$(GPAW_READY): $(READY)
	@echo 'GPAW is compiled here and needs $(GPAW_PACKAGES): these are installed by apt-get where they are missing'
	dpkg -s $(GPAW_PACKAGES) >/dev/null 2>&1 || ($(SUDO) apt-get update -qq && $(SUDO) apt-get install -qq -y $(GPAW_PACKAGES))
	@echo 'GPAW is built without MPI (gpaw_siteconfig.py); with it: make gpaw GPAW_MPI=1, where mpic++ and its headers are installed'
	CC=g++ GPAW_CONFIG=$${GPAW_CONFIG:-$(abspath gpaw_siteconfig.py)} GPAW_MPI=$(GPAW_MPI) $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,gpaw]'
	touch $@

gpaw: $(GPAW_READY) ## Install GPAW for deepdft-generate: system packages by apt-get (sudo), then the extra

qe: ## Install Quantum ESPRESSO for deepdft-generate dft=qe and deepdft-start by apt-get (sudo): pw.x and pseudopotentials
	dpkg -s $(QE_PACKAGES) >/dev/null 2>&1 || ($(SUDO) apt-get update -qq && $(SUDO) apt-get install -qq -y --no-install-recommends $(QE_PACKAGES))

triton: $(READY) ## Install Triton where torch has not brought it: its interpreter tests the GPU kernel on the CPU (0.2 GB)
	$(BIN)/python -c 'import triton' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'triton==3.7.1'

browser: ## Install Chromium by apt-get (sudo), in which the tests open the page of deepdft-view
	dpkg -s chromium >/dev/null 2>&1 || ($(SUDO) apt-get update -qq && $(SUDO) apt-get install -qq -y chromium)

demo: $(READY) ## Train on bundled densities, evaluate, predict; pictures in runs/demo (some 3 minutes on 2 cores)
	$(BIN)/python experiments/demo/run.py

bench: $(READY) ## Time training and prediction beside the arithmetic of the released code, on one thread
	cd experiments/performance/models && $(abspath $(BIN))/python run.py

kill-test: $(READY) ## Kill trainings at random moments, resume them, compare with undisturbed ones (RUNS=10 SEED=0)
	$(BIN)/python experiments/kill_test/run.py --runs $(or $(RUNS),10) --seed $(or $(SEED),0)

test: $(READY) ## Run the tests on all cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

fuzz: $(READY) ## Read more than a hundred thousand damaged files of all kinds (half an hour on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py

docs: $(READY) ## Build the documentation into docs/_build/html; warnings and broken links are errors
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet docs docs/_build/html
	$(BIN)/python docs/check.py docs/_build/html

lint: $(READY) ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(READY) ## Build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) dist build docs/_build docs/generated .pytest_cache .mypy_cache .ruff_cache
	find deepdft -name __pycache__ -prune -exec rm -rf {} +
