# make test, make bench: everything from a fresh clone, in .venv with pinned versions. make gpu: what needs an NVIDIA GPU.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(shell find csrc -type f) CMakeLists.txt setup.py pyproject.toml constraints.txt
CXX_FILES = $(shell find csrc tests/cuda tests/native benchmarks -name '*.h' -o -name '*.cpp' -o -name '*.cu')
# That of torch 2.11, which GPU machines have; constraints.txt has that of torch 2.13.
TRITON_OF_GPUS := 3.6.0
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

.PHONY: help test lint bench gpu arm overhead format clean

help:
	@echo "make test      lint, type check and every test"
	@echo "make bench     fastkan against pykan, efficient-kan-style layers, inkan and MLPs: table, plot, JSON"
	@echo "make gpu       proof on an NVIDIA GPU in the Python at hand: tests, sanitizer, throughput (docs/gpu.md)"
	@echo "make arm       the CPU core on ARM, in an emulator: 6 minutes"
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

# The compiled core and the tools; the CUDA kernels with a CPU in the GPU's place (tests/emulated.py), where
# FASTKAN_BACKEND=cuda then serves everything that a user calls; then the Triton kernels in Triton's interpreter, with two
# versions of Triton. Left out, for time: every second case in float16 and bfloat16, their gram and quadratic (computed in
# float32), and with the second version, whose kernels are the same and whose frontend alone is in question, three cases of the
# table in four, all of it in 16 bit, and repeats bit for bit (its interpreter is the same numpy). What runs there is every
# fourth case from the first on: degrees 1, 3, 5, every kind of grid, and the GPU's fast path. Before these, what has time
# limits runs alone, and the rest in two processes, as the compilers it starts do: with more, torch's threads would get in each
# other's way.
ALONE := tests/benchmarks tests/test_processes.py
INTERPRETER := TRITON_INTERPRET=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n auto
EMULATED := FASTKAN_EMULATED=plain FASTKAN_BACKEND=cuda OMP_NUM_THREADS=1 $(BIN)/pytest -n auto
SECOND := PYTHONPATH=.venv/triton-$(TRITON_OF_GPUS)
test: lint .venv/triton-$(TRITON_OF_GPUS)
	$(BIN)/pytest $(ALONE)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ALONE:%=--ignore %)
	$(EMULATED) -k cuda tests/test_backends.py tests/cuda/test_paths.py tests/cuda/test_sparse_forward.py
	$(EMULATED) tests/nn tests/test_ops.py tests/test_functional.py tests/test_grid.py tests/test_compile.py
	$(INTERPRETER) tests/test_backends.py tests/kernels -k "not (float16 and test_backends)"
	FASTKAN_CASES=2 $(INTERPRETER) tests/test_backends.py -k "float16 and not (gram or quadratic)"
	$(SECOND) $(BIN)/pytest tests/kernels
	$(SECOND) $(INTERPRETER) tests/kernels
	FASTKAN_CASES=4 $(SECOND) $(INTERPRETER) tests/test_backends.py -k "not (float16 or deterministic)"

.venv/triton-$(TRITON_OF_GPUS): .venv/ready
	$(BIN)/python -m pip install --quiet --no-deps --target $@ triton==$(TRITON_OF_GPUS)

bench: .venv/ready
	$(BIN)/python benchmarks/run.py

overhead: .venv/ready
	$(BIN)/pytest benchmarks/test_overhead.py --override-ini addopts=

arm: .venv/ready
	$(BIN)/pytest tests/native/arm.py

gpu:
	@$(GPU_PYTHON) -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>/dev/null || \
		{ echo "make gpu: $(GPU_PYTHON) has no torch that sees a CUDA device, so nothing was run"; exit 1; }
	$(GPU_PYTHON) -m pip install --no-build-isolation --no-deps --quiet -e .
	$(GPU_PYTHON) -m fastkan info
	$(GPU_PYTHON) benchmarks/proof.py

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

clean:
	rm -rf .venv build fastkan.egg-info fastkan/_C.* fastkan/_build.json
