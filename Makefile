# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest. Written for GNU make 3.81 and up.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed

SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
# The Python that makes the environment; the first suitable one by default.
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done),python3)
PYTHON_REMEDY := Install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python3.12

TORCH := torch==2.13.0
# Where torch is looked up besides the usual registry: its CPU builds, on Linux without an NVIDIA GPU. May be empty.
TORCH_INDEX ?= $(shell test "$$(uname -s)" = Linux && ! nvidia-smi -L >/dev/null 2>&1 \
	&& echo https://download.pytorch.org/whl/cpu)
# An index behind a firewall may never answer: give up on it after half a minute and take what there is.
TORCH_INDEX_OPTIONS = $(if $(strip $(TORCH_INDEX)),--extra-index-url $(TORCH_INDEX) --timeout 10 --retries 2)

# A labelled dataset folder for the demo (MSD or nnU-Net layout); empty: virtual subjects.
DATA ?=
# Test processes side by side, one thread each.
WORKERS ?= 2
PYTEST = cd backend && OMP_NUM_THREADS=1 ../$(BIN)/python -m pytest -n $(WORKERS)

UV_VERSION := 0.13.9

.PHONY: help install demo test test-all lint format types lock clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED)  ## make .venv and install everything into it

$(INSTALLED): backend/requirements.lock backend/pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON). $(PYTHON_REMEDY)" >&2; exit 2; }
	@$(PYTHON) -c '$(SUITABLE)' || \
		{ echo "$$($(PYTHON) --version 2>&1) does not suit. $(PYTHON_REMEDY)" >&2; exit 2; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@# torch alone first, so that nothing but torch is ever looked up in the extra index.
	$(PIP) install --no-deps $(TORCH_INDEX_OPTIONS) $(TORCH)
	$(PIP) install --no-deps --require-hashes -r backend/requirements.lock
	@# Adds the CUDA libraries where the torch that was found asks for them, else nothing.
	$(PIP) install $(TORCH)
	$(PIP) install --no-deps --no-build-isolation -e backend
	$(PIP) check
	@touch $@

demo: install  ## pre-train, fine-tune, segment and score; prints the path of the report (DATA=folder: your own cases)
	$(BIN)/s3d demo $(if $(DATA),--data "$(DATA)")

test: lint types  ## style, types and the quick tests with coverage
	$(PYTEST) -m "not slow and not gpu" --cov --cov-report=term:skip-covered

test-all: install  ## every test, the slow ones too
	$(PYTEST) -m "not gpu" --hypothesis-profile=full

lint: install  ## check style, formatting and the files themselves
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# The hooks need a git checkout; ruff and mypy are called by make itself.
	if git rev-parse --git-dir >/dev/null 2>&1; then SKIP=ruff-check,ruff-format,mypy $(BIN)/pre-commit run --all-files; fi

format: install  ## mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install  ## check types
	cd backend && ../$(BIN)/mypy

lock:  ## pin the newest fitting versions in backend/requirements.lock
	test -x build/lock/bin/uv || $(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --disable-pip-version-check uv==$(UV_VERSION)
	echo "$(TORCH)" > build/lock/torch.txt
	cd backend && ../build/lock/bin/uv pip compile pyproject.toml --group build --extra demo --extra test \
		--constraint ../build/lock/torch.txt --no-emit-package torch --universal --python-version 3.11 \
		--fork-strategy fewest --generate-hashes --no-annotate --upgrade --quiet \
		--custom-compile-command "make lock" --output-file requirements.lock

clean:  ## remove .venv, caches and built files (not the demo's output)
	rm -rf $(VENV) build backend/build backend/*.egg-info .ruff_cache .pytest_cache backend/.coverage*
	rm -rf backend/.mypy_cache backend/.pytest_cache backend/.hypothesis .hypothesis
	find backend -name __pycache__ -type d -prune -exec rm -rf {} +
