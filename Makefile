# `make book` renders the book, `make test` checks everything; both set up .venv by themselves.

# The first Python that starts and is of a version that the requirements are locked for.
SUITS := -c 'import sys; sys.exit(not (3, 11, 5) <= sys.version_info < (3, 14))' 2>/dev/null
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3 python; do $$p $(SUITS) && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CHAPTER ?= rotnet-mnist
ARGS ?=

.PHONY: help book preview test lint rerun freeze status lock
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: .venv/book.stamp ## render the book from _freeze/ (HTML, and PDF where LaTeX is found)
	@$(BIN)/fewlabels book

preview: .venv/book.stamp ## the book as plain pages, without Quarto
	@$(BIN)/fewlabels preview

test: .venv/full.stamp ## set up everything, then run the tests
	@$(BIN)/python -m pytest -n auto --dist loadgroup

lint: .venv/full.stamp ## ruff, and no outputs in notebooks
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/nbstripout --keep-id --verify chapters/*.ipynb

rerun: .venv/full.stamp ## run a chapter yourself: make rerun CHAPTER=rotnet-mnist ARGS='-p dataset digits'
	@$(BIN)/fewlabels run $(CHAPTER) --profile quick $(ARGS)

freeze: .venv/full.stamp ## execute all chapters for the book (needs Quarto); one with CHAPTER=name
	@$(BIN)/fewlabels freeze $(if $(filter command line,$(origin CHAPTER)),$(CHAPTER))

status: .venv/full.stamp ## runs done, and whether the frozen chapters are fresh
	@$(BIN)/fewlabels status

# An environment knows its own path: a copied or moved checkout would use the original's.
MOVED := $(shell grep -q '^command = .* -m venv ' .venv/pyvenv.cfg 2>/dev/null \
  && ! grep -qF ' $(CURDIR)/.venv' .venv/pyvenv.cfg && echo yes)
ifeq ($(MOVED),yes)
$(info .venv belongs to another folder: it is made anew)
$(shell rm -rf .venv)
endif
# All versions with their hashes, of every platform and Python; needs uv.
COMPILE := uv pip compile --universal --python-version 3.11.5 --generate-hashes --no-annotate \
  --no-emit-index-url --no-header --upgrade
lock: ## resolve pyproject.toml anew into requirements.txt and requirements-book.txt
	@{ echo "# Every version and hash of the full environment, made by \`make lock\` from pyproject.toml." \
	  "Python 3.11.5 to 3.13."; $(COMPILE) pyproject.toml --all-extras -q; } > requirements.tmp
	@mv requirements.tmp requirements.txt
	@{ echo "# What \`make book\` installs: Pandoc for the plain preview, YAML for the book's contents" \
	  "(\`make lock\`)."; $(COMPILE) requirements-book.in -c requirements.txt -q; } > requirements.tmp
	@mv requirements.tmp requirements-book.txt

.venv/pyvenv.cfg:
	@{ test -n "$(PYTHON)" && $(PYTHON) $(SUITS); } || { \
	  echo "Python 3.11.5 to 3.13 is needed: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
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
	@$(PIP) install --no-deps --editable .
	@touch $@ .venv/book.stamp
