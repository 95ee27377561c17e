# Everything starts here; `make help` lists it. Needs make and Python 3.11 or newer, nothing else.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet -c constraints.txt

# Without a GPU the CPU build of PyTorch saves gigabytes (Linux):
#     make test TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

# What `make recipe` trains, on how many GPUs, what it passes on (such as --set …), and what it reports on
RECIPE ?= librispeech-100h
GPUS ?= 1
TRAIN ?=
SPLITS ?= dev-clean test-clean test-other

# What `make bench` passes on, such as a manifest to measure on, or --record; see python -m benchmarks --help
BENCH ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench tables recipe setup clean
.DELETE_ON_ERROR:

help:  ## list these commands
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

demo: .venv/.recognition  ## set up what recognition needs, recognise the bundled recording live
	@echo "Demo: streaming the bundled recording through the shipped model as if it were spoken now"
	@$(BIN)/asr demo

test: .venv/.everything lint  ## set up the rest, then lint, types and all tests
	@echo "Test: the whole suite (pytest)"
	@$(BIN)/python -m pytest

lint: .venv/.everything  ## style, format and types
	@echo "Lint: style (ruff check)"
	@$(BIN)/ruff check
	@echo "Lint: format (ruff format --check)"
	@$(BIN)/ruff format --check
	@echo "Lint: types (mypy)"
	@$(BIN)/mypy

bench: .venv/.everything  ## measure every figure of the README, one after the other
	@echo "Bench: every figure, one after the other; leave the machine alone meanwhile"
	@$(BIN)/python -m benchmarks $(BENCH)

tables: .venv/.everything  ## write the tables of figures into README.md from results/
	@$(BIN)/python -m benchmarks.tables

recipe: .venv/.everything  ## train configs/RECIPE.toml on GPUS cards, from download to report; goes on where it stopped
	$(if $(filter-out 1,$(GPUS)),$(BIN)/torchrun --nproc-per-node $(GPUS) -m --,$(BIN)/python -m) \
		asr train configs/$(RECIPE).toml --download $(if $(wildcard runs/$(RECIPE)/checkpoint.pt),--resume) $(TRAIN)
	$(BIN)/asr export runs/$(RECIPE)/best.pt models/$(RECIPE) --language en --licence CC-BY-4.0
	$(BIN)/python -m training.librispeech data $(SPLITS)
	$(foreach split,$(SPLITS),$(BIN)/asr evaluate data/LibriSpeech --split $(split) --model models/$(RECIPE) --json \
		> runs/$(RECIPE)/$(split).json && )cat $(SPLITS:%=runs/$(RECIPE)/%.json)

setup: .venv/.everything  ## set up everything without running it

clean:  ## remove the virtual environment, caches and builds; data/ and runs/ stay
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# The environment. A stamp file is written when a step has succeeded; it is older than pyproject.toml or
# constraints.txt when they have changed, and only then the step runs again. The project itself is installed
# editable, so changed sources need no installation, but for those that are compiled.

COMPILED := $(wildcard setup.py asr/decoding/_kernel.c)

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is missing or older than Python 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Set-up: making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || { \
		rm -rf .venv; echo "$(PYTHON) cannot make virtual environments (Debian: apt install python3-venv)" >&2; exit 1; }
	@touch $@

.venv/.recognition: .venv/.made pyproject.toml constraints.txt $(COMPILED)
	@echo "Set-up: installing what recognition needs (about 200 MB, a minute at most on a fast line)"
	@$(PIP) -e .
	@touch $@
	@echo "Set-up: done, .venv has $$(du -sm .venv | cut -f1) MB"

.venv/.everything: .venv/.recognition
	@echo "Set-up: installing what training and tests need (PyTorch: 1 GB and more, minutes)"
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[train,test]'
	@touch $@
	@echo "Set-up: done, .venv has $$(du -sm .venv | cut -f1) MB"
