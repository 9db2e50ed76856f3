# `make train` and `make test` do all the set-up on a fresh machine; PYTHON is any Python from 3.11 to 3.13.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
NEWEST := .venv-newest
# Folders, files or tests to run instead of all.
TESTS ?= tests
# A process for each core, and at most eight: each one holds JAX and what it has compiled.
PYTEST := -m pytest --numprocesses=logical --maxprocesses=8 --dist=loadfile

.PHONY: train test test-slow test-all test-parity parity-all test-newest fuzz lint docs hooks results benchmark pictures clean

train: $(VENV)/installed
	$(RUN) -m common.main --config=configs/lenet5_digits.py
	$(RUN) -m common.report --workdir=runs/lenet5_digits

test: $(VENV)/installed-test
	$(RUN) $(PYTEST) -m "not slow" $(TESTS)

# What `make test` leaves out.
test-slow: $(VENV)/installed-test
	$(RUN) $(PYTEST) -m slow $(TESTS)

# Both.
test-all: $(VENV)/installed-test
	$(RUN) $(PYTEST) $(TESTS)

# The tests that compare with PyTorch, of which a CPU build is enough, and with ONNX Runtime.
test-parity: $(VENV)/installed-parity
	$(RUN) $(PYTEST) -m parity $(TESTS)

# Every published network against torchvision, timm and transformers (an hour; ViT-H takes 12 GB of memory).
parity-all: $(VENV)/installed-parity
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[peers]'
	$(RUN) -m pytest -v tests/pretrained/every_variant.py

# The tests of `make test` with the newest release of every library, in an environment that is made anew each time.
test-newest:
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --editable '.[test]'
	$(NEWEST)/bin/python $(PYTEST) -m "not slow" $(TESTS)

lint: $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# The documentation site: site/index.html. A broken link or reference is an error.
docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

# Random options, command lines, files and folders, twenty times as many as in `make test`.
fuzz: $(VENV)/installed-test
	LINEAGE_FUZZ=20 $(RUN) $(PYTEST) --timeout=0 tests/fuzz

# Lint before each commit (.pre-commit-config.yaml).
hooks: $(VENV)/installed-test
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[hooks]'
	$(RUN) -m pre_commit install

# Measure the papers' claims on real data (hours; DATA holds prepared datasets, see docs/data.md).
results: $(VENV)/installed
	$(RUN) -m common.reproduce --data_dir=$(DATA)
	$(RUN) -m common.tables

# Race every network against PyTorch, eager and compiled, on this machine (docs/performance.md); give the same command
# again to go on. BENCHMARK=--again repeats what is there, BENCHMARK=--scale=smoke tries it with tiny images.
benchmark: $(VENV)/installed-parity
	$(RUN) -m benchmarks.throughput --peers=torch,torch.compile $(BENCHMARK)
	$(RUN) -m common.tables

# The pictures of docs/lecture.md.
pictures: $(VENV)/installed-test
	$(RUN) -m lecture.pictures

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.py constraints.txt | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

$(VENV)/installed-parity: $(VENV)/installed-test
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[parity]'
	touch $@

clean:
	rm -rf $(VENV) $(NEWEST) build site *.egg-info
