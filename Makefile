# Two commands do everything, set-up included: `make repro` runs the miniature, `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv
# The build of torch that these targets install; pyproject.toml takes any from 2.4 on.
TORCH ?= torch==2.13.0
BIN = $(VENV)/bin
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: repro test test-slow lint docs mini-student

repro: $(VENV)/.mini
	drp compile --check
	dvc repro
	drp show mini table

test: $(VENV)/.dev lint
	OMP_NUM_THREADS=1 python -m pytest -n 3 --dist worksteal

test-slow: $(VENV)/.dev
	python -m pytest -m "slow or vllm or deepspeed"

lint: $(VENV)/.dev
	ruff check drp tests benchmarks
	mypy
	drp check
	drp compile --check

# What is generated and kept in git: the recipe reference, the recipes' JSON Schema, the compiled pipelines.
docs: $(VENV)/.dev
	drp ops --markdown > docs/recipe.md
	drp schema --write recipes/schema.json
	drp compile

# Trains the shipped student anew by its own recipe (half an hour on one core); its stage is frozen otherwise.
mini-student: $(VENV)/.mini
	drp compile --thaw mini-student
	dvc repro recipes/mini-student/dvc.yaml
	drp compile

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.mini: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --disable-pip-version-check --quiet $(TORCH)
	$(BIN)/pip install --disable-pip-version-check --quiet -e '.[mini]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --disable-pip-version-check --quiet $(TORCH)
	$(BIN)/pip install --disable-pip-version-check --quiet -e '.[dev]'
	touch $@ $(VENV)/.mini
