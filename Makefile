# The project's habits; `make help` lists them.

VENV ?= .venv
BIN := $(VENV)/bin
# Kedro and MLflow then send no usage statistics, whichever command is theirs.
export DO_NOT_TRACK := true
# What a run needs, and the tools of development, the notebooks or the site besides.
INSTALLED := $(VENV)/.installed
DEVELOPED := $(VENV)/.installed-dev
NOTEBOOK := $(VENV)/.installed-notebook
DOCUMENTED := $(VENV)/.installed-docs
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
ROUNDS ?= 20
# What `make compare` trains, in this order (the two-phase paths start from deepfm, distilled learns
# from single_phase), with how many seeds each: 42 comes last, so that the folders hold it.
TRAINED := train_deepfm train_logistic_regression train_dcnv2 train_finalmlp train train_hybrid \
  train_distilled train_two_phase train_two_phase_finetuned
SEEDS ?= 1
SEVERAL := $(filter-out 1,$(SEEDS))
WORKERS := --numprocesses auto --maxprocesses 4
# Processors with AVX2 and with no AVX, as PyTorch, oneDNN, MKL, OpenBLAS and NumPy see them.
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
  MKL_CBWR=AVX2 OPENBLAS_CORETYPE=Haswell NPY_DISABLE_CPU_FEATURES="X86_V4"
SSE := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 \
  MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Nehalem NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4"
# Fast tests that do arithmetic: all but those that only read, move and write rows.
ARITHMETIC := --ignore=tests/data --ignore=tests/datasets --ignore=tests/hooks \
  --ignore=tests/benchmarks --ignore-glob="tests/test_*" \
  --ignore-glob="tests/pipelines/test_preprocess*" --ignore=tests/pipelines/test_data_sets.py \
  --ignore=tests/pipelines/test_download.py --ignore=tests/pipelines/test_stores.py \
  --ignore=tests/pipelines/test_spark.py --ignore=tests/pipelines/test_bad_input.py

.DEFAULT_GOAL := help
.PHONY: help run compare data test slow processors lint types bench soak docs notebook viz mlflow
.PHONY: audit clean

help: ## List the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(INSTALLED) ## Preprocess, train and test on the embedded default; takes minutes, no GPU needed
	$(BIN)/kedro run

compare: $(INSTALLED) ## Train all paths on the embedded default, with SEEDS seeds each, and compare them; takes minutes
	$(BIN)/kedro run --pipeline=preprocess_all
	@set -ex; for seed in $$(seq $$((41 + $(SEEDS))) -1 42); do for pipeline in $(TRAINED); do \
	  $(BIN)/kedro run --pipeline=$$pipeline $(if $(SEVERAL),--params training.seed=$$seed); \
	done; done
	$(BIN)/kedro run --pipeline=compare $(if $(SEVERAL),--params compare.seeds=$(SEEDS))

data: $(INSTALLED) ## Fetch Avazu x1, x2 and x4 from the Hugging Face hub into data/01_raw
	$(BIN)/kedro run --pipeline=download

test: lint types ## Lint, types, import contracts and the fast tests
	$(BIN)/pytest $(WORKERS)

slow: $(DEVELOPED) ## The tests that take longer, and arithmetic as on other processors
	$(BIN)/pytest $(WORKERS) -m "slow and not gpu"
	$(MAKE) processors

processors: $(DEVELOPED) ## The fast tests of arithmetic as on processors with AVX2 and with no AVX
	$(AVX2) $(BIN)/pytest $(WORKERS) $(ARITHMETIC) --ignore=tests/training/ranks
	$(SSE) $(BIN)/pytest $(WORKERS) $(ARITHMETIC)

lint: $(DEVELOPED) ## Ruff (lint and format) and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(DEVELOPED) ## Strict type checking
	$(BIN)/mypy

bench: $(INSTALLED) ## The benchmarks that need no GPU, in minutes; results in benchmarks/results
	$(BIN)/python -m benchmarks.train_step
	$(BIN)/python -m benchmarks.predict
	$(BIN)/python -m benchmarks.input
	$(BIN)/python -m benchmarks.node_overhead
	$(BIN)/python -m benchmarks.deepfm_step
	$(BIN)/python -m benchmarks.start_up

soak: $(INSTALLED) ## Kill each path's training at every rename and ROUNDS times at random; takes hours
	$(BIN)/python -m benchmarks.soak --rounds $(ROUNDS)

docs: $(DOCUMENTED) ## Build the documentation's site into site/; warnings are errors, links are checked
	$(BIN)/python -m docs.site.build

viz: $(INSTALLED) ## Open the pipelines and figures in Kedro-Viz
	$(BIN)/kedro viz run

mlflow: $(INSTALLED) ## Open the runs in MLflow
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db

notebook: $(NOTEBOOK) ## Open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=notebooks

audit: $(DEVELOPED) ## Look the installed packages up in a database of known vulnerabilities; needs the network
	@found=$$($(BIN)/pip-audit --local --skip-editable --progress-spinner off 2>&1); status=$$?; \
	echo "$$found"; case "$$found" in *"not be audited: pip-audit"*) status=1;; esac; \
	if [ $$status != 0 ]; then echo "The audit found what stands above, or could not reach its database: it needs the network"; fi; \
	exit $$status

clean: ## Remove the virtual environment
	rm -rf $(VENV)

# The first Python 3.11 or 3.12 that can make a virtual environment.
$(INSTALLED): pyproject.toml constraints.txt
	@for python in $(PYTHON) python3 python3.12 python3.11; do \
	  if $$python -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; \
	  then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Python 3.11 or 3.12 with its venv module was not found; install it, or name it: make run PYTHON=/path/to/python3.12"; \
	  exit 1; \
	fi; \
	$$found -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(NOTEBOOK): $(INSTALLED)
	$(PIP) -e ".[notebook]"
	@touch $@

$(DEVELOPED): $(INSTALLED)
	$(PIP) -e ".[dev]"
	@touch $@

$(DOCUMENTED): $(INSTALLED)
	$(PIP) -e ".[docs]"
	@touch $@
