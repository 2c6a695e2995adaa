# Everything is installed into .venv from the hash-locked requirement files; nothing else on the machine is touched.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
SEED   ?= 1
COUNT  ?= 1

.PHONY: demo test check bench faults sim lock clean help

help:            ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: $(VENV)/installed       ## set up, then break three replicas under load and count what clients see
	$(BIN)/python examples/demo/demo.py

test: $(VENV)/installed       ## set up, then run all tests
	$(BIN)/python -m pytest -q

check: $(VENV)/installed      ## style, types, layers, and the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_house.py

bench: $(VENV)/bench-installed  ## measure, side by side with others; tables and JSON in bench/results
	$(BIN)/python -m bench

faults: $(VENV)/bench-installed  ## make every fault on real processes: what is noticed, and how soon
	$(BIN)/python -m bench faults

sim: $(VENV)/installed        ## replay a simulated run: make sim SEED=7
	$(BIN)/perdure sim --seed $(SEED) --count $(COUNT)

lock: $(VENV)/installed       ## renew the lock files from pyproject.toml
	$(PIP) install pip-tools
	$(BIN)/pip-compile $(LOCK_OPTIONS) --extra test --extra demo -o requirements.lock pyproject.toml
	$(BIN)/pip-compile $(LOCK_OPTIONS) --extra test --extra demo --extra bench -o requirements-bench.lock pyproject.toml

LOCK_OPTIONS := --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	--strip-extras --no-header --allow-unsafe

clean:           ## remove what make made
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/installed: requirements.lock pyproject.toml
	@echo "setting up $(VENV) (about a minute, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/bench-installed: $(VENV)/installed requirements-bench.lock
	@echo "adding the programs that Perdure is compared with"
	@$(PIP) install --require-hashes -r requirements-bench.lock
	@touch $@
