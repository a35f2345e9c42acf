# make demo: a .venv, scidiffuse with the built wings, demo/index.html        make test: the same, then the tests
.DEFAULT_GOAL := help
.PHONY: help demo test types bench notebooks docs clean install
PYTHON ?= python3
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet -c constraints.txt
# The wings that have a section in the demo; and those that have tests, whose number grows first.
WINGS := timeseries,molecules
TESTED := timeseries,molecules

help:
	@echo "make demo       install into .venv, run the demonstration, write demo/index.html"
	@echo "make test       install into .venv, run the tests"
	@echo "make types      mypy"
	@echo "make bench      speed and quality beside other libraries, recorded in benchmarks/"
	@echo "make notebooks  execute the notebooks"
	@echo "make docs       the documentation, docs/_build/html/index.html"
	@echo "make clean      remove everything made, .venv included"

# One stamp an extra: what is installed is renewed when the set of packages changes, and only then.
.venv/pip.stamp: pyproject.toml constraints.txt no-deps.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("scidiffuse needs Python 3.11 or newer; try make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) pip setuptools wheel
	touch $@

.venv/demo.stamp: .venv/pip.stamp
	$(PIP) --no-build-isolation -e ".[$(WINGS)]"
	touch $@

.venv/dev.stamp: .venv/pip.stamp
	$(PIP) --no-build-isolation -e ".[$(TESTED),dev]"
	touch $@ .venv/demo.stamp

.venv/bench.stamp: .venv/dev.stamp
	$(PIP) --no-build-isolation -e ".[bench]"
	$(PIP) --no-deps -r no-deps.txt
	touch $@

.venv/docs.stamp: .venv/pip.stamp
	$(PIP) --no-build-isolation -e ".[$(TESTED),docs]"
	touch $@

install: .venv/dev.stamp

demo: .venv/demo.stamp
	$(BIN)/scidiffuse demo --out demo

test: .venv/dev.stamp
	$(BIN)/python -m pytest $(ARGS)

types: .venv/dev.stamp
	mkdir -p .types
	ln -sfn .. .types/scidiffuse
	cd .types && ../$(BIN)/mypy --config-file ../pyproject.toml

bench: .venv/bench.stamp
	set -e; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file; done

notebooks: .venv/dev.stamp
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=300 notebooks

docs: .venv/docs.stamp
	rm -rf docs/api docs/notebooks
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf .venv .types build dist demo docs/_build docs/api docs/notebooks scidiffuse.egg-info \
		.pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
