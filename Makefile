# `make train` trains a small network on handwritten digits, `make test` runs the tests, `make lint` checks the style,
# `make docs` writes the site into site/.
# Each makes .venv if it is missing and installs what it needs when its requirements file has changed.
PYTHON ?= python3
WORKDIR ?= runs/digits
# A file of versions for pip: tests/oldest.txt has the oldest that are supported. Without it the newest are installed.
CONSTRAINTS ?=
# Processes of `make test`, and what else pytest is told (such as PYTEST_ARGS='-m slow').
WORKERS ?= auto
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help train test lint docs clean

help:
	@sed -n '1,3s/^# //p' Makefile

train: .venv/installed
	@.venv/bin/python -m cmpe_jax.main --config=configs/digits.py --workdir=$(WORKDIR)

test: .venv/installed-test
	@.venv/bin/python -m pytest -n $(WORKERS) --maxprocesses=4 $(PYTEST_ARGS)

lint: .venv/installed-test
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --check . || { .venv/bin/ruff format --check .; exit 1; }
	@.venv/bin/mypy --no-error-summary
	@.venv/bin/shellcheck launch/*.sh tests/launch/slurm/*.sh benchmarks/*.sh .ci/run

# With --quiet, --strict would overlook warnings: broken links among them.
docs: .venv/installed-docs
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --site-dir site
	@echo 'open site/index.html'

clean:
	rm -rf .venv site .pytest_cache .ruff_cache .mypy_cache

.venv/installed: requirements.txt .venv/pyvenv.cfg $(CONSTRAINTS)
.venv/installed-test: requirements-test.txt requirements-prepare.txt requirements.txt .venv/pyvenv.cfg $(CONSTRAINTS)

.venv/installed-docs: requirements-docs.txt .venv/pyvenv.cfg

.venv/installed .venv/installed-test .venv/installed-docs:
	@echo 'installing $< into .venv (once, some minutes) ...'
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r $< $(CONSTRAINTS:%=-c %)
	@touch $@

# A .venv is made anew if another Python made it than the one that PYTHON= names, or it had other CONSTRAINTS.
WHOSE = import sys; print(sys.version, sys.base_prefix)
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) -c '$(WHOSE)' 2>&1),$(shell test -x .venv/bin/python && .venv/bin/python -c '$(WHOSE)' 2>&1))
.venv/pyvenv.cfg: another-venv
endif
endif
ifneq ($(CONSTRAINTS),$(shell cat .venv/constraints 2>/dev/null))
.venv/pyvenv.cfg: another-venv
endif
.PHONY: another-venv

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo '$(PYTHON) is missing or older than Python 3.11: name another, as in: make train PYTHON=python3.12' >&2; exit 1; }
	@rm -rf .venv; $(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo 'no virtual environment could be made (on Debian and Ubuntu: apt install python3-venv)' >&2; exit 1; }
	@echo '$(CONSTRAINTS)' > .venv/constraints
