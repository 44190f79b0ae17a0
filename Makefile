# fhir-hook: make help lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON := /usr/bin/python3
DESTDIR :=
PREFIX := /usr
ETC := $(DESTDIR)/etc
LIB := $(DESTDIR)$(PREFIX)/lib/fhir-hook
LIBEXEC := $(DESTDIR)$(PREFIX)/libexec/fhir-hook
SHARE := $(DESTDIR)$(PREFIX)/share/fhir-hook
HOOKS := $(DESTDIR)$(PREFIX)/share/containers/oci/hooks.d
VENV := .venv
# tests/... or -k words to run less than everything: make pytest T='-k log'
T := tests
SCRIPTS := $(shell grep -rlIE '^.!/bin/(ba)?sh' .ci demo packaging tests bench tools 2>/dev/null | sort) tests/images/lib.sh

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install the Debian packages that the tests, the images and the demo need
	@tests/host/install-deps

install: ## install below DESTDIR; with an empty DESTDIR also compile the policy
	install -d -m 755 $(LIB) $(LIBEXEC)/refused $(SHARE)/profiles $(SHARE)/podman-hooks.d $(HOOKS) $(DESTDIR)$(PREFIX)/bin \
	  $(ETC)/containers/containers.conf.d $(ETC)/fhir-hook/config.d $(ETC)/fhir-hook/profiles $(DESTDIR)/var/lib/fhir-hook
	install -d -m 750 $(DESTDIR)/var/log/fhir-hook
	rm -rf $(LIB)/fhir_hook $(SHARE)/profiles/* $(LIBEXEC)/refused/*
	cp -r --no-preserve=ownership,mode,timestamps fhir_hook $(LIB)/fhir_hook
	find $(LIB) -name __pycache__ -prune -exec rm -rf {} +
	env -u PYTHONDONTWRITEBYTECODE $(PYTHON) -IS -m compileall -q $(if $(DESTDIR),-s $(DESTDIR) -p /) $(LIB)/fhir_hook
	cp -r --no-preserve=ownership,mode,timestamps profiles/. $(SHARE)/profiles
	chmod -R u=rwX,go=rX $(LIB) $(SHARE)
	install -m 755 packaging/bin/hook $(LIBEXEC)/hook
	install -m 755 packaging/bin/fhir-hook $(DESTDIR)$(PREFIX)/bin/fhir-hook
	PYTHONPATH=$(LIB) $(PYTHON) -P -s -B -m fhir_hook.cli.main codes --links | \
	  while read -r name; do ln -sf ../hook "$(LIBEXEC)/refused/$$name" || exit 1; done
	test -n "$$(ls -A $(LIBEXEC)/refused)"
ifeq ($(DESTDIR),)
	/usr/bin/fhir-hook policy compile
endif
	install -m 644 hooks.d/oci/50-fhir-hook.json $(HOOKS)/50-fhir-hook.json
	install -m 644 hooks.d/podman/50-fhir-hook.json $(SHARE)/podman-hooks.d/50-fhir-hook.json
	install -m 644 hooks.d/containers.conf.d/50-fhir-hook.conf $(ETC)/containers/containers.conf.d/50-fhir-hook.conf
ifeq ($(DESTDIR),)
	/usr/bin/fhir-hook host event installed --reason "make install"
endif

uninstall: ## remove what install put there; settings, policy and log stay
ifeq ($(DESTDIR),)
	-/usr/bin/fhir-hook host event removed --reason "make uninstall"
endif
	rm -f $(HOOKS)/50-fhir-hook.json $(ETC)/containers/containers.conf.d/50-fhir-hook.conf
	rm -rf $(SHARE) $(LIBEXEC) $(LIB) $(DESTDIR)$(PREFIX)/bin/fhir-hook
	rmdir --ignore-fail-on-non-empty $(ETC)/fhir-hook/config.d $(ETC)/fhir-hook/profiles $(ETC)/fhir-hook 2>/dev/null || true

# The distribution's python3 with its packages; what Debian has not got, from PyPI.
$(VENV)/.ready: setup.cfg
	$(PYTHON) -m venv --clear --system-site-packages $(VENV)
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check pyseccomp ruff mypy import-linter pytest hypothesis \
	  pytest-timeout types-jsonschema types-psutil
	touch $@

venv: $(VENV)/.ready ## make the virtual environment of the tests

images: deps ## build the test images (kept in the user's cache)
	@tests/host/enter --net tests/images/build

lint: $(VENV)/.ready ## ruff, mypy, shellcheck, import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	shellcheck -x -P SCRIPTDIR $(SCRIPTS)
	$(VENV)/bin/lint-imports --config setup.cfg --no-cache

pytest: $(VENV)/.ready ## the tests alone, in the private host; T=... chooses
	tests/host/enter $(VENV)/bin/python -B -m pytest $(T)

test-servers: deps $(VENV)/.ready ## real servers in every combination, and on Debian 13 (slow)
	@tests/host/enter --net tests/images/build
	@tests/host/enter --net tests/images/build on-trixie
	FHIR_HOOK_SERVERS=all tests/host/enter $(VENV)/bin/python -B -m pytest tests/servers

test: ## everything: packages, images, lint, all tests
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory images
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory pytest

shell: ## a shell in the private host, with the product installed
	tests/host/enter bash -c '$(MAKE) -s install && exec bash'

demo: ## a real FHIR server, confined; KEEP=1 leaves it running
	@tests/host/install-deps run images demo
	@KEEP=$(KEEP) demo/run

bench: ## measure what the hook costs
	@$(MAKE) --no-print-directory deps
	@tests/host/enter --net tests/images/build probe hapi-plain >/dev/null
	@tests/host/enter bench/run

clean: ## remove what was built here, and the kept images
	rm -rf $(VENV) build .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/fhir-hook"
	find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help deps install uninstall venv images lint pytest test test-servers shell demo bench clean
