# Two commands: `make app` starts the page, `make test` runs every test. Both set up .venv first.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: app test shapes lint format benchmarks clean

app: .venv/app.done
	$(BIN)/python app.py

test: .venv/dev.done
	$(BIN)/pytest -n 2 --dist loadgroup

# Every shape in a signature becomes a check at run time.
shapes: .venv/dev.done
	$(BIN)/pytest -n 2 --ignore tests/page -m "not slow" \
	    --jaxtyping-packages=lab,solutions,beartype.beartype

lint: .venv/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: .venv/dev.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: .venv/dev.done
	$$(command -v taskset >/dev/null && echo taskset -c 0) $(BIN)/python benchmarks/speed.py

clean:
	rm -rf .venv build

.venv/dev.done: .venv/app.done
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

.venv/app.done: pyproject.toml constraints.txt
	@echo "Setting up .venv: some minutes, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@
