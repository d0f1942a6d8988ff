# make demo   scores three sets of known quality and names the report it wrote
# make test   the whole test suite; it starts Python often, so compiled modules are kept in any case
# make lint   ruff (lint, format), mypy and the rules of who imports whom
# make docs   the documentation as a site
# make docs-version   the site under its version in the branch gh-pages, beside older ones, by mike
# make dist   wheels and source archives of both packages in dist/, checked as the index checks them
# make sbom   build/sbom.json: every package of the environment, in CycloneDX's format
# make reproduce-phantoms   the paper's tables on the embedded world; QUICK=--quick for a smoke run

PYTHON ?= python3
# One process a core; torch keeps to one thread in each. A process keeps to neighbouring tests, whose
# models and runs are then made once.
PYTEST_ARGS ?= -n auto --dist worksteal
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROJECTS := packages/cas-metric packages/craft-trainer

# Major and minor version: patches replace their pages. PUSH=--push sends the branch to origin.
SITE_VERSION ?= $(shell sed -n 's/^__version__ = "\([0-9]*\.[0-9]*\).*/\1/p' packages/cas-metric/src/cas_metric/__init__.py)
PUSH ?=
QUICK ?=

.PHONY: demo test lint format docs docs-version dist sbom reproduce-phantoms clean

$(STAMP): constraints.txt requirements-dev.txt $(addsuffix /pyproject.toml,$(PROJECTS))
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv || true
	$(BIN)/python -m uv --version >/dev/null 2>&1 \
	  && $(BIN)/python -m uv pip install --quiet --python $(BIN)/python -c constraints.txt -r requirements-dev.txt \
	  || $(BIN)/python -m pip install --quiet -c constraints.txt -r requirements-dev.txt
	touch $@

demo: $(STAMP)
	$(BIN)/cas demo --out demo

test: $(STAMP)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow and not network" $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-version: $(STAMP)
	PATH="$(abspath $(BIN)):$$PATH" NO_MKDOCS_2_WARNING=1 $(BIN)/mike deploy $(PUSH) --update-aliases $(SITE_VERSION) latest
	$(BIN)/mike set-default $(PUSH) latest

dist: $(STAMP)
	for package in $(PROJECTS); do $(BIN)/python -m build --no-isolation --outdir dist $$package || exit 1; done
	$(BIN)/python -m uv tool run twine check --strict dist/*

sbom: $(STAMP)
	mkdir -p build
	$(BIN)/python -m uv tool run --from cyclonedx-bom cyclonedx-py environment $(BIN)/python \
	  --output-reproducible --output-file build/sbom.json

reproduce-phantoms: $(STAMP)
	$(BIN)/python -m benchmarks.paper.all $(QUICK)

clean:
	rm -rf $(VENV) demo dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
