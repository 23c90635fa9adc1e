# make demo: environment, install, and the main job on the embedded kitchen. make test: environment and the test suite.
# make lock: requirements.lock with the hash of every file; an environment is then made of these files and no others.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DEMO_ARGS ?=
TEST_ARGS ?=
JOBS ?= 2

# Waiting threads sleep instead of spinning: on a busy machine a spinning pool is many times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test whole slow lint env lock clean

demo: env
	$(BIN)/svms-gr00t demo $(DEMO_ARGS)

test: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(TEST_ARGS)

whole: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m whole $(TEST_ARGS)

slow: env
	$(BIN)/python -m pytest -m slow

lint: env
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

env: $(VENV)/.ready

LOCK := $(wildcard requirements.lock)

$(VENV)/.ready: pyproject.toml constraints.txt $(LOCK)
	$(PYTHON) -m venv $(VENV)
ifeq ($(LOCK),)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[sim,tokenizer,dev]'
else
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement $(LOCK)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
endif
	touch $@

lock:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --dry-run --ignore-installed --quiet --report .lock.json \
		--constraint constraints.txt 'setuptools>=77' '.[sim,tokenizer,dev]'
	$(BIN)/python tools/lock.py < .lock.json > .requirements.lock
	mv .requirements.lock requirements.lock
	rm .lock.json

clean:
	rm -rf $(VENV) build dist src/*.egg-info
