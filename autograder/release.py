"""From the text of a lesson to the notebook of a learner: `lab build`.

    solutions/<module>.py → build/source/<unit>/<module>.ipynb → exercises/<unit>/<module>.ipynb

The first arrow is this module: short cell headers become nbgrader's metadata, and every body of a
solution gets nbgrader's marks. The second is nbgrader's own GenerateAssignment, which puts a stub
between the marks. Nothing in a built notebook depends on when or where it is built.

    # %% [markdown]          text, a string literal
    # %% given               a locked cell: imports and helpers
    # %% solution="softmax"  the part; its bodies become `raise NotImplementedError`
    # %% check="softmax"     empty here; check("softmax") in the notebook, graded
    # %% see="softmax"       `if __name__ == "__main__":` here, `with see("softmax"):` there;
                             see="" needs no part, see="split_heads, merge_heads" needs both
    # %% quiz                empty here; the questions of autograder/quizzes/<module>.toml there

Another language is a folder beside the texts with one file a unit, such as
`solutions/zh/attention.toml`. It gives texts by the key that stands in the metadata of each text
cell, {"lab": {"text": "attention-3"}}: the running number of the text, or quiz-<id> of a question.

    attention-3 = "…"

What is missing there stays English. Two keys, unit-line and part-line, replace `LINES` below.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder import policy, quizzes
from autograder.classroom import settings
from autograder.judge import checks_of
from autograder.quizzes import Question
from autograder.submission import Submission, check_source, quiz_source
from lab.course import PARTS, UNITS, Unit
from lab.files import replacing

HEADERS = '[markdown], given, solution="…", check="…", see="…" or quiz'
IMPORTS = "from autograder import check, hint, quiz, reset, status, submit"
ADOPTING = f"{IMPORTS}, yours\n\nyours()"  # from the second unit on
LINES = {
    "unit-line": "*Unit {number} of {count} · {minutes} minutes of writing · {points} points · "
    "{next}*",
    "part-line": "**{minutes} minutes · {points} points.** {rule}",
}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class Faults(ValueError):
    """What is wrong with the lessons, one sentence each."""

    def __init__(self, faults: Sequence[str]):
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


def build(
    units: Sequence[Unit] = UNITS,
    project: Path | None = None,
    *,
    language: str = "en",
    out: Path | None = None,
    force: bool = False,
    questions: Callable[[str], Sequence[Question]] = quizzes.questions,
) -> Iterator[str]:
    """Build the notebooks of these units; a line for each. At the end, Faults if there are any.

    They go to `out`: exercises/, or exercises/<language>. A unit with a fault leaves its notebook
    as it is, and so does one whose notebook holds somebody's work, unless `force`.
    """
    course = settings.read(project)
    exercises = out or course.path("release", ".")
    exercises = exercises / language if language != "en" and out is None else exercises
    faults: list[str] = []
    for unit in units:
        target = exercises / unit.name / f"{unit.module}.ipynb"
        try:
            if not force and (work := _work_in(target, unit)):
                name = os.path.relpath(target, course.project)
                raise Faults([f"{name} holds somebody's work ({work}): move it, or use --force"])
            source = read_lesson(unit, course.project / "solutions", language, questions)
            path = course.path("source", unit.name) / target.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as new:
                text = json.dumps(source, ensure_ascii=False, indent=1, sort_keys=True)
                new.write_text(text + "\n", encoding="utf-8", newline="\n")
            released = _released(course, unit)
        except Faults as found:
            faults += found.faults
            yield f"{unit.name}: not built"
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        same = target.exists() and target.read_bytes() == released
        if not same:
            with replacing(target) as new:
                new.write_bytes(released)
        count = len(source["cells"])
        state = "as before" if same else "built"
        yield f"{unit.name}: {count} cells, {unit.points} points, {unit.minutes} minutes, {state}"
    if faults:
        raise Faults(faults)


def _released(course: settings.Settings, unit: Unit) -> bytes:
    """What nbgrader makes of a source notebook for learners; the gradebook is left alone."""
    from nbgrader.converters import GenerateAssignment, NbGraderException
    from traitlets.config import Config

    coursedir = course.coursedir
    kept = coursedir.release_directory
    with settings.listening() as heard, tempfile.TemporaryDirectory() as folder:
        coursedir.release_directory, coursedir.assignment_id = folder, unit.name
        worker = settings.quietly(GenerateAssignment, course, force=True, no_database=True)
        worker.update_config(Config(SaveCells={"enabled": False}))
        try:
            worker.start()
        except NbGraderException as error:
            raise Faults([f"{unit.name}: nbgrader says {heard.getvalue() or error}"]) from None
        finally:
            coursedir.release_directory = kept
        text = (Path(folder) / unit.name / f"{unit.module}.ipynb").read_text("utf-8")
    for cell in json.loads(text)["cells"]:
        part = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if part in unit.parts:
            ast.parse("".join(cell["source"]))  # a stub that is no Python would be our mistake
    return text.encode()


def _work_in(path: Path, unit: Unit) -> str:
    """The names of what somebody has written in a notebook that was built before."""
    if not path.exists():
        return ""
    found = Submission.load(path, unit)
    answered = any(answer is not None for answer in found.answers().values())
    return ", ".join([*found.touched(), *(["quiz"] if answered else [])])


# Reading a text


@dataclass(frozen=True)
class Cell:
    """A cell of a text: its kind and name from the header, what stands below it, and where."""

    kind: str
    name: str
    source: str
    line: int


@dataclass
class _Lesson:
    """A text on its way to a notebook, with what was found wrong on the way."""

    unit: Unit
    path: Path
    cells: list[Cell] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def fault(self, said: str, cell: Cell | None = None) -> None:
        place = f"solutions/{self.path.name}" + (f":{cell.line}" if cell else "")
        self.faults.append(f"{place}: {said}")


def read_lesson(
    unit: Unit,
    texts: Path,
    language: str = "en",
    questions: Callable[[str], Sequence[Question]] = quizzes.questions,
) -> dict[str, Any]:
    """The source notebook of a unit, solutions in; all that is wrong with it at once as Faults."""
    lesson = _Lesson(unit, texts / f"{unit.module}.py")
    if not lesson.path.exists():
        raise Faults([f"solutions/{lesson.path.name} is missing"])
    _split(lesson)
    _check_order(lesson)
    _check_points(lesson)
    asked = _check_quiz(lesson, questions)
    cells = _Notebook(lesson, asked, _overrides(texts, unit, language)).cells
    if lesson.faults:
        raise Faults(lesson.faults)
    return {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}


def _split(lesson: _Lesson) -> None:
    """Cut the text at its headers."""
    before, *rest = re.split(r"^# %%(.*)\n?", lesson.path.read_text("utf-8"), flags=re.M)
    line = 1 + before.count("\n")
    if before.strip():
        lesson.fault("something stands before the first # %%")
    for header, body in zip(map(str.strip, rest[::2]), rest[1::2], strict=True):
        match = re.fullmatch(r'(\[markdown\]|given|quiz)|(solution|check|see)="([^"]*)"', header)
        if match is None:
            lesson.fault(
                f'unknown header "{f"# %% {header}".strip()}" (line {line}): use {HEADERS}'
            )
        else:
            kind = (match[1] or match[2]).strip("[]")
            source = body.strip("\n").rstrip()
            if kind != "markdown":  # what is said to our tools is not for learners
                source = re.sub(r" *# (fmt: skip|noqa.*|pyright: .*)$", "", source, flags=re.M)
            lesson.cells.append(Cell(kind, match[3] or "", source, line))
        line += 1 + body.count("\n")


def _check_order(lesson: _Lesson) -> None:
    """Each part has a text, then its solution, later its check; there is one quiz."""
    unit, cells = lesson.unit, lesson.cells
    parts = [cell.name for cell in cells if cell.kind == "solution"]
    checks = [cell.name for cell in cells if cell.kind == "check"]
    for kind, names in (("solution", parts), ("check", checks)):
        for part in unit.parts:
            if names.count(part) != 1:
                times = "no" if part not in names else f"{names.count(part)} times a"
                lesson.fault(f'there is {times} cell # %% {kind}="{part}"')
    if len({*parts} & {*unit.parts}) == len(parts) and parts != list(unit.parts):
        lesson.fault(f"the parts stand in another order than {', '.join(unit.parts)}")
    if (count := sum(cell.kind == "quiz" for cell in cells)) != 1:
        lesson.fault(f"there are {count} cells # %% quiz, not one")
    if not cells or cells[0].kind != "markdown":
        lesson.fault("the first cell is not a text")
    for at, cell in enumerate(cells):
        if cell.kind in ("solution", "check") and cell.name not in unit.parts:
            lesson.fault(f"{cell.name!r} is no part of {unit.name}", cell)
        if cell.kind == "solution" and (at == 0 or cells[at - 1].kind != "markdown"):
            lesson.fault(f"no text stands before the solution of {cell.name}", cell)
        if cell.kind == "check" and cell.name not in [each.name for each in cells[:at]]:
            lesson.fault(f"the check of {cell.name} stands before its solution", cell)
        if cell.kind in ("check", "quiz") and cell.source:
            lesson.fault(f"a {cell.kind} cell is empty: what it says is built", cell)
        for part in _needed(cell):
            if part not in PARTS:
                lesson.fault(f"see names {part!r}, which is no part", cell)


def _check_points(lesson: _Lesson) -> None:
    """The checks of a part add up to its points."""
    module = lesson.unit.module
    for part, (points, _) in lesson.unit.parts.items():
        try:
            found = sum(check.points for check in checks_of(part))
        except ModuleNotFoundError as error:
            lesson.faults.append(f"autograder/suites/test_{module}.py cannot be read: {error}")
            return
        if found != points:
            lesson.faults.append(
                f"autograder/suites/test_{module}.py: the checks of {part} are worth {found} "
                f"points, lab/course.py says {points}"
            )


def _check_quiz(
    lesson: _Lesson, questions: Callable[[str], Sequence[Question]]
) -> Sequence[Question]:
    """The questions of the unit; each explains every answer."""
    unit = lesson.unit
    file = f"autograder/quizzes/{unit.module}.toml"
    try:
        asked = questions(unit.name)
    except FileNotFoundError:
        lesson.faults.append(f"{file} is missing")
        return ()
    except KeyError as error:
        lesson.faults.append(f"{file}: a question has no {error}")
        return ()
    except tomllib.TOMLDecodeError as error:
        lesson.faults.append(f"{file} is no TOML: {error}")
        return ()
    if len(asked) != unit.quiz:
        lesson.faults.append(f"{file}: {len(asked)} questions, lab/course.py says {unit.quiz}")
    if len({each.id for each in asked}) != len(asked):
        lesson.faults.append(f"{file}: two questions have one id")
    for each in asked:
        if each.kind not in ("choice", "shape", "number"):
            lesson.faults.append(f"{file}: {each.id} is of unknown kind {each.kind!r}")
            continue
        if each.kind == "choice" and each.right not in each.options:
            lesson.faults.append(f"{file}: {each.id}: {each.right!r} is none of its options")
        wanted = each.options if each.kind == "choice" else ("right", "default")
        if missing := [name for name in wanted if not each.why.get(name, "").strip()]:
            lesson.faults.append(f"{file}: {each.id} does not explain {', '.join(missing)}")
    return asked


def _overrides(texts: Path, unit: Unit, language: str) -> Mapping[str, str]:
    path = texts / language / f"{unit.module}.toml"
    return tomllib.loads(path.read_text("utf-8")) if language != "en" and path.exists() else {}


# Making a notebook


class _Notebook:
    """The cells of a source notebook, one after the other."""

    def __init__(self, lesson: _Lesson, asked: Sequence[Question], texts: Mapping[str, str]):
        self.lesson, self.unit, self.texts = lesson, lesson.unit, texts
        self.cells: list[dict[str, Any]] = []
        count = {"markdown": 0, "given": 0}
        for cell, following in zip(lesson.cells, [*lesson.cells[1:], None], strict=True):
            if cell.kind in count:
                count[cell.kind] += 1
            match cell.kind:
                case "markdown":
                    number = count["markdown"]
                    text = self.texts.get(f"{self.unit.module}-{number}") or self._text(cell)
                    if number == 1:
                        text = _below_heading(text, self._unit_line())
                    if following and following.kind == "solution":
                        text += f"\n\n{self._part_line(following.name)}"
                    self._add_text(str(number), text)
                    if number == 1:
                        self._add_locked("given-0", ADOPTING if self.unit != UNITS[0] else IMPORTS)
                case "given":
                    self._add_locked(f"given-{count['given']}", cell.source)
                case "solution":
                    self._add_solution(cell)
                case "check":
                    points = self.unit.parts[cell.name].points if cell.name in PARTS else 0
                    self._add_locked(f"check-{cell.name}", check_source(cell.name), points)
                case "see":
                    self._add_code(self._seen(cell))
                case "quiz":
                    self._add_quiz(asked)
        self._add_code("status()")
        self._add_code(f'submit("{self.unit.name}")')

    def _text(self, cell: Cell) -> str:
        try:
            text = ast.literal_eval(cell.source)
            if not isinstance(text, str):
                raise ValueError
        except (ValueError, SyntaxError):
            self.lesson.fault("a text is one string literal", cell)
            return ""
        if "\\" in cell.source and not cell.source.startswith(("r", "R")):
            self.lesson.fault('a text with a backslash is written r"""…"""', cell)
        return text.strip()

    def _unit_line(self) -> str:
        at = UNITS.index(self.unit)
        following = f"next: {UNITS[at + 1].name}" if at + 1 < len(UNITS) else "the last one"
        return self._line(
            "unit-line", number=at + 1, count=len(UNITS), minutes=self.unit.minutes,
            points=self.unit.points, next=following,
        )  # fmt: skip

    def _part_line(self, part: str) -> str:
        if part not in self.unit.parts:
            return ""
        points, minutes = self.unit.parts[part]
        return self._line("part-line", minutes=minutes, points=points, rule=policy.rule(part))

    def _line(self, name: str, **values: Any) -> str:
        return self.texts.get(name, LINES[name]).format(**values).strip()

    def _add_text(self, key: str, text: str) -> None:
        self._add("markdown", text, {"lab": {"text": f"{self.unit.module}-{key}"}})

    def _add_code(self, source: str, metadata: dict[str, Any] | None = None) -> None:
        self._add("code", source, metadata or {})

    def _add_locked(self, name: str, source: str, points: int | None = None) -> None:
        mark = _mark(name, grade=points is not None, locked=True)
        self._add_code(source, {"nbgrader": mark | ({} if points is None else {"points": points})})

    def _add_solution(self, cell: Cell) -> None:
        try:
            source = with_marks(cell.source)
        except (ValueError, SyntaxError) as error:
            self.lesson.fault(f"{cell.name}: {error}", cell)
            return
        self._add_code(source, {"nbgrader": _mark(cell.name, solution=True)})

    def _seen(self, cell: Cell) -> str:
        try:
            return shown(cell.source, _needed(cell))
        except (ValueError, SyntaxError) as error:
            self.lesson.fault(str(error), cell)
            return ""

    def _add_quiz(self, asked: Sequence[Question]) -> None:
        for number, each in enumerate(asked, 1):
            key = f"quiz-{each.id}"
            text = self.texts.get(f"{self.unit.module}-{key}") or _question(each)
            heading = "## Quiz\n\n" if number == 1 else ""
            self._add_text(key, f"{heading}**{number}.** {text}")
        lines = [f'    "{each.id}": None,  # {_form(each)}' for each in asked]
        source = "\n".join(["answers = {", *lines, "}"])
        self._add_code(source, {"lab": {"quiz": self.unit.name}})
        self._add_locked("check-quiz", quiz_source(self.unit.name), self.unit.quiz)

    def _add(self, kind: str, source: str, metadata: dict[str, Any]) -> None:
        name = metadata.get("nbgrader", {}).get("grade_id", f"{len(self.cells)} {source}")
        identity = hashlib.sha1(name.encode()).hexdigest()[:8]
        cell = {"cell_type": kind, "id": identity, "metadata": metadata, "source": source}
        self.cells.append(
            cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})
        )


def _mark(
    name: str, *, grade: bool = False, locked: bool = False, solution: bool = False
) -> dict[str, Any]:
    return {
        "grade": grade, "grade_id": name, "locked": locked, "schema_version": 3,
        "solution": solution, "task": False,
    }  # fmt: skip


def _below_heading(text: str, line: str) -> str:
    heading, _, rest = text.partition("\n")
    return f"{heading}\n\n{line}\n\n{rest.strip()}".strip()


def _question(question: Question) -> str:
    options = [
        f"- **{letter}**: {text.strip()}".replace("\n", "\n  ")
        for letter, text in question.options.items()
    ]
    return "\n\n".join(filter(None, [question.text, "\n".join(options)]))


def _form(question: Question) -> str:
    if question.kind == "choice":
        letters = [f'"{letter}"' for letter in question.options]
        return f"{', '.join(letters[:-1])} or {letters[-1]}"
    return "a tuple, such as (2, 3)" if question.kind == "shape" else "a number"


def _needed(cell: Cell) -> list[str]:
    """The parts that a see cell waits for."""
    return re.findall(r"[^\s,]+", cell.name) if cell.kind == "see" else []


def shown(source: str, needed: Sequence[str]) -> str:
    """What stands under `if __name__ == "__main__":`, under `with see(…):` or by itself."""
    guard = re.compile(r'^if __name__ == "__main__":$', re.M)
    if len(guard.findall(source)) != 1:
        raise ValueError('a see cell runs under one `if __name__ == "__main__":`')
    if needed:
        names = ", ".join(f'"{part}"' for part in needed)
        return guard.sub(f"with see({names}):", source)
    before, after = guard.split(source)
    body = re.sub(r"^    ", "", after.strip("\n"), flags=re.M)
    block = ast.parse(f"if True:{after}").body[0]
    assert isinstance(block, ast.If)
    if ast.dump(ast.parse(body)) != ast.dump(ast.Module(block.body, [])):
        raise ValueError("a string over several lines changes when this cell is dedented")
    return f"{before}{body}"


def with_marks(source: str) -> str:
    """A solution with nbgrader's marks around every body, which leaves signature and docstring.

    In a class `super().__init__()` stays too. Functions within functions vanish with the body.
    """
    lines = source.split("\n")
    for start, end in sorted(_bodies(ast.parse(source).body, lines), reverse=True):
        indent = re.match(r"\s*", next(line for line in lines[start:end] if line.strip()))
        assert indent is not None
        lines.insert(end, f"{indent[0]}### END SOLUTION")
        lines.insert(start, f"{indent[0]}### BEGIN SOLUTION")
    return "\n".join(lines)


def _bodies(
    statements: Sequence[ast.stmt], lines: list[str], inside: bool = False
) -> Iterator[tuple[int, int]]:
    """From which line up to which the bodies go, counted from 0."""
    for node in statements:
        if isinstance(node, ast.ClassDef):
            yield from _bodies(node.body, lines, inside=True)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if (body := _body(node, lines)) is not None:
                yield body
        elif not inside and not isinstance(node, (ast.Import, ast.ImportFrom)):
            raise ValueError(f"line {node.lineno} of the cell would stay in the stub")


def _body(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> tuple[int, int] | None:
    first = node.body[0]
    line = min([first.lineno, *(each.lineno for each in getattr(first, "decorator_list", []))])
    if lines[first.lineno - 1][: first.col_offset].strip():
        raise ValueError(f"the body of {node.name} stands on the line of its head")
    rest = node.body[ast.get_docstring(node) is not None :]
    start = first.end_lineno or 0
    if rest[:1] == [first]:  # no docstring: everything below the head
        start = line - 1
        while re.match(r"\s*(#|$)", lines[start - 1]):
            start -= 1
    if rest and ast.unparse(rest[0]).startswith("super().__init__("):
        start, rest = rest[0].end_lineno or 0, rest[1:]
    if not rest:
        return None
    while not lines[start].strip():
        start += 1
    end = rest[-1].end_lineno or 0
    for at in range(end, len(lines)):  # comments behind the last line belong to the body
        text = lines[at].lstrip()
        if text and not (text.startswith("#") and len(lines[at]) - len(text) > node.col_offset):
            break
        end = at + 1 if text else end
    return start, end
