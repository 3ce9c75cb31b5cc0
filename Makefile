# make test, proof, bench: from a fresh clone, in .venv with pinned versions. make gpu: what needs an NVIDIA GPU.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(shell find csrc -type f) CMakeLists.txt setup.py pyproject.toml constraints.txt
CXX_FILES = $(shell find csrc tests/emulated tests/native benchmarks -name '*.h' -o -name '*.cpp' -o -name '*.cu')
# That of torch 2.11, which GPU machines have; constraints.txt has that of torch 2.13.
TRITON_OF_GPUS := 3.6.0
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

.PHONY: help test proof proof-cpu proof-triton proof-cuda lint bench demo docs gpu arm overhead format clean

help:
	@echo "make test      lint, type check and the first tier of tests: 15 minutes on 2 cores, set-up included"
	@echo "make proof     the first tier and all the rest: proof-cpu, proof-triton, proof-cuda, each also alone"
	@echo "make bench     fastkan against pykan, efficient-kan-style layers, inkan and MLPs: table, plot, JSON"
	@echo "make demo      a hidden formula: fit, prune, see; a picture in build/demo.png, in under a minute"
	@echo "make docs      the documentation as a site in build/docs; runs the code of every page"
	@echo "make gpu       proof on an NVIDIA GPU in the Python at hand: tests, sanitizer, throughput (docs/how-to/prove-on-a-gpu.md)"
	@echo "make arm       the CPU core on ARM, in an emulator: 6 minutes"
	@echo "make overhead  micro-benchmarks of what a call costs, and whether the profiler's roof is high enough"
	@echo "make wheel     sdist and manylinux wheel in dist/, proven in a fresh environment; make proof-torch: oldest and newest torch"
	@echo "make format    format Python and C++"

# For one kind of GPU, as compilation for each takes a minute or two; proof-cuda builds for all of them.
.venv/ready: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	FASTKAN_CUDA_ARCHITECTURES=90 $(BIN)/python -m pip install --progress-bar on -c constraints.txt -e '.[bench,test,dev]'
	touch $@

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/mypy

# The tests by subject; everything else under tests/ is about Python and the CPU.
TABLE := tests/contract/test_backends.py
CUDA_TESTS := tests/emulated
CUDA_OPERATIONS := $(TABLE) tests/emulated/test_paths.py tests/emulated/test_two_four_forward.py
TRITON_TESTS := tests/triton
THREADED_TESTS := $(TABLE) tests/backends tests/ops tests/test_functional.py
# A stack in one call is of backend cpu alone.
USER_TESTS := tests/nn tests/ops tests/test_functional.py tests/splines --ignore-glob='*/test_stack*.py'

# The runs: as it is; the CUDA kernels with a CPU in the GPU's place, where users' calls go to them too; the Triton kernels in
# Triton's interpreter. Two processes with one thread each are the fastest on two cores. Files stay whole in the first: the
# compilers that their fixtures start have two processes of their own.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2
PLAIN := $(PYTEST) --dist loadfile --no-loadscope-reorder
EMULATED := FASTKAN_EMULATED=plain FASTKAN_BACKEND=cuda $(PYTEST)
INTERPRETED := TRITON_INTERPRET=1 $(PYTEST)
SECOND := PYTHONPATH=.venv/triton-$(TRITON_OF_GPUS)

test: lint
	$(PLAIN) -m "not proof"
	$(EMULATED) -m "not proof" -k cuda $(TABLE)
	$(INTERPRETED) -m "not proof" $(TABLE) -k "not (bfloat16 and (gram or quadratic))"

# Every test that `make test` leaves out is in one of the three parts.
PROOF := -m proof --durations=20
proof: test proof-cpu proof-triton proof-cuda

# The second run has one process with two threads, where make test has two processes with one.
proof-cpu: .venv/ready .venv/docs
	$(PLAIN) $(PROOF) $(CUDA_TESTS:%=--ignore %) $(TRITON_TESTS:%=--ignore %)
	OMP_NUM_THREADS=2 $(BIN)/pytest --durations=20 $(THREADED_TESTS)

# In the interpreter every second case in float16 and bfloat16, and without gram and quadratic, which are computed in float32.
# With the second Triton, whose frontend alone is in question, every fourth case in float32 and float64.
proof-triton: .venv/triton-$(TRITON_OF_GPUS)
	$(PLAIN) $(PROOF) $(TRITON_TESTS)
	$(INTERPRETED) $(PROOF) $(TABLE) $(TRITON_TESTS) -k "not (float16 and test_backends)"
	FASTKAN_CASES=2 $(INTERPRETED) $(PROOF) $(TABLE) -k "float16 and not (gram or quadratic)"
	$(SECOND) $(PLAIN) --durations=20 $(TRITON_TESTS)
	$(SECOND) $(INTERPRETED) --durations=20 $(TRITON_TESTS)
	FASTKAN_CASES=4 $(SECOND) $(INTERPRETED) --durations=20 $(TABLE) -k "not (float16 or deterministic)"

proof-cuda: .venv/all-architectures
	$(PLAIN) $(PROOF) $(CUDA_TESTS)
	$(EMULATED) $(PROOF) -k cuda $(CUDA_OPERATIONS)
	$(EMULATED) $(PROOF) $(USER_TESTS)

.venv/triton-$(TRITON_OF_GPUS): .venv/ready
	$(BIN)/python -m pip install --quiet --no-deps --target $@ triton==$(TRITON_OF_GPUS)

# The table of what the CUDA kernels take of each GPU needs the kernels for all of them.
.venv/all-architectures: .venv/ready
	$(BIN)/python -m pip install --progress-bar on --no-deps -e .
	touch $@

bench: .venv/ready
	$(BIN)/python -m benchmarks cpu

demo: .venv/ready
	mkdir -p build
	$(BIN)/python -m fastkan demo --output build/demo.png

# The site, in build/docs. Every page's code runs while it is built.
docs: .venv/docs
	$(BIN)/python -m sphinx -W -b html docs build/docs

.venv/docs: .venv/ready
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])" | \
		xargs $(BIN)/python -m pip install --quiet -c constraints.txt
	touch $@

overhead: .venv/ready
	$(BIN)/pytest benchmarks/test_overhead.py benchmarks/test_roof.py --override-ini addopts=

arm: .venv/ready
	$(BIN)/pytest tests/native/arm.py

gpu:
	@$(GPU_PYTHON) -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>/dev/null || \
		{ echo "make gpu: $(GPU_PYTHON) has no torch that sees a CUDA device, so nothing was run"; exit 1; }
	$(GPU_PYTHON) -m pip install --no-build-isolation --no-deps --quiet -e .
	$(GPU_PYTHON) -m fastkan info
	$(GPU_PYTHON) -m benchmarks proof

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

clean:
	rm -rf .venv build dist fastkan.egg-info fastkan/_C.* fastkan/_build.json

# An sdist and the manylinux wheel built from it, in dist/, proven in a fresh environment; and the oldest and newest torch.
.PHONY: wheel proof-torch
wheel: .venv/ready
	$(BIN)/python tests/release/wheel.py dist

proof-torch: .venv/ready
	$(BIN)/pytest -m proof tests/release/test_torch_versions.py
