# Copyright (c) 2026, The gpufleet.triton authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

build := $(CURDIR)/.build
# The collection in place: Ansible looks for ansible_collections/gpufleet/triton, whatever the checkout is called.
collection := $(build)/collections/ansible_collections/gpufleet/triton

export PATH := $(build)/venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(build)/collections
# What Ansible and ansible-lint keep for themselves stays here as well, not in the home of whoever runs them.
export ANSIBLE_HOME := $(build)/ansible
# Facts are read as ansible_facts['x']. Anything that relies on injected variables fails here.
export ANSIBLE_INJECT_FACT_VARS := false

##@ Parts of the test

# The last step is one pytest session: its closing line counts every integration target and every scenario.
test: lint sanity programs images models ## Lint, sanity, unit, packaging, integration, Molecule
	pytest

test-all: export GPUFLEET_THOROUGH := 1
test-all: test ## The same with the tests that take long as well: before a release, and after a change of what they are about

lint: venv collections ## ansible-lint (production), ruff, yamllint, changelog
	ruff check --output-format concise .
	yamllint --strict .
	antsibull-changelog lint
	@if [ -e tools/role_readme.py ]; then (set -x; python tools/role_readme.py --check); fi
	@# ansible-lint looks for roles in a copy of the collection that it makes once, and never again.
	@rm -rf $(ANSIBLE_HOME)/collections
	ansible-lint

sanity: venv ## ansible-test sanity, without ignore files; ARGS="--test pylint" runs one
	tools/ansible-test.sh sanity $(ARGS)

unit: venv collections programs ## Unit tests; ARGS="-k waiter" chooses
	pytest tests/unit $(ARGS)

build-test: venv collections ## Build the collection, install the archive elsewhere, use it from there
	pytest tests/packaging $(ARGS)

integration: venv programs images ## ansible-test integration against a real tritonserver; TARGET=triton_model runs one
	tools/ansible-test.sh integration --color no $(TARGET) $(ARGS)

# A scenario with a file OPT_IN, which says why, is run by its name alone.
opt_in = $(patsubst molecule/%/OPT_IN,%,$(wildcard molecule/*/OPT_IN))
scenarios = $(filter-out $(opt_in),$(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml)))

molecule: venv collections programs images models ## Molecule scenarios; SCENARIO=default runs one, COMMAND=converge stops there
	@for scenario in $(or $(SCENARIO),$(scenarios)); do \
	    molecule $(or $(COMMAND),test) --scenario-name "$$scenario" $(ARGS); \
	done

soak: venv collections programs ## Fuzz the readers of archives and of config.pbtxt with 220,000 inputs; ARGS="--seed 7 --inputs 1000"
	PYTHONPATH=$(ANSIBLE_COLLECTIONS_PATH) python tests/soak/soak_archive.py $(ARGS)
	PYTHONPATH=$(ANSIBLE_COLLECTIONS_PATH) python tests/soak/soak_pbtxt.py $(ARGS)

bench: demo ## Measure; writes tests/bench/results
	python tests/bench/bench.py $(ARGS)

##@ The demo: two hosts, each with a real Triton

demo: venv collections images models ## Two hosts from bare Debian to served models, in one command
	$(lab) up $(GPUFLEET_LAB) gpu1 gpu2
	$(play) site.yml -l gpu_hosts
	@$(play) report.yml -e fleet_show_table=false >.build/report.log 2>&1 || { cat .build/report.log; exit 1; }
	@printf '\n%s\n\n%s\n' "$$(cat examples/fleet/.build/report.txt)" "$$next"

define next
Next:
  docker exec -it $(GPUFLEET_LAB)-gpu1 bash             look at a host: systemctl status triton, docker logs triton
  make play ARGS=gpufleet.triton.status               what each Triton is doing
  make play ARGS="site.yml -l gpu1 --check --diff"    what a run would change
  make demo                                           run it all again: nothing changes
  make demo-down                                      take it down
endef
export next

play: venv collections ## Any playbook of examples/fleet on the demo's hosts: make play ARGS="site.yml -l gpu1 --check --diff"
	$(play) $(ARGS)

demo-down: ## Remove the demo's hosts
	$(lab) down $(GPUFLEET_LAB)

# The lab starts before there is a virtual environment, and needs none.
lab := python3 molecule/shared/lab.py
export GPUFLEET_LAB ?= gpufleet-demo
play = cd examples/fleet && ansible-playbook -i inventory.yml -i ../../molecule/shared/inventory

models: venv ## Train the demo's classifier, unless its weights are there
	@python examples/fleet/tools/train_digits.py

engine: ## Start a Docker Engine if none answers
	@$(lab) engine start

programs: ## Install the programs that the tests run, where missing
	@$(lab) programs

images: venv ## Build the lab's images where missing
	@$(lab) images

lab-clean: ## Remove every lab of this checkout, and stop the engine if the lab started it
	@$(lab) clean

##@ Work

venv: ## The controller's virtual environment, from requirements/dev.txt
	@tools/venv.sh

collections: ## The checkout as gpufleet.triton in .build/collections
	@mkdir -p $(dir $(collection))
	@ln -sfn ../../../.. $(collection)

requirements: venv ## Resolve requirements/dev.in again into requirements/dev.txt
	python -m pip install --quiet uv
	uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header requirements/dev.in -o requirements/dev.txt

docs: venv ## Write the roles' READMEs from their argument specs
	python tools/role_readme.py

clean: lab-clean ## Remove everything that was built here, labs and their engine included
	rm -rf .build .ansible .ruff_cache .pytest_cache tests/output

help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
	    /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	    /^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: $(shell awk -F: '/^[a-z-]+:/ { print $$1 }' $(MAKEFILE_LIST))
