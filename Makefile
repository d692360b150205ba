# make demo: the whole pipeline on the embedded model, offline.   make test: lint and the test suite.
# make controls: the demo beside its controls, with three seeds; it takes over an hour.
# make test-browser: the tests of the rating page in Chromium, which make browser installs.
PYTHON ?= python3.11
PIP_ARGS ?=
BIN := .venv/bin

.PHONY: demo controls test test-browser browser lint clean

demo: .venv/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" sh runs/demo.sh

controls: demo
	PATH="$(CURDIR)/$(BIN):$$PATH" sh runs/controls.sh recipes/gemma270m_ru.yaml
	PATH="$(CURDIR)/$(BIN):$$PATH" sh runs/demo.sh

lint: .venv/installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4

test-browser: browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser

browser: .venv/browser
	command -v chromium || command -v chromium-browser || command -v google-chrome || { apt-get update && apt-get install -y chromium; }

.venv/browser: .venv/installed
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[browser]'
	touch $@

.venv/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[demo,test]'
	touch $@

# Delete the demo's files and the environment.
clean:
	rm -rf .venv cache/gemma-3-270m-ru data/oasst1_ru_sample runs/gemma270m_ru runs/gemma270m_ru_seed* answers/gemma270m_*.jsonl reports/gemma270m_ru
