# Two commands for a newcomer: `make demo` and `make test`. The rest is for those who work on mergeboard.
TARGET ?= cpu
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
LOCK   := requirements-$(TARGET).lock
STAMP  := $(VENV)/.ready-$(TARGET)

QUICK := tests/test_golden_digests.py tests/test_structure.py $(wildcard tests/recipes/test_layer_*.py) \
	$(addprefix tests/orchestrator/plan/test_,estimate.py job.py plan.py sweep.py) tests/orchestrator/compare tests/orchestrator/cards \
	$(addprefix tests/evals/test_,claims.py stats.py suite.py)

.PHONY: help setup demo check test coverage lint check-all lock browser clean

help:
	@echo "make demo       set up, run the demo sweep, show its table, card, report and dashboard"
	@echo "make check      set up, lint, types, import rules, quick tests: under a minute"
	@echo "make test       set up, lint, types, import rules, tests"
	@echo "make coverage   the same tests, and which lines none of them runs"
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

check: lint
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not gpu and not vllm and not shared" $(QUICK)

PYTEST := pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

test: lint
	$(BIN)/python -m $(PYTEST)

# A quarter slower than without; fails under 90 %.
coverage: setup
	$(BIN)/coverage erase
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_FILE=$(CURDIR)/.coverage $(BIN)/coverage run -m $(PYTEST)
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
