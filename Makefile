# `make run` serves the page; `make help` lists the rest.
# ARGS is handed on: make run ARGS="--port 8000", make test ARGS="tests/pool -x"

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

BIN     := $(VENV)/bin
INSTALL := $(PYTHON) scripts/install.py --venv $(VENV)

.DEFAULT_GOAL := help
.PHONY: run install dev lint test test-gpu bench clean help

run: install ## set up what is missing, then serve http://127.0.0.1:7860
	@$(BIN)/python app.py $(ARGS)

install: ## the engine that fits this machine (GPU or CPU) and Workbench, in .venv
	@$(INSTALL)

dev: ## as install, with what lint and tests need
	@$(INSTALL) --extra dev

lint: dev ## ruff (rules and format) and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## lint, then every test but the GPU's: unit, real engine, browser
	$(BIN)/python -m scripts.chromium
	$(BIN)/python -m pytest $(ARGS)

test-gpu: dev ## the tests that need an NVIDIA GPU
	$(BIN)/python -m pytest -m gpu $(ARGS)

bench: dev ## the figures of the README, a line of JSON each
	$(BIN)/python -m benchmarks.startup --json
	$(BIN)/python -m benchmarks.switch --json

clean: ## remove caches and builds; .venv, the database and downloaded models stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache test-results benchmarks/.cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

help: ## show this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
