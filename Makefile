# `make train` and `make test` do all the set-up on a fresh machine; PYTHON is any Python 3.11 or later.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: train test lint hooks results clean

train: $(VENV)/installed
	$(RUN) -m common.main --config=configs/lenet5_digits.py
	$(RUN) -m common.report --workdir=runs/lenet5_digits

test: $(VENV)/installed-test
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile

lint: $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# Lint before each commit (.pre-commit-config.yaml).
hooks: $(VENV)/installed-test
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[hooks]'
	$(RUN) -m pre_commit install

# Measure the papers' claims on real data (hours; DATA holds prepared datasets, see docs/data.md).
results: $(VENV)/installed
	$(RUN) -m common.reproduce --data_dir=$(DATA)
	$(RUN) -m common.tables

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.py constraints.txt | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
