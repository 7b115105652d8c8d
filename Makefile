# make          the environment in .venv: the app, XTuner and the tools of development
# make demo     the whole journey on a real small model, in ./demo
# make test     everything that CI checks
VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
LOCALE := src/engine/locale
# The first Python that XTuner runs on.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
  $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
# torch's threads spin when they are more than the cores.
export OMP_NUM_THREADS ?= 2
# XTuner's imports take 21 s without compiled modules, 9 s with them.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := all
.PHONY: all demo test lint gpu-test bench lock messages pictures clean

all: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11 or 3.12 is missing (XTuner runs on no newer one): apt-get install python3 python3-venv, or give yours: make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || { echo "Python's venv module is missing: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/pip install --quiet --disable-pip-version-check uv
	@# DeepSpeed would compile its CUDA operators here; training needs none of them.
	DS_BUILD_OPS=0 $(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: $(READY)
	$(BIN)/tunedeck demo demo

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	@command -v tmux >/dev/null || { echo "tmux is missing (the tests look at real terminals): apt-get install tmux" >&2; exit 1; }
	@# For two cores: many tests wait, some for long, and the third worker begins with those.
	$(BIN)/python -m pytest -n 3 --no-loadscope-reorder -m "not gpu" --durations 25

gpu-test: $(READY)
	$(BIN)/python -m pytest tests/gpu -m gpu

# Each figure in docs/performance.md names its script; here all that need a GPU, or the app's own.
bench: $(READY)
	@if command -v nvidia-smi >/dev/null; then $(BIN)/python benchmarks/gpu.py --out bench; \
	else $(BIN)/python benchmarks/startup.py && $(BIN)/python benchmarks/overhead.py follow \
	  && $(BIN)/python benchmarks/following.py; fi

# Versions and hashes of both environments, for Python 3.10 to 3.12; names no index.
lock:
	$(BIN)/uv pip compile pyproject.toml --extra train --group dev --universal --python-version 3.10 \
	  --generate-hashes --no-emit-index-url --no-header --quiet --output-file requirements.lock

# Collects the texts for people; translate the new ones in zh/LC_MESSAGES/tunedeck.po, run it again.
messages: $(READY)
	$(BIN)/pybabel -q extract -k _ -k N_ -k ngettext:1,2 --no-location --sort-output --omit-header \
	  -o $(LOCALE)/tunedeck.pot src
	$(BIN)/pybabel -q update -i $(LOCALE)/tunedeck.pot -d $(LOCALE) -D tunedeck -l zh --no-fuzzy-matching
	$(BIN)/pybabel -q compile -d $(LOCALE) -D tunedeck

pictures: $(READY)
	$(BIN)/python docs/pictures.py

clean:
	rm -rf $(VENV) demo
