# From a fresh clone, with Python 3.11 or 3.12 and nothing else: make up
.DEFAULT_GOAL := help
.PHONY: help play up down status test check format bench lock install dev

BIN := .venv/bin

help: ## Show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

play: install ## Try it in one process, without Kafka and Redis; ARGS="--port 8001 --data FOLDER"
	@$(BIN)/freshet play $(ARGS)

up: install ## Start everything and play traffic; ARGS="--traffic none --detach --port 8000"
	@$(BIN)/freshet up $(ARGS)

down: ## Stop everything
	@if [ -x $(BIN)/freshet ]; then $(BIN)/freshet down; else echo "Freshet is not installed here."; fi

status: install ## Show each part: process, state, lag
	@$(BIN)/freshet status $(ARGS)

test: check ## Run the checks and all tests, in two processes; ARGS="tests/unit"
	@$(BIN)/python -m pytest $(or $(ARGS),$(ALL_TESTS))

# A file's tests share what they start; those that start most come first. Each process has a Kafka and a Redis of its own.
ALL_TESTS := -n 2 --dist loadfile --no-loadscope-reorder

check: dev ## Format, lint, types, import layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: dev ## Format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: install ## Measure everything on a system of its own; or ARGS="freshness"
	@$(BIN)/freshet bench $(or $(ARGS),all)

lock: ## Resolve the versions anew (needs uv)
	uv pip compile $(LOCK_OPTIONS) --extra build -o requirements.lock pyproject.toml
	uv pip compile $(LOCK_OPTIONS) --extra build --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

LOCK_OPTIONS := --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --quiet

install:
	@sh ops/setup.sh

dev:
	@sh ops/setup.sh requirements-dev.lock
