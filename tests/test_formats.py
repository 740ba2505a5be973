"""Exports: each is read back the way its importer reads it, by the rules of that importer."""

import csv
import io
import json
import math
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import a_class as a
import a_course
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder.classroom import formats
from autograder.classroom.formats import gradescope, tables
from autograder.classroom.formats.tables import as_was, harmless, number
from autograder.classroom.results import Entry, entries, finder, read
from autograder.classroom.teaching import Learner
from autograder.cli import main

ROOT = Path(__file__).parents[1]
UNGRADED = {"bad", "down", "gone"}
GRADED = {
    each.id: 8.0 if each.id == "half" else 32.0 for each in a.LEARNERS if each.id not in UNGRADED
}


def export(format, to, found=None, **more):
    return list(formats.export(format, found or a.everybody(), to, **more))


def only(student):
    return [each for each in a.everybody() if each.learner.id == student]


# CSV


@given(st.text())
def test_text_comes_back_as_it_was(text):
    """What is made harmless for a spreadsheet is exact again, whatever it was."""
    assert as_was(harmless(text)) == text


@given(
    st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1), min_size=1)
)
def test_table_comes_back_as_it_was(tmp_path_factory, rows):
    """Commas, quotes, line ends and formulas survive a file."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    tables.write(path, rows)

    with path.open(encoding="utf-8", newline="") as file:
        assert [[as_was(cell) for cell in row] for row in csv.reader(file)] == rows


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "＝1",
        "'=1",
        "-",
        "=cmd|' /C calc'!A0",
    ],
)
def test_formula_becomes_text(text):
    """What a spreadsheet would run, or would show without its own quote, gets a quote before it."""
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize(
    "text",
    ["", "Ada", "O'Neil", "'n Sync", "a=1", "-5", "+5", "-0,5", "007", "张伟", " =1", 5, 7.5, None],
)
def test_other_cells_stay(text):
    """A number, or a text that is no formula, is left alone."""
    assert harmless(text) == text


@pytest.mark.parametrize(
    "points, text",
    [
        (0.0, "0"),
        (6.0, "6"),
        (7.5, "7.5"),
        (1 / 3, "0.33"),
        (99_999.99, "99999.99"),
        (100.0, "100"),
        (None, ""),
    ],
)
def test_number_is_short_and_never_in_powers_of_ten(points, text):
    """Two decimals at most, as the gradebooks keep them."""
    assert number(points) == text


# nbgrader


def test_nbgrader_table(tmp_path):
    """nbgrader's eleven columns and a note; names as they were; no score without a grade."""
    said = export("nbgrader", tmp_path / "grades.csv")
    with (tmp_path / "grades.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))

    assert list(rows[0]) == (
        "assignment,duedate,timestamp,student_id,last_name,first_name,email,raw_score,"
        "late_submission_penalty,score,max_score,note"
    ).split(",")
    people = [
        Learner(*(as_was(row[x]) for x in ("student_id", "first_name", "last_name", "email")))
        for row in rows
    ]
    assert people == a.LEARNERS
    assert {row["student_id"]: float(row["score"]) for row in rows if row["score"]} == GRADED
    notes = {row["student_id"]: row["note"] for row in rows if not row["score"]}
    assert notes == {
        "bad": "bad.ipynb is cut off",
        "down": "fault of the machine: no process",
        "gone": "not handed in",
    }
    assert (
        "  no grade for Machine Down (down), 01-attention: fault of the machine: no process" in said
    )


def test_penalty_is_taken_off(tmp_path):
    """The score is what remains of the raw score, and never below 0."""
    late = Entry(Learner("ada"), a.UNIT.name, 32, a.half("ada"), penalty=4.0, notes=("late",))
    lost = Entry(Learner("bob"), a.UNIT.name, 32, a.half("bob"), penalty=99.0)
    export("nbgrader", tmp_path / "grades.csv", [late, lost])

    rows = list(csv.DictReader((tmp_path / "grades.csv").read_text("utf-8").splitlines()))
    assert [(row["raw_score"], row["score"], row["note"]) for row in rows] == [
        ("8.0", "4.0", "late"),
        ("8.0", "0.0", ""),
    ]


# Canvas


class Canvas:
    """Its importer's rules: lib/gradebook_importer.rb of instructure/canvas-lms."""

    def __init__(self, path, students, assignments):
        text = path.read_text("utf-8-sig")
        lines = text.splitlines()[:3]
        counts = {x: {len(next(csv.reader([line], delimiter=x))) for line in lines} for x in ";,"}
        fields = {x: min(found) if len(found) == 1 else 0 for x, found in counts.items()}
        semicolon = fields[";"] > fields[","]
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=";" if semicolon else ","))
        header = rows[0]
        assert len(header) > 3
        if header[0] == "LastName":
            assert header[1] == "FirstName" and "ID" in header[2]
            columns = 4
        else:
            assert "Student" in header[0] and "ID" in header[1]
            columns = 3
        at = columns - 1
        self.by_sis = self.by_login = None
        if re.search(r"SIS\s+Login\s+ID", header[at]):
            self.by_login, columns = at, columns + 1
        elif re.search(r"SIS\s+User\s+ID", header[at]):
            assert re.search(r"SIS\s+Login\s+ID", header[at + 1])
            self.by_sis, self.by_login = at, at + 1
            columns += 2 + ("Integration ID" in header[at + 2])
            columns += "Root Account" in header[columns - 1]
        assert "Section" in header[columns - 1]
        self.titles = [
            title
            for title in header[columns:]
            if not re.search("(Current|Final|Override) (Score|Points|Grade|Status)", title)
        ]
        places = {title: header.index(title) for title in self.titles}
        self.new = []
        for title in self.titles:
            number = re.fullmatch(r"(.*)\((\d+)\)\s*", title)
            if not (number and int(number[2]) in assignments) and title not in assignments.values():
                self.new.append(title)
        self.possible, self.grades, self.strangers = {}, {}, []
        for row in rows[1:]:
            if "Points Possible" in row[0]:
                self.possible = {title: row[at] for title, at in places.items()}
            elif not all(
                re.fullmatch(r"(?i)\s*(Muted|Manual Posting.*)?\s*", cell) for cell in row
            ):
                who = self._student(row, students, header[0] == "LastName")
                self.grades[who] = {title: self._number(row[at]) for title, at in places.items()}

    def _student(self, row, students, two):
        for at, key in ((1 + two, "id"), (self.by_sis, "sis"), (self.by_login, "login")):
            if at is not None and row[at]:
                for student in students:
                    if student.get(key) == row[at]:
                        return student["login"]
        name = f"{row[1]} {row[0]}".strip() if two else row[0]
        for student in students:
            if name in (student["name"], student["sortable"]):
                return student["login"]
        self.strangers.append(name)
        return name

    @staticmethod
    def _number(cell):
        """decimal_comma_to_period"""
        if not re.fullmatch(r"-?[0-9.,]+%?", cell):
            return cell
        *whole, last = re.split("[,.]", cell)
        return ".".join(["".join(whole), last]) if whole else last


