# Each target works on a fresh machine: it makes what it needs first.
# `make run` the demo, `make test` the whole suite, `make lint` the checks of style, types and layers,
# `make soak` minutes of rough handling, `make bench` figures beside the peers', `make docs` the pages as a site,
# `make deb` a Debian package,
# `make requirements` new pins from setup.cfg's ranges.

VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.cfg pyproject.toml
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: run test lint soak bench docs deb requirements clean

run: $(VENV)/run.stamp
	@mkdir -p run
	@echo "Starting the demo. When it listens, attach from another shell in this folder (leave with &.):"
	@echo
	@echo "    $(BIN)/wsdump -r ws://127.0.0.1:8080/console-operator/interact/x3000c0s1b0n0"
	@echo
	@exec $(BIN)/twistd --nodaemon --pidfile= consoled --config etc/demo.toml

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

soak: $(VENV)/dev.stamp
	$(BIN)/python -m tests.soak

# QUICK=1: a look at everything in two minutes, which leaves the kept results alone.
bench: $(VENV)/bench.stamp
	$(BIN)/python -m bench $(if $(QUICK),--quick,--results bench/results --plot docs/performance.svg)

# The reference of the configuration first, out of the code.  Any link that leads nowhere is an error.
docs: $(VENV)/docs.stamp
	$(BIN)/python -m tools.reference
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet --builder html docs build/docs
	@echo build/docs/index.html

# build/consoled_VERSION_ARCH.deb, for this machine's Debian.
deb:
	debian/build build

requirements: $(VENV)/dev.stamp
	$(BIN)/pip-compile --quiet --upgrade --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--extra demo --output-file requirements/run.txt setup.cfg
	$(BIN)/pip-compile --quiet --upgrade --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--extra dev --output-file requirements/dev.txt setup.cfg
	$(BIN)/pip-compile --quiet --upgrade --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--extra bench --constraint requirements/dev.txt --output-file requirements/bench.txt setup.cfg
	$(BIN)/pip-compile --quiet --upgrade --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--extra docs --constraint requirements/dev.txt --output-file requirements/docs.txt setup.cfg

$(VENV)/pip.stamp:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "consoled needs Python 3.11 or newer"; exit 1; }
	@python3 -m venv $(VENV) || { echo "python3 cannot make a virtual environment: apt-get install python3-venv"; exit 1; }
	@touch $@

# The plugin is hidden by setuptools' newer sort of editable install.
$(VENV)/run.stamp: $(VENV)/pip.stamp requirements/run.txt $(SOURCES)
	$(BIN)/pip install --quiet --requirement requirements/run.txt
	$(BIN)/pip install --quiet --no-deps --editable . --config-settings editable_mode=compat
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	$(BIN)/pip install --quiet --requirement requirements/dev.txt
	@touch $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp requirements/bench.txt
	$(BIN)/pip install --quiet --requirement requirements/bench.txt
	@touch $@

$(VENV)/docs.stamp: $(VENV)/dev.stamp requirements/docs.txt
	$(BIN)/pip install --quiet --requirement requirements/docs.txt
	@touch $@

clean:
	rm -rf $(VENV) build dist run *.egg-info
