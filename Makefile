# `make repro` trains and releases; `make test` checks. Everything lives in .venv; nothing else on the machine is touched
# (but `make e2e` installs Debian packages: a real Prometheus, Alertmanager, docker-compose).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
export DVC_NO_ANALYTICS := 1
export BENTOML_DO_NOT_TRACK := True
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: repro serve test lint e2e install install-dev benchmarks tables clean

repro: install
	$(if $(PROFILE),ostinato profile $(PROFILE))
	ostinato repro

serve: install
	ostinato serve

test: install-dev
	pytest -m "not e2e"

lint: install-dev
	ruff check .
	mypy

e2e: install-dev
	bash .ci/debian
	pytest -m e2e

benchmarks: install-dev
	python -m benchmarks.readers
	python -m benchmarks.starter
	python -m benchmarks.tables

tables: install-dev
	python -m benchmarks.tables

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
