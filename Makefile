# make demo: environment, install, and the main job on the embedded kitchen. make test: environment and the test suite.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DEMO_ARGS ?=
TEST_ARGS ?=
JOBS ?= 2

# Waiting threads sleep instead of spinning: on a busy machine a spinning pool is many times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test slow lint env clean

demo: env
	$(BIN)/svms-gr00t demo $(DEMO_ARGS)

test: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(TEST_ARGS)

slow: env
	$(BIN)/python -m pytest -m slow

lint: env
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[sim,tokenizer,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info
