# Each target is sufficient on a fresh clone: it makes .venv and installs what it needs, again only when pyproject.toml
# changes. On Linux without a GPU, point pip at PyTorch's CPU builds first (PIP_EXTRA_INDEX_URL), which saves 2 GB.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

EXAMPLE ?= digits
NAME ?= *
ARGS ?=
JOBS ?= 2
KILLS ?= 3000
LIMIT_S ?= 7200
LOSSES ?= 1000
PIP_ARGS ?= --quiet --disable-pip-version-check

BIN := .venv/bin
RUN_STAMP := .venv/.installed-run
DEV_STAMP := .venv/.installed-dev
PYTHONS := python3.11 python3.12 python3.13 python3.14 python3 python
PYTHON_IS_FIT := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
SOURCES := shared services tests examples

.PHONY: run test check bench chaos clean help

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(RUN_STAMP) ## run examples/$EXAMPLE (digits): from data to an endpoint that answers
	@test -e examples/$(EXAMPLE)/run.py || { echo "There is no examples/$(EXAMPLE)/run.py." >&2; exit 1; }
	@$(BIN)/python -m examples.$(EXAMPLE).run $(ARGS)

# Files in their folders' order: those of tests/chaos take longest, and are better begun than ended with. The tests start
# a thousand processes, a fifth of whose start is compiling our sources: that is kept, whatever the environment says of bytecode.
test: $(DEV_STAMP) ## run the tests ($ARGS go to pytest, $JOBS at once), on real servers where they can be installed
	@infra/testing/install-servers.sh
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(DEV_STAMP) ## check format, lint, types and who imports whom
	@$(BIN)/ruff format --check --quiet . || { echo "Run: $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy $(SOURCES)
	@$(BIN)/lint-imports

bench: $(DEV_STAMP) ## run the benchmarks, or only $NAME
	@infra/testing/install-servers.sh
	@compgen -G 'tests/benchmarks/bench_$(NAME).py' > /dev/null || \
	    { echo "There is no tests/benchmarks/bench_$(NAME).py." >&2; exit 1; }
	@for file in tests/benchmarks/bench_$(NAME).py; do \
	    echo "$$file"; PYTHONPATH=tests $(BIN)/python -m "benchmarks.$$(basename "$$file" .py)" $(ARGS); \
	done

chaos: $(DEV_STAMP) ## kill $KILLS processes of a factory on servers, and of one without; record it; then replay $LOSSES power losses
	@infra/testing/install-servers.sh
	@CHAOS_KILLS=$(KILLS) CHAOS_LIMIT_S=$(LIMIT_S) CHAOS_RECORD=1 \
	    $(BIN)/pytest -q -s tests/chaos/test_storm_servers.py tests/chaos/test_storm_embedded.py $(ARGS)
	@POWER_LOSSES=$(LOSSES) $(BIN)/pytest -q -s tests/chaos/power_loss $(ARGS)

clean: ## remove .venv and caches
	@rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(PYTHONS); do \
	    if "$$python" -c '$(PYTHON_IS_FIT)' 2> /dev/null; then "$$python" -m venv .venv; exit; fi; \
	done; \
	echo "Python 3.11 or newer with venv is needed (on Debian: apt-get install python3 python3-venv)." >&2; exit 1

$(RUN_STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing Millrace and its examples into .venv ..."
	@$(BIN)/python -m pip install $(PIP_ARGS) --editable '.[all,examples]'
	@touch $@

$(DEV_STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing Millrace and its tools into .venv ..."
	@$(BIN)/python -m pip install $(PIP_ARGS) --editable '.[dev]'
	@touch $(RUN_STAMP) $@
