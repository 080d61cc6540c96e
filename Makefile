# Everything a developer does, one target each; `make` alone lists them.
# Nothing is expected of the machine but make and Python 3.11 or newer.

VENV := .venv
# Programs are run as modules: the scripts in .venv/bin stop working when the directory is moved.
RUN := $(VENV)/bin/python -m
FLASK := $(RUN) flask --app api

# The newest Python of the usual names; `make run PYTHON=/some/python3` takes another one.
PYTHON ?= $(shell for candidate in python3.13 python3.12 python3.11 python3; do \
	if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$candidate; break; fi; \
	done)

# Further arguments for the command behind a target, as in `make test args="-k orders -x"`.
args ?=
# Another server's binaries for the tests, such as /usr/lib/postgresql/15/bin; by default the embedded ones.
PG_BIN ?=
# How many processes share the tests, file by file; each has a database server of its own.
WORKERS ?= 3
# How many requests the long run of the fuzzer makes for each operation.
FUZZ_EXAMPLES ?= 1000
# How many payloads the long run of the attacks sends, and which ones.
ATTACK_INPUTS ?= 50000
ATTACK_SEED ?= 4

# In recipes as "$$msg", so that no character of it means anything to the shell.
export msg

# A server of its own, so that checking neither needs nor changes the developer's database; and none at all.
SCRATCH := DATABASE_URL= INSTANCE_PATH=instance/check
OFFLINE := DATABASE_URL=postgresql://nobody@127.0.0.1:1/none

# The stack of docs/DEPLOYMENT.md.
PRODUCTION := docker compose --env-file .env --env-file .env.local -f docker-compose.yml -f docker-compose.prod.yml
# In a container where the machine has no Python.
GENERATE_SECRETS = $(if $(PYTHON),$(PYTHON),docker run --rm --user $$(id -u):$$(id -g) -v "$(CURDIR)":/app -w /app \
	python:3.13-slim python) scripts/generate_secrets.py

.DEFAULT_GOAL := help
.PHONY: help run up down test test-docker fuzz attack check lint format-check types imports squawk migration-check audit \
	secret-scan format bench \
	migration migrate migrate-downgrade migrate-history migrate-current shell seed clean

help: # lists the targets
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' Makefile

##@ Run

run: $(VENV)/.runtime ## run the API with its database; Ctrl-C ends both
	@SUPERVISOR_PID=$$PPID; export SUPERVISOR_PID; exec $(FLASK) serve

up: ## the stack in Docker as in production, with random secrets of its own in .env.local
	@$(GENERATE_SECRETS)
	@$(PRODUCTION) up --detach --build --wait $(args)

down: ## stop what `make up` has started; the data stays
	@$(PRODUCTION) down $(args)

shell: $(VENV)/.runtime ## a Python shell with the models and `db` at hand
	@$(FLASK) shell

seed: $(VENV)/.runtime ## make demo data: args="--users 50 --products 200 --orders 300"
	@$(FLASK) seed $(args)

##@ Migrate

migration: $(VENV)/.runtime ## write a migration for what changed in the models: msg="add colour to products"
	@test -n "$$msg" || { echo 'Say what it does: make migration msg="add colour to products"' >&2; exit 2; }
	@$(FLASK) db migrate -m "$$msg"

migrate: $(VENV)/.runtime ## bring the database up to date
	@$(FLASK) db upgrade $(args)

migrate-downgrade: $(VENV)/.runtime ## take the last migration back
	@$(FLASK) db downgrade $(args)

migrate-history: $(VENV)/.runtime ## list the migrations
	@$(FLASK) db history --indicate-current $(args)

migrate-current: $(VENV)/.runtime ## tell at which migration the database is
	@$(FLASK) db current $(args)

##@ Test

test: $(VENV)/.dev ## run the tests: args="-k orders", PG_BIN=/usr/lib/postgresql/15/bin
	@PYTHONDONTWRITEBYTECODE= TEST_PG_BIN="$(PG_BIN)" $(RUN) pytest -n $(WORKERS) --dist loadfile $(args)

test-docker: $(VENV)/.dev ## run the tests of the Docker images and the compose file; needs Docker
	@$(RUN) pytest tests/docker $(args)

