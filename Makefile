# The whole project from a fresh clone: `make demo`, `make test`. `make help` lists the rest.

SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The first that really runs (a pyenv shim may exist and refuse) and is new enough but not too new.
find-python = for python in python3.13 python3.12 python3.11 python3; do \
	if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		>/dev/null 2>&1; then echo $$python; exit; fi; done
PYTHON ?= $(shell $(find-python))

SIZE ?= 1GiB
ROUNDS ?= 5
MEMORY_SIZE ?= 2GiB
PYTEST_ARGS ?=
# Most of the time of the tests is waiting, so two at a time take half as long. 0: one after the other.
TEST_PROCESSES ?= 2
SIMULATE_ARGS ?=
# Not ?=: the shell has a variable of this name.
SECONDS := $(if $(filter command line,$(origin SECONDS)),$(SECONDS),60)
SIEGE_ARGS ?=

.PHONY: help install demo test test-optimized lint bench coverage fuzz interop-install format siege simulate swarm-bench man clean bench-updates

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no usable Python 3.11 to 3.13 found:" \
		"apt-get install python3 python3-venv, or make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "venv failed: apt-get install python3-venv" >&2; exit 1; }

# A stamp for each set of extras, so that an unchanged checkout installs once.
define install-extras
@echo "installing $(1) into $(VENV)"
@$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt --editable '.[$(1)]' \
	|| { .ci/missing-packages $(BIN)/python; exit 1; }
@touch $@
endef

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(call install-extras,test$(comma)lint)

$(VENV)/.installed-bench: $(VENV)/.installed
	$(call install-extras,bench)

$(VENV)/.installed-simulate: $(VENV)/.installed
	$(call install-extras,simulate)

comma := ,

install: $(VENV)/.installed  ## make .venv with swarm in it, pinned by constraints.txt

demo: install  ## a real swarm on this machine, shown live
	@$(BIN)/swarm demo
	@echo "next: $(BIN)/swarm --help"

test: install  ## every test, with go-libp2p and js-libp2p
	@# When a registry is out of reach the other tests still run, and those of interop fail and say why.
	@tests/support/interop_install.sh $(BIN)/python || true
	SWARM_REQUIRE_INTEROP=1 $(BIN)/python -m pytest -m "not slow" \
		--numprocesses $(TEST_PROCESSES) --dist loadgroup $(PYTEST_ARGS)

test-optimized: install  ## the same tests, and the processes that they start, under python -O
	@# pytest rewrites the tests' own asserts, so they hold; it warns that others do not, which is the point.
	$(BIN)/python -O -m pytest -m "not slow" \
		-W "ignore:assertions not in test modules:pytest.PytestConfigWarning" $(PYTEST_ARGS)

interop-install: install  ## go-libp2p and js-libp2p into .interop
	@tests/support/interop_install.sh $(BIN)/python

lint: install  ## ruff, mypy and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## rewrite the code as `make lint` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

man: install  ## the manual pages, into build/man
	$(BIN)/python -m cli.manual build/man

coverage: install  ## the tests with branch coverage, in htmlcov/
	@tests/support/interop_install.sh $(BIN)/python || true
	$(BIN)/python -m pytest -m "not slow" --cov --cov-report=html --cov-report=term:skip-covered $(PYTEST_ARGS)

bench: $(VENV)/.installed-bench  ## speed and memory against others, written to docs/performance.md (SIZE, ROUNDS)
	$(BIN)/python -m tests.benchmarks.bench_fetch --size $(SIZE) --rounds $(ROUNDS)
	$(BIN)/python -m tests.benchmarks.bench_memory --size $(MEMORY_SIZE)
	$(BIN)/python -m tests.benchmarks.bench_limits

bench-updates: install  ## updates by reuse, patch and pieces, beside zsync and casync, to docs/performance.md (PAIR="OLD NEW")
	$(BIN)/python -m tests.benchmarks.bench_updates $(if $(PAIR),--pair $(PAIR),--write)

swarm-bench: $(VENV)/.installed-bench  ## swarms on limited uplinks beside libtorrent, to docs/swarm-bench.md (root; ROUNDS)
	$(BIN)/python -m tests.netns.bench --rounds $(ROUNDS)

simulate: $(VENV)/.installed-simulate  ## swarms of up to 1,000 brains in virtual time: table and plots in docs/ (SIMULATE_ARGS=--quick)
	$(BIN)/python -m tests.simulation.swarm_model $(SIMULATE_ARGS)

siege: install  ## the acceptance tests under attack, with their figures, in one table (SIEGE_ARGS=--quick)
	$(BIN)/python -m tests.siege $(SIEGE_ARGS)

$(VENV)/.installed-fuzz: $(VENV)/.installed
	@# Where Atheris has no wheel the fuzzers go on without it.
	@$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt --editable '.[fuzz]' \
		|| echo "Atheris does not install here: random mutation alone" >&2
	@touch $@

fuzz: $(VENV)/.installed-fuzz  ## fuzz everything that reads others' bytes (SECONDS for each surface)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

clean:  ## remove what was installed and built
	rm -rf $(VENV) .interop .fuzz build *.egg-info htmlcov .coverage .coverage.* \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
