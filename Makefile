# The doors for people. Each target is one line of somebody else's work: scripts/ holds what CI runs.
.DEFAULT_GOAL := help
.PHONY: help setup check test serve docs fuzz bench lock container clean
PYTHON_IN_VENV := .venv/bin/python
FUZZ_SECONDS ?= 3600

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup:  ## make .venv from the development lock file, and the commit hooks
	./scripts/test.sh --setup
	.venv/bin/pre-commit install

check:  ## rules, format, types, layers, unit and architecture tests (under a minute)
	./scripts/test.sh --fast

test:  ## everything, as CI runs it
	./scripts/test.sh

serve:  ## a running gateway in the foreground, with its key and client snippets
	./quickstart.sh

docs:  ## the documents against the code: settings, commands, routes, links
	$(PYTHON_IN_VENV) -m pytest tests/docs tests/architecture/test_files.py

fuzz:  ## the fuzz tests for FUZZ_SECONDS (an hour)
	WAYGATE_FUZZ_SECONDS=$(FUZZ_SECONDS) $(PYTHON_IN_VENV) -m pytest -m fuzz --timeout=0

bench:  ## throughput and latency beside a raw floor and other servers
	$(PYTHON_IN_VENV) bench/run.py

lock:  ## write requirements/*.lock anew; make lock UPGRADE=--upgrade takes newer versions
	./scripts/lock.sh $(UPGRADE)

container:  ## build the image, boot the stack, call a tool in it
	./scripts/test-container.sh

clean:  ## remove what tools leave behind; .waygate and its keys stay
	rm -rf .venv .peers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis htmlcov build dist
	rm -f .coverage .coverage.*
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