STUDENTS = [
    {
        "id": str(100 + n),
        "login": each.id,
        "sis": f"S{n:03}",
        "name": f"{each.first_name} {each.last_name}",
        "sortable": f"{each.last_name}, {each.first_name}",
    }
    for n, each in enumerate(a.LEARNERS)
]
ASSIGNMENTS = {77: "01-attention", 78: "Essay"}


def points_of(canvas, title):
    return {who: float(grades[title]) for who, grades in canvas.grades.items() if grades[title]}


def test_canvas_new_sheet(tmp_path):
    """Canvas finds everybody by login, and who has no grade has no row to clear one."""
    export("canvas", tmp_path / "canvas.csv")
    canvas = Canvas(tmp_path / "canvas.csv", STUDENTS, ASSIGNMENTS)

    assert canvas.strangers == [] and canvas.new == []
    assert (
        points_of(canvas, "01-attention")
        == GRADED
        == {who: float(x["01-attention"]) for who, x in canvas.grades.items()}
    )
    assert canvas.possible == {"01-attention": "32"}


def canvas_sheet(
    path, delimiter=",", ending="\r\n", mark="", two=False, possible="32.00", decimal="."
):
    """As Canvas' exporter writes it; only SIS ids here and there."""
    names = ["LastName", "FirstName"] if two else ["Student"]
    head = [*names, "ID", "SIS User ID", "SIS Login ID", "Section"]
    head += ["Notes", "01-attention (77)", "Essay (78)", "Final Score"]
    blank = [""] * (len(names) + 3)
    rows = [
        head,
        ["", *blank, "", "Manual Posting", "", ""],
        ["    Points Possible", *blank, "", possible, f"10{decimal}00", "(read only)"],
    ]
    for each, student in zip(a.LEARNERS, STUDENTS, strict=True):
        name = [each.last_name, each.first_name] if two else [student["sortable"]]
        rows.append(
            [
                *name,
                student["id"],
                student["sis"],
                each.id,
                "01",
                "note, =1",
                f"3{decimal}5",
                f"9{decimal}25",
                "88",
            ]
        )
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(mark)
        csv.writer(file, delimiter=delimiter, lineterminator=ending).writerows(rows)
    return path


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"delimiter": ";", "decimal": ","},
        {"mark": "\ufeff", "ending": "\n"},
        {"two": True},
    ],
)
def test_canvas_sheet_is_filled_in(tmp_path, variant):
    """Only the grades change, of those who have one; everything else stays, byte for byte."""
    sheet = canvas_sheet(tmp_path / "sheet.csv", **variant)
    said = export("canvas", tmp_path / "out.csv", sheet=sheet)
    canvas = Canvas(tmp_path / "out.csv", STUDENTS, ASSIGNMENTS)
    delimiter = variant.get("delimiter", ",")
    before, after = (
        list(csv.reader(io.StringIO(p.read_text("utf-8-sig"), newline=""), delimiter=delimiter))
        for p in (sheet, tmp_path / "out.csv")
    )

    changed = {
        (n, before[0][m])
        for n, row in enumerate(before)
        for m, x in enumerate(row)
        if after[n][m] != x
    }
    assert changed == {
        (n + 3, "01-attention (77)") for n, x in enumerate(a.LEARNERS) if x.id in GRADED
    }
    at = before[0].index("01-attention (77)")
    assert {
        x.id: float(row[at].replace(",", ".")) for x, row in zip(a.LEARNERS, after[3:], strict=True)
    } == (GRADED | dict.fromkeys(UNGRADED, 3.5))
    assert "01-attention (77): 9 of 12 rows filled in" in said
    assert canvas.strangers == []
    assert points_of(canvas, "01-attention (77)") == GRADED | dict.fromkeys(UNGRADED, 3.5)
    raw = (tmp_path / "out.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf") == ("mark" in variant)
    assert raw.endswith(b"\r\n") == ("ending" not in variant)


