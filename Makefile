.PHONY: demo test lint bench package setup

demo: setup
	tests/scripts/demo.sh

test: setup
	cargo build --workspace --bins
	cargo test --workspace
	tests/scripts/monitoring_test.sh
	EGRET_PROXY=$${CARGO_TARGET_DIR:-target}/debug/egret-proxy tests/scripts/package_test.sh

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

bench: setup
	cargo build --release --workspace --bins
	target/release/egret-bench $(BENCH)

package:
	tests/scripts/setup.sh package
	cargo build --release --locked -p egret-proxy
	packaging/proxy-deb.sh "$${CARGO_TARGET_DIR:-target}/release/egret-proxy" target/package

setup:
	tests/scripts/setup.sh
