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
	$(PYTHON_IN_VENV) -m pytest tests/architecture/test_files.py tests/architecture/test_declarations.py \
	  tests/architecture/test_api_page.py tests/conformance/test_protocol_errors.py \
	  tests/integration/test_plugin_guide.py tests/unit/config

fuzz:  ## mutated input for FUZZ_SECONDS (an hour) and every target
	./scripts/fuzz.sh --seconds $(FUZZ_SECONDS)

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
