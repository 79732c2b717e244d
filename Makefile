# Bootstraps .venv from nothing and calls mnist-lab or pytest in it; the work is theirs.

comma := ,
# TensorFlow 2.21 has wheels for these versions; the CUDA libraries only where there is a GPU.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
EXTRAS := dev$(if $(shell command -v nvidia-smi),$(comma)gpu)
BIN := .venv/bin
INSTALLED := .venv/.installed

SPACE ?= fnn
TRIALS ?= 10
EPOCHS ?= 5
HOME_OF_PICTURES ?= .

.PHONY: sweep test coverage test-slow lint format docs pictures build ui bench clean

sweep: $(INSTALLED) ## the main job: a study of real networks on the bundled MNIST; SPACE=cnn takes longer
	$(BIN)/mnist-lab sweep $(SPACE) --trials $(TRIALS) --epochs $(EPOCHS)

test: $(INSTALLED) ## the default suite; three processes, because many tests wait
	$(BIN)/pytest -n 3

coverage: $(INSTALLED) ## the same with coverage: half as long again, for it traces TensorFlow too
	$(BIN)/pytest -n 3 --cov --cov-report=term

test-slow: $(INSTALLED) ## what trains for more than a few seconds
	$(BIN)/pytest -m slow

lint: $(INSTALLED) ## style, format and types; docs/commands.md is what --help says
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cog --check --verbosity=1 --check-fail-msg="Type: make docs" docs/commands.md

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## write the command reference from --help
	$(BIN)/cog -r --verbosity=1 docs/commands.md

pictures: $(INSTALLED) ## screenshots for docs/, of the latest study in HOME_OF_PICTURES, by Debian's chromium
	$(BIN)/python experiments/screenshots.py $(HOME_OF_PICTURES)

build: $(INSTALLED) ## dist/: the wheel and the source distribution
	$(BIN)/uv build --clear

ui: $(INSTALLED) ## MLflow's pages on this folder's runs
	$(BIN)/mnist-lab ui

# Ray and TensorBoard come only with this target: nobody else needs them.
bench: $(INSTALLED) ## against Optuna, KerasTuner and Ray Tune; QUICK=1 for ten minutes instead of many hours
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable ".[$(EXTRAS),bench]"
	$(BIN)/python experiments/benchmarks/bench.py $(if $(QUICK),--quick)

clean: ## the environment and caches; runs and studies stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov

# uv because it is ten times as fast as pip; pip fetches it into the environment itself.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "mnist-lab needs Python 3.11 to 3.13."; exit 78; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5,<1"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@
