# make quickstart: from nothing to class maps of generated aerial scenes. make test: the test suite. make lint: the style.
# make test-demo: the page and the report in a browser. make docs: the site, into site/.
# make notebooks: run them, and save their pictures in them, in minutes.
# make test-kinds: the tests of networks, by the routes of each kind of CPU that this one can be.
# make test-lowest: the suite on the lowest versions that setup.cfg allows, in an environment of its own.
# make dist: the wheel and the sdist, checked, into dist/. On Windows all of it needs a shell such as Git's.
# make gpu: what a GPU has to do, in ten minutes: numbers, runs, class maps, and speed beside others; writes gpu.json.
PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
BIN = $(if $(filter Windows_NT,$(OS)),Scripts,bin)
RUN = $(VENV)/$(BIN)/python
EXTRAS = test lint demo docs release
SUITE = -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

.PHONY: quickstart test test-kinds test-lowest test-demo gpu lint docs dist notebooks clean

quickstart: $(VENV)/.installed
	$(VENV)/$(BIN)/samseg train quickstart
	$(VENV)/$(BIN)/samseg evaluate
	$(VENV)/$(BIN)/samseg infer

test: $(VENV)/.installed-test
	$(RUN) $(SUITE)

test-kinds: $(VENV)/.installed-test
	set -e; for kind in $$($(RUN) -m tests.kinds); do echo "$$kind"; \
	SAMSEG_CPU=$$kind $(RUN) $(SUITE) tests/encoders tests/models tests/predict tests/inference tests/test_docs.py; done

test-lowest: $(LOWEST)/.installed
	$(LOWEST)/$(BIN)/python $(SUITE)

# The page and the report in headless Chromium. Without a Chromium, and without apt to get one, the tests are skipped.
test-demo: $(VENV)/.installed-test $(VENV)/.installed-demo
	$(RUN) -m pip install --quiet playwright
	command -v chromium || command -v google-chrome || { apt-get update -qq && apt-get install -y -qq chromium; } || true
	$(RUN) -m pytest -m browser -rs

gpu: $(VENV)/.installed-test
	$(VENV)/$(BIN)/samseg benchmark gpu

# Vermin tells what Python 3.10 lacks; it takes some floats for whole numbers.
lint: $(VENV)/.installed-lint
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/$(BIN)/vermin --no-tips --violations --target=3.10- --exclude int.is_integer samseg benchmarks tools tests docs setup.py
	$(RUN) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(RUN) -m check_jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

notebooks: $(VENV)/.installed-test
	$(RUN) -m tests.notebooks

docs: $(VENV)/.installed-docs
	$(RUN) -m mkdocs build --quiet --strict

dist: $(VENV)/.installed-release
	rm -rf dist
	$(RUN) -m build
	$(RUN) -m twine check --strict dist/*

%/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v >= (3, 10) else "samseg needs Python 3.10 or later, found %d.%d; name another: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $*

$(VENV)/.installed: setup.py setup.cfg pyproject.toml | $(VENV)/pyvenv.cfg
	$(RUN) -m pip install --quiet --editable .
	@touch $@

$(EXTRAS:%=$(VENV)/.installed-%): $(VENV)/.installed-%: $(VENV)/.installed
	$(RUN) -m pip install --quiet --editable '.[$*]'
	@touch $@

$(LOWEST)/.installed: setup.py setup.cfg pyproject.toml | $(LOWEST)/pyvenv.cfg
	$(LOWEST)/$(BIN)/python -m pip install --quiet uv
	$(LOWEST)/$(BIN)/python -m uv pip install --quiet --resolution lowest-direct --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST) build dist site *.egg-info
