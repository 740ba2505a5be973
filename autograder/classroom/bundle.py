"""The project as learners get it where answers must stay away: a zip without them.

Left out: `solutions/`, our tests and benchmarks, checks marked `hidden=True`. Mistakes and quizzes
are sealed (see autograder/sealed.py), for check() needs them to say what is wrong. Everything else
runs: the page on stock parts, the notebooks, check(), and submit() where there is an exchange.
"""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from autograder.classroom import settings
from autograder.sealed import seal
from autograder.submission import Submission
from lab.course import UNITS

FOLDERS = ("autograder", "docs", "exercises", "lab")
FILES = ("LICENSE", "app.py", "constraints.txt", "nbgrader_config.py")
FOR_TEACHERS = {"docs/teaching.md"}
SKIPPED = {"__pycache__", ".ipynb_checkpoints"}

README = """# Attention Lab

Build the Transformer yourself, part by part, and watch your own parts translate. Two commands:

```bash
make notebook    # opens the lessons, from exercises/01-attention on
make app         # starts the page: a trained model that shows where each word looks
```

In a notebook, `check("softmax")` says in one sentence what is wrong, `hint("softmax")` helps, and
`submit("01-attention")` hands in what you last saved. `make test` tries whether it all runs.
"""

MAKEFILE = """# make notebook opens the lessons, make app the page; make test tries them.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: notebook app test

notebook: .venv/app.done
	$(BIN)/lab notebook

app: .venv/app.done
	$(BIN)/python app.py

test: .venv/app.done
	$(BIN)/lab translate "A man is standing."
	$(BIN)/python -c "from autograder import check; check('softmax', lambda scores, dim=-1: scores)"

.venv/app.done: pyproject.toml constraints.txt
	@echo "Setting up .venv: some minutes, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@
"""


def bundle(out: Path, *, hidden_too: bool = False, root: Path | None = None) -> Iterator[str]:
    """Write the zip; the same project gives the same bytes."""
    root = root or settings.project()
    if not (root / "solutions").is_dir():
        raise ValueError(f"{root} is a bundle already: make one from the project itself")
    files, sealed = contents(root, hidden_too=hidden_too)
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"attention-lab/{name}")  # dated 1980, whenever it is made
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    yield f"wrote {out}: {len(files)} files, {out.stat().st_size / 1e6:.1f} MB"
    yield f"  sealed: {len(sealed)} files of mistakes and quizzes; left out: solutions, tests"
    notebooks = sum(name.endswith(".ipynb") for name in files)
    yield f"  {notebooks} notebooks of {len(UNITS)} units"


def contents(root: Path, *, hidden_too: bool = False) -> tuple[dict[str, bytes], list[str]]:
    """The files of the bundle by name, and the names of those that are sealed in it."""
    files = {name: (root / name).read_bytes() for name in FILES if (root / name).exists()}
    to_seal = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            name = path.relative_to(root).as_posix()
            if not path.is_file() or SKIPPED & set(path.parts) or name in FOR_TEACHERS:
                continue
            if _is_answer(name):
                to_seal[name.removeprefix("autograder/")] = path.read_text("utf-8")
            elif name.startswith("autograder/suites/test_") and not hidden_too:
                files[name] = without_hidden(path.read_text("utf-8")).encode()
            elif path.suffix == ".ipynb":
                files[name] = _untouched(path)
            else:
                files[name] = path.read_bytes()
    files["autograder/sealed.txt"] = seal(to_seal).encode("ascii")
    files["README.md"] = README.encode()
    files["Makefile"] = MAKEFILE.encode()
    files["pyproject.toml"] = _pyproject((root / "pyproject.toml").read_text("utf-8")).encode()
    if course := _course_of(root):
        files["build/nbgrader_config.py"] = course.encode()
    return files, sorted(to_seal)


def _is_answer(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    if folder == "autograder/mistakes":
        return file != "__init__.py"
    if folder == "autograder/chinese":
        return file in ("mistakes.toml", "quizzes.toml")
    return folder == "autograder/quizzes" and file.endswith(".toml")


def without_hidden(text: str) -> str:
    """A suite without the checks marked hidden=True; every other line as it was."""
    gone: set[int] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and any(map(_hides, node.decorator_list)):
            first = node.decorator_list[0].lineno
            gone |= set(range(first, (node.end_lineno or first) + 1))
    lines = text.splitlines(keepends=True)
    kept = "".join(line for number, line in enumerate(lines, 1) if number not in gone)
    return re.sub(r"\n{4,}", "\n\n\n", kept)


def _hides(decorator: ast.expr) -> bool:
    if not isinstance(decorator, ast.Call):
        return False
    hidden = {word.arg: word.value for word in decorator.keywords}.get("hidden")
    third = decorator.args[2] if len(decorator.args) > 2 else None
    value = hidden or third
    return isinstance(value, ast.Constant) and value.value is True


def _untouched(path: Path) -> bytes:
    """A released notebook, if nobody has worked in it."""
    found = Submission.load(path)
    work = [*found.touched(), *(["the quiz"] if any(found.answers().values()) else [])]
    if work:
        raise ValueError(
            f"{path} holds somebody's work in {', '.join(work)}: "
            "run `lab build --force` before you hand it out"
        )
    return path.read_bytes()


def _pyproject(text: str) -> str:
    """The project's own, without the package of answers."""
    return re.sub(r'^ *"solutions",\n', "", text, flags=re.M)


def _course_of(root: Path) -> str:
    """Where this course hands in, if it has an exchange: the full path, for other folders too."""
    found = settings.read(root)
    if found.exchange is None:
        return ""
    return (
        f'{settings.WRITTEN} for this course."""\n\n'
        "c = get_config()  # noqa: F821 (nbgrader provides it)\n\n"
        f"c.CourseDirectory.course_id = {found.course_id!r}\n"
        f"c.Exchange.root = {str(found.exchange)!r}\n"
    )
