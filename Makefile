# Everything a user or a developer runs. `make demo` and `make test` need a Debian machine with Rust and nothing else.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# A target folder outside the clone, when MINDER_TARGET_DIR names one.
ifdef MINDER_TARGET_DIR
export CARGO_TARGET_DIR := $(MINDER_TARGET_DIR)
endif
comma := ,
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
export MINDER_BIN_DIR := $(abspath $(TARGET))/debug
CARGO := deploy/setup/cargo

.PHONY: help setup build where demo test test-limits drill-steps drill-supervision drill-storage sim sim-managers fuzz chaos bench-writes bench-failover bench-supervision bench-scale bench-steady clean

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

drill-steps: setup ## Let slaves and shims die at every passage of every named step of a process' life
	$(CARGO) build -p minder-slave -p minder-shim --bins
	MINDER_EVERY_PASSAGE=1 $(CARGO) test -p minder-slave --test slave -- at_each_named_step --nocapture

drill-supervision: build ## Slave kills, crash loops, hostile programs: KILLS=200 PROCESSES=500 SECONDS=60 SEED=1 PARTS=kills,crash-loop,hostile
	PARTS="$(or $(PARTS),kills crash-loop hostile)" $(MINDER_BIN_DIR)/drill-supervision

drill-storage: setup ## Faults at every step of the store, power cuts of a real file system (root), damage: CUTS=1000 DAMAGES=600 SEED=1
	MINDER_EVERY_PASSAGE=1 $(CARGO) test -p minder-raft-store --test fail_points --test disk_calls -- --nocapture
	MINDER_POWER_CUTS=$(or $(CUTS),1000) MINDER_SEED=$(or $(SEED),1) $(CARGO) test -p minder-raft-store --test power_cut -- --nocapture
	MINDER_DAMAGES=$(or $(DAMAGES),600) MINDER_SEED=$(or $(SEED),1) $(CARGO) test -p minder-raft-store --test damage -- --nocapture by_chance

sim: setup ## The pure world under seeds: SEEDS=10000 from SEED=1, or one of them with its lines: SEED=17; LONG=1 with nights of hours; PLANTED=name puts a known bug in
	$(CARGO) build -p minder-sim
	$(MINDER_BIN_DIR)/minder-sim --seed $(or $(SEED),1) --seeds $(or $(SEEDS),$(if $(SEED),1,10000)) --keep $(TARGET)/sim-failures $(if $(LONG),--long) $(if $(PLANTED),--planted $(PLANTED)) $(if $(SEEDS),,$(if $(SEED),--lines))

sim-managers: setup ## Whole managers under seeds: SEEDS=300 from SEED=1 with SECONDS=30 each, or one of them with its log: SEED=17; PLANTED=name puts a known bug in
	$(CARGO) build -p minder-managers-sim
	$(MINDER_BIN_DIR)/minder-managers-sim --seed $(or $(SEED),1) --seeds $(or $(SEEDS),$(if $(SEED),1,300)) --seconds $(or $(SECONDS),30) --keep $(TARGET)/sim-failures $(if $(PLANTED),--planted $(PLANTED)) $(if $(TWICE),--twice) $(if $(SEEDS),,$(if $(SEED),--lines))

fuzz: setup ## Every reader of bytes from outside, a while each: MINUTES=1 TARGETS=yaml,... SEED=1, or one input again: TARGETS=yaml INPUT=file
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/chaos-tests/fuzz/instrumented CARGO_PROFILE_DEV_OPT_LEVEL=3 CARGO_INCREMENTAL=0 \
	$(CARGO) build -p minder-fuzz --features guided
	$(MINDER_BIN_DIR)/minder-fuzz --keep $(TARGET)/fuzz --minutes $(or $(MINUTES),1) --seed $(or $(SEED),1) $(if $(TARGETS),--targets $(TARGETS)) $(if $(INPUT),--input $(INPUT))

chaos: build ## Real processes in a network of their own under faults (root): MINUTES=1 SEED=1 MANAGERS=3 HOSTS=3 KINDS=kill-leader,...
	@deploy/setup/faults
	MINUTES="$(MINUTES)" SEED="$(SEED)" MANAGERS="$(MANAGERS)" HOSTS="$(HOSTS)" KINDS="$(KINDS)" $(MINDER_BIN_DIR)/chaos

# A benchmark's own program and those that it starts, and no more: optimising one over all its crates takes minutes.
RELEASE := $(abspath $(TARGET))/release
release = $(CARGO) build --release --workspace $(addprefix --bin ,$(1))

bench-writes: setup ## Writes, batched applies and linearizable reads per second beside etcd: PARTS=single,batched,reads
	@command -v etcd > /dev/null || [ -n "$$MINDER_ETCD" ] || deploy/setup/etcd
	$(call release,bench-writes minder-manager)
	MINDER_BIN_DIR=$(RELEASE) $(RELEASE)/bench-writes $(subst $(comma), ,$(PARTS))

bench-failover: setup ## Gaps of writers when the leader is killed and when it hands over, beside etcd
	@command -v etcd > /dev/null || [ -n "$$MINDER_ETCD" ] || deploy/setup/etcd
	$(call release,bench-failover minder-manager)
	MINDER_BIN_DIR=$(RELEASE) $(RELEASE)/bench-failover

bench-supervision: setup ## Restart time, memory and CPU of supervision beside supervisord and runit (from Debian's packages): PARTS=kills,many
	@deploy/setup/supervisors
	$(call release,bench-supervision bench-child minder-manager minder-slave minder-shim)
	MINDER_BIN_DIR=$(RELEASE) $(RELEASE)/bench-supervision $(subst $(comma), ,$(PARTS))

bench-scale: setup ## Ten thousand machines on this one: HOSTS=10000 INSTANCES=1000000, OWN=1 for a spec each, PARTS=idle,fleet
	$(call release,bench-scale minder-manager minder-slave minder-shim)
	MINDER_BIN_DIR=$(RELEASE) $(RELEASE)/bench-scale $(if $(HOSTS),--hosts $(HOSTS)) $(if $(INSTANCES),--instances $(INSTANCES)) $(if $(OWN),--own) $(if $(PARTS),--parts $(PARTS))

bench-steady: setup ## Writes without an end, looked at each 30 s for drifts: STEADY=600 seconds, WRITERS=64
	$(call release,bench-steady minder-manager)
	MINDER_BIN_DIR=$(RELEASE) $(RELEASE)/bench-steady $(if $(STEADY),--seconds $(STEADY)) $(if $(WRITERS),--writers $(WRITERS))

clean: ## Remove what was compiled, but for RocksDB
	cargo clean
