# Tools are built from modules of their own under tools/, so that what they
# need never decides what the product is built with.
BIN     := $(CURDIR)/build/bin
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

# All is built as the product is, so that what is compiled for one serves the
# others; but for the race detector, which needs cgo.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath

.PHONY: build test lint generate bench search bulk chaos failover operate story million recovery fresh destinations diskfault rules repeat clean

build:
	go build -ldflags '$(LDFLAGS)' -o build/holdfast ./cmd/holdfast

# Packages tested at the same time: their tests wait as much as they compute.
AT_ONCE := $(shell expr $$(nproc) + 1)

# Tests that do only a share with the race detector.
PLAIN := ./fsm ./delivery ./password ./test/model

# The race detector needs cgo and a C compiler. With it, what takes weeks of
# virtual time or hundreds of states does a share, and all without it. Tests that
# need a program which isn't there skip and say so.
test:
	@missing=; for p in smtp-source smtp-sink swaks python3 promtool prometheus; do \
		command -v $$p >/dev/null || PATH=$$PATH:/usr/sbin command -v $$p >/dev/null || missing="$$missing $$p"; \
	done; \
	[ -z "$$missing" ] || echo "not installed, so some tests will skip:$$missing (Debian: apt-get install postfix swaks python3 prometheus)"
	go vet ./...
	CGO_ENABLED=1 PATH="$$PATH:/usr/sbin" go test -race -p $(AT_ONCE) -timeout 10m ./...
	PATH="$$PATH:/usr/sbin" go test -timeout 10m $(PLAIN)

lint: $(BIN)/golangci-lint $(BIN)/buf
	$(BIN)/golangci-lint run ./...
	$(BIN)/buf lint
	@for ref in origin/main main; do \
		if git rev-parse --quiet --verify "$$ref:buf.yaml" >/dev/null 2>&1; then \
			echo "buf breaking against $$ref"; \
			git archive "$$ref" buf.yaml proto | $(BIN)/buf breaking --against '-#format=tar'; exit; \
		fi; \
	done; echo "buf breaking: no branch main with protos to compare with"

generate: $(BIN)/buf $(BIN)/protoc-gen-go $(BIN)/protoc-gen-go-grpc
	PATH="$(BIN):$$PATH" $(BIN)/buf generate

# Programs that run clusters: each of `make build`'s program, in a folder of its
# own under build/, which stays there after a failure. ARGS are passed on: make
# bench ARGS='-h'. Without -binary they build one.
PRODUCT := -binary build/holdfast

bench: build
	go run ./test/bench $(PRODUCT) $(ARGS)

# Times of searches in a store of ARGS='-messages N' messages, kept under build/.
search:
	go run ./test/search $(ARGS)

# Deliveries before, during and after a retry and a delete of a million recipients
# that wait, in a cluster of three processes; ARGS='-recipients 200000' of fewer,
# ARGS='-short' of 20,000.
bulk: build
	go run ./test/bulk $(PRODUCT) $(ARGS)

# All runs take an hour; make chaos ARGS='-short' five minutes, and
# ARGS='-run partition,install' only these. ARGS='-h' lists them.
chaos: build
	go run ./test/chaos $(PRODUCT) $(ARGS)

# How soon the cluster accepts and delivers again after each of 50 deaths of its
# leader, 20 to 30 minutes; ARGS='-short' is 5 of them, ARGS='-kills 10' ten.
failover: build
	go run ./test/chaos $(PRODUCT) -run failover $(ARGS)

# A cluster's years in minutes, under load: nodes added, killed, replaced and
# removed, certificates rotated, an upgrade, a backup, the loss of all nodes, a
# restore. ARGS='-short' takes less than a minute.
story: build
	go run ./test/story $(PRODUCT) $(ARGS)

# What a long queue costs, and how soon mail goes out of one: 1,000,000 messages
# for a destination that is down (15 minutes, 6 GB of disk; ARGS='-messages
# 5000000'), a destination that comes back, fresh mail beside a flood of deferred
# spam, 10,000 destinations with half of them down. ARGS='-short' takes a minute.
million recovery fresh destinations: build
	go run ./test/queue $(PRODUCT) -run $@ $(ARGS)

# All runs of a cluster's operation with real processes, 15 minutes; the shorter
# ones are among the tests. ARGS='-run Upgrade' only these.
operate:
	PATH="$$PATH:/usr/sbin" go test -count=1 -timeout 40m ./test/operate -v -long $(ARGS)

# Needs root and /dev/fuse; skips without.
diskfault: build
	go run ./test/diskfault $(PRODUCT) $(ARGS)

# Takes each rule of the protocol out of the code and wants its test to fail:
# half an hour. make rules ARGS='-run lease' only those that match.
rules:
	go run ./test/rules $(ARGS)

# All tests and the chaos runs of CI, N times in a row; each package's tests are built
# once. PACKAGES='./smtpd/...' only these, without chaos. The first failure ends it.
N ?= 20
CHAOS ?= kill,outage,partition
repeat: build
	PATH="$$PATH:/usr/sbin" go run ./test/repeat -n $(N) -p $(AT_ONCE) -plain '$(PLAIN)' $(if $(PACKAGES),,-chaos $(CHAOS)) $(PRODUCT) $(PACKAGES)

clean:
	rm -rf build

$(BIN)/buf: tools/buf/go.mod tools/buf/go.sum
	cd tools/buf && go build -o $@ github.com/bufbuild/buf/cmd/buf
	@touch $@

$(BIN)/protoc-gen-go: tools/protoc/go.mod tools/protoc/go.sum
	cd tools/protoc && go build -o $@ google.golang.org/protobuf/cmd/protoc-gen-go
	@touch $@

$(BIN)/protoc-gen-go-grpc: tools/protoc/go.mod tools/protoc/go.sum
	cd tools/protoc && go build -o $@ google.golang.org/grpc/cmd/protoc-gen-go-grpc
	@touch $@

$(BIN)/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	cd tools/lint && go build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@
