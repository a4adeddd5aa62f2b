# The two that a newcomer needs are `demo` and `test`. The steps of CI are targets of their own.
.DEFAULT_GOAL := help
AZURITE := tests/azurite/node_modules/.bin/azurite
DENY_VERSION := 0.20.2
INFERNO_VERSION := 0.12.8
FUZZ_VERSION := 0.13.2
PYTHON ?= python3
# Which machine a package is for: x86_64 or aarch64, with the oldest glibc that it runs on.
ARCH ?= x86_64
TRIPLE := $(ARCH)-unknown-linux-gnu
GLIBC := 2.28
BENCH_DROP := target/bench/million
# What `make fuzz` looks into, and for how long each.
TARGET ?= $(basename $(notdir $(wildcard fuzz/targets/*.rs)))
SECONDS ?= 20
export CARGO_TERM_COLOR ?= auto

.PHONY: help demo build app bench bench-sinks flamegraph package managed-app test fuzz infra-test infra-lint fmt clippy doc deny advisories ci clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## Watch an encrypted drop become rows at a webhook, on this machine alone
	target/release/vivadrop demo

build: ## Build the release binary
	cargo build --release

app: build ## Put the binary where host.json looks for it, for `func`
	cp target/release/vivadrop vivadrop

bench: build $(BENCH_DROP) .venv/bench ## Time decode of a million rows beside igzip, gunzip, Python and Node
	PYTHON=.venv/bench/bin/python benches/compare.sh target/release/vivadrop $(BENCH_DROP)

bench-sinks: build $(AZURITE) .venv/bench ## Time delivery of a million rows to webhook and queue, beside decode and Python
	.venv/bench/bin/python benches/sinks.py target/release/vivadrop

flamegraph: $(BENCH_DROP) ## Draw where decode spends its time: target/flamegraph.svg (needs perf)
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

package: .venv/package ## Build, check and zip a release for Azure Functions on Linux (ARCH=x86_64 or aarch64)
	@test -d "$$(rustc --print sysroot)/lib/rustlib/$(TRIPLE)/lib" || { echo 'first: rustup target add $(TRIPLE)' >&2; exit 1; }
	PATH="$(CURDIR)/.venv/package/bin:$$PATH" cargo zigbuild --release --locked --bin vivadrop --target $(TRIPLE).$(GLIBC)
	$(PYTHON) infra/package.py target/$(TRIPLE)/release/vivadrop --arch $(ARCH)

managed-app: ## Zip what a customer installs, for the marketplace or a service catalog
	$(PYTHON) infra/managed_app.py

test: $(AZURITE) infra-test ## Run every test; installs Azurite from npm first
	cargo test --workspace --all-targets
	cargo test --workspace --doc

$(AZURITE): tests/azurite/package-lock.json
	npm ci --prefix tests/azurite --no-audit --no-fund
	touch $@

# Without a sanitizer stable Rust will do, and there is no unsafe code of ours for one to look at. What is found anew goes to
# target/, what breaks a promise to fuzz/artifacts/.
fuzz: ## Look for bytes that break a parser (TARGET=rows SECONDS=600; else each for 20 s)
	@cargo fuzz --version 2>/dev/null | grep -q ' $(FUZZ_VERSION)$$' || cargo install cargo-fuzz --version $(FUZZ_VERSION) --locked
	cargo fuzz build --sanitizer none --target-dir target/fuzz
	for target in $(TARGET); do \
		mkdir -p target/fuzz/corpus/$$target; \
		cargo fuzz run --sanitizer none --target-dir target/fuzz $$target target/fuzz/corpus/$$target fuzz/corpus/$$target -- \
			-max_len=4096 -max_total_time=$(SECONDS) -timeout=60 -verbosity=0 -print_final_stats=1 || exit 1; \
	done

# Azure's schemas are asked where they are at hand; that takes a validator. The rest is Python's own library.
infra-test: $(if $(VIVADROP_ARM_SCHEMAS),.venv/test) ## Check infra/: the templates, the deployment script, the package
	$(if $(VIVADROP_ARM_SCHEMAS),.venv/test/bin/python,$(PYTHON)) -m unittest discover --start-directory tests/infra --top-level-directory .

infra-lint: .venv/lint ## Lint infra/ with shellcheck and checkov
	.venv/lint/bin/shellcheck infra/deploy.sh .ci/run
	LOG_LEVEL=ERROR .venv/lint/bin/checkov --config-file infra/checkov.yaml

# One virtual environment for each job, from its pinned requirements.
.venv/bench: benches/requirements.txt
.venv/package .venv/test .venv/lint: .venv/%: infra/requirements-%.txt
.venv/bench .venv/package .venv/test .venv/lint:
	{ $(PYTHON) -m venv --clear $@ && $@/bin/pip install --quiet --no-compile --disable-pip-version-check --requirement $<; } || { rm -rf $@; exit 1; }
	touch $@

fmt: ## Check the formatting
	cargo fmt --all --check

clippy: ## Lint; warnings are errors here, not in the source
	cargo clippy --workspace --all-targets -- --deny warnings

doc: ## Check the documentation, private items too
	RUSTDOCFLAGS='--deny warnings' cargo doc --workspace --no-deps --document-private-items

deny: ## Check licences, bans and sources of all dependencies
	@cargo deny --version 2>/dev/null | grep -q ' $(DENY_VERSION)$$' || cargo install cargo-deny --version $(DENY_VERSION) --locked
	cargo deny check bans licenses sources

advisories: ## Check dependencies against the RustSec database, which needs GitHub
	cargo deny check advisories

ci: fmt clippy doc test infra-lint deny ## All that CI runs

clean: ## Remove what was built
	cargo clean
	rm -rf tests/azurite/node_modules dist .venv
