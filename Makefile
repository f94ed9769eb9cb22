# Each target makes its environment, or re-uses it while pyproject.toml is unchanged.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
MADE := $(VENV)/.made
PEERS := $(VENV)/.peers
FUZZER := $(VENV)/.fuzzer
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
PYTEST := $(ONE_THREAD) SCIPY_ARRAY_API=1 $(RUN) -m pytest -n 2

.PHONY: demo test test-all lint format bench compat fuzz docs release-check linkcheck clean

$(MADE): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[test,plot,docs]"
	touch $(MADE)

$(PEERS): $(MADE)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	touch $(PEERS)

demo: $(MADE)  ## photos: the default network against random weights and pixels; a table and two pictures; under 3 minutes
	$(RUN) examples/01_search_freeze_depth.py

test: $(MADE)  ## everything but the slow tests
	$(PYTEST) -m "not slow"

test-all: $(MADE)  ## everything
	$(PYTEST)

lint: $(MADE)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) tests/parameter_docs.py
	$(RUN) -m mypy

format: $(MADE)
	$(RUN) tests/parameter_docs.py --write
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(PEERS)  ## ratios of medians, into docs/reference/benchmarks.md; leave the machine alone for an hour
	$(RUN) tests/benchmarks/bench_start.py
	$(RUN) tests/benchmarks/bench_store.py
	$(RUN) tests/benchmarks/bench_images.py
	$(RUN) tests/benchmarks/bench_texts.py
	$(RUN) tests/benchmarks/bench_growth.py
	$(RUN) tests/benchmarks/bench_search.py
	OMP_NUM_THREADS=1 $(RUN) tests/benchmarks/bench_processes.py
	OMP_NUM_THREADS=1 $(RUN) tests/benchmarks/bench_dask.py

compat:  ## the tests with the oldest libraries that pyproject.toml allows and with the newest, into README.md; an hour
	$(PYTHON) .ci/compat.py

$(FUZZER): $(MADE)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[fuzz]"
	touch $(FUZZER)

fuzz: $(FUZZER)  ## 50,000 inputs by chance, then ten minutes of those that reach new code
	SKLTRANSFER_FUZZ=50000 $(ONE_THREAD) $(RUN) -m pytest --timeout 1200 tests/reliability/test_fuzz.py
	$(ONE_THREAD) $(RUN) tests/reliability/fuzz_readers.py $(VENV)/fuzz -max_total_time=600 -max_len=4096 -rss_limit_mb=2048

docs: $(MADE)  ## run every example in README, docs and docstrings; build the site into docs/_build, any warning an error
	$(ONE_THREAD) $(RUN) -m pytest tests/test_docs.py tests/test_site.py -k "not tutorials_run"
	$(RUN) -m sphinx -E -W --keep-going -q docs docs/_build
	@echo "The site: docs/_build/index.html"

release-check:  ## build the files of a release, check them, and paste the guides into fresh environments; half an hour
	$(PYTHON) .ci/release.py

linkcheck: $(MADE)  ## do links to other sites lead somewhere? Needs the network
	$(RUN) -m sphinx -b linkcheck -q docs docs/_build/linkcheck

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest docs/_build docs/reference/objects docs/tutorials