def test_canvas_scales_to_its_own_points(tmp_path):
    """Where the assignment counts 100 in Canvas, 8 of 32 are 25 there, and it is said."""
    sheet = canvas_sheet(tmp_path / "sheet.csv", possible="100.00")
    said = export("canvas", tmp_path / "out.csv", sheet=sheet)

    grades = points_of(Canvas(tmp_path / "out.csv", STUDENTS, ASSIGNMENTS), "01-attention (77)")
    assert grades["half"] == 25 and grades["007"] == 100
    assert "  32 points here are 100 there: scaled" in said


def test_canvas_learner_who_is_not_in_the_sheet(tmp_path):
    """Nobody is lost without a word."""
    sheet = canvas_sheet(tmp_path / "sheet.csv")
    found = entries([*a.results(), a.everything("stranger")], a.LEARNERS)

    assert "  not in the sheet: stranger" in export(
        "canvas", tmp_path / "o.csv", found, sheet=sheet
    )


def test_canvas_column_must_be_clear(tmp_path):
    """Two columns that could be meant, or none of that name, is a question and no guess."""
    sheet = canvas_sheet(tmp_path / "sheet.csv")
    with pytest.raises(
        ValueError, match="0 columns for Exam: name one with --column; there is Notes"
    ):
        export("canvas", tmp_path / "out.csv", sheet=sheet, column="Exam")
    export("canvas", tmp_path / "out.csv", sheet=sheet, column="Essay")

    canvas = Canvas(tmp_path / "out.csv", STUDENTS, ASSIGNMENTS)
    assert canvas.grades["007"]["Essay (78)"] == "10"
    sheet.write_text(sheet.read_text("utf-8").replace("Essay (78)", "01-attention (79)"), "utf-8")
    with pytest.raises(ValueError, match="2 columns for 01-attention"):
        export("canvas", tmp_path / "out.csv", sheet=sheet)


def test_canvas_unit_without_a_column_gets_one(tmp_path):
    """A unit that Canvas does not know yet becomes a column, and Canvas offers to create it."""
    sheet = canvas_sheet(tmp_path / "sheet.csv")
    sheet.write_text(sheet.read_text("utf-8").replace("01-attention (77)", "Exam (77)"), "utf-8")
    export("canvas", tmp_path / "out.csv", sheet=sheet)

    canvas = Canvas(tmp_path / "out.csv", STUDENTS, {77: "Exam", 78: "Essay"})
    assert canvas.new == ["Notes", "01-attention"]  # Notes is a custom column, known to Canvas
    assert points_of(canvas, "01-attention") == GRADED
    assert canvas.possible["01-attention"] == "32"


