# The commands of the README; demo, check and test make their virtual environments.
#     make demo     the package without extras, on the example clips
#     make check    style, types and the tests of up to a second
#     make test     style, types and all tests; the C runtime on this machine and on emulated boards
#     make docs     the documentation site in site/, from docs/ and the docstrings; a warning is an error
#     make integrations  the packages for voice agents and the MCP server with their frameworks, and their tests
#     make bindings the packages for other languages, built and tested with the compilers that can be had
#     make examples  nkululeko, the examples on ONNX Runtime in C++, node and browser, and in React, with their packages
#     make devices  the exported C with ESPHome, the packers of ESP-IDF and PlatformIO, compilers and emulators, as far as installed
#     make tools    compilers, emulators and browsers for the tests, as root on Debian; without one its tests are skipped
PYTHON ?= python3
BIN = .venv-test/bin
INSTALLED = .venv-test/installed
OWN = .venv-integrations
NKULULEKO = .venv-examples/bin/nkululeko.nkululeko
DEVICES = .venv-devices
DEVICE_TOOLS = 'esphome>=2026.6' 'idf-component-manager>=3' 'platformio>=6' kconfiglib 'packaging>=24.2'
TOOLS = arm-none-eabi-gcc=gcc-arm-none-eabi,libnewlib-arm-none-eabi clang=clang,libclang-rt-dev cmake=cmake \
  g++=g++ qemu-system-arm=qemu-system-arm valgrind=valgrind wasm-ld=lld chromium=chromium node=nodejs npm=npm

# For make bindings. Rust 1.81 or later and Swift come from their own installers.
LANGUAGES = clang=clang cmake=cmake g++=g++ go=golang-go javac=default-jdk-headless kotlinc=kotlin \
  mcs=mono-mcs,mono-runtime

.PHONY: demo check test docs style tools integrations bindings examples devices
demo:
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet .
	.venv/bin/wav2small predict examples

check: style
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow"

test: style
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile
	$(MAKE) --no-print-directory -C c check firmware-check PYTHON=$(CURDIR)/$(BIN)/python

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

style: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

# Everything that the tests need, in versions that are known to work.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-test
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# The packages for voice agents, each with its framework, and their tests; in an environment of its own, 1 GB.
integrations: $(OWN)/bin/python
	$(OWN)/bin/python -m pip install --quiet -e '.[mcp]' hypothesis $(foreach p,pipecat livekit wyoming,-e 'integrations/$p[test]')
	$(OWN)/bin/python -m pytest -q tests/agents tests/integrations

# The folder of export --to c in the tools of devices; in an environment of its own, .5 GB. -rs says what was left out.
devices: $(DEVICES)/bin/python
	$(DEVICES)/bin/python -m pip install --quiet -e . pytest hypothesis $(DEVICE_TOOLS)
	$(DEVICES)/bin/python -m pytest -q -rs tests/devices

$(OWN)/bin/python $(DEVICES)/bin/python:
	$(PYTHON) -m venv $(@:/bin/python=)

# The syntax of Swift is checked by tree-sitter where there is no Swift.
bindings: $(INSTALLED)
	.ci/install $(LANGUAGES)
	$(BIN)/python -m pip install --quiet --target build/syntax tree-sitter tree-sitter-swift
	PYTHONPATH=build/syntax $(BIN)/python bindings/test.py

# -s shows the differences that docs/tools.md lists.
examples: $(NKULULEKO)
	EXAMPLES=1 NKULULEKO=$(CURDIR)/$(NKULULEKO) \
	  $(BIN)/pytest -q -s tests/export/test_nkululeko.py tests/integrations/test_cpp.py tests/web/test_examples.py

# An environment of its own, on top of the packages of .venv-test, of which torch is the largest.
$(NKULULEKO): $(INSTALLED)
	$(BIN)/python -m venv .venv-examples
	$(BIN)/python -c 'import site; print(*site.getsitepackages())' > $$(echo .venv-examples/lib/python3*/site-packages)/base.pth
	.venv-examples/bin/python -m pip install --quiet nkululeko==1.14.1

tools:
	.ci/install $(TOOLS)
