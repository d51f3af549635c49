# `make` lists the targets.
PYTHON ?= python3
DATASET ?= digits
DATA_DIR ?=
ARGS ?=
# PyTorch's index of builds for the processor alone; PyPI's are ten times the size.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
SWIFT := .venv-swift
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
CODE := $(wildcard gauntlet tasks flows mlflow_server benchmarks)

# Nobody is called, and nothing but news is printed.
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.PHONY: help run nightly serve test test-all test-portable check lock clean clean-state

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

run: $(VENV)/.installed ## Run the suite: [DATASET=digits] [DATA_DIR=folder] [ARGS="--n 500"]
	@$(BIN)/python -m flows.suite --dataset '$(DATASET)' $(if $(DATA_DIR),--data-dir '$(DATA_DIR)') $(ARGS)

nightly: $(VENV)/.installed ## Candidate against champion: [DATASET=digits] [DATA_DIR=folder] [ARGS="--promote"]
	@$(BIN)/python -m flows.nightly --dataset '$(DATASET)' $(if $(DATA_DIR),--data-dir '$(DATA_DIR)') $(ARGS)

serve: $(VENV)/.installed ## MLflow, Prefect and a worker in this terminal: [ARGS="--mlflow-port 5001"]
	@$(BIN)/python -m mlflow_server.serve $(ARGS)

PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Without these the tests of PyTorch, ONNX, workers and the shared stores say why they are skipped.
TORCH := -r requirements-torch.txt --extra-index-url $(TORCH_INDEX)
EXTRAS := -r requirements-onnx.txt -r requirements-server.txt -r requirements-cluster.txt
NUMERIC := tests/gauntlet/attacks tests/gauntlet/evaluation tests/gauntlet/models

test: $(VENV)/.installed-dev ## Run the quick tests, a file to a processor: [ARGS="-k name"]
	@$(PYTEST) -m "not slow and not server" $(ARGS)

test-all: $(VENV)/.installed-extras $(SWIFT)/.installed ## Run every test: servers, whole nights, kills, PyTorch, ONNX
	@$(PYTEST) $(ARGS)

# A processor without AVX-512 has run them as one with AVX2 already.
test-portable: $(VENV)/.installed-dev ## Run the numeric tests as processors without AVX-512 and without oneDNN would
	@if grep -qs avx512 /proc/cpuinfo; then ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) -m "not slow" $(NUMERIC) $(ARGS); fi
	@TF_ENABLE_ONEDNN_OPTS=0 $(PYTEST) -m "not slow" $(NUMERIC) $(ARGS)

check: $(VENV)/.installed-dev ## Lint, formatting, types, security
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(BIN)/bandit --quiet -c pyproject.toml -r $(CODE)

lock: ## Write constraints.txt from what all requirements resolve to in a fresh environment
	@rm -rf $(VENV)-lock
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip --quiet --disable-pip-version-check install \
	  -r requirements-dev.txt $(TORCH) $(EXTRAS)
	@{ echo '# Every package at the version the tests ran with. Written by `make lock`.'; \
	   $(VENV)-lock/bin/python -m pip --disable-pip-version-check freeze | sed 's/+cpu$$//'; } > $(VENV)-lock/constraints.txt
	@mv $(VENV)-lock/constraints.txt constraints.txt
	@rm -rf $(VENV)-lock

clean: ## Remove the environment and all caches; what was measured stays
	@rm -rf $(VENV) $(VENV)-lock $(SWIFT) .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-state: ## Remove state/: every run, model and log
	@rm -rf state

# The stamps are older than the requirements as soon as one of those changes, and only then is pip asked again.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is too old: Python 3.11 or later is needed (make PYTHON=python3.11 ...)" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt constraints.txt pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (some minutes the first time)"
	@$(PIP) install -r requirements.txt -c constraints.txt
	@$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "Installing the tools of the tests into $(VENV)"
	@$(PIP) install -r requirements-dev.txt -c constraints.txt
	@touch $@

$(VENV)/.installed-extras: requirements-torch.txt requirements-onnx.txt requirements-server.txt requirements-cluster.txt \
  $(VENV)/.installed-dev
	@echo "Installing PyTorch, ONNX, Dask and the clients of Postgres and S3 into $(VENV)"
	@$(PIP) install -c constraints.txt --retries 1 $(TORCH)
	@$(PIP) install -c constraints.txt $(EXTRAS)
	@touch $@

# OpenStack Swift, the S3 store of the tests, in an environment of its own: it patches sockets.
$(SWIFT)/.installed: tests/stores/requirements-swift.txt
	@echo "Installing OpenStack Swift into $(SWIFT)"
	@$(PYTHON) -m venv $(SWIFT)
	@$(SWIFT)/bin/python -m pip --quiet --disable-pip-version-check install -r $<
	@touch $@
