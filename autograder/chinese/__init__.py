"""What the autograder says, in Simplified Chinese: each catalogue here has the English sentence as
its key.

Suites, mistakes, receipts and reports speak English, in notebooks and in files. The page puts what
it shows into its visitor's language, at the last moment:

    translated("line 7: x = y")                         # "第 7 行：x = y"
    spoken({"late": "2 h 5 min"}, "zh-CN")              # {"late": "2 小时 5 分钟"}

In a key `{name}` stands for anything, and is put into Chinese where that is a sentence of the
catalogue itself; `{NAME}` stands for such a sentence only, `{n}`, one letter, for a number. What
nobody has translated stays English.
"""

from __future__ import annotations

import functools
import html
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autograder.sealed import unsealed

CATALOGUES = ("course", "suites", "mistakes", "quizzes", "errors")  # the general last
# What stands under these names in the page's values is sentences; under others it is data.
SENTENCES = {
    "headline", "message", "where", "hint", "checks", "words", "problems",
    "said", "reason", "receipt", "late", "fault", "title",
}  # fmt: skip
NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?(e-?\d+)?%?")
LONGEST = 1_000  # characters of a line: a learner may have had a hand in it

Texts = Mapping[str, str]


def spoken(value: Any, language: object, sentence: bool = False) -> Any:
    """The same JSON with its sentences in the visitor's language."""
    if language != "zh-CN":
        return value
    if isinstance(value, dict):
        return {name: spoken(each, language, name in SENTENCES) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [spoken(each, language, sentence) for each in value]
    return translated(value) if sentence and isinstance(value, str) else value


def translated(text: str) -> str:
    """Line by line."""
    return "\n".join(_sentence(line) or line for line in text.split("\n"))


def page(text: str) -> str:
    """A report (see classroom.report): what its HTML shows, except of learners' code."""

    def put(found: re.Match[str]) -> str:
        shown = html.unescape(found[2])
        return found[1] + html.escape(_report_words().get(shown) or translated(shown))

    head, mark, body = text.replace('lang="en"', 'lang="zh-CN"', 1).partition("<body>")
    pieces = re.split(r"(<pre>.*?</pre>)", body, flags=re.DOTALL)
    pieces[::2] = [re.sub(r"(>)([^<>]+)(?=<)", put, each) for each in pieces[::2]]
    return head + mark + "".join(pieces)


@functools.cache
def catalogue(name: str) -> Texts:
    """The sentences of NAME.toml, whatever its tables; of mistakes, a bundle has them sealed."""
    file = f"chinese/{name}.toml"
    path = Path(__file__).with_name(f"{name}.toml")
    text = unsealed()[file] if file in unsealed() else path.read_text("utf-8")
    return dict(_flat(tomllib.loads(text)))


def _flat(table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, each in table.items():
        if isinstance(each, dict):
            yield from _flat(each)
        else:
            yield key, each


@functools.cache
def _report_words() -> Texts:
    """Single words, which mean this as headings of a report only."""
    return catalogue("report")


@functools.cache
def _all() -> tuple[Texts, list[tuple[list[str], str]]]:
    """Whole sentences; and those with values, as what stands around and in them, by turns."""
    whole: dict[str, str] = {}
    templates = []
    for name in CATALOGUES:
        for english, chinese in catalogue(name).items():
            pieces = re.split(r"\{(\w+)\}", english)
            if len(pieces) > 1:
                templates.append((pieces, chinese))
            else:
                whole[english] = whole[english[0].upper() + english[1:]] = chinese
    return whole, templates


@functools.lru_cache(maxsize=10_000)
def _sentence(text: str) -> str | None:
    """None where nobody has translated it."""
    whole, templates = _all()
    if text in whole or len(text) > LONGEST:
        return whole.get(text)
    for pieces, chinese in templates:
        if text.startswith(pieces[0]) and text.endswith(pieces[-1]):
            for values in _values(pieces, text):
                return re.sub(r"\{(\w+)\}", lambda name, of=values: of[name[1]], chinese)
    return None


def _values(pieces: list[str], text: str) -> Iterator[dict[str, str]]:
    """What stands for each name, in Chinese; `pieces` are text, name, text, …"""
    before, name, after, *rest = pieces if len(pieces) > 1 else (*pieces, "", "")
    if not name:
        if text == before:
            yield {}
        return
    text = text.removeprefix(before)
    for end in _ends(text, after, last=not rest, every=name.isupper()):
        found = text[:end]
        if len(name) == 1:
            value = found if NUMBER.fullmatch(found) else None
        else:
            value = _sentence(found) or (None if name.isupper() else found)
        if value is not None:
            for others in _values([after, *rest], text[end:]):
                yield {name: value, **others}


def _ends(text: str, after: str, last: bool, every: bool) -> Iterator[int]:
    """Where a value may end: before what comes after it, the first time or every time."""
    if last:
        if len(text) > len(after):
            yield len(text) - len(after)
        return
    end = text.find(after, 1)
    while end > 0:
        yield end
        end = text.find(after, end + 1) if every else -1
