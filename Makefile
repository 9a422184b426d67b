# SPDX-License-Identifier: Apache-2.0

# Plain `make` explains the targets. Nothing here needs more than Go, git and a
# POSIX shell, except where a target says so.

GO          ?= go
BIN         := bin/muslin
VERSION     ?= $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS     := -s -w -X main.version=$(VERSION)
FUZZTIME    ?= 30s
BENCH       ?= .
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Packages whose tests, too, are for any system.
PORTABLE    := ./selector ./api/... ./internal/prefixmap ./internal/secret ./internal/policy/... ./internal/ipam ./internal/guard \
	./internal/bfd ./internal/filter ./internal/fabric ./internal/fabric/emit ./internal/fabric/sim ./internal/node/api ./internal/dataplane/...

.DEFAULT_GOAL := help
.PHONY: help build demo test test-oracle test-history test-guest test-flood test-crash soak race bench bench-agent bench-bgp bench-policy bench-fabric bench-fabric-lab test-fabric fuzz lint clean

help: ## explain the targets
	@echo 'muslin $(VERSION)'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/muslin, static and without cgo
	@[ -x $(BIN) ] || echo 'building $(BIN); the first time this takes about two minutes'
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/muslin

demo: build ## three servers on this machine, as root; EXIT=1 checks the matrix and tears down
	$(BIN) demo $(if $(filter-out 0,$(EXIT)),--exit)

test: ## everything; as root installs the Debian packages the tests need
	@GO='$(GO)' hack/test

test-oracle: ## a million packets through random policy: the kernel decides as the evaluator does (root)
	MUSLIN_REQUIRE_ROOT=1 $(GO) test ./internal/acl -count=1 -run Q02 -v -oracle.packets=$(or $(PACKETS),1000000) -timeout 60m
	MUSLIN_REQUIRE_ROOT=1 $(GO) test ./internal/dataplane/conform -count=1 -run LikeMemory -v -conform.models=1000 -timeout 60m

test-history: ## HISTORIES=300 of changes, played in six ways: the same kernel state, and none in between that is more open (root)
	MUSLIN_REQUIRE_ROOT=1 $(GO) test ./internal/acl -count=1 -run I4_Histories -v -histories=$(or $(HISTORIES),300) -timeout 60m

test-fabric: ## the fabric simulator against its slow twin, larger than in make test, and against real daemons in every variant, healthy and with each thing down; 500 endpoints move; what rules say goes wrong does (root)
	$(GO) test ./internal/fabric/sim -count=1 -v -fabric.full -timeout 60m
	MUSLIN_REQUIRE_ROOT=1 $(GO) test ./internal/lab/fabriclab -count=1 -v -fabric.full -timeout 120m

test-flood: ## a thousand changes of each kind while packets flow that both ends forbid, or both allow (root)
	MUSLIN_REQUIRE_ROOT=1 $(GO) test ./internal/acl -count=1 -run 'I4_Together|T14' -v -flood.commits=$(or $(COMMITS),1000) -timeout 60m

test-crash: ## daemons killed or refused at each write and call, in churn and in a loop, stopped, and with flapping interfaces; half an hour (root)
	MUSLIN_REQUIRE_ROOT=1 $(GO) test ./internal/e2e -count=1 -v -run 'P09|TestStorms|TestRestartIsInvisible' -failpoints 0 -crashes 100 -storm 1m -storm.kills 200 -timeout 60m

soak: ## SOAK=24h with BIRD, FRR, GoBGP and OpenBGPD, the tables held against each other (root)
	MUSLIN_REQUIRE_ROOT=1 $(GO) test ./internal/bgp -count=1 -run B21 -v -soak $(or $(SOAK),1h) -timeout 0

test-guest: ## a virtual machine on a tap finds its neighbours; installs qemu and fetches a kernel (root)
	@GO='$(GO)' hack/test-guest

race: ## the tests under the race detector (needs a C compiler)
	$(GO) test -race -timeout 30m -p 1 ./...

bench: ## micro benchmarks; BENCH=regexp selects
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 60m -p 1 ./...

bench-agent: build ## the agent under load: first packet, memory, cold start (root)
	$(GO) run ./internal/bench/agent $(ARGS)

bench-bgp: build ## the BGP speaker beside BIRD on the same work: routes in, reflected, in the kernel, restart (root)
	$(GO) run ./internal/bench/bgp $(ARGS)

bench-policy: ## packets and connects through 1 to 10,000 rules, beside chains like Felix's and no filter; changes at scale (root)
	$(GO) run ./internal/bench/policy $(ARGS)

bench-fabric: ## designing and simulating fabrics of up to 10,000 servers: time and memory against size
	$(GO) run ./internal/bench/fabric $(ARGS)

bench-fabric-lab: build ## fabrics booted with FRR and muslin: the median gap of ten failures of each kind (root)
	$(GO) run ./internal/bench/fabriclab $(ARGS)

fuzz: ## every fuzz target for FUZZTIME (30s) each
	@GO='$(GO)' hack/fuzz $(FUZZTIME)

lint: ## gofmt, go vet, the repository's rules, staticcheck; and that all but the data plane is for any Unix
	@GO='$(GO)' hack/gofmt
	$(GO) vet ./...
	$(GO) test ./internal/rules
	$(GO) run $(STATICCHECK) ./...
	GOOS=freebsd $(GO) build ./...
	GOOS=freebsd $(GO) vet $(PORTABLE)

clean: ## remove what was built
	rm -rf bin
