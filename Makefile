# Everything a person does here. Needs Python 3.11 or newer with venv, git and make; `make help` lists the targets.
# Written for GNU make 3.81, the oldest still shipped: no .ONESHELL.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
CLIENTS := .clients
CLIENT_FILES := tests/acceptance/clients
# Tests wait more than they count: more of them at once than there are cores.
ABREAST := -n 4 --dist worksteal
WATCHED := tests/unit $(wildcard tests/test_*.py) examples
# -qq hides warnings and progress, not errors.
PIP_INSTALL := -m pip install -qq --disable-pip-version-check --no-input
export PYTHON

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: venv
venv: $(VENV)/.stamp ## Make or refresh .venv: the gateway, its plugins, the development tools

$(VENV)/.stamp: pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
	@python=$$(.ci/find-python) && \
	  if [ ! -x $(BIN)/python ]; then echo "Making $(VENV) with $$($$python --version)" && $$python -m venv $(VENV); fi
	@echo "Installing Batchway and its packages into $(VENV); half a minute, or a few with a slow line"
	@$(BIN)/python $(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	@touch $@

.PHONY: demo
demo: venv ## Watch a labelling job go through sandboxed batches: a minute, no key, no money
	@$(BIN)/batchway demo

.PHONY: sandbox
sandbox: venv ## Run the simulated providers on a port
	@$(BIN)/batchway sandbox

.PHONY: test
test: check clients ## Run everything: format, lint, types, all tests with coverage
	@echo "Running all tests: first what wants the machine for itself, then what is watched by coverage, then the rest"
	@$(BIN)/python -m pytest tests/acceptance
	@$(BIN)/python -m pytest $(ABREAST) $(WATCHED) --cov
	@$(BIN)/python -m pytest $(ABREAST) tests plugins $(addprefix --ignore=,tests/acceptance $(WATCHED))

.PHONY: check
check: venv ## Format, lint and types only
	@echo "Checking format, lint and types"
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted: run 'make format'" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary

.PHONY: format
format: venv ## Format the code and mend what the linter can mend
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

.PHONY: unit
unit: venv ## Run the quick tests: no processes, no client environments
	@$(BIN)/python -m pytest tests/unit plugins tests/test_*.py

.PHONY: clients
clients: $(CLIENTS)/openai2/.stamp $(CLIENTS)/llm/.stamp $(CLIENTS)/node/.stamp ## Make the environments of the real clients under test

# One virtual environment for each $(CLIENT_FILES)/NAME.txt.
$(CLIENTS)/%/.packages: $(CLIENT_FILES)/%.txt
	@python=$$(.ci/find-python) && echo "Making $(@D) for the acceptance tests" && \
	  mkdir -p $(CLIENTS) && $$python -m venv --clear $(@D)
	@$(@D)/bin/python $(PIP_INSTALL) -r $<
	@touch $@

$(CLIENTS)/%/.stamp: $(CLIENTS)/%/.packages
	@touch $@

$(CLIENTS)/node/.stamp: $(CLIENTS)/node/.packages $(wildcard $(CLIENT_FILES)/node/package*.json)
	@echo "Installing Node packages into $(CLIENTS)/node/app"
	@mkdir -p $(CLIENTS)/node/app && cp $(CLIENT_FILES)/node/package*.json $(CLIENTS)/node/app/
	@cd $(CLIENTS)/node/app && PATH="$(CURDIR)/$(CLIENTS)/node/bin:$$PATH" npm ci --silent --no-audit --no-fund --ignore-scripts
	@touch $@

.PRECIOUS: $(CLIENTS)/%/.packages

.PHONY: bench-providers
bench-providers: venv ## Measure what each kind of provider costs; rewrites benchmarks/PROVIDERS.md
	@$(BIN)/python -m benchmarks.providers

.PHONY: bench
bench: venv ## Measure this machine against the goals; rewrites benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks

.PHONY: soak
soak: venv ## Run the long proofs: all crash points, simulated worlds and failing disks, then a load with kills; Ctrl-C ends it
	@$(BIN)/python -m tests.crashes.matrix --turns 1000 --every
	@$(BIN)/python -m tests.crashes.matrix --kind openai --kind anthropic --scenario trouble --turns 3 \
	  --twice submit:acted --twice batches.intend:committed --twice batches.settle:committed
	@$(BIN)/python -m tests.simulation --seeds 5000 --from $$(date +%s)
	@BATCHWAY_DISK_SWEEP=all $(BIN)/python -m pytest $(ABREAST) tests/disk
	@$(BIN)/python -m benchmarks.soak

.PHONY: guards
guards: venv ## Take each guard away once and see its test go red: 15 minutes; NAME=... for some
	@$(BIN)/python -m tests.guards $(NAME)

.PHONY: constraints
constraints: venv ## Pin what .venv holds into constraints.txt
	@echo "# What the tests last passed with; made by 'make constraints'." > $(VENV)/constraints.new
	@$(BIN)/python -m pip freeze --exclude-editable | sed 's/ @ .*//' | grep '==' >> $(VENV)/constraints.new
	@mv $(VENV)/constraints.new constraints.txt && touch $(VENV)/.stamp

.PHONY: clean
clean: ## Remove all that make made, environments included
	@rm -rf $(VENV) $(CLIENTS) build dist *.egg-info plugins/*/build plugins/*/*.egg-info
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
