# make demo: the whole path on the embedded model, offline.   make test: the whole test suite.
PYTHON ?= python3.11
PIP_ARGS ?=
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" sh runs/demo.sh

test: .venv/installed
	$(BIN)/python -m ruff check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4

.venv/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[demo,test]'
	touch $@

# What the demo made, and the environment.
clean:
	rm -rf .venv cache/gemma-3-270m-ru data/oasst1_ru_sample runs/gemma270m_ru answers/gemma270m_*.jsonl reports/gemma270m_ru
