# Each target is one script or one cargo command; see scripts/.
.DEFAULT_GOAL := help
.PHONY: help setup run demo-kill test contracts contracts-deep mutation gas-peers deploy-dry-run check-catalog bench chaos fuzz sim sim-bugs sqlx docs deny sbom r2 fmt clean-data

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Check this machine and install the pinned tools
	@scripts/setup

run: ## Start the whole market here (ONCE=1: one rental from end to end, then stop; DEMO=large: 100,000 offers)
	@scripts/run

demo-kill: ## Play a rental, kill -9 everything of ours at a random moment, start again, check the receipt
	@scripts/kill-demo

test: ## Everything that must hold: contracts, Rust, lints, committed files
	@scripts/test

contracts: ## The contracts' part of test: tests, proofs, slither, coverage, gas
	@scripts/setup && scripts/contracts

contracts-deep: ## The same for an hour or more (MUTATION=1: mutation testing too)
	@scripts/setup && scripts/contracts --deep $(if $(MUTATION),--mutation)

mutation: ## Break the contracts in small ways and count what the tests notice (ARGS="--sample 100 --resume")
	@scripts/setup && contracts/tools/mutate.py $(ARGS)

gas-peers: ## The escrow's gas beside Sablier Flow's, step by step (fetches Sablier's bytecode from npm)
	@scripts/gas-peers

deploy-dry-run: ## Rehearse a deployment to Polygon on a local chain, and the owner's runbook
	@scripts/setup && SQLX_OFFLINE=true cargo build --quiet --locked -p weir -p testkit --bin weir --bin with-servers && deploy/dry-run

check-catalog: ## Have gpuhunt and SkyPilot (460 MB from PyPI) read the market's files from a real API
	@scripts/setup && scripts/check-catalog

bench: ## Measure, and say which goals are met (ONLY=start: scenarios whose name contains that; STRICT=1: fail if one is missed)
	@SQLX_OFFLINE=true cargo build --quiet --release --locked -p weir -p bench --bins
	@"$${CARGO_TARGET_DIR:-target}/release/bench" $(if $(ONLY),--only $(ONLY)) $(if $(STRICT),--strict)

chaos: ## Kill, freeze, lie and reorganise under load, then count every unit (KILLS= RENTALS= ONLY= SEED= WRITE=1)
	@KILLS=$(KILLS) RENTALS=$(RENTALS) IN_FLIGHT=$(IN_FLIGHT) ONLY=$(ONLY) SEED=$(SEED) WRITE=$(WRITE) scripts/chaos

fuzz: ## A hundred thousand requests made from the API's own description (EXAMPLES= MIN_REQUESTS= SEED=)
	@EXAMPLES=$(EXAMPLES) MIN_REQUESTS=$(MIN_REQUESTS) SEED=$(SEED) scripts/fuzz

r2: ## Ten thousand requests over connections that are cut, each repeated once at most (REQUESTS= SEED=)
	@REQUESTS=$(REQUESTS) SEED=$(SEED) scripts/cut

sim: ## Play seeds of the simulation (SEEDS=1..200 ARGS="--steps 300 --jobs 2"; one seed: SEEDS=7)
	@scripts/sim $(or $(SEEDS),1..20) $(ARGS)

sim-bugs: ## Plant bugs one at a time and see whether the simulation finds each (BUG="the fee": only that one)
	@scripts/sim-bugs $(if $(BUG),"$(BUG)")

sqlx: ## Write .sqlx anew after a change of a query or a migration
	@scripts/sqlx

docs: ## Write the generated pages in docs/ anew, and the types of the client for TypeScript
	@SQLX_OFFLINE=true UPDATE_DOCS=1 cargo test --quiet --locked -p domain -p api
	@npm run --silent --prefix crates/api/clients/typescript schema
	@SQLX_OFFLINE=true UPDATE_DOCS=1 cargo test --quiet --locked -p weir

deny: ## Judge the dependencies: known faults (needs the network), licences, sources
	@scripts/deny

sbom: ## What the programs and the tools are made of (CycloneDX), to target/sbom
	@scripts/sbom --check

fmt: ## Format Rust and Solidity
	@cargo fmt --all
	@cd contracts && "$${FORGE:-node_modules/.bin/forge}" fmt

clean-data: ## Remove the local market's database and chain
	@scripts/clean-data
