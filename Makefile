# The two commands of the README: each makes its own virtual environment.
PYTHON ?= python3

.PHONY: demo test

# The package without extras, on the example clips.
demo:
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet .
	.venv/bin/wav2small predict examples

# Everything that the tests need, then the tests.
test:
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	.venv-test/bin/ruff check
	.venv-test/bin/mypy
	.venv-test/bin/pytest
