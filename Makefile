.DEFAULT_GOAL := help
.PHONY: help install demo test adversary matrix versions faults cluster garbage drills relay event-path bench check format architecture python-api cli-reference openapi asyncapi screenshots prometheus-rule grafana docs lock

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# How many lanes of tests run at one time (tests/lanes.py); 0: all tests one after another.
WORKERS ?= 2
# What `make versions` runs on each: everything of ours that talks to Kafka or ClickHouse.
ON_EACH := $(addprefix tests/integration/,sinks stream kafka producers cli grafana)
# The stamp holds the environment to the lock file: either changes, it is synchronised again.
READY := $(VENV)/.ready

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY)  ## Create .venv with .venv/bin/spendmeter in it

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "spendmeter needs Python >= 3.11; name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked packages into $(VENV) (about 1.9 GB, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(BIN)/uv pip sync --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: install  ## Start the local stack, watch a budget being spent, refused, raised and served again (ARGS=--keep: open the page)
	@$(BIN)/spendmeter demo $(ARGS)

test: install  ## Run every test on the real broker, the real engine, the real proxy and a real browser, two at a time (WORKERS=0: one after another)
	@$(BIN)/spendmeter fetch
	@$(BIN)/python -m tests.browser
	@$(BIN)/python -m pytest tests -n $(WORKERS)

adversary: install  ## Send what anybody may send and compare bills with charges (ARGS="--seed 7 --requests 20000 --busy")
	@$(BIN)/spendmeter fetch
	@$(BIN)/python -m tests.adversary $(ARGS)

matrix: install  ## Run a short suite beside each supported release of LiteLLM, and write the table of them
	@$(BIN)/spendmeter fetch
	@SPENDMETER_MATRIX=all $(BIN)/python -m pytest tests/matrix $(ARGS)

versions: install  ## Run on the oldest and the newest Kafka and ClickHouse, upgrade them under traffic, and from our last release
	@$(BIN)/spendmeter fetch
	@SPENDMETER_VERSIONS=all $(BIN)/python -m pytest tests/versions $(ARGS)
	@for releases in oldest newest; do \
		SPENDMETER_TEST_KAFKA=$$releases SPENDMETER_TEST_CLICKHOUSE=$$releases $(BIN)/python -m pytest $(ON_EACH) $(ARGS) || exit; \
	done

faults: install  ## Inject faults into the real stack under traffic (about an hour; ARGS="--brokers 3 --seed 7 --faults 40 --events 20000")
	@$(BIN)/spendmeter fetch
	@$(BIN)/python -m tests.faults.run $(ARGS)

cluster: install  ## Run what only several brokers can show: leaders and coordinators that have moved (minutes)
	@$(BIN)/spendmeter fetch
	@SPENDMETER_CLUSTER=all $(BIN)/python -m pytest tests/cluster $(ARGS)

garbage: install  ## Write generated garbage onto every topic under traffic (minutes; SEED=7 BATCHES=5000)
	@$(BIN)/spendmeter fetch
	@SPENDMETER_GARBAGE_SEED=$(or $(SEED),$(shell date +%s)) SPENDMETER_GARBAGE_BATCHES=$(or $(BATCHES),5000) \
		$(BIN)/python -m pytest tests/integration/garbage --show-capture=no

relay: install  ## Relay 10,000 alerts to receivers that fail, hang, limit and restart, and print what arrived (minutes; ALERTS=10000)
	@$(BIN)/spendmeter fetch
	@SPENDMETER_RELAY_ALERTS=$(or $(ALERTS),10000) $(BIN)/python -m pytest tests/integration/alerts/test_faulty_receivers.py -s

drills: install  ## Move a system under traffic: made anew, more partitions, another cluster, restored (minutes)
	@$(BIN)/spendmeter fetch
	@SPENDMETER_DRILLS=all $(BIN)/python -m pytest tests/integration/sinks/test_incarnations.py -s $(ARGS)

event-path: install  ## Print which of our files one event passes, from the callback to the refusal of a later request
	@$(BIN)/spendmeter fetch
	@$(BIN)/python -m pytest tests/event_path -s

bench: install  ## Measure beside Kafka Streams, Quix and stock Faust; what a request pays; latency (two hours, one of them the soak; ARGS="--brief")
	@$(BIN)/spendmeter fetch
	@$(BIN)/python -m bench $(ARGS)

check: install  ## Format, lint, spelling, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/codespell
	@$(BIN)/mypy
	@MYPYPATH=examples $(BIN)/mypy examples
	@$(BIN)/lint-imports --no-cache

format: install  ## Rewrite the code in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

architecture: install  ## Write the picture of imports in ARCHITECTURE.md
	@$(BIN)/python -m tests.architecture

python-api: install  ## Write the tables of docs/reference/python.md
	@$(BIN)/python -m tests.python_api

cli-reference: install  ## Write docs/reference/cli.md
	@$(BIN)/python -m tests.cli_reference

openapi: install  ## Write docs/reference/openapi.json and api.md beside it
	@$(BIN)/python -m spendmeter_console.api.openapi > docs/reference/openapi.json
	@$(BIN)/python -m tests.api_reference

asyncapi: install  ## Write docs/reference/asyncapi.json and the JSON Schemas of all records, docs/reference/schemas
	@$(BIN)/python -m spendmeter.contract.asyncapi docs/reference

prometheus-rule: install  ## Write the rules of deploy/prometheus for Prometheus' operator, deploy/kubernetes/monitoring/rules.yaml
	@$(BIN)/python -m tests.prometheus_rule

grafana: install  ## Write Grafana's dashboards, deploy/grafana/dashboards
	@$(BIN)/python -m spendmeter_grafana deploy/grafana/dashboards

screenshots: install  ## Start the demo, add a month of a small company, and write the pictures of the page (minutes)
	@$(BIN)/spendmeter fetch
	@$(BIN)/python -m tests.browser
	@$(BIN)/python -m tests.screenshots $(ARGS)

docs: install  ## Build the docs as a site in build/docs/site, strictly (ARGS=serve: and show it on 127.0.0.1)
	@$(BIN)/python -m tests.docs_site $(ARGS)

lock:  ## Resolve requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-annotate --extra all --group dev pyproject.toml --output-file requirements.lock
