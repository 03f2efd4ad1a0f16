# Suanli's commands. `make demo` and `make test` need nothing but Python 3.11+ and this tree: they make .venv themselves.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# A pinned pip first: the one that comes with Python 3.11 takes half a minute more to read the index. Nothing is compiled
# ahead: Python compiles what it imports, which of all that is installed is a small part.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
# Tests start hundreds of processes from this tree: where none may keep what it compiled, each compiles it all again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test check bench nightly report clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv with the pinned versions (pip's own index settings are honoured)

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Suanli needs Python 3.11 or newer; this is $$($(PYTHON) --version). Say: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing pinned dependencies into .venv (some minutes on a first run)"
	@$(PIP_INSTALL) pip setuptools wheel
	@$(PIP_INSTALL) --no-build-isolation -e '.[dev]'
	@touch $@

demo: $(READY) ## The whole main job on this machine: schedule, train, serve, preempt, measure, report
	@$(BIN)/suanli demo

test: $(READY) ## Every test but the nightly ones
	@failed=0; \
	$(BIN)/python -m pytest tests/unit tests/contract tests/packaging tests/simulation -m "not nightly and not gpu" \
	  -n 2 --dist loadfile --durations=8 || failed=1; \
	$(BIN)/python -m pytest tests/integration tests/survival -m "not nightly and not gpu" \
	  -n 3 --dist loadgroup --durations=8 || failed=1; \
	exit $$failed

check: $(READY) ## ruff, format check, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## Our own hot paths, set against the last recorded run on this machine
	@$(BIN)/python -m benchmarks.perf

nightly: $(READY) ## The long tests: each real fault ten times over, 20,000 simulated stories, the demo, new examples
	@failed=0; \
	$(BIN)/python -m pytest tests -m "nightly" --timeout 3600 || failed=1; \
	SUANLI_HYPOTHESIS=searching $(BIN)/python -m pytest tests/unit tests/contract -m "not nightly and not gpu" \
	  -n 2 --dist loadfile || failed=1; \
	exit $$failed

report: $(READY) ## out/capacity.{json,md,html} from the last benchmark results
	@$(BIN)/suanli report capacity --out out

clean: ## Remove what building and running made (not .venv)
	rm -rf out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
