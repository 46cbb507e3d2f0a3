# Everything works from a fresh checkout with Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))

.PHONY: help demo lab test test-servers test-others test-engines test-pages coverage soak check lint tutorials notebooks pictures benchmark clean

help:
	@echo 'make demo       run the quickstart in a real Jupyter kernel and print what each step answered'
	@echo 'make lab        open JupyterLab on the quickstart'
	@echo 'make test       install what the tests need (Chromium too) and run them all'
	@echo 'make coverage   the same, and how much of the code they reach'
	@echo 'make soak       run the tests that take long'
	@echo 'make check      linters, types, import contracts; every notebook executed as on Binder'
	@echo 'make notebooks  execute the notebooks and write their outputs into them'
	@echo 'make pictures   make the picture of the README anew'
	@echo 'make benchmark  print the figures that the documentation states'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mlnb needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# What a change of makes an installation old: it has a copy of what is built of the sidebar.
INSTALLED := pyproject.toml $(wildcard mlnb/labextension/*.js* mlnb/labextension/src/* mlnb/labextension/style/*)

$(VENV)/.tutorials: $(INSTALLED) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[tutorials]'
	@touch $@

$(VENV)/.test: $(INSTALLED) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@ $(VENV)/.tutorials

demo: $(VENV)/.tutorials
	$(BIN)/python notebooks/demo.py

lab: $(VENV)/.tutorials
	$(BIN)/jupyter lab notebooks/01-quickstart.ipynb

# Three parts at the same time: most tests wait for processes, pages and containers. What is in no part by name is in the
# second. What measures times, or puts servers under load, comes by itself.
RUN = $(BIN)/python
PAGES := tests/browser
SERVERS := tests/serving tests/scaling tests/test_monitoring.py tests/test_traffic.py
TOGETHER := not soak and not alone and not docker and not cluster

test: $(VENV)/.test
	sh tests/install-chromium $(BIN)
	sh tests/install-prometheus
	sh tests/install-postgresql
	$(MAKE) --no-print-directory --jobs=3 --output-sync=target --keep-going test-servers test-others test-pages
	$(BIN)/python -m pytest -q -m 'alone and not soak' --durations=25

test-servers:
	$(RUN) -m pytest -q -m '$(TOGETHER)' --durations=25 $(SERVERS)

test-others:
	$(RUN) -m pytest -q -m '$(TOGETHER)' --durations=25 $(foreach part,$(SERVERS) $(PAGES),--ignore=$(part))

test-engines:
	sh tests/with-engines $(RUN) -m pytest -q -m '(docker or cluster) and not soak' --durations=25

test-pages: test-engines
	$(RUN) -m pytest -q -m '$(TOGETHER)' --durations=25 $(PAGES)

# Tracing takes a third more time, and what runs alone is not traced.
coverage: $(VENV)/.test
	$(BIN)/coverage erase
	$(MAKE) --no-print-directory test RUN='$(BIN)/coverage run'
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

soak: $(VENV)/.test
	$(BIN)/python -m pytest -m soak --timeout=1800

# Two environments are installed at the same time, so what both need built is built before: the sidebar.
check: $(VENV)/.sidebar
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint tutorials

$(VENV)/.sidebar: $(INSTALLED) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

# An environment of its own, made of what binder/ says, in the order of repo2docker; nothing else is in it.
BINDER := $(VENV)-binder
RUNTIME = $(shell file=`sed 's/-//' binder/runtime.txt`; $$file --version >/dev/null 2>&1 && command -v $$file || echo $(BIN)/python)

$(BINDER)/.built: $(INSTALLED) $(wildcard binder/*) | $(BIN)/python
	$(RUNTIME) -m venv --clear --without-pip $(BINDER)
	$(BIN)/python -m pip --python $(BINDER)/bin/python install --quiet --no-compile --requirement binder/requirements.txt
	PATH="$(abspath $(BINDER))/bin:$$PATH" binder/postBuild
	@touch $@

tutorials: $(BINDER)/.built
	PATH="$(abspath $(BINDER))/bin:$$PATH" PYTHONPATH=tests python tests/binder/run_tutorials.py $(NOTEBOOKS)

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	npm --prefix tests/labextension/types ci --silent
	npm --prefix tests/labextension/types run --silent check
	$(BIN)/lint-imports --no-cache

notebooks: $(VENV)/.tutorials
	$(BIN)/python notebooks/demo.py --save $(NOTEBOOKS)

# README's picture of the panel and the sidebar; its test says when it shows what was.
pictures: $(VENV)/.test
	MLNB_PICTURES=write $(BIN)/python -m pytest -q tests/browser/test_home_picture.py

benchmark: $(VENV)/.test
	$(BIN)/python tests/benchmarks/startup.py
	$(BIN)/python tests/benchmarks/registry.py
	$(BIN)/python tests/benchmarks/experiment.py
	$(BIN)/python tests/benchmarks/shadow.py
	$(BIN)/python tests/benchmarks/observing.py
	$(BIN)/python tests/benchmarks/prediction_log.py
	$(BIN)/python tests/benchmarks/drift.py
	$(BIN)/python tests/benchmarks/simulating.py
	$(BIN)/python tests/benchmarks/autoscaling.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/sidebar.py
	sh tests/with-engines $(BIN)/python tests/benchmarks/images.py
	sh tests/benchmarks/serving/install-wrk
	PYTHONPATH=tests $(BIN)/python -m benchmarks.serving

clean:
	rm -rf $(VENV) $(BINDER) test-artifacts .coverage*
