# make quickstart: from nothing to class maps of generated aerial scenes. make test: the test suite. make lint: the style.
# make test-demo: the page and the report in a browser. make docs: the site, into site/.
# make notebooks: run them, and save their pictures in them, in minutes.
# make test-kinds: the tests of networks, by the routes of each kind of CPU that this one can be.
# make test-lowest: the suite on the lowest versions that setup.cfg allows, in an environment of its own.
PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
RUN = $(VENV)/bin/python
SUITE = -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

.PHONY: quickstart test test-kinds test-lowest test-demo lint docs notebooks clean

quickstart: $(VENV)/.installed
	$(VENV)/bin/samseg train quickstart
	$(VENV)/bin/samseg evaluate
	$(VENV)/bin/samseg infer

test: $(VENV)/.installed-test
	$(RUN) $(SUITE)

test-kinds: $(VENV)/.installed-test
	set -e; for kind in $$($(RUN) -m tests.kinds); do echo "$$kind"; \
	SAMSEG_CPU=$$kind $(RUN) $(SUITE) tests/encoders tests/adapters tests/models tests/predict tests/inference tests/test_docs.py; done

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python $(SUITE)

# The page and the report in headless Chromium. Without a Chromium, and without apt to get one, the tests are skipped.
test-demo: $(VENV)/.installed-test $(VENV)/.installed-demo
	$(RUN) -m pip install --quiet playwright
	command -v chromium || command -v google-chrome || { apt-get update -qq && apt-get install -y -qq chromium; } || true
	$(RUN) -m pytest -m browser -rs

lint: $(VENV)/.installed-lint
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

notebooks: $(VENV)/.installed-test
	$(RUN) -m tests.notebooks

docs: $(VENV)/.installed-docs
	$(RUN) -m mkdocs build --quiet --strict

%/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v >= (3, 10) else "samseg needs Python 3.10 or later, found %d.%d; name another: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $*

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-test $(VENV)/.installed-lint $(VENV)/.installed-demo $(VENV)/.installed-docs: $(VENV)/.installed-%: $(VENV)/.installed
	$(RUN) -m pip install --quiet --editable '.[$*]'
	@touch $@

$(LOWEST)/.installed: setup.cfg pyproject.toml | $(LOWEST)/bin/python
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/python -m uv pip install --quiet --resolution lowest-direct --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST) build dist site *.egg-info
