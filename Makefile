# Everything that is run by hand or by CI. `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV_VERSION := 0.13.9
# One registry setting serves pip and uv: uv does not read pip's configuration.
PIP_INDEX = $(shell $(BIN)/pip config get global.index-url 2>/dev/null)
export UV_DEFAULT_INDEX ?= $(or $(PIP_INDEX_URL),$(PIP_INDEX))
ifeq ($(strip $(UV_DEFAULT_INDEX)),)
unexport UV_DEFAULT_INDEX
endif
export UV_LINK_MODE ?= copy

.DEFAULT_GOAL := help
.PHONY: help setup run test soak check format bench ui lock clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## Create .venv and install the pinned dependencies

# Compiled once, here: where Python may not write bytecode, each process would compile the libraries anew (MLflow: 7 s instead of 1 s).
$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Tenure needs $(PYTHON) on the PATH (or: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(STAMP)

run: setup  ## Run the whole job on the built-in sandbox company
	@$(BIN)/tenure run

test: setup  ## Run the test suite
	@$(BIN)/python -m pytest

soak: setup  ## Run the slow tests (kills, whole jobs, soak)
	@$(BIN)/python -m pytest -m slow

check: setup  ## Lint, format, types, SQL style, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --nocolor --disable-progress-bar models dbt_project
	$(BIN)/lint-imports --no-cache

format: setup  ## Let ruff and sqlfluff rewrite the files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/sqlfluff fix --nocolor --disable-progress-bar models dbt_project

bench: setup  ## Measure speed and memory; prints JSON
	@$(BIN)/python -m benchmarks

ui: setup  ## Open the Dagster UI on http://127.0.0.1:3000
	@$(BIN)/tenure ui

lock: setup  ## Pin the dependencies anew
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --python-version 3.11 --group dev pyproject.toml -o requirements.lock

clean:  ## Remove the virtual environment and all state
	rm -rf $(VENV) var
