# SPDX-License-Identifier: MIT
# Every target sets up what it needs in .venv first. `make study` and `make test` work on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu')
OUT ?= studies

.PHONY: study test lint format bench clean install

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

bench: $(STAMP)
	$(BIN)/python -m bench

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis lmc_fast/_native*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
