# SPDX-License-Identifier: MIT
# Every target sets up what it needs in .venv first. `make study` and `make test` work on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
NATIVE := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')
OUT ?= studies

# An environment with a sanitized _native of its own; all else it takes from .venv, but for the editable install.
SANITIZED := build/sanitized
SANITIZED_STAMP := $(SANITIZED)/.installed
SANITIZED_PACKAGES := $(CURDIR)/$(SANITIZED)/lib/python*/site-packages
SANITIZED_DEFINES := SKBUILD_CMAKE_DEFINE="LMC_FAST_SANITIZE=ON;LMC_FAST_CUDA=OFF"
# malloc fills memory with NaN, so that reading what was never written shows in the results.
SANITIZED_PYTHON = $(SANITIZED_DEFINES) PYTHONSAFEPATH=1 UBSAN_OPTIONS=print_stacktrace=1 \
	ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1:malloc_fill_byte=255:max_malloc_fill_size=1073741824 \
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	$(SANITIZED)/bin/python

.PHONY: study test sanitize sanitize-quick lint check-cuda format bench bench-quick gpu-check clean install

study: $(STAMP)
	$(BIN)/lmc-fast study width --preset quick --out $(OUT)/width-quick
	$(BIN)/lmc-fast study learning-rate --preset quick --out $(OUT)/learning-rate-quick

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

# --capture=sys leaves the sanitizers' reports, which are written as the process ends, on the screen.
sanitize: $(SANITIZED_STAMP)
	cd lmc_fast && cp --parents $$(find . -name '*.py' -o -name '*.toml') $(SANITIZED_PACKAGES)/lmc_fast
	PYTEST_ADDOPTS="--capture=sys $(SELECT)" $(SANITIZED_PYTHON) -m pytest -n 2 --dist worksteal python_tests/ops

sanitize-quick: SELECT = -m sanitize_quick
sanitize-quick: sanitize

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

# What nvcc makes of the CUDA kernels; needs no GPU.
check-cuda: $(STAMP)
	@if command -v "$${CUDACXX:-nvcc}" > /dev/null; then $(BIN)/python tools/check_cuda.py; else echo "skipped: no nvcc"; fi

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

bench: $(STAMP) $(BENCH_STAMP)
	$(BIN)/python -m bench
	$(BIN)/python -m bench --scaling

bench-quick: $(STAMP) $(BENCH_STAMP)
	$(BIN)/python -m bench --quick

# Builds for the GPU at hand, tests, sanitizes and times on it, with $(PYTHON)'s own packages and no network.
gpu-check:
	$(PYTHON) tools/gpu_check.py $(GPU_CHECK)

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[dev]'
	touch $(STAMP)

$(SANITIZED_STAMP): $(STAMP)
	rm -rf $(SANITIZED)/lib
	$(BIN)/python -m venv --without-pip $(SANITIZED)
	$(SANITIZED_DEFINES) $(BIN)/python -m pip --python $(SANITIZED)/bin/python install --disable-pip-version-check --quiet --no-deps \
		--config-settings build-dir=$(SANITIZED)/objects --config-settings install.strip=false .
	cd $(SANITIZED_PACKAGES) && echo $(CURDIR)/$(VENV)/lib/python*/site-packages > venv.pth
	touch $(SANITIZED_STAMP)

$(BENCH_STAMP): pyproject.toml constraints.txt | $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt jax lapx
	touch $(BENCH_STAMP)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis lmc_fast/_native*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