def test_canvas_download_finds_its_learner(tmp_path):
    """A file from Canvas' “Download Submissions” holds the number that the sheet has."""
    result = a.half("x") | {"notebook": "zips/bondjamesj_LATE_100_5555_attention-1.ipynb"}
    found = entries([result])
    export("canvas", tmp_path / "out.csv", found, sheet=canvas_sheet(tmp_path / "sheet.csv"))

    canvas = Canvas(tmp_path / "out.csv", STUDENTS, ASSIGNMENTS)
    assert canvas.grades["007"]["01-attention (77)"] == "8"


# Moodle

WORDS = {  # Identifier, Participant, Grade, Maximum, Last modified (grade), Feedback comments
    "en": "Identifier|Participant |Grade|Maximum Grade|Last modified (grade)|Feedback comments",
    "de": "ID|Teilnehmer/in|Bewertung|Bestwertung|Geändert (Bewertung)|Feedback als Kommentar",
    "zh": "标识符|参与者|成绩|最高分|最后修改 (成绩)|反馈评论",
    "xx": "Ynwr|Gyfra|Gradd|Uchafswm|Newid|Adborth",  # no language that we know
}


def moodle_sheet(path, language="en", maximum="32.00", address="Email address"):
    identifier, participant, grade, most, modified, comments = WORDS[language].split("|")
    head = [identifier, "Full name", address, "Status", "Group", grade, most, "Can change",
            "Last modified (submission)", "Online text", modified, comments]  # fmt: skip
    rows = [head]
    for n, each in enumerate(a.LEARNERS):
        who = [f"{participant}{5000 + n}", f"{each.first_name} {each.last_name}"]
        email = each.email if address else ""
        submitted = ["Sunday, 1 November 2026, 9:00 PM", '<p>a,\n"b"</p>']
        rows.append([*who, email, "Submitted", "A, B", "", maximum, "Yes", *submitted, "-", ""])
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def moodle_import(path, language):
    """Its importer's rules: importgradeslib.php of mod_assign's offline feedback."""
    identifier, participant, grade, _, modified, comments = WORDS[language].split("|")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    header = rows[0]
    places = [header.index(name) for name in (identifier, grade, modified, comments)]
    found = {}
    for row in rows[1:]:
        assert len(row) == len(header)
        who, grade, modified, comment = (row[at] for at in places)
        found[a.LEARNERS[int(who[len(participant) :]) - 5000].id] = (grade, modified, comment)
    return found


@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_moodle_worksheet_is_filled_in(tmp_path, language):
    """Grades and comments are in their columns, in any language; all other cells are as before."""
    sheet = moodle_sheet(tmp_path / "sheet.csv", language)
    said = export("moodle", tmp_path / "out.csv", sheet=sheet)
    found = moodle_import(tmp_path / "out.csv", language)

    assert {who: float(grade) for who, (grade, _, _) in found.items() if grade} == GRADED
    assert {modified for _, modified, _ in found.values()} == {"-"}
    assert found["half"][2].startswith(
        "softmax: 4 of 6. exp overflows: é 中文\nsoft_lookup: 4 of 4\n"
    )
    assert all(found[who][0] == found[who][2] == "" for who in UNGRADED)
    assert f"wrote {tmp_path / 'out.csv'}: 9 of 12 rows filled in" in said
    before, after = (
        list(csv.reader(io.StringIO(p.read_text("utf-8"), newline="")))
        for p in (sheet, tmp_path / "out.csv")
    )
    changed = {
        m for old, new in zip(before, after, strict=True) for m, x in enumerate(old) if new[m] != x
    }
    assert changed == {5, 11}


def test_moodle_of_an_unknown_language(tmp_path):
    """Where the words are foreign, the grades stand before the maximum; comments stay empty."""
    sheet = moodle_sheet(tmp_path / "sheet.csv", "xx")
    said = export("moodle", tmp_path / "out.csv", sheet=sheet)

    found = moodle_import(tmp_path / "out.csv", "xx")
    assert {who: float(grade) for who, (grade, _, _) in found.items() if grade} == GRADED
    assert "  no column for comments: only grades are filled in" in said


