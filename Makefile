.PHONY: demo test lint setup

demo: setup
	tests/scripts/demo.sh

test: setup
	cargo build --workspace --bins
	cargo test --workspace

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

setup:
	tests/scripts/setup.sh
