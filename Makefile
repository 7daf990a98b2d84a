.PHONY: demo test lint bench setup

demo: setup
	tests/scripts/demo.sh

test: setup
	cargo build --workspace --bins
	cargo test --workspace

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

bench:
	tests/scripts/setup.sh bench
	cargo build --release --workspace --bins
	target/release/egret-bench $(BENCH)

setup:
	tests/scripts/setup.sh
