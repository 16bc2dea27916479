# One word for each thing that people and CI do. The environment is made when it is missing, and made anew when
# pyproject.toml or constraints.txt changes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo
WHEELHOUSE ?= wheelhouse
EXTRAS ?= weights,s3,tensorboard,mlflow
READY := $(VENV)/.ready

.PHONY: demo test test-slow lint format docs install wheelhouse clean

demo: $(READY)  ## run the demonstration: no data, no network, no GPU
	$(BIN)/ray-cxr demo --out $(OUT)

test: $(READY)  ## run the fast tests
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-slow: $(READY)  ## run everything, also soak tests, kills and full benchmarks
	$(BIN)/python -m pytest $(ARGS)

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## mend the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## write the pages that are made from the code
	$(BIN)/python docs/settings.py
	$(BIN)/python docs/backbones.py

install: $(READY)  ## make the environment

wheelhouse:  ## fetch every wheel into a folder, to install from where there is no network
	PYTHON='$(PYTHON)' EXTRAS='$(EXTRAS)' cluster/wheelhouse.sh '$(WHEELHOUSE)'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "ray_cxr needs Python 3.11 or later; call make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV) \
	  || { echo "python -m venv failed; on Debian and Ubuntu install the package python3-venv"; exit 2; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
