# Two commands do everything: `make serve` and `make test`. Each brings its own set-up.
# The set-up needs Linux on x86_64, Python 3.11 and a package registry that pip can reach.
# APPLIANCE_HOME (default ~/.appliance), APPLIANCE_HOST (127.0.0.1) and APPLIANCE_PORT (8000) are honoured;
# APPLIANCE_SET=cpu or gpu overrides what nvidia-smi says.

PY := .venv/bin/python
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help serve test check lock clean setup setup-dev models bench-gateway bench-speech

serve: setup models ## set up, fetch the models, and serve on APPLIANCE_HOST:APPLIANCE_PORT
	@exec $(PY) -m appliance serve

test: setup-dev models ## set up and run the default test suite, real engines included
	@$(PY) -m pytest $(ARGS)

check: setup-dev ## ruff, mypy and the import rules
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m pytest -q tests/test_imports.py

setup: ## bring .venv to what the locks say
	@sh setup/run install

setup-dev: ## the same, with the tools of tests and checks
	@sh setup/run install --dev

models: setup ## fetch, verify and convert the embedded models
	@$(PY) -m appliance_models ensure

lock: ## compile locks/*.txt from pyproject.toml (UPGRADE=1 moves every version)
	@sh setup/run lock $(if $(UPGRADE),--upgrade)

bench-gateway: setup-dev ## what the gateway adds, against a fake engine
	@$(PY) -m appliance_bench.gateway $(ARGS)

bench-speech: setup-dev models ## Whisper host against one-by-one, speed and word error rate
	@$(PY) -m appliance_bench.speech $(ARGS)

clean: ## remove .venv and caches (models and ledger in APPLIANCE_HOME stay)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build ./*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