fuzz: $(VENV)/.dev ## fuzz the API for long: FUZZ_EXAMPLES=1000
	@FUZZ_EXAMPLES="$(FUZZ_EXAMPLES)" TEST_PG_BIN="$(PG_BIN)" $(RUN) pytest tests/fuzz $(args)

attack: $(VENV)/.dev ## attack the API for long: ATTACK_INPUTS=50000 ATTACK_SEED=4
	@ATTACK_INPUTS="$(ATTACK_INPUTS)" ATTACK_SEED="$(ATTACK_SEED)" TEST_PG_BIN="$(PG_BIN)" $(RUN) pytest tests/security $(args)

##@ Measure

bench: $(VENV)/.runtime ## compare with other frameworks; needs wrk: args="--quick"
	@$(RUN) benchmarks.peers $(args)

##@ Check

check: lint format-check types imports squawk migration-check secret-scan audit ## all of the following
	@echo "All checks passed."

lint: $(VENV)/.dev ## ruff's rules
	@$(RUN) ruff check .

format-check: $(VENV)/.dev ## ruff's format
	@$(RUN) ruff format --check .

types: $(VENV)/.dev ## mypy
	@$(RUN) mypy

imports: $(VENV)/.dev ## the rules of who may import whom
	@$(VENV)/bin/lint-imports

squawk: $(VENV)/.dev ## migrations that would lock or break a busy database
	@rm -rf $(VENV)/migrations && mkdir $(VENV)/migrations
	@$(OFFLINE) $(FLASK) db upgrade --sql > $(VENV)/migrations/all.txt
	@# A file for each: in one, every table would look new, and so empty and unused.
	@grep -vxE 'BEGIN;|COMMIT;' $(VENV)/migrations/all.txt | awk -v folder=$(VENV)/migrations '/^-- Running upgrade/ {file = folder "/" ++n ".sql"; printf "%s", head > file} \
		!n {head = head $$0 "\n"} n {print > file}'
	@$(VENV)/bin/squawk $(VENV)/migrations/*.sql

migration-check: $(VENV)/.dev ## models without a migration
	@rm -rf instance/check
	@$(SCRATCH) $(FLASK) db upgrade
	@$(SCRATCH) $(FLASK) db check

secret-scan: $(VENV)/.dev ## secrets in what git tracks
	@$(VENV)/bin/python scripts/secret_scan.py

audit: $(VENV)/.dev ## known vulnerabilities in what is pinned; says so when it cannot be asked
	@$(VENV)/bin/python scripts/audit_dependencies.py

format: $(VENV)/.dev ## format the code and mend what ruff can
	@$(RUN) ruff check --fix-only --quiet .
	@$(RUN) ruff format .

##@ Tidy up

clean: ## remove the virtual environment and all caches; the database stays
	@rm -rf $(VENV) .venv-bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis .coverage htmlcov
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The virtual environment. The stamps are as old as the last installation, and pip runs only when a list is younger.

# One whose Python has been removed or replaced is made anew.
ifneq ($(wildcard $(VENV)/.),)
ifneq ($(shell $(VENV)/bin/python -c 'import pip; print("works")' 2>/dev/null),works)
$(VENV)/.runtime $(VENV)/.dev: FORCE
.PHONY: FORCE
FORCE:
endif
endif

define make_venv
	@test -n "$(PYTHON)" || { \
		echo "Python 3.11 or newer is needed, and there is none. Install one, or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is not a Python of 3.11 or newer." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@test "$$($(VENV)/bin/python -c 'import pip; print("works")' 2>/dev/null)" = works \
		|| "$(PYTHON)" -m venv --clear $(VENV)
endef

PIP := $(RUN) pip install --quiet --disable-pip-version-check

$(VENV)/.runtime: requirements.txt
	$(make_venv)
	@echo "Installing what the application needs into $(VENV) ..."
	@$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements.txt
	$(make_venv)
	@echo "Installing what the application and its tests need into $(VENV) ..."
	@$(PIP) -r requirements-dev.txt
	@touch $(VENV)/.runtime $@
