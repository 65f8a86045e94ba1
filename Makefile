# make help lists the targets.
.DEFAULT_GOAL := help
.PHONY: help build run test test-short lint fmt screenshots fuzz soak fanout bench benchmarks dist tools clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## The static binary, ./keystile
	@echo "building ./keystile; the first time takes some minutes, since every dependency is compiled"
	CGO_ENABLED=0 go build -trimpath -o keystile ./cmd/keystile

run: ## A server with its data in ./keystile-data
	go run ./cmd/keystile serve

test: ## Everything CI checks: format, linters, all tests with the race detector; installs what is missing
	@scripts/test.sh

test-short: ## The tests alone, without the race detector, as the build cache allows
	@go test ./...

lint: ## golangci-lint, with the layer rule
	@scripts/lint.sh

fmt: ## Formats the Go files and sorts their imports
	@scripts/lint.sh fmt

screenshots: tools ## Pictures of the pages into docs/screenshots, by walking through the manuals
	@rm -rf docs/screenshots && KEYSTILE_SCREENSHOTS=$(CURDIR)/docs/screenshots go test -count=1 -run TestWalk ./internal/dashboard

fuzz: ## Every fuzz target for FUZZTIME (10s)
	@scripts/fuzz.sh

soak: ## Half an hour of faults on servers, agents and a failing-over database, judged (SOAK=30m SEED=0)
	@go test -count=1 -v -timeout 0 -run 'TestSoak$$' ./internal/server -soak $(or $(SOAK),30m) -seed $(or $(SEED),0)

fanout: ## What a revoke costs with 1 to 32 servers and 1000 replicas, and with a dead one
	@go test -run '^$$' -bench 'Revoke$$|FanOut' -benchtime $(or $(REVOKES),200)x -timeout 0 ./internal/server
	@go test -run '^$$' -bench 'Regions' -benchtime 20x -timeout 0 ./internal/server
	@go test -run '^$$' -bench 'RevokeWithDeadNode' -benchtime 1x -timeout 0 ./internal/server
	@go test -run '^$$' -bench 'VerifyWhileRevoking' -benchtime 5x -timeout 0 ./internal/server

bench: ## Costs from 1 k to 10 M keys beside the goals, with plots (KEYS=1000,100000 QUICK=1 DATABASE=postgres://…)
	@scripts/bench.sh

benchmarks: ## Every benchmark of the packages, with allocations
	@go test -run '^$$' -bench . -benchmem ./...

dist: ## The release into dist/: binaries, archives, checksums
	@scripts/dist.sh

tools: ## Installs what the tests need beside Go
	@scripts/tools.sh

clean: ## Removes what build and dist made
	rm -rf keystile dist
