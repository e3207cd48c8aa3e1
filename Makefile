# `make repro` trains and releases; `make test` checks. Everything lives in .venv; nothing else on the machine is touched
# (but `make e2e` installs Debian packages: a real Prometheus, Alertmanager, nginx, docker-compose).
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11; do \
  $$p -c 'import ensurepip, venv' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
LOCK = constraints-$(shell $(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt
export PATH := $(abspath $(BIN)):$(PATH)
export DVC_NO_ANALYTICS := 1
export BENTOML_DO_NOT_TRACK := True
export MLFLOW_DISABLE_TELEMETRY := true
TESTS := pytest -n 2 --dist loadgroup

.PHONY: repro serve test lint e2e test-pythons install install-dev benchmarks tables clean

repro: install
	$(if $(PROFILE),ostinato profile $(PROFILE))
	ostinato repro

serve: install
	ostinato serve

test: install-dev
	$(TESTS) -m "not e2e"

lint: install-dev
	ruff check .
	ruff format --check .
	mypy

e2e: install-dev
	bash .ci/debian
	pytest -m e2e

test-pythons: install-dev
	bash .ci/others

benchmarks: install-dev
	python -m benchmarks.readers
	python -m benchmarks.starter
	python -m benchmarks.tables

tables: install-dev
	python -m benchmarks.tables

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "Ostinato needs Python 3.11, 3.12 or 3.13 with venv: install one, or say PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(wildcard constraints-3.*.txt) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint $(LOCK) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint $(LOCK) --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
