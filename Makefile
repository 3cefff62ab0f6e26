# Two commands for a newcomer: `make demo` and `make test`. Everything else is here for maintainers.
TARGET ?= cpu
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
LOCK   := requirements-$(TARGET).lock
STAMP  := $(VENV)/.ready-$(TARGET)

.PHONY: setup demo test lint lock check-all clean

setup: $(STAMP)

$(STAMP): $(LOCK) pyproject.toml deploy/locks/setup.sh
	bash deploy/locks/setup.sh $(TARGET) $(PYTHON) $(VENV)
	touch $@

lock:
	bash deploy/locks/lock.sh
