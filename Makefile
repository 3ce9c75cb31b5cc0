# make test, make bench: everything from a fresh clone, in .venv with pinned versions. make gpu: what needs an NVIDIA GPU.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(shell find csrc -type f) CMakeLists.txt setup.py pyproject.toml constraints.txt
CXX_FILES = $(shell find csrc tests/native -name '*.h' -o -name '*.cpp' -o -name '*.cu')
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

.PHONY: help test lint bench gpu overhead format clean

help:
	@echo "make test      lint, type check and every test"
	@echo "make bench     fastkan against pykan, efficient-kan-style layers, inkan and MLPs: table, plot, JSON"
	@echo "make gpu       the tests and the benchmark that need an NVIDIA GPU, in the Python at hand"
	@echo "make overhead  micro-benchmarks of what a call costs"
	@echo "make format    format Python and C++"

.venv/ready: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e '.[bench,test,dev]'
	touch $@

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/mypy

test: lint
	$(BIN)/pytest

bench: .venv/ready
	$(BIN)/python benchmarks/run.py

overhead: .venv/ready
	$(BIN)/pytest benchmarks/test_overhead.py --override-ini addopts=

gpu:
	@$(GPU_PYTHON) -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>/dev/null || \
		{ echo "make gpu: $(GPU_PYTHON) has no torch that sees a CUDA device, so nothing was run"; exit 1; }
	$(GPU_PYTHON) -m pip install --no-build-isolation --no-deps --quiet -e .
	$(GPU_PYTHON) -m fastkan info
	$(GPU_PYTHON) -m pytest -m gpu
	$(GPU_PYTHON) benchmarks/run.py --device cuda

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

clean:
	rm -rf .venv build fastkan.egg-info fastkan/_C.* fastkan/_build.json
