# Every target sets up what it needs: a .venv made with pip from pyproject.toml and constraints.txt.

PYTHON ?= python3
DATA ?=
OUT ?= duet-demo
CELLS ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# pip compiles on one core, and everything; afterwards all cores compile what may be imported.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
# Three workers keep two cores busy: some tests wait for processes and browsers.
TESTS := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m

.PHONY: demo test test-slow coverage lint docs package web check bench bench-quality clean help
.DEFAULT_GOAL := help

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev]'
	$(BIN)/python -W ignore -m compileall -qq -j 0 -x '/(tests|transformers/models)/' $(VENV)/lib || true
	touch $@

demo: $(INSTALLED) ## the main job, start to end, on embedded data; DATA=path/to/u.data for a log of your own
	$(BIN)/duet demo $(if $(DATA),"$(DATA)") --out "$(OUT)" --overwrite

test: $(INSTALLED) ## all tests but the slow ones
	$(TESTS) "not slow"

test-slow: $(INSTALLED) ## the slow ones
	$(TESTS) slow

coverage: $(INSTALLED) ## the same, with coverage: a third longer, and it fails below what pyproject.toml asks
	$(TESTS) "not slow" --cov --cov-report=term

lint: $(INSTALLED) ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED) ## the documentation as pages, in site/; a broken link fails
	$(BIN)/mkdocs build --strict

package: ## the wheel, with each extra alone in a bare environment, and on the newest Python that is here
	PYTHON="$(PYTHON)" .ci/package

web: ## the pages of the cloud, from web/ into the package; needs Node 20
	cd web && npm ci --no-audit --no-fund && npx tsc --noEmit && npm run pages

check: lint docs test package ## what CI runs

bench: $(INSTALLED) ## speed: prints ratios against a baseline of the same run
	$(BIN)/python benchmarks/training_throughput.py
	$(BIN)/python benchmarks/evaluation_throughput.py
	$(BIN)/python benchmarks/finetune_speed.py
	$(BIN)/python benchmarks/inference_speed.py
	$(BIN)/python benchmarks/device_scoring.py
	$(BIN)/python benchmarks/service_throughput.py

bench-quality: $(INSTALLED) ## quality on real data (needs DUETGEN_DATA), CELLS="ml-100k/sasrec" or all; takes hours
	$(BIN)/python benchmarks/quality.py --write $(if $(CELLS),--cells $(CELLS))

clean: ## remove what was made
	rm -rf $(VENV) $(OUT) site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
