# The two that a newcomer needs are `demo` and `test`. The steps of CI are targets of their own.
.DEFAULT_GOAL := help
AZURITE := tests/azurite/node_modules/.bin/azurite
DENY_VERSION := 0.20.2
BENCH_DROP := target/bench/million
export CARGO_TERM_COLOR ?= auto

.PHONY: help demo build app bench test fmt clippy doc deny advisories ci clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Watch an encrypted drop become rows at a webhook, on this machine alone
	cargo run --release --quiet -- demo

build: ## Build the release binary
	cargo build --release

app: build ## Put the binary where host.json looks for it, for `func`
	cp target/release/vivadrop vivadrop

bench: build $(BENCH_DROP) ## Time decode of a million rows beside igzip, gunzip, Python and Node
	benches/compare.sh target/release/vivadrop $(BENCH_DROP)

$(BENCH_DROP): | build
	rm -rf $@
	mkdir -p $(@D)
	target/release/vivadrop simulate --users 80000 --weeks 13 --seed 7 --out $@

test: $(AZURITE) ## Run every test; installs Azurite from npm first
	cargo test --all-targets
	cargo test --doc

$(AZURITE): tests/azurite/package-lock.json
	npm ci --prefix tests/azurite --no-audit --no-fund
	touch $@

fmt: ## Check the formatting
	cargo fmt --check

clippy: ## Lint; warnings are errors here, not in the source
	cargo clippy --all-targets -- --deny warnings

doc: ## Check the documentation, private items too
	RUSTDOCFLAGS='--deny warnings' cargo doc --no-deps --document-private-items

deny: ## Check licences, bans and sources of all dependencies
	@cargo deny --version 2>/dev/null | grep -q ' $(DENY_VERSION)$$' || cargo install cargo-deny --version $(DENY_VERSION) --locked
	cargo deny check bans licenses sources

advisories: ## Check dependencies against the RustSec database, which needs GitHub
	cargo deny check advisories

ci: fmt clippy doc test deny ## All that CI runs

clean: ## Remove what was built
	cargo clean
	rm -rf tests/azurite/node_modules dist
