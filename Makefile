# Two commands do everything: `make serve` and `make test`. Each brings its own set-up.
# The set-up needs Linux on x86_64, Python 3.11 and a package registry that pip can reach.
# APPLIANCE_HOME (default ~/.appliance), APPLIANCE_HOST (127.0.0.1) and APPLIANCE_PORT (8000) are honoured;
# APPLIANCE_SET=cpu or gpu overrides what nvidia-smi says.

PY := .venv/bin/python
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help serve test check lock clean setup setup-dev models bench bench-gateway bench-speech bench-translate bench-routing gpu-check speech-doc faults-doc measure-policy soak bench-report soak-engines train-language-id measure-language-id train-embedded lint-deploy test-deploy dist test-slow bench-hearing codemix test-two-boxes

serve: setup models ## set up, fetch the models, and serve on APPLIANCE_HOST:APPLIANCE_PORT
	@exec $(PY) -m appliance serve

test: setup-dev models ## set up and run the default test suite, real engines included (ARGS: one pytest run with these)
ifdef ARGS
	@$(PY) -m pytest $(ARGS)
else
	@failed=0; \
	    $(PY) -m pytest -q -n auto --maxprocesses 8 --dist loadfile --ignore=tests/real || failed=1; \
	    $(PY) -m pytest -q tests/real || failed=1; \
	    [ $$failed = 0 ] || { echo "== what failed, once more, one test after another:"; $(PY) -m pytest -q --lf --lfnf=none; }
endif

test-slow: setup-dev ## the tests that compare with references on hundreds of sentences (10 to 20 minutes)
	@SEARCH_SEEDS=20 $(PY) -m pytest -q -o faulthandler_timeout=3600 tests/appliance_bench/test_search.py
	@RUNNER_SENTENCES=300 PARITY_SENTENCES=500 $(PY) -m pytest -q -o faulthandler_timeout=3600 tests/hosts/test_indictrans_runner.py tests/appliance_models/indictrans2/test_dequantize.py

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

bench: setup-dev models ## ten minutes of everything, beside the last committed run of this machine and these versions
	@$(PY) -m appliance bench smoke $(ARGS)

bench-gateway: setup-dev ## what the gateway adds, against a fake engine
	@$(PY) -m appliance_bench.gateway $(ARGS)

soak: setup-dev ## kill -9 fifty times on each database, 500 kills of engines, a million requests and the memory they leave
	@KILL_ROUNDS=50 $(PY) -m pytest -q tests/ledger/test_kill.py tests/contract/test_kill.py
	@$(PY) -m appliance_bench.engine_kills --kills $(or $(KILLS),500)
	@$(PY) -m appliance_bench.soak $(ARGS)

bench-report: setup-dev ## a month's report, 10,000 to 1,000,000 simulated conversations
	@$(PY) -m appliance_bench.report $(ARGS)

bench-speech: setup-dev models ## Whisper host against one-by-one, speed and word error rate
	@$(PY) -m appliance_bench.speech $(ARGS)

bench-hearing: setup-dev models ## speech at concurrency 1, 8, 32: RTFx, WER, CER (ARGS="--part prompts|long|music|spoken|directory")
	@$(PY) -m appliance_bench.hearing $(ARGS)

speech-doc: setup-dev ## write docs/speech.md: who hears which language, and what was measured
	@PYTHONPATH=.:models $(PY) -m appliance.cli.speech_table > docs/speech.md

measure-policy: setup-dev ## what reading a turn costs, and how good intents and personal data are recognised
	@PYTHONPATH=.:models:tests $(PY) tests/policy/measure_reading.py

faults-doc: setup-dev ## write docs/faults.md from the table of tests/faults
	@PYTHONPATH=.:models:tests $(PY) tests/faults/catalogue.py > docs/faults.md

bench-translate: setup-dev models ## the translation host, speed and chrF (DATA=…/en-indic.tsv.xz, ARGS="--official DIR")
	@$(PY) -m appliance_bench.translate $(if $(DATA),--data $(DATA)) $(ARGS)

bench-routing: setup-dev ## which answers to send to the strong model: FILE=answers.jsonl (ARGS="--simulate 2000" invents one)
	@$(PY) -m appliance_bench.routing $(FILE) $(ARGS)

gpu-check: ## the kernels on this machine's GPU: torch, triton and numpy are all it needs (GPU_PYTHON=python3)
	@$(or $(GPU_PYTHON),python3) kernels/gpu_check.py $(ARGS)

soak-engines: setup-dev ## 500 random kills of engines under load; nothing may be lost (KILLS=n)
	@$(PY) -m appliance_bench.engine_kills --kills $(or $(KILLS),500) $(ARGS)

train-language-id: setup-dev ## rebuild appliance/language_id/model.npz from DATA=…/en-indic.tsv.xz
	@PYTHONPATH=. $(PY) models/language_id/train.py $(DATA) $(ARGS)

measure-language-id: setup-dev ## its accuracy, calibration and speed on the held-out part of DATA
	@PYTHONPATH=. $(PY) models/language_id/measure.py $(DATA) $(ARGS)

DATA ?= ../shared/parallel/en-indic.tsv.xz
codemix: setup-dev ## find English words in Indian scripts for mode=codemix in DATA
	@PYTHONPATH=. $(PY) models/codemix/mine.py $(DATA)

train-embedded: setup-dev ## train the embedded translation model further (DATA=…, ARGS="--minutes 120")
	@$(PY) -m appliance_models.indictrans2.training train --data $(DATA) $(ARGS)

DEPLOY := .venv-deploy/bin
.venv-deploy/stamp: locks/deploy.txt
	@test -x $(DEPLOY)/python || python3.11 -m venv .venv-deploy
	@$(DEPLOY)/python -m pip install -q --require-hashes --no-deps -r locks/deploy.txt && touch $@

lint-deploy: .venv-deploy/stamp ## ansible-lint (production, strict) and yamllint on ansible/
	@cd ansible && PATH="$(CURDIR)/$(DEPLOY):$$PATH" sh -c 'yamllint --strict . && ansible-lint --profile production --strict --offline -q'

test-deploy: .venv-deploy/stamp ## the playbooks on a Debian tree of its own: root, 10 to 30 minutes, 9 GB
	@python3.11 ansible/tests/chroot.py $(ARGS)

test-two-boxes: setup-dev ## two boxes on one PostgreSQL in network namespaces, one dies under load: root, 1 minute
	@$(PY) ansible/tests/two_boxes.py $(ARGS)

dist: ## the archive that ansible/ installs, of the commit that is checked out
	@mkdir -p dist
	@version=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) && name=inference-appliance-$$version && \
	  git archive --prefix=$$name/ HEAD appliance models kernels benchmarks/appliance_bench setup locks docs pyproject.toml README.md LICENSE | \
	  gzip -n > dist/$$name.tar.gz && echo dist/$$name.tar.gz

clean: ## remove .venv and caches (models and ledger in APPLIANCE_HOME stay)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build ./*.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-20s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
