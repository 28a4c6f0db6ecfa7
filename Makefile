# Two commands matter: `make demo` and `make test`. Everything they need is built by them; see README.md.

CONTROL_PLANE := target/controlplane/controlplane
HELM := target/tools/helm
REGISTRY := target/registry/registry

.PHONY: demo test test-unit model soak lint vet fmt fuzz mutants bench crds control-plane registry tools doc clean help

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Watch a good and a bad image roll out to 20 simulated devices (KEEP=1 leaves it running, KUBECONFIG=… uses that cluster)
	@cargo build --locked --bin tranche --example demo
ifneq ($(origin KUBECONFIG), command line)
	@$(MAKE) --no-print-directory control-plane
	@target/debug/examples/demo --tranche target/debug/tranche --control-plane $(CONTROL_PLANE) $(if $(KEEP),--keep)
else
	@target/debug/examples/demo --tranche target/debug/tranche --kubeconfig $(KUBECONFIG) $(if $(KEEP),--keep)
endif

test: lint control-plane registry tools ## Everything: lints, unit, property, simulated and real control plane tests
	cargo test --locked --lib --bins --examples
	TRANCHE_CONTROLPLANE=$(abspath $(CONTROL_PLANE)) TRANCHE_HELM=$(abspath $(HELM)) TRANCHE_REGISTRY=$(abspath $(REGISTRY)) \
		cargo test --locked --test it
	cargo test --locked --test model
	cargo test --locked --doc

test-unit: ## Only what needs no control plane
	cargo test --locked --lib

model: ## Visit every state of the exhaustive model, then look for each seeded bug (MODEL_SCENARIO=stop: only scenarios named so)
	@cargo test --locked --test model -- --nocapture --test-threads=1

soak: ## Simulate SEEDS=200 fleets from SEED=1 on, each with its own faults and acts of people; a seed that fails can be replayed
	@SOAK_SEEDS=$(SEEDS) SOAK_SEED=$(SEED) cargo test --locked --test it -- --nocapture --exact soak::two_hundred_seeds

lint: ## Formatting, clippy, docs, licences and sources of dependencies
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	./.ci/deny
	test -z "$$(gofmt -l tests/controlplane tests/registry)" || { gofmt -l tests/controlplane tests/registry; exit 1; }

vet: control-plane registry ## go vet of the tests' modules; compiles a second time what the control plane needs of Kubernetes
	cd tests/registry && CGO_ENABLED=0 go vet -trimpath .
	cd tests/controlplane && CGO_ENABLED=0 go vet -trimpath .

fmt: ## Format everything
	cargo fmt
	gofmt -w tests/controlplane tests/registry

fuzz: ## Look for a delivery that breaks a dialect, for FUZZ_SECONDS=60; needs nightly and a C++ compiler
	@fuzz/run

mutants: ## Break the planner and the gate in a thousand ways; says how many of them a test notices (FILE=src/plan/gate.rs: only there, SAMPLE=4: every fourth)
	@tests/mutants/run

bench: control-plane ## Measure; the table of benches/README.md
	TRANCHE_CONTROLPLANE=$(abspath $(CONTROL_PLANE)) cargo bench --locked --bench figures

crds: ## Write crds/ and the chart's copy anew from the types
	@cargo build --locked --bin tranche
	@mkdir -p crds charts/tranche/crds
	@target/debug/tranche crds --out crds
	@target/debug/tranche crds --out charts/tranche/crds

control-plane: ## Build the real Kubernetes control plane of demo and tests, unless KUBEBUILDER_ASSETS has one
	@tests/controlplane/build.sh $(abspath $(CONTROL_PLANE))

registry: ## Build the real container registry of the tests
	@tests/registry/build.sh $(abspath $(REGISTRY))

tools: ## Build helm for the chart's tests, unless it is on the PATH, and install schemathesis for those of the REST API
	@command -v helm >/dev/null || tests/tools/build.sh $(abspath $(HELM))
	@tests/schemathesis/build.sh

clean: ## Remove everything built
	cargo clean
