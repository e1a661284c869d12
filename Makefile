# Everything a user or a developer runs. `make demo` and `make test` need a Debian machine with Rust and nothing else.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# A target folder outside the clone, when MINDER_TARGET_DIR names one.
ifdef MINDER_TARGET_DIR
export CARGO_TARGET_DIR := $(MINDER_TARGET_DIR)
endif
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
export MINDER_BIN_DIR := $(abspath $(TARGET))/debug
CARGO := deploy/setup/cargo

.PHONY: help setup build where demo test test-limits bench-writes bench-supervision clean

help: ## Say what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

setup: ## Install what is missing (apt packages) and compile RocksDB, once per machine
	@deploy/setup/packages
	@deploy/setup/rocksdb > /dev/null

build: setup ## Compile every program
	$(CARGO) build --workspace --bins

where: # Print the folder of the compiled programs
	@echo $(MINDER_BIN_DIR)

demo: build ## Three managers and two slaves on loopback with the example, until Ctrl-C
	@deploy/local/demo

test: setup ## Everything that gates a change
	cargo fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) build --workspace --bins
	@deploy/setup/programs
	@MINDER_PREVIOUS_BIN_DIR=$$(deploy/setup/previous) && export MINDER_PREVIOUS_BIN_DIR && \
	if cargo nextest --version > /dev/null 2>&1; then \
	    $(CARGO) test --workspace --doc --quiet && \
	    $(CARGO) nextest run --workspace --config-file deploy/setup/nextest.toml; \
	else \
	    $(CARGO) test --workspace --no-fail-fast; \
	fi

test-limits: ## Memory, cpu and pids limits under a Linux that has them (unpacked from Debian's package)
	@chaos-tests/limits

bench-writes: setup ## Durable writes per second beside etcd (installed from Debian's package where it can be)
	@command -v etcd > /dev/null || [ -n "$$MINDER_ETCD" ] || deploy/setup/etcd
	$(CARGO) build --release --workspace --bins
	MINDER_BIN_DIR=$(abspath $(TARGET))/release $(CARGO) run --release -p minder-chaos-tests --bin bench-writes

bench-supervision: setup ## Restart time, memory and CPU of supervision beside supervisord and runit (from Debian's packages)
	@deploy/setup/supervisors
	$(CARGO) build --release --workspace --bins
	MINDER_BIN_DIR=$(abspath $(TARGET))/release $(CARGO) run --release -p minder-chaos-tests --bin bench-supervision

clean: ## Remove what was compiled, but for RocksDB
	cargo clean
