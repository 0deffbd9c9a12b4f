# make quickstart: from nothing to class maps of generated aerial scenes. make test: the test suite.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: quickstart test lint clean

quickstart: $(VENV)/.installed
	$(RUN) tools/train.py configs/quickstart.yaml
	$(RUN) tools/evaluate.py
	$(RUN) tools/infer.py

test: $(VENV)/.installed-test
	$(RUN) -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

lint: $(VENV)/.installed-test
	$(RUN) -m pip install --quiet ruff
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v >= (3, 10) else "samseg needs Python 3.10 or later, found %d.%d; name another: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(RUN) -m pip install --quiet --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
