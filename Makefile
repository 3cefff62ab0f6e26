# Two commands for a newcomer: `make demo` and `make test`. The rest is for those who work on mergeboard.
TARGET ?= cpu
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
LOCK   := requirements-$(TARGET).lock
STAMP  := $(VENV)/.ready-$(TARGET)

.PHONY: help setup demo test lint check-all lock browser clean

help:
	@echo "make demo       set up, run the demo sweep, show its table, card and dashboard"
	@echo "make test       set up, lint, types, import rules, tests with coverage"
	@echo "make setup      only set up .venv (TARGET=gpu for a CUDA machine)"
	@echo "make check-all  the slow and broad checks too"
	@echo "make lock       make the lock files from pyproject.toml"
	@echo "make browser    install Chromium for the dashboard's browser tests (Debian, root)"

setup: $(STAMP)

$(STAMP): $(LOCK) pyproject.toml deploy/locks/setup.sh
	bash deploy/locks/setup.sh $(TARGET) $(PYTHON) $(VENV)
	@touch $@

demo: setup
	bash orchestrator/demo/demo.sh $(BIN)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/coverage erase
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/.coverage $(BIN)/coverage run -m pytest -n 2 --dist loadfile -m "not slow and not gpu"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=90

check-all: test
	$(BIN)/python -m pytest -m "slow and not gpu"

lock:
	bash deploy/locks/lock.sh

browser:
	apt-get update -qq && apt-get install -y -qq chromium

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .coverage* test-output
