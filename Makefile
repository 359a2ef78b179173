# Every target does its own set-up; nothing but `CLUSTER=node` and `B=one-node` needs root, and `CLUSTER=kind` Docker. `make help` lists them.
SHELL := /bin/bash
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help demo test e2e check bench generate lock prepared

help: ## list these targets
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/.ready: requirements.lock pyproject.toml
	@test -x $(PY) || { echo "creating .venv"; python3 -m venv .venv; }
	@echo "installing the locked packages"
	@$(PY) -m pip install -q --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	@$(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# A first time fetches packages and compiles programs side by side: the one waits for the network, the other does not.
prepared:
	@$(MAKE) --no-print-directory -j2 .venv/.ready .programs
.PHONY: .programs
.programs:
	@python3 -m tests.cluster.build >/dev/null

check: .venv/.ready ## format, lint, types, import contracts, generated files up to date
	@.venv/bin/ruff format --check -q operator tests images
	@.venv/bin/ruff check -q operator tests images
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PY) -m strategyrollout.api.generate --check
	@$(PY) -m tests.install.manifests --check  # runs Helm, which is built from source the first time (1-2 minutes)

demo: prepared ## a whole story on a real cluster, told and checked (KEEP=1 keeps it until Ctrl-C; CLUSTER=node as root)
	@$(PY) -m tests.demo $(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(KEEP),--keep)

test: prepared ## all tests: the core, then everything on a real local cluster (make test T=path/or/-k to narrow)
	@$(PY) -m tests.install.prepare
	@$(PY) -m tests.images prepare
	@$(PY) -m tests.cluster.build kwok >/dev/null
	@$(if $(T),$(PY) -m tests.cluster.enter -- $(PY) -m pytest $(T),$(PY) -m tests.lanes)

e2e: .venv/.ready ## the product installed in a real cluster (CLUSTER=node as root, kind, current; T= to narrow; KEEP=1)
	@$(PY) -m tests.e2e --cluster $(or $(CLUSTER),node) $(if $(KEEP),--keep) -- $(T)

bench: prepared ## latencies and footprint, printed as distributions (make bench B=name to run one)
	@$(PY) -m tests.bench $(B)

generate: .venv/.ready ## write CRDs, API reference, the chart's rules and the manifests anew from their sources
	@$(PY) -m strategyrollout.api.generate
	@$(PY) -m tests.install.manifests

LOCK := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
lock: ## resolve requirements.lock and the locks of the images anew from pyproject.toml (needs uv)
	@$(LOCK) pyproject.toml --group dev -o requirements.lock
	@for part in operator router build; do \
		$(LOCK) --group image-$$part --constraint requirements.lock -o images/$$part.lock || exit 1; done
