"""What a class did, for its teacher: `lab report`, its page, and whoever else shows it.

    report = Report.of(entries)
    print(report.text())
    report.html()  # a whole page; report.body() for a page that is there already

Per unit a histogram of the points, where learners are stuck, the mistakes the class made, and the
hand-ins that resemble each other, side by side.
"""

from __future__ import annotations

import io
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autograder.classroom.results import Entry
from autograder.classroom.similar import Lines, Pair, Sources, given, pairs
from lab.course import Unit, unit_named
from lab.files import replacing

BARS = 10  # of a histogram, at most; each is as wide as some whole points
PAIRS = 20  # shown; the first are the most alike
STATES = ("passed", "partial", "failed", "crashed", "timeout", "forbidden", "not started")


@dataclass(frozen=True)
class Bar:
    """How many have points from `low` to below `high`; the last bar has its end too."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Stuck:
    """A part, and who got as far as that: each with the state and the points there."""

    part: str
    who: tuple[tuple[Entry, str, float], ...]
    max_points: float


@dataclass(frozen=True)
class Made:
    """A known mistake, what it means, and who made it."""

    part: str
    name: str
    message: str
    who: tuple[Entry, ...]


@dataclass(frozen=True)
class OfUnit:
    """A unit, and everybody's entry in it."""

    unit: Unit
    entries: tuple[Entry, ...]
    sources: Mapping[str, Sources] = field(default_factory=dict, repr=False)

    @cached_property
    def graded(self) -> list[Entry]:
        return [each for each in self.entries if each.graded]

    @cached_property
    def not_graded(self) -> list[Entry]:
        """Who handed something in that has no points."""
        return [each for each in self.entries if each.result is not None and not each.graded]

    @cached_property
    def absent(self) -> list[Entry]:
        return [each for each in self.entries if each.result is None]

    @cached_property
    def points(self) -> list[float]:
        return [each.points for each in self.graded if each.points is not None]

    @property
    def max_points(self) -> float:
        return max((each.max_points or 0 for each in self.entries), default=self.unit.points)

    @cached_property
    def histogram(self) -> list[Bar]:
        width = max(1, math.ceil(self.max_points / BARS))
        bars = max(1, math.ceil(self.max_points / width))
        places = Counter(min(int(points // width), bars - 1) for points in self.points)
        ends = [*(width * n for n in range(bars)), self.max_points]
        return [Bar(ends[n], ends[n + 1], places[n]) for n in range(bars)]

    @cached_property
    def parts(self) -> dict[str, Counter[str]]:
        """How many are in which state, part by part."""
        counts = {part: Counter[str]() for part in (*self.unit.parts, "quiz")}
        for entry in self.graded:
            for part in entry.parts:
                counts.setdefault(part["part"], Counter())[part["state"]] += 1
        return {part: states for part, states in counts.items() if states}

    @cached_property
    def stuck(self) -> list[Stuck]:
        """For each part who has everything before it, and not this one."""
        places: dict[str, list[tuple[Entry, str, float]]] = {}
        for entry in self.graded:
            found = {part["part"]: part for part in entry.parts}
            for name in self.unit.parts:
                if name in found and (state := found[name]["state"]) != "passed":
                    places.setdefault(name, []).append((entry, state, found[name]["points"]))
                    break
        return [
            Stuck(part, tuple(places[part]), self.unit.parts[part].points)
            for part in self.unit.parts
            if part in places
        ]

    @cached_property
    def mistakes(self) -> list[Made]:
        """The known mistakes of the class, the most frequent first."""
        who: dict[tuple[str, str], list[Entry]] = {}
        words: dict[tuple[str, str], str] = {}
        for entry in self.graded:
            for part in entry.parts:
                if part["mistake"]:
                    key = (part["part"], part["mistake"])
                    who.setdefault(key, []).append(entry)
                    words.setdefault(key, part["message"])
        made = [Made(*key, words[key], tuple(who[key])) for key in who]
        return sorted(made, key=lambda each: -len(each.who))

    @cached_property
    def similar(self) -> list[Pair]:
        """The hand-ins worth reading side by side; their names are the learners' ids."""
        return pairs(self.sources, given(self.unit.name)) if self.sources else []

    def said(self) -> str:
        """The unit in a sentence."""
        words = [f"{len(self.graded)} graded"]
        if self.points:
            median, mean = statistics.median(self.points), statistics.fmean(self.points)
            whole = sum(points >= self.max_points for points in self.points)
            words.append(f"median {median:g}, mean {mean:.1f} of {self.max_points:g} points")
            words.append(f"{whole} with all of them")
        words += [f"{len(self.not_graded)} not graded"] if self.not_graded else []
        words += [f"{len(self.absent)} handed in nothing"] if self.absent else []
        return "; ".join(words)


@dataclass(frozen=True)
class Report:
    """A class in its units; `lost` are hand-ins that belong to none."""

    units: tuple[OfUnit, ...]
    lost: tuple[Entry, ...] = ()

    @classmethod
    def of(
        cls, entries: Iterable[Entry], sources: Mapping[str, Mapping[str, Sources]] | None = None
    ) -> Report:
        """`sources` has the cells by unit and learner, as `sources_of` reads them; without them
        nothing is compared."""
        entries = list(entries)
        names = dict.fromkeys(each.unit for each in entries if each.unit)
        units = (
            OfUnit(
                unit_named(name),
                tuple(each for each in entries if each.unit == name),
                (sources or {}).get(name, {}),
            )
            for name in names
        )
        return cls(tuple(units), tuple(each for each in entries if not each.unit))

    def text(self, width: int | None = None, colour: bool = False) -> str:
        """For a terminal of this width."""
        console = Console(
            file=io.StringIO(),
            width=width or 100,
            force_terminal=colour,
            color_system="standard" if colour else None,
            highlight=False,
            markup=False,
            emoji=False,
        )
        for number, unit in enumerate(self.units):
            console.print("\n" * (number > 0), end="")
            _print_unit(console, unit)
        _print_lost(console, "belongs to no unit", self.lost)
        return console.file.getvalue()  # type: ignore[attr-defined]

    def html(self, title: str = "Attention Lab: report") -> str:
        """A page that needs nothing else: no script, no font, nothing to fetch."""
        return _PAGE.format(title=_html(title), style=STYLE, body=self.body(title))

    def body(self, title: str = "") -> str:
        """What the page shows, to be put into another one together with STYLE."""
        head = f"<h1>{_html(title)}</h1>" if title else ""
        lost = _reasons("Belongs to no unit", self.lost)
        return f"<div class='lab-report'>{head}{''.join(map(_section, self.units))}{lost}</div>"

    def write(self, path: Path, title: str = "Attention Lab: report") -> None:
        """The page as a file, whole or not there."""
        with replacing(path) as new:
            new.write_text(self.html(title), encoding="utf-8", errors="replace")


# What was handed in


def sources_of(entries: Iterable[Entry]) -> dict[str, dict[str, dict[str, str]]]:
    """The text of the parts' cells by unit and learner, of notebooks that are still there."""
    from autograder.submission import Submission

    archives: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, dict[str, str]]] = {}
    for entry in entries:
        name = entry.result["notebook"] if entry.result and entry.unit else ""
        if not name or (raw := _bytes(name, archives)) is None:
            continue
        submission = Submission.load(Path(name), unit_named(entry.unit), raw)
        cells = {part: submission.by_id.get(part) for part in unit_named(entry.unit).parts}
        texts = {part: cell.source for part, cell in cells.items() if cell and cell.kind == "code"}
        found.setdefault(entry.unit, {})[entry.learner.id] = texts
    return found


def _bytes(name: str, archives: dict[str, dict[str, Any]]) -> bytes | None:
    """A notebook's content; it may lie in a zip, as `lab grade` names those."""
    from autograder.oracle.finding import Refused, find

    path = Path(name)
    try:
        if path.is_file():
            return path.read_bytes()
        archive = next((each for each in path.parents if each.suffix.lower() == ".zip"), None)
        while archive is not None and not archive.is_file():  # a zip in a zip
            archive = next((x for x in archive.parents if x.suffix.lower() == ".zip"), None)
        if archive is None:
            return None
        if str(archive) not in archives:
            archives[str(archive)] = {each.name: each for each in find([archive])}
        handed_in = archives[str(archive)].get(name)
        return handed_in.read() if handed_in else None
    except (OSError, Refused):
        return None


# In a terminal


def _print_unit(console: Console, unit: OfUnit) -> None:
    console.print(Text(f"{unit.unit.name}  {unit.unit.title}", style="bold"))
    console.print(Text(unit.said()))
    if unit.points:
        _print_histogram(console, unit.histogram)
    if unit.parts:
        shown = [state for state in STATES if any(states[state] for states in unit.parts.values())]
        table = _table("part", *shown, right=range(1, len(shown) + 1))
        for part, states in unit.parts.items():
            table.add_row(part, *(str(states[state] or "") for state in shown))
        console.print(table)
    if unit.stuck:
        console.print(Text("\nStuck, with everything before it passed", style="bold"))
        table = _table("part", "learners", "who", right=[1])
        for each in unit.stuck:
            names = (f"{plain(entry.name)}: {state}" for entry, state, _ in each.who)
            table.add_row(each.part, str(len(each.who)), Text(", ".join(names)))
        console.print(table)
    if unit.mistakes:
        console.print(Text("\nMistakes by name", style="bold"))
        table = _table("part", "mistake", "learners", "", right=[2])
        most = len(unit.mistakes[0].who)
        for made in unit.mistakes:
            count = len(made.who)
            table.add_row(made.part, Text(plain(made.name)), str(count), _bar(count, most, 12))
        console.print(table)
    if unit.similar:
        console.print(Text("\nSimilar: read them side by side (lab report --html)", style="bold"))
        names = {each.learner.id: plain(each.name) for each in unit.entries}
        table = _table("score", "learners", "why", right=[0])
        for pair in unit.similar[:PAIRS]:
            both = f"{names.get(pair.one, pair.one)}\n{names.get(pair.other, pair.other)}"
            table.add_row(f"{pair.score:.0%}", Text(both), Text(pair.why()))
        console.print(table)
        if (more := len(unit.similar) - PAIRS) > 0:
            console.print(Text(f"and {more} more pairs"))
    _print_lost(console, "not graded", unit.not_graded)
    if unit.absent:
        console.print(Text(f"\nnothing from {', '.join(plain(e.name) for e in unit.absent)}"))


def _print_histogram(console: Console, bars: Sequence[Bar]) -> None:
    most = max(bar.count for bar in bars)
    table = _table("points", "learners", "", right=[0, 1])
    for bar in bars:
        table.add_row(_range(bar, bars), str(bar.count or ""), _bar(bar.count, most, 40))
    console.print(table)


def _print_lost(console: Console, what: str, entries: Sequence[Entry]) -> None:
    for entry in entries:
        console.print(Text(f"{what}: {plain(entry.name)}: {plain(entry.why_not)}", "red"))


def _table(*columns: str, right: Iterable[int] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        justify = "right" if number in right else "left"
        table.add_column(name, justify=justify, overflow="fold")
    return table


def _bar(count: float, most: float, width: int) -> str:
    """Blocks, in eighths of a character."""
    eighths = round(count / most * width * 8) if most else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _range(bar: Bar, bars: Sequence[Bar]) -> str:
    last = bar is bars[-1]
    return f"{bar.low:g} to {bar.high:g}" if last else f"{bar.low:g} to <{bar.high:g}"


def plain(text: str, kept: str = "") -> str:
    """Text that cannot steer a terminal, nor turn what follows around: without control characters,
    but for those kept and the joiners of Persian, Hindi and emoji."""
    kept += "\u200c\u200d"
    return "".join(each if each.isprintable() or each in kept else " " for each in text)


# As a page

STYLE = """
.lab-report { color-scheme: light dark; --ink: #1d2129; --soft: #667085; --line: #d9dde3;
  --bar: #4c7fd6; --hit: #fff1c9; --paper: #fff; --code: #f6f7f9;
  color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, "Noto Sans", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC",
  sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
.lab-report h1 { font-size: 1.5rem; } .lab-report h2 { margin: 2.5rem 0 0; font-size: 1.25rem; }
.lab-report h3 { margin: 1.5rem 0 .3rem; font-size: 1rem; }
.lab-report table { border-collapse: collapse; width: 100%; }
.lab-report th, .lab-report td { text-align: left; vertical-align: top;
  padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); }
.lab-report th { color: var(--soft); font-weight: normal; }
.lab-report .n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums;
  width: 1%; } .lab-report .chart { width: 45%; } .lab-report .soft { color: var(--soft); }
.lab-report .bar { display: block; height: .9em; margin-top: .3em; min-width: 1px;
  background: var(--bar); border-radius: 2px; print-color-adjust: exact; }
.lab-report details { margin: .4rem 0; } .lab-report summary { cursor: pointer; }
.lab-report .two { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; }
.lab-report pre { background: var(--code); margin: .2rem 0; padding: .5rem; overflow-x: auto;
  font: 12px/1.45 ui-monospace, "Cascadia Mono", Menlo, monospace; white-space: pre-wrap; }
.lab-report mark { background: var(--hit); color: inherit; display: block;
  print-color-adjust: exact; }
@media (prefers-color-scheme: dark) { .lab-report { --ink: #e6e8eb; --soft: #98a2b3;
  --line: #363b44; --bar: #6d9bea; --hit: #4a4018; --paper: #16181d; --code: #1f2229; } }
@media print { .lab-report { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff;
  --code: #fff; --hit: #fff1c9; max-width: none; padding: 0; }
  .lab-report section, .lab-report tr { break-inside: avoid; }
  .lab-report details::details-content { content-visibility: visible; display: block; } }
@media (max-width: 40rem) { .lab-report .two { grid-template-columns: 1fr; } }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}
@media (prefers-color-scheme: dark) {{ body {{ background: #16181d; }} }}
@media print {{ body {{ background: #fff; }} }}</style>
</head>
<body>{body}</body>
</html>
"""


def _html(text: str) -> str:
    return escape(plain(text, kept="\n\t"))


def _section(unit: OfUnit) -> str:
    said = [f"<h2>{_html(unit.unit.name)} {_html(unit.unit.title)}</h2><p>{_html(unit.said())}</p>"]
    if unit.points:
        most = max(bar.count for bar in unit.histogram)
        rows = [
            [_html(_range(bar, unit.histogram)), str(bar.count or ""), _width(bar.count, most)]
            for bar in unit.histogram
        ]
        said.append(_html_table("Points", ["points", "learners", ""], rows, {0, 1}))
    if unit.parts:
        shown = [state for state in STATES if any(states[state] for states in unit.parts.values())]
        rows = [
            [_html(part), *(str(states[state] or "") for state in shown)]
            for part, states in unit.parts.items()
        ]
        right = set(range(1, len(shown) + 1))
        said.append(_html_table("Parts", ["part", *shown], rows, right))
    if unit.stuck:
        rows = [
            [_html(each.part), str(len(each.who)), "; ".join(_where(each))] for each in unit.stuck
        ]
        title = "Stuck, with everything before it passed"
        said.append(_html_table(title, ["part", "learners", "who"], rows, {1}))
    if unit.mistakes:
        most = len(unit.mistakes[0].who)
        rows = [
            [
                _html(made.part),
                f"<details><summary>{_html(made.name)}</summary>"
                f"<p class='soft'>{_html(made.message)}</p>"
                f"<p>{', '.join(_html(each.name) for each in made.who)}</p></details>",
                str(len(made.who)),
                _width(len(made.who), most),
            ]
            for made in unit.mistakes
        ]
        said.append(_html_table("Mistakes by name", ["part", "mistake", "learners", ""], rows, {2}))
    if unit.similar:
        more = len(unit.similar) - PAIRS
        said.append(
            "<h3>Similar hand-ins</h3><p class='soft'>Structure is compared, not text; what was "
            "handed out, known answers, and what many wrote do not count. A score is a reason to "
            "read the two side by side, and no more than that.</p>"
        )
        said += [_side_by_side(unit, pair) for pair in unit.similar[:PAIRS]]
        said += [f"<p>and {more} more pairs</p>"] if more > 0 else []
    said.append(_reasons("Not graded", unit.not_graded))
    if unit.absent:
        names = ", ".join(_html(each.name) for each in unit.absent)
        said.append(f"<h3>Handed in nothing</h3><p>{names}</p>")
    return f"<section>{''.join(said)}</section>"


def _html_table(title: str, columns: list[str], rows: list[list[str]], right: set[int]) -> str:
    """A table; its cells are HTML already."""

    def row(cells: Sequence[str], tag: str) -> str:
        kinds = ["n" if at in right else "" if name else "chart" for at, name in enumerate(columns)]
        marked = (
            f"<{tag} class='{kind}'>{cell}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)
        )
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    head = row([_html(name) for name in columns], "th")
    return f"<h3>{_html(title)}</h3><table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _width(count: float, most: float) -> str:
    width = 100 * count / most if most else 0
    return f"<span class='bar' style='width:{width:.1f}%'></span>" if count else ""


def _where(stuck: Stuck) -> list[str]:
    return [
        f"{_html(entry.name)} <span class='soft'>{_html(state)}, "
        f"{points:g} of {stuck.max_points:g}</span>"
        for entry, state, points in stuck.who
    ]


def _reasons(title: str, entries: Sequence[Entry]) -> str:
    if not entries:
        return ""
    rows = [[_html(each.name), _html(each.why_not)] for each in entries]
    return _html_table(title, ["learner", "why"], rows, set())


def _side_by_side(unit: OfUnit, pair: Pair) -> str:
    names = {each.learner.id: each.name for each in unit.entries}
    one, other = (_html(names.get(name, name)) for name in (pair.one, pair.other))
    parts = []
    for part, lines in pair.places.items():
        texts = (unit.sources[name].get(part, "") for name in (pair.one, pair.other))
        code = "".join(f"<pre>{marked(*each)}</pre>" for each in zip(texts, lines, strict=True))
        parts.append(f"<p>{_html(part)}</p><div class='two'>{code}</div>")
    return (
        f"<details><summary>{pair.score:.0%} {one} and {other}</summary>"
        f"<p class='soft'>{_html(pair.why())}</p>"
        f"<div class='two'><b>{one}</b><b>{other}</b></div>{''.join(parts)}</details>"
    )


def marked(text: str, places: Iterable[Lines]) -> str:
    """A cell as HTML, the lines in these places marked."""
    hit = {line for first, last in places for line in range(first, last + 1)}
    lines = re.split(r"\r\n|\r|\n", text)
    return "".join(
        f"<mark>{_html(line)}\n</mark>" if number in hit else f"{_html(line)}\n"
        for number, line in enumerate(lines, 1)
    )