def test_moodle_scales_to_its_maximum(tmp_path):
    """A maximum of 100, with a decimal comma: 8 of 32 are 25 there."""
    sheet = moodle_sheet(tmp_path / "sheet.csv", "de", maximum="100,00")
    said = export("moodle", tmp_path / "out.csv", sheet=sheet)

    assert moodle_import(tmp_path / "out.csv", "de")["half"][0] == "25"
    assert "  32 points here are 100 there: scaled" in said


def test_moodle_download_finds_its_learner(tmp_path):
    """The folder of a downloaded hand-in holds the participant's number; no address is needed."""
    name = "Wei Zhang_5001_assignsubmission_file_/attention.ipynb"
    found = entries([a.half("x") | {"notebook": f"all.zip/{name}"}])
    export(
        "moodle",
        tmp_path / "out.csv",
        found,
        sheet=moodle_sheet(tmp_path / "sheet.csv", address=""),
    )

    assert moodle_import(tmp_path / "out.csv", "en")["zhang"][0] == "8"


def test_moodle_namesakes_are_not_guessed(tmp_path):
    """Two learners of one name, and nothing else to tell them by: nobody gets the other's grade."""
    twins = [Learner("x1", "Half", "Written"), Learner("x2", "Half", "Written")]
    found = entries([a.half("x1"), a.everything("x2")], twins)
    said = export(
        "moodle", tmp_path / "out.csv", found, sheet=moodle_sheet(tmp_path / "s.csv", address="")
    )

    assert moodle_import(tmp_path / "out.csv", "en")["half"][0] == ""
    assert "  Half Written: 2 learners could be meant; left as it was" in said


def test_moodle_group_is_nobody_s_id(tmp_path):
    """A learner whose id is the name of a group does not pass for everybody in the group."""
    found = entries([a.everything("A, B")], [Learner("A, B", "Some", "One")])
    export("moodle", tmp_path / "out.csv", found, sheet=moodle_sheet(tmp_path / "s.csv"))

    assert {grade for grade, _, _ in moodle_import(tmp_path / "out.csv", "en").values()} == {""}


