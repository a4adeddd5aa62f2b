# Start with `make demo` and `make test`. Each step of CI is a target.
.DEFAULT_GOAL := help
AZURITE := tests/azurite/node_modules/.bin/azurite
BROWSER := tests/browser/node_modules/.package-lock.json
# Debian's browser, or the one of GitHub's runners.
export CHROMIUM ?= $(firstword $(wildcard /usr/bin/chromium /usr/bin/google-chrome) /usr/bin/chromium)
FAKETIME := /usr/bin/faketime
DENY_VERSION := 0.20.2
INFERNO_VERSION := 0.12.8
FUZZ_VERSION := 0.13.2
AUDITABLE_VERSION := 0.7.7
CYCLONEDX_VERSION := 0.5.9
PYTHON ?= python3
# Target machine of `make package`: x86_64 or aarch64, and the oldest glibc version on which the binary runs.
ARCH ?= x86_64
TRIPLE := $(ARCH)-unknown-linux-gnu
GLIBC := 2.28
# Profile and folder of `make package`.
PROFILE ?= release
DIST ?= dist
BENCH_DROP := target/bench/million
# Builds the binary with the features that `cargo test` uses: with others, all dependencies would be compiled again.
BUILD_AS_TESTS_DO := cargo test --workspace --test cli --no-run
# Fuzz targets of `make fuzz`, and the seconds for each.
TARGET ?= $(basename $(notdir $(wildcard fuzz/targets/*.rs)))
SECONDS ?= 20
# The sources that `make fuzz-coverage` reports on.
PARSERS := $(addprefix src/,attributes/definitions.rs attributes/definitions config drop host/event host/event.rs host/payload.rs json json.rs keys/details.rs \
	ledger/json.rs retry.rs stage) crates/inflate/src
LLVM = $(shell rustc --version --verbose | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
HOST = $(shell rustc --version --verbose | sed -n 's/^host: //p')
export CARGO_TERM_COLOR ?= auto

.PHONY: help demo build app bench bench-sinks bench-views flamegraph package package-test reproducible managed-app test api-test browser-test fuzz infra-test infra-lint fmt clippy doc deny dependencies advisories ci clean fuzz-coverage soak

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Deliver an encrypted drop to a webhook on this machine; needs no account
	cargo build --profile demo --bin vivadrop
	target/demo/vivadrop demo

build: ## Build the release binary
	cargo build --release

app: build ## Copy the binary to the path that host.json names, for `func`
	cp target/release/vivadrop vivadrop

bench: build $(BENCH_DROP) .venv/bench ## Measure decode of a million rows, compared with igzip, gunzip, Python and Node
	PYTHON=.venv/bench/bin/python benches/compare.sh target/release/vivadrop $(BENCH_DROP)

bench-sinks: build $(AZURITE) .venv/bench ## Measure delivery of a million rows to each sink, compared with decode and Python
	.venv/bench/bin/python benches/sinks.py target/release/vivadrop

bench-views: build $(AZURITE) ## Measure the views of the operator's page with 10,000 drops, in a folder and in Azurite
	$(PYTHON) benches/views.py target/release/vivadrop

flamegraph: $(BENCH_DROP) ## Profile decode: writes target/flamegraph.svg (needs perf)
	@cargo install --list | grep -q '^inferno v$(INFERNO_VERSION):' || \
		cargo install inferno --version $(INFERNO_VERSION) --locked --no-default-features --features cli
	cargo build --profile profiling --bin vivadrop
	perf record --quiet --freq 999 --call-graph dwarf --output target/perf.data target/profiling/vivadrop decode $(BENCH_DROP)/drop \
		--private-key $(BENCH_DROP)/private-key.pem --decryption-keys $(BENCH_DROP)/decryption-keys.json > /dev/null
	perf script --no-inline --input target/perf.data | inferno-collapse-perf | inferno-flamegraph > target/flamegraph.svg

$(BENCH_DROP): | build
	rm -rf $@
	mkdir -p $(@D)
	target/release/vivadrop simulate --users 80000 --weeks 13 --seed 7 --out $@

package: .package-tools ## Build, check and zip a release for Azure Functions on Linux (ARCH=x86_64 or aarch64)
	PATH="$(CURDIR)/.venv/package/bin:$$PATH" infra/build.sh $(TRIPLE) $(GLIBC) $(PROFILE)
	$(PYTHON) infra/package.py target/$(TRIPLE)/$(PROFILE)/vivadrop --arch $(ARCH) --out $(DIST) $(PACKAGE_OPTIONS)

# The profile `demo` compiles in a quarter of the time. Everything else is as in a release.
package-test: .venv/release ## Build a package with the profile demo, and test its contents
	$(MAKE) package PROFILE=demo DIST=target/package PACKAGE_OPTIONS='--largest 50000000'
	VIVADROP_PACKAGE=target/package/vivadrop-linux-$(ARCH).zip .venv/release/bin/python -m unittest tests/release/test_contents.py

reproducible: .package-tools ## Build the package of the current commit twice, in different folders, and compare the zips
	infra/reproducible.sh $(ARCH) $(GLIBC) $(PROFILE)

.PHONY: .package-tools
.package-tools: .venv/package
	@test -d "$$(rustc --print sysroot)/lib/rustlib/$(TRIPLE)/lib" || { echo 'first: rustup target add $(TRIPLE)' >&2; exit 1; }
	@cargo install --list | grep -q '^cargo-auditable v$(AUDITABLE_VERSION):' || \
		cargo install cargo-auditable --version $(AUDITABLE_VERSION) --locked
	@cargo install --list | grep -q '^cargo-cyclonedx v$(CYCLONEDX_VERSION):' || \
		cargo install cargo-cyclonedx --version $(CYCLONEDX_VERSION) --locked

managed-app: ## Zip the customer's managed application, for Azure Marketplace or a service catalog
	$(PYTHON) infra/managed_app.py

test: $(AZURITE) infra-test ## Run every test; installs Azurite from npm and Chromium first
	cargo test --workspace --all-targets
	cargo test --workspace --doc
	$(MAKE) browser-test
	$(MAKE) api-test

api-test: $(AZURITE) .venv/api ## Test the API with requests that schemathesis generates from its OpenAPI document
	$(BUILD_AS_TESTS_DO)
	.venv/api/bin/python tests/api/run_schemathesis.py target/debug/vivadrop $(AZURITE)

$(AZURITE): tests/azurite/package-lock.json
	npm ci --prefix tests/azurite --no-audit --no-fund
	touch $@

browser-test: $(BROWSER) $(CHROMIUM) $(AZURITE) ## Test the operator's page in a browser
	$(BUILD_AS_TESTS_DO)
	node --test --test-concurrency=1 tests/browser/*.test.js

.PHONY: screenshots
screenshots: $(BROWSER) $(CHROMIUM) ## Make the pictures of the operator's page for the documents
	node tests/browser/screenshots.js

$(BROWSER): tests/browser/package-lock.json
	npm ci --prefix tests/browser --no-audit --no-fund
	touch $@

$(CHROMIUM):
	@test "$$(id -u)" = 0 || { echo 'first: sudo apt-get install chromium' >&2; exit 1; }
	apt-get update -qq && apt-get install --yes --no-install-recommends chromium

# Without a sanitizer, the fuzzers build with stable Rust; our code has no `unsafe` that a sanitizer could check.
# New corpus files go to target/, inputs that fail go to fuzz/artifacts/.
fuzz: ## Fuzz each parser for 20 seconds (TARGET=rows SECONDS=600: one parser for longer)
	@cargo fuzz --version 2>/dev/null | grep -q ' $(FUZZ_VERSION)$$' || cargo install cargo-fuzz --version $(FUZZ_VERSION) --locked
	cargo fuzz build --sanitizer none --target-dir target/fuzz
	for target in $(TARGET); do \
		mkdir -p target/fuzz/corpus/$$target; \
		cargo fuzz run --sanitizer none --target-dir target/fuzz $$target target/fuzz/corpus/$$target fuzz/corpus/$$target -- \
			-max_len=4096 -max_total_time=$(SECONDS) -timeout=60 -verbosity=0 -print_final_stats=1 || exit 1; \
	done

soak: $(AZURITE) $(FAKETIME) ## Deliver drops for half an hour while everything fails at random (SOAK='--seconds 300 --seed 1')
	cargo test --test soak -- $(SOAK)

# The soak uses its library, which changes the clock that a process reads.
$(FAKETIME):
	@test "$$(id -u)" = 0 || { echo 'first: sudo apt-get install faketime' >&2; exit 1; }
	apt-get update -qq && apt-get install --yes --no-install-recommends faketime

# Runs the seeds, and what `make fuzz` has added to them, with the compiler's instrumentation. The LLVM tools must have the
# major version of the compiler's LLVM.
fuzz-coverage: ## Report which lines of the parsers the inputs of the fuzzers reach (needs apt)
	@command -v llvm-cov-$(LLVM) > /dev/null || apt-get install --quiet --yes llvm-$(LLVM)
	rm -rf target/coverage/*.prof*
	RUSTFLAGS='-C instrument-coverage' cargo build --manifest-path fuzz/Cargo.toml --target $(HOST) --target-dir target/coverage --example replay
	for target in $(TARGET); do \
		LLVM_PROFILE_FILE=target/coverage/$$target.profraw target/coverage/$(HOST)/debug/examples/replay $$target \
			fuzz/corpus/$$target $$(ls -d target/fuzz/corpus/$$target 2>/dev/null) || exit 1; \
	done
	llvm-profdata-$(LLVM) merge --output target/coverage/all.profdata target/coverage/*.profraw
	llvm-cov-$(LLVM) report target/coverage/$(HOST)/debug/examples/replay --instr-profile target/coverage/all.profdata $(PARSERS)

# With VIVADROP_ARM_SCHEMAS, the tests also validate against Azure's schemas, which needs a package from PyPI.
# Otherwise Python's standard library is enough.
infra-test: $(if $(VIVADROP_ARM_SCHEMAS),.venv/test) ## Test infra/ and the documents: templates, deployment script, package, links
	$(if $(VIVADROP_ARM_SCHEMAS),.venv/test/bin/python,$(PYTHON)) -m unittest discover --start-directory tests/infra --top-level-directory .

infra-lint: .venv/lint ## Lint infra/ with shellcheck and checkov
	.venv/lint/bin/shellcheck infra/*.sh .ci/run
	LOG_LEVEL=ERROR .venv/lint/bin/checkov --config-file infra/checkov.yaml

# One virtual environment per job, with pinned requirements.
.venv/bench: benches/requirements.txt
.venv/api: tests/api/requirements.txt
.venv/release: tests/release/requirements.txt
.venv/package .venv/test .venv/lint: .venv/%: infra/requirements-%.txt
.venv/api .venv/bench .venv/package .venv/release .venv/test .venv/lint:
	{ $(PYTHON) -m venv --clear $@ && $@/bin/pip install --quiet --no-compile --disable-pip-version-check --requirement $<; } || { rm -rf $@; exit 1; }
	touch $@

fmt: ## Check the formatting
	cargo fmt --all --check

clippy: ## Lint; warnings are errors
	cargo clippy --workspace --all-targets --test soak -- --deny warnings

doc: ## Build the documentation, including private items; warnings are errors
	RUSTDOCFLAGS='--deny warnings' cargo doc --workspace --no-deps --document-private-items

deny: .cargo-deny ## Check licences, bans and sources of all dependencies, and that each one has a review
	cargo deny check bans licenses sources
	$(PYTHON) infra/dependencies.py
	$(PYTHON) -m unittest tests/release/test_advisories.py

dependencies: ## Record the facts about all dependencies again; changed ones then need a review
	$(PYTHON) infra/dependencies.py --update

advisories: .cargo-deny ## Check dependencies against the RustSec database (ADVISORY_DB=FOLDER: a clone of it; else from GitHub)
	infra/advisories.sh $(ADVISORY_DB)

.PHONY: .cargo-deny
.cargo-deny:
	@cargo deny --version 2>/dev/null | grep -q ' $(DENY_VERSION)$$' || cargo install cargo-deny --version $(DENY_VERSION) --locked

ci: fmt clippy doc test infra-lint deny package-test ## Run all steps of CI

clean: ## Delete all build output
	cargo clean
	rm -rf tests/*/node_modules dist .venv
