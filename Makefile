# The two commands of the README: each makes its own virtual environment.
PYTHON ?= python3

.PHONY: demo test

# The package without extras, on the example clips.
demo:
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet .
	.venv/bin/wav2small predict examples

# Everything that the tests need, then the tests; and the C runtime on this machine and on emulated boards.
test:
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	.venv-test/bin/ruff check
	.venv-test/bin/mypy
	$(MAKE) --no-print-directory -C c tools
	$(MAKE) --no-print-directory -C web tools
	.venv-test/bin/pytest
	$(MAKE) --no-print-directory -C c check firmware-check PYTHON=$(CURDIR)/.venv-test/bin/python
