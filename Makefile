# Needs make and Python 3.10 or later, nothing else. Every target builds what it needs in .venv.
#   make demo    a real photo through the codec, a table and a picture of the result
#   make test    all tests
#   make lint    ruff, mypy and import-linter
#   make docs    the site, in site/; a warning is an error
# PYTHON=... chooses the interpreter the environment is made with, ARGS=... adds arguments.

VENV ?= .venv
BIN := $(VENV)/bin
CANDIDATES := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python3.10)
SUPPORTED := import sys; sys.exit(sys.version_info < (3, 10))
EXTRAS := $(filter demo test lint docs,$(MAKECMDGOALS))
COMMA := ,
JOBS ?= auto
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test lint docs clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

$(BIN)/python:
	@for python in $(CANDIDATES); do \
		if "$$python" -c '$(SUPPORTED)' 2>/dev/null; then \
			echo "Making $(VENV) with $$python ($$("$$python" --version))"; \
			exec "$$python" -m venv $(VENV); \
		fi; \
	done; \
	echo "No Python 3.10 or later among: $(CANDIDATES). Install one, or say where: make PYTHON=/path/to/python" >&2; \
	exit 1

# One stamp per extra, renewed when the requirements change; those of all goals are installed at once.
$(VENV)/.installed-%: pyproject.toml setup.py mpa_core/bitstream/_rans.c constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(subst $() ,$(COMMA),$(sort $* $(EXTRAS)))]'
	@touch $(patsubst %,$(VENV)/.installed-%,$* $(EXTRAS))

demo: $(VENV)/.installed-demo
	$(BIN)/python -m mpa_core.demo $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses $(JOBS) --maxprocesses 4 --dist worksteal $(ARGS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist site out
