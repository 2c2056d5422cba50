# The two commands of the README are `make quickstart` and `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

OPERATOR := bin/infra.operator
HELLO := {"language": "python", "files": [{"name": "main.py", "content": "print('Hello from Python!')"}]}

.PHONY: help quickstart build deb sbom test test-kvm lint clean benchmark figures image-figures storage-figures load soak fuzz miri advisories reproducible

help: ## Lists the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

quickstart: ## Installs, builds and prepares everything that is missing, and runs Hello World in a microVM
	@scripts/require-tools
	@$(MAKE) build
	@$(OPERATOR) setup
	@image="$$($(OPERATOR) rootfs list --json)"; \
	  grep -q '"language": "python"' <<<"$$image" || $(OPERATOR) rootfs create --lang python
	@$(OPERATOR) snapshot create --lang python --mem 512 --vcpus 1 --if-needed
	@$(OPERATOR) run --request - <<<'$(subst ','\'',$(HELLO))'

build: ## Builds the release binary as bin/infra.operator
	@scripts/build-release $(OPERATOR)

deb: ## Builds the Debian package, in dist: llm-firecracker_VERSION_amd64.deb
	@scripts/require-tools
	@$(MAKE) build
	@scripts/make-deb

sbom: ## What is in the release binary: bin/infra.operator.cdx.json (CycloneDX), and the licences that go with it
	@scripts/require-tools
	@$(MAKE) build
	@cargo xtask sbom --program $(OPERATOR) bin

test: ## Runs every test, those with real microVMs too
	@scripts/require-tools
	@scripts/test

test-kvm: ## Runs what needs KVM, and Firecracker where there is one (FIRECRACKER_BIN), in an emulated host that has it
	@scripts/require-tools
	@scripts/test-kvm

lint: ## Formatting, lints, documentation
	@cargo xtask lint

benchmark: ## Repeats the figures of the README
	@$(MAKE) build
	@$(OPERATOR) benchmark --langs python --runs 20 --cold-runs 20

figures: ## What a restore costs: phases, processor time, system calls, memory (test-kvm prints the same with KVM)
	@scripts/require-tools
	@scripts/figures

storage-figures: ## What it costs to bring images and snapshots into object storage and out of it: rates, sizes, memory
	@scripts/require-tools
	@scripts/storage-figures

image-figures: ## What an image from a registry costs, beside skopeo, umoci and mkfs.ext4
	@scripts/require-tools
	@scripts/image-figures

load: ## What the service bears: latency, idle connections, a burst, callers that never rest (LOAD_OPTIONS)
	@scripts/require-tools
	@scripts/load $(LOAD_OPTIONS)

soak: ## Has the service work for SOAK_SECONDS (1800), and says whether anything of it grows (SOAK_OPTIONS)
	@scripts/require-tools
	@scripts/soak $(SOAK_OPTIONS)

fuzz: ## Runs each fuzz target for FUZZ_SECONDS (600), some at a time
	@scripts/require-tools
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-600} scripts/fuzz

miri: ## Runs what can run in Miri, an interpreter that knows undefined behaviour, where there is one
	@scripts/miri

advisories: ## Known weaknesses of dependencies, from a local copy of the RustSec database
	@cargo xtask advisories

reproducible: ## Builds the release twice, in two places, and compares what came out (twice as long as a build)
	@scripts/require-tools
	@scripts/reproducible

clean: ## Removes what was built (not the data directory)
	@cargo clean
	@rm -rf bin
