# fhir-hook: make help lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON := /usr/bin/python3
DESTDIR :=
VENV := .venv
# tests/... or -k words to run less than everything: make pytest T='-k log'
T := tests
# make test runs the files of tests in so many private hosts at once
HOSTS := 2
SCRIPTS := $(shell grep -rlIE '^.!/bin/(ba)?sh' .ci demo packaging tests bench tools 2>/dev/null | sort) tests/images/lib.sh

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install the Debian packages that the tests, the images and the demo need
	@tests/host/install-deps

install: ## install below DESTDIR; with an empty DESTDIR also put the hook in force
	@packaging/prove build/proven
	@packaging/install $(DESTDIR)
ifeq ($(DESTDIR),)
	install -d -m 750 /var/log/fhir-hook
	/usr/bin/fhir-hook policy compile
	/usr/bin/fhir-hook host refresh
	/usr/bin/fhir-hook host event installed --reason "make install"
endif

uninstall: ## remove what install put there; settings, policy and log stay
ifeq ($(DESTDIR),)
	@packaging/bin/in-use
	-/usr/bin/fhir-hook host event removed --reason "make uninstall"
endif
	rm -f $(DESTDIR)/etc/containers/containers.conf.d/50-fhir-hook.conf $(DESTDIR)/usr/share/containers/oci/hooks.d/50-fhir-hook.json
	rm -rf $(DESTDIR)/usr/share/fhir-hook $(DESTDIR)/usr/libexec/fhir-hook $(DESTDIR)/usr/lib/fhir-hook $(DESTDIR)/usr/bin/fhir-hook
	cd $(DESTDIR)/etc && rmdir --ignore-fail-on-non-empty fhir-hook/config.d fhir-hook/profiles fhir-hook 2>/dev/null || true

# The distribution's python3 with its packages; what Debian has not got, from PyPI.
$(VENV)/.ready: setup.cfg
	$(PYTHON) -m venv --clear --system-site-packages $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check pyseccomp ruff mypy import-linter pytest hypothesis \
	  pytest-timeout pytest-xdist types-jsonschema types-psutil types-PyYAML fhir.resources
	touch $@

venv: $(VENV)/.ready ## make the virtual environment of the tests

images: deps ## build the test images (kept in the user's cache)
	@tests/host/enter --net tests/images/build
	@tests/host/enter --net tests/audit/go/build >/dev/null

lint: $(VENV)/.ready ## ruff, mypy, shellcheck, import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	shellcheck -x -P SCRIPTDIR $(SCRIPTS)
	$(VENV)/bin/lint-imports --config setup.cfg --no-cache

pytest: $(VENV)/.ready ## the tests alone, in the private host; T=... chooses
	tests/host/enter $(VENV)/bin/python -B -m pytest $(T)

pytest-hosts: $(VENV)/.ready ## all tests, in two private hosts at once; HOSTS=... chooses how many
	@packaging/prove build/proven
	$(VENV)/bin/python -B -m pytest --durations=25 --dist loadfile --no-loadscope-reorder --tx '$(HOSTS)*popen//python=tests/host/enter $(VENV)/bin/python -B' $(T)

test-servers: deps $(VENV)/.ready ## real servers in every combination, and on Debian 13 (slow)
	@tests/host/enter --net tests/images/build
	@tests/host/install-deps servers
	@tests/host/enter --net tests/images/build on-trixie fhir-examples open-liberty keycloak python-server node on-musl go-server helios
	FHIR_HOOK_SERVERS=all tests/host/enter $(VENV)/bin/python -B -m pytest tests/servers

test-kills: $(VENV)/.ready ## 10,000 random SIGKILLs while the log is appended to, signed and rotated (minutes)
	FHIR_HOOK_KILLS=10000 $(VENV)/bin/python -B -m pytest tests/audit/test_checkpoint.py -k random_moments --timeout 7200

test-kubernetes: deps $(VENV)/.ready ## pods on a real node, and the newest Docker (slow; builds them once)
	@tests/host/install-deps kubernetes
	@tests/host/enter --net tests/images/build probe fhirstarter >/dev/null
	@tests/host/enter --net tests/kubernetes/go/build >/dev/null
	FHIR_HOOK_KUBERNETES=1 tests/host/enter $(VENV)/bin/python -B -m pytest tests/kubernetes

test: ## everything: packages, images, lint, all tests
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory images
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory pytest-hosts

docs: $(VENV)/.ready ## write the generated pages and tables after profiles have changed
	$(VENV)/bin/python -B tools/readme-tables

package: ## build the Debian package into build/
	@packaging/build-deb build

release: ## from a tag: sdist, wheel, deb, rpm, bill of materials, checksums in build/release
	@packaging/release

test-packages: $(VENV)/.ready ## install, upgrade, remove the packages on Debian 12, 13, unstable (slow; needs the network)
	@tests/host/install-deps run images packages test
	FHIR_HOOK_PACKAGES=all tests/host/enter --net $(VENV)/bin/python -B -m pytest tests/packaging

shell: ## a shell in the private host, with the product installed
	tests/host/enter bash -c '$(MAKE) -s install && exec bash'

demo: ## a real FHIR server, confined; KEEP=1 leaves it running
	@tests/host/install-deps run images demo
	@KEEP=$(KEEP) demo/run

bench: ## measure what the hook costs, in about 20 minutes; writes the tables and pictures
	@$(MAKE) --no-print-directory deps
	@tests/host/enter --net tests/images/build probe hapi-plain fhirstarter >/dev/null
	-@tests/host/enter --net bench/gvisor >/dev/null
	@tests/host/enter bench/run

bench-full: ## the same with more servers and the largest sizes (hours)
	@$(MAKE) --no-print-directory deps
	@tests/host/enter --net tests/images/build probe hapi-plain hapi-jpa fhirstarter helios >/dev/null
	-@tests/host/enter --net bench/gvisor >/dev/null
	@tests/host/enter bench/run --full --share 4

clean: ## remove what was built here, and the kept images
	rm -rf $(VENV) build .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/fhir-hook"
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help docs deps install uninstall venv images lint pytest pytest-hosts test test-servers package release test-packages shell demo bench clean test-kills bench-full test-kubernetes