@pytest.mark.parametrize(
    "content, wanted",
    [
        (None, "download it, then --sheet FILE"),
        ("a,b\n1,2\n", "nobody is a “Participant …”"),
        (
            "Identifier,Full name,Status,X\nParticipant 1,Ada,no,y\n",
            "which column holds the grades",
        ),
        ("", "is no table"),
        ('Identifier,"Full\n', "is no CSV file"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_moodle_needs_its_own_worksheet(tmp_path, content, wanted):
    """Anything else is one clear sentence, and writes nothing."""
    sheet = tmp_path / "sheet.csv"
    if content is not None:
        sheet.write_bytes(content.encode("utf-8", "surrogateescape"))

    with pytest.raises(ValueError, match=wanted):
        export("moodle", tmp_path / "out.csv", sheet=sheet if content is not None else None)
    assert not (tmp_path / "out.csv").exists()


def test_moodle_takes_one_unit(tmp_path):
    """A worksheet is of one assignment."""
    from lab.course import unit_named

    other = a.result("007", unit=unit_named("02-masks"))
    with pytest.raises(ValueError, match="here is 01-attention, 02-masks: choose with --unit"):
        export(
            "moodle",
            tmp_path / "o.csv",
            entries([*a.results(), other]),
            sheet=moodle_sheet(tmp_path / "s.csv"),
        )


# Gradescope


def of_gradescope(found):
    """The fields of docs/specs.md of gradescope/autograder_samples, each with its type."""
    number = (int, float)
    test = {"score": number, "max_score": number, "status": str, "name": str, "number": str}
    test |= {"output": str, "tags": list, "visibility": str, "extra_data": dict}
    whole = {"score": number, "execution_time": number, "output": str, "visibility": str}
    whole |= {"stdout_visibility": str, "extra_data": dict, "tests": list, "leaderboard": list}
    seen = {"hidden", "after_due_date", "after_published", "visible"}
    for each, fields in [(found, whole), *((x, test) for x in found["tests"])]:
        assert set(each) <= set(fields)
        assert all(isinstance(each[name], fields[name]) for name in each)
        assert each.get("visibility", "visible") in seen
        assert each.get("status", "passed") in {"passed", "failed"}
    assert "score" in found or all("score" in each for each in found["tests"])
    return found


def test_gradescope_results(tmp_path):
    """The spec's fields only; the tests sum to the score, and every one may be seen."""
    export("gradescope", tmp_path / "results.json", only("half"))
    found = of_gradescope(json.loads((tmp_path / "results.json").read_text("utf-8")))

    assert found["score"] == sum(each["score"] for each in found["tests"]) == 8
    assert sum(each["max_score"] for each in found["tests"]) == 32
    assert {each["visibility"] for each in found["tests"]} == {"visible"}
    first = found["tests"][0]
    assert first["name"] == "softmax" and first["status"] == "failed"
    assert "exp overflows: é 中文" in first["output"] and "✓ " in first["output"]
    assert found["tests"][3]["output"] == "Not started."


def test_hidden_checks_are_counted_and_not_shown(monkeypatch):
    """A learner reads how many hidden checks are met, and nothing of what they ask."""
    from autograder import judge

    shown, *hidden = judge.checks_of("softmax")
    checks = [shown, *(replace(each, hidden=True) for each in hidden)]
    monkeypatch.setattr(judge, "checks_of", lambda part: checks)
    found = [a.check(each.name, each is hidden[0], message="seen") for each in hidden]
    part = a.part("softmax", 1, 6, "partial", checks=[a.check(shown.name, True), *found])

    assert gradescope.as_text(part) == (
        f"✓ {shown.sentence}\n1 of {len(hidden)} hidden checks are met."
    )


@pytest.mark.parametrize("format", ["gradescope", "classroom50"])
@pytest.mark.parametrize(
    "student, why",
    [
        ("bad", "bad.ipynb is cut off"),
        ("down", "fault of the machine: no process"),
        ("gone", "here are 0"),
    ],
)
def test_no_grade_no_file(tmp_path, format, student, why):
    """Without a grade nothing is written, so nobody has 0 points; the reason is said."""
    to = tmp_path / "out.json"
    with pytest.raises(ValueError, match=why):
        export(format, to, only(student))

    assert list(tmp_path.iterdir()) == []


def test_gradescope_zip_grades(tmp_path):
    """The zip as Gradescope uses it: unpacked to source/, run_autograder run on submission/."""
    list(gradescope.write_zip(ROOT, tmp_path / "autograder.zip", a_course.UNIT))
    with zipfile.ZipFile(tmp_path / "autograder.zip") as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "source")
        modes = {each.filename: each.external_attr >> 16 for each in archive.infolist()}
    for name in ("setup.sh", "run_autograder"):
        assert modes[name] & stat.S_IXUSR
        assert (tmp_path / "source" / name).read_text("utf-8").startswith("#!/usr/bin/env bash\n")
        assert subprocess.run(["bash", "-n", tmp_path / "source" / name]).returncode == 0
        (tmp_path / "source" / name).chmod(0o755)
    assert not [
        name for name in names if "solutions" in name or "tests/" in name or ".safetensors" in name
    ]
    pyproject = tomllib.loads((tmp_path / "source/attention-lab/pyproject.toml").read_text("utf-8"))
    for package in pyproject["tool"]["setuptools"]["packages"]:
        assert (tmp_path / "source/attention-lab" / package.replace(".", "/")).is_dir()
    for folder in ("results", "submission", "venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    # in place of what setup.sh installs: this Python, with nothing but the zip's own modules
    lab = tmp_path / "venv/bin/lab"
    start = "from autograder.cli import main; main()"
    lab.write_text(
        f'#!/bin/sh\nPYTHONPATH="{tmp_path}/source/attention-lab" '
        f"exec {sys.executable} -c '{start}' \"$@\"\n"
    )
    lab.chmod(0o755)
    notebook = a_course.everything_right(a_course._source())
    a_course.write(tmp_path / "submission" / "my attention.ipynb", notebook)
    environment = os.environ | {"AUTOGRADER": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [tmp_path / "source" / "run_autograder"]

    ran = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = of_gradescope(json.loads((tmp_path / "results/results.json").read_text("utf-8")))
    assert found["score"] == a_course.POINTS

    (tmp_path / "results/results.json").unlink()
    (tmp_path / "submission" / "my attention.ipynb").write_text("half a file")
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode != 0 and "there is no result" in ran.stderr + ran.stdout
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.parametrize("there", [["python3.13", "python3.11"], ["python3.11"], []])
def test_gradescope_setup_takes_the_newest_python_that_works(tmp_path, there):
    """A name alone is no Python; where none works, one is installed; then the project is."""
    programs, project = tmp_path / "bin", tmp_path / "source" / "attention-lab"
    for folder in (programs, project, tmp_path / "venv" / "bin"):
        folder.mkdir(parents=True)
    said = f'echo "$(basename "$0") $*" >> {tmp_path}/said\n'
    stubs = {name: f"#!/bin/sh\n{said}" for name in there}
    stubs["python3.12"] = "#!/bin/sh\nexit 127\n"  # as a version manager's stub that leads nowhere
    installed = f"cp {programs}/new {programs}/python3.11; chmod +x {programs}/python3.11\n"
    stubs["apt-get"] = f'#!/bin/sh\n{said}case "$*" in *3.12*) exit 100;; *3.11*) {installed}esac\n'
    stubs |= {"new": f"#!/bin/sh\n{said}", "../venv/bin/python": f"#!/bin/sh\n{said}"}
    for name, text in stubs.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    for name in ("bash", "sh", "basename", "cp", "chmod"):
        (programs / name).symlink_to(shutil.which(name))
    environment = {"PATH": str(programs), "AUTOGRADER": str(tmp_path)}

    ran = subprocess.run(["bash", "-c", gradescope.SETUP], env=environment, capture_output=True)

    assert ran.returncode == 0, ran.stderr.decode()
    calls = (tmp_path / "said").read_text().splitlines()
    assert calls[-2] == f"{there[0] if there else 'python3.11'} -m venv {tmp_path}/venv"
    assert calls[-1].startswith("python -m pip install ") and calls[-1].endswith(
        "constraints.txt -e ."
    )
    assert [call.split()[-1] for call in calls if "apt-get" in call] == (
        [] if there else ["update", "python3.12-venv", "python3.11-venv"]
    )


# Classroom 50

RUNNER = {
    "CLASSROOM": "nlp26",
    "ASSIGNMENT": "attention",
    "SUBMISSION_TAG": "submit/20261121T160000Z-abc1234",
    "COMMIT_URL": "https://github.com/o/r/commit/abc",
    "RELEASE_URL": "https://github.com/o/r/releases/tag/submit%2Fx",
    "USERNAME": "half",
}
CLOSED = set(
    "schema classroom assignment assignment_type owner submission commit release review datetime "
    "score max-score tests".split()
)


def test_classroom50_result(tmp_path, monkeypatch):
    """The closed schema; whole numbers, no bools; what the runner's validate_result asks."""
    for name, value in RUNNER.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("REVIEW_URL", raising=False)
    export("classroom50", tmp_path / "result.json", only("half"))
    found = json.loads((tmp_path / "result.json").read_text("utf-8"))

    assert set(found) == CLOSED
    assert found["schema"] == "classroom50/result/v1"
    assert (found["classroom"], found["assignment"], found["owner"]) == (
        "nlp26",
        "attention",
        "half",
    )
    assert found["assignment_type"] in {"individual", "group", "team"}
    assert found["submission"].startswith("submit/")
    assert all(
        isinstance(found[name], str) and found[name] for name in ("commit", "release", "review")
    )
    datetime.strptime(found["datetime"], "%Y-%m-%dT%H:%M:%SZ")
    for each in (found, *found["tests"]):
        assert type(each["score"]) is type(each["max-score"]) is int
        assert 0 <= each["score"] <= each["max-score"]
    assert found["score"] == sum(each["score"] for each in found["tests"]) == 8
    assert all(each["test-name"] and type(each["passed"]) is bool for each in found["tests"])


def test_classroom50_outside_its_runner(tmp_path, monkeypatch):
    """What the runner does not say is asked for; a file that was there stays."""
    for name in RUNNER:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "result.json").write_text("old")

    with pytest.raises(ValueError, match="CLASSROOM, ASSIGNMENT, SUBMISSION_TAG"):
        export("classroom50", tmp_path / "result.json", only("half"))
    assert (tmp_path / "result.json").read_text() == "old"


# JUnit


SCHEMA = {  # junit-10.xsd of jenkinsci/xunit-plugin: attributes (required first), children
    "testsuites": ([], ["name", "time", "tests", "failures", "errors"], ["testsuite"]),
    "testsuite": (
        ["name", "tests", "failures", "errors"], ["time", "skipped"], ["properties", "testcase"]
    ),
    "properties": ([], [], ["property"]),
    "property": (["name", "value"], [], []),
    "testcase": (["name"], ["time", "classname", "group"], ["skipped", "error", "failure"]),
    **{tag: ([], ["type", "message"], []) for tag in ("skipped", "error", "failure")},
}  # fmt: skip


def test_junit(tmp_path):
    """Every element and attribute is the schema's, the counts are right, odd characters survive."""
    export("junit", tmp_path / "junit.xml")
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()

    for each in root.iter():
        required, allowed, children = SCHEMA[each.tag]
        assert set(required) <= set(each.attrib) <= set(required) | set(allowed)
        assert {child.tag for child in each} <= set(children)
    for suite in [*root, root]:
        for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
            assert suite.get(name) == str(len(list(suite.iter(tag))))
    suites = {re.search(r"\((\w+)\)$", suite.get("name"))[1]: suite for suite in root}
    assert set(suites) == {each.id for each in a.LEARNERS} - {"gone"}
    assert "张伟" in suites["zhang"].get("name")
    assert (
        suites["img"].get("name").startswith("01-attention: <img src=x onerror=alert(1)> ]]>&amp;")
    )
    assert all(re.fullmatch(r"\d+\.\d+", suite.get("time")) for suite in root)
    failure = suites["half"].find(".//failure")
    assert failure.get("message") == "inf / inf\ufffd is <b>NaN</b>"
    for student in ("bad", "down"):
        assert (
            not list(suites[student].iter("failure"))
            and len(list(suites[student].iter("error"))) == 1
        )


# Whose a file is


@pytest.mark.parametrize(
    "path, student",
    [
        ("submitted/zhang/01-attention/attention.ipynb", "zhang"),
        ("submitted/zhang/01-attention/007.ipynb", "zhang"),
        ("/abroad/x/007/attention.ipynb", "007"),
        ("in/007.ipynb", "007"),
        ("in/half.zip/attention.ipynb", "half"),
        (r"C:\in\half\01-attention\mine.ipynb", "half"),
        ("all.zip/Half Written_42_assignsubmission_file_/attention.ipynb", "half"),
        ("writtenhalf_123_456_attention.ipynb", "half"),
        ("in/new one/attention.ipynb (2)", "new one"),
        ("attention.ipynb", "attention"),
    ],
)
def test_learner_of_a_file(path, student):
    """A path of nbgrader's, of a download from Moodle or Canvas, or somebody's own names."""
    assert finder(a.LEARNERS)(path)[0].id == student


def test_two_notebooks_of_one_learner(tmp_path):
    """Nobody chooses for the teacher which of two counts."""
    twice = [a.half("ada"), a.half("x") | {"notebook": "again/ada.ipynb"}]

    with pytest.raises(
        ValueError, match="ada has two notebooks of 01-attention: submitted/ada/.* and"
    ):
        entries(twice)


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("{", "it is not JSON"),
        ("{}", "writes a list"),
        ("[1]", "result 1 is no object"),
        ("[{}]", "result 1 has no max_points, notebook, parts, points, status, unit"),
        ({"unit": "99-x"}, "'99-x'"),
        ({"points": math.nan}, "points are nan"),
        ({"points": None}, "points are None"),
        ({"status": "fine"}, "status 'fine'"),
        ({"parts": [1]}, "parts"),
    ],
)
def test_file_that_holds_no_results(tmp_path, text, wanted):
    """One clear sentence with the file's name."""
    text = text if isinstance(text, str) else json.dumps([a.half("ada") | text])
    (tmp_path / "graded.json").write_text(text)

    with pytest.raises(ValueError, match=f"graded.json.*{wanted}"):
        read(tmp_path / "graded.json")


# The command


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return ended.value.code


def test_command(tmp_path, capsys, monkeypatch):
    """`lab export` writes what there is, says what there is not, and ends with 0."""
    monkeypatch.chdir(tmp_path)
    a.write(tmp_path / "graded.json", a.results())

    assert run("export", "graded.json", "--format", "junit") == 0
    said = capsys.readouterr().out
    assert "wrote junit.xml: 11 notebooks" in said and "no grade for bad, 01-attention" in said


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        (["--format", "excel"], "there is no format 'excel'"),
        (
            ["--format", "junit", "--sheet", "x.csv"],
            "--sheet and --column are for canvas and moodle",
        ),
        (["--to", "nowhere/grades.csv"], "there is no folder nowhere"),
        (["--unit", "02"], "there is no result of 02-masks"),
        (["--unit", "77"], "there is no unit '77'"),
        (["--roster", "none.csv"], "none.csv"),
        (["--format", "gradescope"], "results.json is of one notebook, and here are 11"),
    ],
)
def test_command_refuses_in_one_sentence(tmp_path, capsys, monkeypatch, arguments, wanted):
    """Status 1, one line, nothing written."""
    monkeypatch.chdir(tmp_path)
    a.write(tmp_path / "graded.json", a.results())

    assert run("export", "graded.json", *arguments) == 1
    said = capsys.readouterr().err
    assert wanted in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["graded.json"]
