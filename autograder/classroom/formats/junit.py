"""JUnit XML, for whatever shows test results: a suite for each notebook, a case for each check.

A check that is not met is a failure, a part that was not begun is skipped, and a notebook without
a grade is an error, never a failure. Elements and attributes are those of Jenkins' junit-10.xsd.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as xml

from autograder.classroom.results import Entry, Result
from lab.files import replacing

# What XML 1.0 cannot hold, not even escaped.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(entries: Sequence[Entry], to: Path) -> Iterator[str]:
    """Write the file; who handed in nothing is not in it."""
    root = xml.Element("testsuites", name="Attention Lab")
    for entry in entries:
        if entry.result is not None:
            root.append(_suite(entry, entry.result))
    totals = {name: sum(int(each.get(name, "0")) for each in root) for name in _COUNTED}
    for name in ("tests", "failures", "errors"):
        root.set(name, str(totals[name]))
    xml.indent(root)
    with replacing(to) as new:
        xml.ElementTree(root).write(new, encoding="utf-8", xml_declaration=True)
    counted = ", ".join(f"{count} {name}" for name, count in totals.items())
    yield f"wrote {to}: {len(root)} notebooks, {counted}"


_COUNTED = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}


def _suite(entry: Entry, result: Result) -> xml.Element:
    name = f"{entry.unit or result['notebook']}: {entry.name}"
    suite = xml.Element("testsuite", name=_text(name))
    if entry.graded:
        properties = xml.SubElement(suite, "properties")
        for key in ("points", "max_points"):
            xml.SubElement(properties, "property", name=key, value=str(result[key]))
        for part in entry.parts:
            suite.extend(_cases(entry, part))
    else:
        case = xml.SubElement(suite, "testcase", name="grading", classname=_text(entry.unit))
        xml.SubElement(case, "error", type=result["status"], message=_text(entry.why_not))
    for name, tag in _COUNTED.items():
        suite.set(name, str(len(list(suite.iter(tag)))))
    suite.set("time", f"{result.get('seconds') or 0:.3f}")
    return suite


def _cases(entry: Entry, part: Result) -> Iterator[xml.Element]:
    whole = {"name": part["part"], "passed": part["state"] == "passed", "message": part["message"]}
    for check in part.get("checks") or [whole]:
        names = {"name": _text(check["name"]), "classname": _text(f"{entry.unit}.{part['part']}")}
        case = xml.Element("testcase", names)
        if part["state"] == "not started":
            xml.SubElement(case, "skipped", message="not started")
        elif not check["passed"]:
            said = check["message"] or part["message"] or "not met"
            xml.SubElement(case, "failure", type=part["state"], message=_text(said))
        yield case


def _text(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
