# Everything here works on a machine that has only make and a Python from 3.11:
# each target makes .venv and puts into it what it needs.

.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq
SEEDS ?=
HOURS ?=
SOAK ?= soak.json
PYTEST_ARGS ?=
MINUTES ?= 30
SEED ?=
CHAOS_ARGS ?=
BENCH_ARGS ?=

.PHONY: help demo test lint bench docs soak chaos calm scenarios long mutants explore clean

help: ## list what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 14

demo: $(VENV)/.run ## a triad on this machine, its master killed, nothing lost: in under 30 seconds
	@$(BIN)/flexcore demo

test: $(VENV)/.dev ## all tests (PYTEST_ARGS="-k lint" and the like are passed on)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.dev ## ruff and mypy --strict
	@failed=0; $(BIN)/ruff check . || failed=1; $(BIN)/mypy || failed=1; exit $$failed

bench: $(VENV)/.bench ## real servers against floors and peers (BENCH_ARGS="--quick", "--only triad")
	@$(BIN)/python -m benchmarks.install
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

docs: $(VENV)/.dev ## the documentation, a warning being an error: docs/_build/html/index.html
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

soak: $(VENV)/.dev ## the simulated triad with all faults on, HOURS=8 or SEEDS=1..20000; goes on where soak.json ends
	$(BIN)/python -m flexcore_testing.soak --resume $(SOAK) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(HOURS),--hours $(HOURS))

chaos: $(VENV)/.dev ## attacks on a real triad under load, MINUTES=30
	$(BIN)/python -m flexcore_testing.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(CHAOS_ARGS)

calm: $(VENV)/.dev ## a healthy triad under full load, SECONDS=600: it must elect nobody
	$(BIN)/python -m flexcore_testing.calm --seconds $(or $(SECONDS),600)

scenarios: $(VENV)/.dev ## every scenario of tests/scenarios with real servers and clients, as it stands and disturbed: an hour
	FLEXCORE_SCENARIOS=all $(BIN)/python -m pytest tests/test_scenarios_disturbed.py tests/real/test_scenarios.py tests/real/test_borrowing.py tests/real/test_path_scenario.py $(PYTEST_ARGS)

long: $(VENV)/.dev ## the tests that take too long for every run: a day's debug log, report logs through every fault
	FLEXCORE_LONG=1 $(BIN)/python -m pytest tests/test_debuglog_grammar.py tests/real/test_reportlog_real.py $(PYTEST_ARGS)

mutants: $(VENV)/.dev ## the rules of the protocol taken out one by one, each of which must be noticed
	$(BIN)/python -m flexcore_testing.mutations --jobs 2

explore: $(VENV)/.dev ## every state of the real servers within the bounds of SCOPE=million
	nice $(BIN)/python -m flexcore_testing.explore --scope $(or $(SCOPE),million)

clean: ## remove .venv and everything that was built
	rm -rf $(VENV) docs/_build dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

# --- set-up ----------------------------------------------------------------------------------------------------

# A name on PATH may be a shim that does nothing, and some systems split venv off: try, do not ask.
$(BIN)/python:
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3.14 python3 python; do \
	    if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        echo "making $(VENV) with $$($$python -c 'import sys; print(sys.executable)')"; \
	        exec $$python -m venv --clear $(VENV); \
	    fi; \
	done; \
	echo "flexcore needs Python 3.11 or newer with its venv module; none of python3.13, python3.12, python3.11," >&2; \
	echo "python3.14, python3 and python here is that. Install one (Debian: apt install python3 python3-venv)," >&2; \
	echo "or name yours: make PYTHON=/path/to/python3 ..." >&2; \
	exit 1

# What a user installs, and what the server needs.
$(VENV)/.run: pyproject.toml $(BIN)/python
	@echo "installing flexcore into $(VENV)"
	@$(PIP) -e '.[trio]'
	@touch $@

# What developers need as well. Groups need pip 25.1.
$(VENV)/.dev: pyproject.toml $(BIN)/python
	@echo "installing flexcore and its development tools into $(VENV)"
	@$(PIP) --upgrade 'pip>=25.1'
	@$(PIP) -e '.[trio,testing]' --group dev
	@touch $@ $(VENV)/.run

# The peers that `make bench` measures beside flexcore.
$(VENV)/.bench: $(VENV)/.dev
	@echo "installing the peers of the benchmark into $(VENV)"
	@$(PIP) --group bench
	@touch $@
