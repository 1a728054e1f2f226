# SPDX-License-Identifier: MIT
# Every target sets up what it needs in .venv first. `make study` and `make test` work on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
NATIVE := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu')
OUT ?= studies

.PHONY: study test lint format bench bench-quick clean install

study: $(STAMP)
	$(BIN)/lmc-fast study width --preset quick --out $(OUT)/width-quick
	$(BIN)/lmc-fast study learning-rate --preset quick --out $(OUT)/learning-rate-quick

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

bench: $(STAMP) $(BENCH_STAMP)
	$(BIN)/python -m bench
	$(BIN)/python -m bench --scaling

bench-quick: $(STAMP) $(BENCH_STAMP)
	$(BIN)/python -m bench --quick

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[dev]'
	touch $(STAMP)

$(BENCH_STAMP): pyproject.toml constraints.txt | $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt jax
	touch $(BENCH_STAMP)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis lmc_fast/_native*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
