# make quickstart   the environment, then the main job on the built-in world
# make test         the environment, then the tests
# make slow         the tests that take minutes
# make real         the tests on a real model and a real server, which are made first into .real/
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: env quickstart test slow real lint

env: $(VENV)/.installed

# torch first, by its own pinned line: the right build is chosen before anything else asks for one.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

quickstart: env
	$(BIN)/burnish lab quickstart

# a worker for each core; a file's tests stay together, for what they share
test: env
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

# what takes minutes: more kinds of what `make test` tests
slow: env
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m slow

real: env
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,real]'
	$(BIN)/python -m tests.real.parts
	$(BIN)/python -m pytest -m real tests/real

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
