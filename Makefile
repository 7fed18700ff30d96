# Millstream. `make help` lists what there is. Everything that is needed beside
# Go and make is built from pinned sources on first use.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DEFAULT_GOAL := help

GO ?= go
# A release tag names the version; without one it is the commit.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
BUF := $(GO) tool -modfile=.ci/buf.mod buf
LINT := $(GO) tool -modfile=.ci/golangci.mod golangci-lint
# The race detector needs cgo, and so a C compiler.
RACE := $(shell command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 && echo -race || true)
PYTHON ?= python3
VENV := clients/python/.venv

.PHONY: help
help: ## Show this help.
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build bin/millstream.
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/millstream ./cmd/millstream

.PHONY: demo
demo: build ## Run the main job on the embedded default, and show what it did.
	$(GO) run ./cmd/demo -millstream bin/millstream

.PHONY: test
test: build ## Run the tests (with the race detector where a C compiler is).
	@[ -n "$(RACE)" ] || echo "no C compiler: testing without the race detector"
	$(GO) test $(RACE) -p 3 -timeout 10m ./...

.PHONY: test-long
test-long: ## Run the tests that take most of a minute each: clusters of five controllers, a change of the authority.
	LONG_TESTS=1 $(GO) test -timeout 10m ./cmd/internal/cluster

.PHONY: lint
lint: vet ## Check style: vet, golangci-lint, proto lint and format.
	$(LINT) run ./...
	$(BUF) lint
	$(BUF) format -d --exit-code
	@out=$$(gofmt -l $$(git ls-files '*.go' | grep -v '^gen/go/')); [ -z "$$out" ] || { echo "not formatted: $$out"; exit 1; }

.PHONY: vet
vet: ## Run go vet, for Linux and for macOS.
	$(GO) vet ./...
	GOOS=darwin CGO_ENABLED=0 $(GO) vet ./...

.PHONY: fmt
fmt: ## Format Go and proto files.
	gofmt -w $$(git ls-files '*.go' | grep -v '^gen/go/')
	$(BUF) format -w

.PHONY: generate
generate: ## Generate gen/ from proto/.
	$(BUF) generate

.PHONY: checkgenerate
checkgenerate: generate ## Fail if gen/ is not what proto/ generates.
	@changed=$$(git status --porcelain gen); [ -z "$$changed" ] || { echo "gen/ is out of date; run make generate and commit:"; echo "$$changed"; exit 1; }

.PHONY: checktidy
checktidy: ## Fail if go.mod is not tidy.
	$(GO) mod tidy -diff

.PHONY: breaking
breaking: ## Fail if proto/ breaks the API as last promised (.ci/api.binpb).
	$(BUF) breaking --against .ci/api.binpb

.PHONY: promise
promise: ## Make the API as it is now the one that is promised.
	$(BUF) build -o .ci/api.binpb

TIME ?= 5m
.PHONY: fuzz
fuzz: ## Fuzz every decoder for TIME each (make fuzz TIME=5m), two at a time.
	GO='$(GO)' .ci/fuzz '$(TIME)'

.PHONY: decoders
decoders: ## Ask the protobuf libraries of four languages what they read in the corpus of batches.
	GO='$(GO)' .ci/decoders

DIR ?=
PORT ?= 9650
CONTROLLERS ?= 3
.PHONY: cluster
cluster: build ## Run three controllers and three brokers until SIGTERM (make cluster DIR=./data PORT=9650 CONTROLLERS=5).
	$(GO) build -o bin/cluster ./cmd/cluster
	@exec bin/cluster -millstream bin/millstream -dir '$(DIR)' -port '$(PORT)' -controllers '$(CONTROLLERS)'

CYCLES ?= 300
.PHONY: crash
crash: build ## Kill -9 a loaded server CYCLES times and look for every acknowledged record.
	$(GO) run ./cmd/crash -millstream bin/millstream -cycles $(CYCLES)

SEEDS ?= 1..500
.PHONY: sim
sim: ## Simulate a cluster with faults for each of SEEDS (make sim SEEDS=1..500).
	$(GO) run ./cmd/sim -seeds $(SEEDS)

.PHONY: sim-mutants
sim-mutants: ## Show that the simulator finds known mistakes within 20 seeds each.
	$(GO) test -tags mutants -count=1 -v -run TestMistakesAreFound ./cmd/internal/sim

SCALE ?=
.PHONY: scale
scale: build ## Measure what cost grows with: partitions, size of the log, idle partitions, cold readers.
	$(GO) run ./cmd/scale -millstream bin/millstream $(SCALE)

CEILING ?=
.PHONY: ceiling
ceiling: ## Measure what this machine allows for three replicas with no platform at all: CEILING='-dir /srv -rounds 5'.
	$(GO) run ./cmd/ceiling $(CEILING)

SEED ?= 1
DURATION ?= 60s
FAULTS ?=
.PHONY: chaos
chaos: build ## Break a cluster of real processes and judge what clients were told: SEED=7 DURATION=60s FAULTS=kill,pause,partition.
	@.ci/chaos-needs
	$(GO) build -o bin/chaos ./cmd/chaos
	@exec bin/chaos -millstream bin/millstream -seed $(SEED) -duration $(DURATION) -faults '$(FAULTS)'

.PHONY: growth
growth: build ## Measure what clients notice when a cluster grows, shrinks and is restarted (about 3 min).
	$(GO) run ./cmd/growth -millstream bin/millstream

KILLS ?= 50
.PHONY: failover
failover: build ## Measure how long clients wait when leaders and active controllers are killed: KILLS=50 of each.
	$(GO) run ./cmd/growth -millstream bin/millstream -kills $(KILLS)

TROUBLE ?= slow
GRAY ?=
.PHONY: gray
gray: build ## Measure what clients notice when the disk of the leader is in trouble: TROUBLE=slow, full, read-only or slow-controller (root, about 2 min).
	@.ci/chaos-needs
	$(GO) run ./cmd/growth -millstream bin/millstream -trouble $(TROUBLE) $(GRAY)

PARTITIONS ?= 5000
.PHONY: many
many: build ## Measure three brokers with many partitions: PARTITIONS=5000.
	$(GO) run ./cmd/growth -millstream bin/millstream -partitions $(PARTITIONS)

.PHONY: bench
bench: ## Run the Go benchmarks (no server needed).
	$(GO) test -run '^$$' -bench . -benchmem ./storage/... ./server/... ./clients/go/...

$(VENV)/done: clients/python/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -r $<
	touch $@

.PHONY: python
python: $(VENV)/done ## Generate the Python stubs into clients/python/gen.
	mkdir -p clients/python/gen
	$(VENV)/bin/python -m grpc_tools.protoc -I proto --python_out=clients/python/gen --grpc_python_out=clients/python/gen proto/millstream/v1/*.proto

.PHONY: clean
clean: ## Remove what was built.
	rm -rf bin clients/python/gen $(VENV)
