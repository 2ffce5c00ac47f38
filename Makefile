# `make book` renders the book, `make test` checks everything; both set up .venv by themselves.

# The first Python that starts and is of a version that the requirements are pinned for.
SUITS := -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)))' 2>/dev/null
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3 python; do $$p $(SUITS) && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CHAPTER ?= rotnet-mnist
ARGS ?=

.PHONY: help book preview test lint rerun freeze status
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: .venv/book.stamp ## render the book from _freeze/ (HTML, and PDF where LaTeX is found)
	@$(BIN)/fewlabels book

preview: .venv/book.stamp ## the book as plain pages, without Quarto
	@$(BIN)/fewlabels preview

test: .venv/full.stamp ## set up everything, then run the tests
	@$(BIN)/python -m pytest -n auto --dist loadfile

lint: .venv/full.stamp ## ruff, and no outputs in notebooks
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/nbstripout --keep-id --verify chapters/*.ipynb

rerun: .venv/full.stamp ## run a chapter yourself: make rerun CHAPTER=rotnet-mnist ARGS='-p dataset digits'
	@$(BIN)/fewlabels run $(CHAPTER) --profile quick $(ARGS)

freeze: .venv/full.stamp ## execute all chapters for the book (needs Quarto); one with CHAPTER=name
	@$(BIN)/fewlabels freeze $(if $(filter command line,$(origin CHAPTER)),$(CHAPTER))

status: .venv/full.stamp ## runs done, and whether the frozen chapters are fresh
	@$(BIN)/fewlabels status

.venv/pyvenv.cfg:
	@{ test -n "$(PYTHON)" && $(PYTHON) $(SUITS); } || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv

# What rendering takes; the package itself comes without its heavy requirements.
.venv/book.stamp: .venv/pyvenv.cfg requirements-book.txt pyproject.toml
	@echo "Setting up .venv for rendering ..."
	@$(PIP) install -r requirements-book.txt
	@$(PIP) install --no-deps --editable .
	@touch $@

.venv/full.stamp: .venv/pyvenv.cfg requirements.txt requirements-book.txt pyproject.toml
	@echo "Setting up the full environment in .venv ..."
	@$(PIP) install -r requirements.txt
	@touch $@ .venv/book.stamp
