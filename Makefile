# Two commands matter: `make run` and `make test`. Both need only Python >= 3.11 and make.
.DEFAULT_GOAL := help
.PHONY: help run demo token fix check test bench screenshots openapi lock clean

# The first interpreter on this machine that is new enough.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
INSTALLED := .venv/installed
# The console is tested in the system's browser, where there is one.
BROWSER := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
DRIVER := $(if $(BROWSER),.venv/browser-driver)

# By default uv trusts only the authorities that it brings, and a proxy that re-signs TLS has one of the system's store.
AUTHORITIES := $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem)
export UV_SYSTEM_CERTS ?= $(if $(AUTHORITIES),true,false)

# Images of Python often set it. Then each process would compile all that it imports, and pytest all tests, each time anew.
unexport PYTHONDONTWRITEBYTECODE

help:
	@echo "make run      start everything on this machine; Ctrl-C stops it"
	@echo "make demo     show the life of a payment on the running stack"
	@echo "make token    an access token for curl, of AS=customer, vendor or admin"
	@echo "make test     all tests, against real servers; COVERAGE=1 measures coverage"
	@echo "make bench    measure this machine's stack beside its peer; ARGS=--quick takes three minutes"
	@echo "make fix      format the code and apply the linter's safe fixes"
	@echo "make check    format, lint, types, imports, dependencies, dead code, rules of the repository"
	@echo "make screenshots  take the pictures of all pages of the console"
	@echo "make openapi  write docs/openapi.json (routes) and docs/asyncapi.json (events) anew"
	@echo "make lock     resolve the dependencies anew: requirements.lock is what runs"
	@echo "make clean    forget the environment and all local data"

run: $(INSTALLED)
	@exec $(BIN)/python -m workers.dev

demo: $(INSTALLED)
	@exec $(BIN)/python -m workers.dev.demo

# make has an AS of its own (the assembler), so `AS ?= customer` would keep that one.
ifeq ($(origin AS),default)
AS := customer
endif
token: $(INSTALLED)
	@exec $(BIN)/python -m workers.dev.demo.token $(AS)

# Coverage costs a third more time: it is measured where CI is set, or by `make test COVERAGE=1`.
COVERAGE ?= $(CI)
test: $(INSTALLED) $(DRIVER)
	$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),-n 5 --no-loadscope-reorder $(if $(COVERAGE),--cov --cov-report=term))

bench: $(INSTALLED)
	$(BIN)/python -m tests.bench $(ARGS)

screenshots: $(INSTALLED) $(DRIVER)
	SCREENSHOTS=docs/images/console $(BIN)/python -m pytest -q tests/browser/test_pages.py

fix: $(INSTALLED)
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry --no-ansi .
	$(BIN)/vulture
	$(BIN)/python -m pytest -q tests/house

openapi: $(INSTALLED)
	@# Not into a document itself: a command that fails would leave it empty.
	$(BIN)/python -m api.cli openapi > docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json
	$(BIN)/python -m api.cli asyncapi > docs/asyncapi.json.new && mv docs/asyncapi.json.new docs/asyncapi.json

$(INSTALLED): requirements-dev.lock
	@test -n "$(PYTHON)" || { echo "Paywright needs Python 3.11 or newer; none was found on PATH." >&2; exit 1; }
	@echo "Installing into .venv (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

.venv/browser-driver: requirements-browser.lock | $(INSTALLED)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements-browser.lock
	@touch $@

COMPILE = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet --upgrade \
	--custom-compile-command "make lock"

lock: $(INSTALLED)
	$(COMPILE) pyproject.toml --output-file requirements.lock
	$(COMPILE) pyproject.toml --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(COMPILE) pyproject.toml --extra otel --constraint requirements-dev.lock --output-file requirements-otel.lock
	$(COMPILE) --group browser --constraint requirements-dev.lock --output-file requirements-browser.lock
	$(COMPILE) --group node --output-file requirements-node.lock

clean:
	rm -rf .venv .data .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
