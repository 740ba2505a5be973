"""A whole course with real nbgrader, from the roster to the table of grades.

One round serves most of the tests: ten learners hand in what learners hand in.
"""

import copy
import csv
import hashlib
import json
import os
import subprocess
import sys
import time
import tomllib
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import a_course as a
import pytest

from autograder.classroom import grading, handing_in, settings, submit, teaching
from autograder.classroom.bundle import bundle, without_hidden
from autograder.classroom.export import ungraded
from autograder.cli import main
from autograder.submission import Submission, report

pytestmark = [pytest.mark.xdist_group("nbgrader"), *a.WARNINGS]  # one round for all of them

WRONG = """\
def softmax(scores, dim=-1):
    return torch.exp(scores) / torch.exp(scores).sum(dim, keepdim=True)"""
ATTENTION = "scaled_dot_product_attention"
LEARNERS = "ada bob cem dia eva fay gus hal ida jon kim".split()


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The course after one round, and what its commands said."""
    folder = tmp_path_factory.mktemp("course")
    project = a.project(folder / "project")
    patch = pytest.MonkeyPatch()
    patch.chdir(project)
    patch.setenv("LAB_PROGRESS", str(folder / "progress"))
    patch.setenv("JUPYTER_DATA_DIR", str(folder / "jupyter"))
    patch.delenv("LAB_STUDENT", raising=False)
    patch.delenv(settings.VARIABLE, raising=False)
    roster = folder / "roster.csv"
    rows = "".join(f"{name};{name.title()};Doe, {name[0]}.;{name}@x.org\n" for name in LEARNERS)
    roster.write_text("\ufeffID;first_name;last_name;email\n" + rows, encoding="utf-8")

    course = SimpleNamespace(project=project, build=project / "build", folder=folder, said={})
    say(course, "init", teaching.init(settings.read(), roster))
    say(course, "again", teaching.init(settings.read(), roster))
    say(course, "release", teaching.release(settings.read(), ["01"], soon()))
    course.released = json.loads(
        (course.build / "exchange/attention-lab/outbound" / a.UNIT / "attention.ipynb").read_text()
    )
    course.receipts = hand_everything_in(course)
    say(course, "collect", teaching.collect(settings.read()))
    break_what_is_collected(course)
    course.originals = hashes(course.build / "submitted")
    course.results = {result.student: result for result in grading.grade(settings.read(), a.UNIT)}
    say(course, "feedback", teaching.feedback(settings.read(), "attention"))
    say(course, "export", teaching.export(settings.read(), folder / "grades.csv"))
    yield course
    patch.undo()


def say(course, name, lines):
    course.said[name] = "\n".join(lines)


def soon():
    return datetime.now(UTC) + timedelta(hours=1)


def hand_everything_in(course):
    """Through the exchange, as learners do; jon after the date."""
    receipts = {}
    for name, notebook in notebooks(course.released).items():
        folder = course.folder / "homes" / name / a.UNIT
        a.write(folder / "attention.ipynb", notebook)
        if name == "ada":
            receipts["ada, first"] = handing_in.hand_in("01", name, folder)
        if name == "jon":
            list(teaching.release(settings.read(), ["01"], datetime.now(UTC)))
            time.sleep(1.1)  # the exchange's times are whole seconds: jon's shall be a later one
        receipts[name] = handing_in.hand_in("attention", name, folder)
    return receipts


def notebooks(released):
    """What each learner makes of the released notebook; jon's comes last, after the date."""
    whole = a.everything_right(released)
    made = {
        "ada": whole,
        "bob": a.answer(released, softmax=WRONG, soft_lookup=a.right("soft_lookup")),
        "cem": whole,
        "gus": whole,
        "hal": a.answer(whole, soft_lookup=f"import os\nos._exit(0)\n{a.right('soft_lookup')}"),
        "kim": a.answer(whole, SelfAttention=f"{a.right('SelfAttention')}\ndef check(part): ..."),
    }
    gone = {"check-softmax", "given-1", "scaled_dot_product_attention"}
    dia = made["dia"] = copy.deepcopy(whole)  # a check, the imports and a part deleted
    dia["cells"] = [cell for cell in dia["cells"] if a.mark_of(cell) not in gone]

    stub = a.cell_of(released, ATTENTION)["source"]
    eva = made["eva"] = a.answer(whole, **{ATTENTION: stub})
    checking = a.cell_of(eva, f"check-{ATTENTION}")  # a check that gives itself the points
    checking["source"] = "10.0"
    checking["metadata"]["nbgrader"]["points"] = 100
    eva["cells"].insert(2, a.cell_of(eva, "softmax") | {"source": WRONG})  # and copied cells
    eva["cells"].append(a.cell_of(eva, "check-soft_lookup"))

    fay = made["fay"] = copy.deepcopy(whole)  # another kernel, a moved check, 50 MB of output
    fay["metadata"]["kernelspec"] = {"name": "julia", "display_name": "Julia", "language": "julia"}
    fay["cells"].remove(moved := a.cell_of(fay, "check-softmax"))
    fay["cells"].insert(0, moved)
    output = {"output_type": "stream", "name": "stdout", "text": "x" * 1_000_000}
    a.cell_of(fay, "softmax")["outputs"] = [output] * 50
    return made | {"jon": released}


def break_what_is_collected(course):
    """What no exchange would take, and mail does: half a file, another file."""
    submitted = course.build / "submitted"
    cem = submitted / "cem" / a.UNIT / "attention.ipynb"
    cem.chmod(0o644)
    cem.write_bytes(cem.read_bytes()[: cem.stat().st_size // 2])
    gus = submitted / "gus" / a.UNIT
    (gus / "attention.ipynb").rename(gus / "notes.txt")


def hashes(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_init_makes_what_a_course_needs(graded):
    """Exchange with nbgrader's permissions, gradebook, roster; a second time changes nothing."""
    place = graded.build / "exchange/attention-lab"
    modes = {
        path.name: oct(path.stat().st_mode & 0o7777) for path in place.iterdir() if path.is_dir()
    }

    assert modes == {"outbound": "0o755", "inbound": "0o2733", "feedback": "0o711"}
    assert "11 entered, 0 were there" in graded.said["init"]
    assert "0 entered, 11 were there" in graded.said["again"]
    assert "made" not in graded.said["again"] and "wrote" not in graded.said["again"]


def test_plain_nbgrader_reads_the_same_course(graded):
    """nbgrader's own command lists the learners that `lab course init` entered."""
    nbgrader = Path(sys.executable).with_name("nbgrader")
    command = [nbgrader, "db", "student", "list"]
    told = subprocess.run(command, cwd=graded.project, capture_output=True, text=True, check=True)

    assert "ada (Doe, a., Ada) -- ada@x.org" in told.stdout + told.stderr


def test_receipt_says_what_was_handed_in(graded):
    """Hash of the file in the exchange, number, time, and that it was in time."""
    first, second = graded.receipts["ada, first"], graded.receipts["ada"]
    inbound = graded.build / "exchange/attention-lab/inbound"
    kept = sorted(inbound.glob("ada+*/attention.ipynb"))

    assert (first.number, second.number) == (1, 2)
    assert len(kept) == 2, "the earlier hand-in is kept"
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in kept} == {second.sha256}
    assert second.late_seconds == 0 and "on time" in second.text()
    assert "2nd time; the earlier ones are kept" in second.text()
    assert "save first (ctrl-s)" in second.text().lower()
    assert datetime.now(UTC) - datetime.fromisoformat(second.time) < timedelta(minutes=10)


def test_a_late_hand_in_is_told_so(graded):
    """By the receipt and by the grades."""
    assert graded.receipts["jon"].late_seconds >= 1
    assert "LATE" in graded.receipts["jon"].text()
    assert graded.results["jon"].late


def test_receipts_are_kept(graded):
    """One line of JSON each, beside the progress."""
    lines = (graded.folder / "progress/receipts.jsonl").read_text("utf-8").splitlines()

    assert [json.loads(line)["student"] for line in lines].count("ada") == 2
    assert len(lines) == len(graded.receipts)


def test_everybody_has_a_line(graded):
    """Who handed in has points or a reason; who did not is named as well."""
    assert set(graded.results) == set(LEARNERS) - {"ida"}
    assert "nothing from ida" in graded.said["collect"]
    for result in graded.results.values():
        assert (result.points is None) == ("NOT GRADED" in result.text())


@pytest.mark.parametrize(
    ("name", "lost", "notes"),
    [
        ("ada", 0, []),
        ("dia", 10, ["check-softmax is missing", "given-1 was missing",
                         f"{ATTENTION} is missing"]),
        ("eva", 10, ["softmax is there more than once", "check-soft_lookup is there more",
                     f"check-{ATTENTION} was changed"]),
        ("fay", 0, ["has the kernel Julia", "check-softmax was moved", "50.0 MB of it outputs"]),
        ("jon", a.POINTS, []),
    ],
)  # fmt: skip
def test_what_can_be_mended_is_graded(graded, name, lost, notes):
    """Deleted, copied, edited and moved cells, another kernel, 50 MB of output cost no points."""
    result = graded.results[name]
    told = result.text()

    assert result.graded, told
    assert result.points == a.POINTS - lost, told
    for note in notes:
        assert note in told
    assert len(result.notes) == len(notes), told


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cem", "attention.ipynb is no notebook"),
        ("gus", "attention.ipynb is missing; handed in: notes.txt"),
    ],
)
def test_what_cannot_be_graded_says_why(graded, name, reason):
    """No points, a reason, and it waits for a person in the gradebook."""
    result = graded.results[name]

    assert not result.graded and result.points is None
    assert reason in result.text()
    with teaching.gradebook(settings.read()) as book:
        found = book.find_submission(a.UNIT, name)
        assert found.needs_manual_grade
        assert found.timestamp is not None


def test_a_person_gives_points_to_what_cannot_be_read(graded):
    """Points entered by hand are the grade."""
    assert "none yet for cem, gus: not graded" in graded.said["feedback"]
    with teaching.gradebook(settings.read()) as book:
        for notebook in book.find_submission(a.UNIT, "gus").notebooks:
            for each in notebook.grades:
                each.manual_score, each.needs_manual_grade = 2, False
        book.db.commit()

    result = next(grading.grade(settings.read(), a.UNIT, "gus"))

    assert result.graded and result.points == 2 * (len(a.PARTS) + 1)
    assert "points given by hand: attention.ipynb is missing" in result.text()


def test_a_dead_process_costs_its_own_part(graded):
    """hal's soft_lookup ends the process that it is in, and no other part is in that one."""
    with teaching.gradebook(settings.read()) as book:
        given = {
            part: book.find_grade(f"check-{part}", "attention", a.UNIT, "hal").auto_score
            for part in a.PARTS
        }

    assert given == {part: part != "soft_lookup" and a.PARTS[part].points for part in a.PARTS}


def test_writing_over_check_gives_nothing_and_costs_nothing(graded):
    """kim's own check() is never asked."""
    with teaching.gradebook(settings.read()) as book:
        found = book.find_submission(a.UNIT, "kim")
        assert found.score == a.POINTS and not found.needs_manual_grade


def test_originals_stay_as_they_were_handed_in(graded):
    """What is mended is never the file that was handed in."""
    assert hashes(graded.build / "submitted") == graded.originals


def test_nbgrader_gives_the_points_that_check_gives(graded):
    """For right, wrong and unwritten parts, cell by cell."""
    for name in ("ada", "bob", "jon"):
        path = graded.build / "submitted" / name / a.UNIT / "attention.ipynb"
        found = {each.part: each.points for each in report(Submission.load(path))}
        with teaching.gradebook(settings.read()) as book:
            for part in a.PARTS:
                given = book.find_grade(f"check-{part}", "attention", a.UNIT, name).auto_score
                assert given == found[part], (name, part)


def test_a_wrong_part_loses_only_its_own_points(graded):
    """bob: some of softmax, all of soft_lookup, nothing of what is not written."""
    with teaching.gradebook(settings.read()) as book:
        given = {
            part: book.find_grade(f"check-{part}", "attention", a.UNIT, "bob").auto_score
            for part in a.PARTS
        }

    assert 0 < given["softmax"] < a.PARTS["softmax"].points
    assert given["soft_lookup"] == a.PARTS["soft_lookup"].points
    assert given[ATTENTION] == given["SelfAttention"] == 0


def test_grading_again_does_only_what_is_new(graded):
    """Graded hand-ins keep their points without a kernel; the rest is tried again."""
    begin = time.monotonic()

    result = next(grading.grade(settings.read(), a.UNIT, "ada"))

    assert result == graded.results["ada"]
    assert time.monotonic() - begin < 2


def test_nothing_of_nbgrader_s_stays_behind(graded):
    """A failed notebook leaves nbgrader's variable set; submit() would then be silent for ever."""
    assert settings.VARIABLE not in os.environ


def test_feedback_goes_to_its_learner(graded):
    """A page a graded hand-in, in the exchange, with the report of each part in it."""
    page = graded.build / "feedback/bob" / a.UNIT / "attention.html"
    given_back = list((graded.build / "exchange/attention-lab/feedback").glob("*.html"))

    assert "softmax" in page.read_text("utf-8")
    assert len(given_back) == 8  # all but cem, gus and ida
    assert "feedback for 8 learners" in graded.said["feedback"]


def test_a_learner_fetches_feedback(graded, tmp_path, monkeypatch):
    """nbgrader's own command finds the page by the secret of the hand-in."""
    from nbgrader.exchange.default import ExchangeFetchFeedback

    found = settings.read()
    found.coursedir.assignment_id, found.coursedir.student_id = a.UNIT, "bob"
    monkeypatch.chdir(tmp_path)
    with settings.listening():
        settings.quietly(ExchangeFetchFeedback, found, assignment_dir=str(tmp_path)).start()

    assert list((tmp_path / a.UNIT / "feedback").rglob("attention.html"))


def test_table_of_grades(graded):
    """nbgrader's columns; no score where there is no grade; a comma in a name is no column."""
    with (graded.folder / "grades.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}

    assert set(rows) == set(LEARNERS)
    assert rows["ada"]["score"] == rows["ada"]["max_score"] == f"{a.POINTS}.0"
    assert rows["ada"]["last_name"] == "Doe, a."
    assert rows["jon"]["score"] == "0.0" and rows["jon"]["note"] == "late"
    assert rows["ida"]["score"] == "" and rows["ida"]["note"] == "not handed in"
    for name in ("cem", "gus"):
        assert rows[name]["score"] == "" and rows[name]["note"] == "not graded yet"
    assert rows["kim"]["note"] == ""
    assert "2 × not graded yet" in graded.said["export"]


def test_what_is_broken_later_keeps_no_old_points(graded):
    """A newer hand-in that cannot be read is not given the points of the one before."""
    notebook = graded.build / "submitted/jon" / a.UNIT / "attention.ipynb"
    notebook.chmod(0o644)
    notebook.write_text("half")

    result = next(grading.grade(settings.read(), a.UNIT, "jon"))

    assert not result.graded
    with teaching.gradebook(settings.read()) as book:
        found = book.find_submission(a.UNIT, "jon")
        assert ungraded(found) and found.needs_manual_grade


def run(*arguments):
    """The `lab` command; its exit status."""
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return ended.value.code


def test_command_ends_with_status_1(graded, capsys):
    """`lab course grade` says so when somebody could not be graded."""
    assert run("course", "grade", "01", "--student", "cem") == 1

    assert "cem  NOT GRADED: attention.ipynb is no notebook" in capsys.readouterr().out


def test_command_knows_who_handed_in(graded, capsys):
    """A name that handed in nothing is one clear line."""
    assert run("course", "grade", "01", "--student", "nobody") == 1

    assert "nobody has no collected hand-in of 01-attention" in capsys.readouterr().err


# The roster


@pytest.mark.parametrize(
    "text",
    [
        "id,first_name,last_name,email\nada,Ada,Byron,a@x.org\n",
        "\ufeffid;first_name;last_name;email\nada;Ada;Byron;a@x.org\n\n",
        'ID\tEmail\tlast_name\tfirst_name\tgroup\nada\ta@x.org\t"Byron"\tAda\t7\n',
    ],
)
def test_roster_in_every_usual_form(tmp_path, text):
    """Commas, semicolons, tabs; a byte order mark; other columns, another order, empty lines."""
    roster = tmp_path / "roster.csv"
    roster.write_text(text, encoding="utf-8")

    assert teaching.read_roster(roster) == [teaching.Learner("ada", "Ada", "Byron", "a@x.org")]


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        (b"name,email\nAda,a@x.org\n", ["no column id", "name, email"]),
        (b"id,email\nada,\nbob,\nada,\n,x@y\n", ["line 4: the id 'ada' is there twice",
                                                "line 5: there is no id"]),
        (b"id\na+b\nc*d\n../e\n", ["line 2: the id 'a+b' has +", "'c*d' has *", "'../e' has /"]),
        (b"", ["is empty"]),
        ("id,first_name\nzoë,Zoë\n".encode("latin-1"), ["not UTF-8"]),
    ],
)  # fmt: skip
def test_roster_faults_are_told_all_at_once(tmp_path, content, faults):
    """Each with its line; nothing is entered."""
    roster = tmp_path / "roster.csv"
    roster.write_bytes(content)

    with pytest.raises(ValueError) as error:
        teaching.read_roster(roster)

    for fault in faults:
        assert fault in str(error.value)


def test_dates_of_the_teacher_s_clock():
    """A date alone is the whole day; nonsense says how to write it."""
    local = datetime(2026, 12, 1, 18).astimezone()
    assert teaching.read_date("2026-12-01 18:00") == local
    assert teaching.read_date("2026-12-01T18:00+00:00") == datetime(2026, 12, 1, 18, tzinfo=UTC)
    assert teaching.read_date("2026-12-01") > teaching.read_date("2026-12-01 23:59")
    with pytest.raises(ValueError, match="write it like 2026-12-01 18:00"):
        teaching.read_date("tomorrow")


# Handing in


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """A learner's folder with a notebook, and no exchange anywhere."""
    project = a.project(tmp_path / "project")
    folder = project / "exercises" / a.UNIT
    a.write(folder / "attention.ipynb", {"cells": []})
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.delenv(settings.VARIABLE, raising=False)
    return folder


def test_submit_without_an_exchange(at_home, capsys):
    """It says who sets one up, and which file to send instead; nothing goes to stderr."""
    assert submit(a.UNIT) is None

    said = capsys.readouterr()
    assert "Not handed in: no exchange is set up here" in said.out
    assert "lab course init" in said.out and str(at_home / "attention.ipynb") in said.out
    assert said.err == ""


def test_submit_of_what_is_not_released(at_home, capsys):
    """It says who releases it."""
    assert run("course", "init", "--course", "nlp26") == 0

    submit(a.UNIT)

    assert "01-attention is not released in nlp26 yet" in capsys.readouterr().out


def test_a_course_in_a_folder_of_its_own(at_home, tmp_path, capsys):
    """`--exchange` says where; before `init`, every other command says what comes first."""
    for command in (["release"], ["collect"], ["grade"], ["feedback"], ["export"]):
        assert run("course", *command) == 1
        assert "run `lab course init` first" in capsys.readouterr().err, command
    assert run("course", "init", "--exchange", tmp_path / "shared", "--course", "nlp26") == 0
    assert run("course", "release", "01", "--due", "2026-12-01") == 0
    assert run("submit", "1", "--student", "ada") == 0

    assert "Handed in: 01-attention, by ada" in capsys.readouterr().out
    assert len(list((tmp_path / "shared/nlp26/inbound").iterdir())) == 1
    assert run("course", "init", "--course", "other") == 1
    assert "holds units of the course 'nlp26'" in capsys.readouterr().err.replace("\n", " ")


def test_submit_of_a_renamed_notebook(at_home, capsys):
    """It says which name is missing and which is there."""
    (at_home / "attention.ipynb").rename(at_home / "attention-Copy1.ipynb")

    submit("1")

    said = capsys.readouterr().out
    assert "is not there (there is attention-Copy1.ipynb: give it its name back)" in said


def test_submit_is_silent_while_nbgrader_grades(at_home, capsys, monkeypatch):
    """The last cell of a graded notebook hands nothing in."""
    monkeypatch.setenv(settings.VARIABLE, "autograde")

    assert submit(a.UNIT) is None
    assert capsys.readouterr() == ("", "")


def test_submit_says_when_the_outputs_are_too_large(graded, tmp_path, monkeypatch):
    """In megabytes, and what to do about it."""
    folder = tmp_path / a.UNIT
    folder.mkdir()
    with (folder / "attention.ipynb").open("wb") as file:
        file.truncate(101_000_000)

    with pytest.raises(ValueError, match="is 101 MB, the exchange takes 100. Clear the outputs"):
        handing_in.hand_in(a.UNIT, "ada", folder)


@pytest.mark.parametrize("name", ["a+b", "a/b", "*"])
def test_submit_refuses_names_nbgrader_cannot_keep(graded, name):
    """Before anything is copied."""
    with pytest.raises(ValueError, match="which nbgrader's paths cannot have"):
        handing_in.hand_in(a.UNIT, name, graded.folder / "homes/ada" / a.UNIT)


def test_receipt_tells_the_points_of_the_last_checks(graded, monkeypatch, tmp_path):
    """Only where there were any."""
    assert graded.receipts["ada"].points is None
    kept = {"softmax": {"points": 6, "last": 4.0}, "01-attention quiz": {"last": 2.0}}
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path))
    (tmp_path / "progress.json").write_text(json.dumps(kept))

    receipt = handing_in.hand_in(a.UNIT, "zoe", graded.folder / "homes/ada" / a.UNIT)

    assert f"6 of {a.POINTS} by your last checks" in receipt.text()


def test_submit_in_a_notebook(graded):
    """In a kernel, from the unit's folder: a receipt on stdout, once, and nothing else."""
    from jupyter_client.manager import start_new_kernel

    folder = graded.project / "exercises" / a.UNIT
    a.write(folder / "attention.ipynb", graded.released)
    manager, client = start_new_kernel(cwd=str(folder), stderr=subprocess.DEVNULL)
    told = []
    try:
        code = f'from autograder import submit\nsubmit("{a.UNIT}", student="lea")'
        client.execute_interactive(code, timeout=60, output_hook=told.append)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)

    shown = [
        each["content"] for each in told if each["msg_type"] not in ("status", "execute_input")
    ]
    assert {each["name"] for each in shown} == {"stdout"}, shown
    assert "".join(each["text"] for each in shown).startswith("Handed in: 01-attention, by lea\n")


# Mending


def marked(name, text="pass", solution=False):
    mark = {"grade_id": name, "solution": solution, "grade": not solution, "locked": not solution}
    return cell(text) | {"metadata": {"nbgrader": mark}}


def cell(text):
    return {"cell_type": "code", "metadata": {}, "source": text}


HANDED_OUT = {
    "metadata": {"kernelspec": {"name": "python3"}},
    "cells": [
        marked("given-0", "import torch"),
        marked("f", "def f(): ...", solution=True),
        marked("check-f", "check('f')"),
        marked("g", "def g(): ...", solution=True),
        marked("check-g", "check('g')"),
    ],
}
ORDER = ["given-0", "f", "check-f", "g", "check-g"]


def mended(*cells):
    notebook, notes = grading.mend(list(cells), HANDED_OUT)
    return notebook["cells"], [text for _, text in notes]


def test_mending_leaves_a_whole_notebook_alone():
    """The learner's own cells stay where they are."""
    cells, notes = mended(*HANDED_OUT["cells"][:2], cell("x = 1"), *HANDED_OUT["cells"][2:])

    assert [each["source"] for each in cells][2] == "x = 1"
    assert notes == []


def test_mending_puts_everything_back():
    """From nothing at all, in the order in which it was handed out."""
    cells, notes = mended(cell("x = 1"))

    assert [a.mark_of(each) for each in cells] == [*ORDER, None]
    assert len(notes) == 5


def test_mending_knows_a_part_by_its_definition():
    """Editors that drop nbgrader's marks cost nothing."""
    bare = [cell(each["source"].replace("...", "return 1")) for each in HANDED_OUT["cells"]]
    cells, notes = mended(*bare)

    assert [a.mark_of(each) for each in cells if a.mark_of(each) in ("f", "g")] == ["f", "g"]
    assert "the cell of f had lost its mark: known by what it defines" in notes
    assert cells.index(a.cell_of({"cells": cells}, "check-f")) > cells.index(
        a.cell_of({"cells": cells}, "f")
    )


def test_mending_drops_marks_that_were_not_handed_out():
    """nbgrader gives up on a whole notebook for one of them."""
    cells, _ = mended(*HANDED_OUT["cells"], marked("check-h", "10.0"))

    assert [a.mark_of(each) for each in cells] == [*ORDER, None]


# The bundle


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The bundle, as a learner unpacks it."""
    folder = tmp_path_factory.mktemp("bundle")
    said = list(bundle(folder / "lab.zip", root=a.ROOT))
    with zipfile.ZipFile(folder / "lab.zip") as archive:
        archive.extractall(folder)
    assert "sealed" in said[1]
    return folder / "attention-lab"


def learner_runs(tree, code):
    """Python with nothing of ours but what is in the bundle."""
    alone = (
        "import sys\n"
        "sys.meta_path = [each for each in sys.meta_path if 'editable' not in str(each)]\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tree), "LAB_PROGRESS": str(tree.parent / "kept")}
    command = [sys.executable, "-c", alone + code]
    ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_bundle_holds_no_answers(unpacked):
    """No solutions, no mistakes, quizzes or tests in clear text; teacher's pages stay away."""
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*")}

    assert not {"solutions", "tests", "benchmarks", "docs/teaching.md"} & names
    assert {name for name in names if name.startswith("autograder/mistakes/")} == {
        "autograder/mistakes/__init__.py"
    }
    assert not [name for name in names if name.endswith(".toml") and "quizzes" in name]
    mistake = "exp overflows: for scores of some hundreds it is inf"
    for path in unpacked.rglob("*"):
        if path.suffix in (".py", ".txt", ".md", ".ipynb", ".toml"):
            text = path.read_text("utf-8")
            assert mistake not in text, path
            assert "peak.masked_fill" not in text or "stock" in path.name, path


def test_bundle_checks_as_the_project_does(unpacked):
    """A stub gets 0, a right part all its points, a wrong part is told its mistake."""
    told = learner_runs(
        unpacked,
        f"""
import importlib.util, math, torch, lab
from jaxtyping import Bool, Float
from pathlib import Path
from torch import Tensor
assert importlib.util.find_spec("solutions") is None
assert Path(lab.__file__).is_relative_to({str(unpacked)!r}), lab.__file__
from autograder import check, quiz
def softmax(scores, dim=-1):
    raise NotImplementedError
print("POINTS", check("softmax", softmax))
{a.right("softmax")}
print("POINTS", check("softmax", softmax))
def softmax(scores, dim=-1):
    exponentials = torch.exp(scores)
    total = exponentials.sum(dim, keepdim=True)
    return exponentials / total.masked_fill(total == 0, 1)
print("POINTS", check("softmax", softmax))
quiz("01-attention", {{}})
""",
    )

    given = [line for line in told.splitlines() if line.startswith("POINTS")]
    assert given[:2] == ["POINTS 0.0", "POINTS 6.0"] and given[2] < "POINTS 6.0"
    assert "No maximum taken off" in told
    assert "Quiz: 0 of 6 points" in told


def test_bundle_can_be_installed(unpacked):
    """Every package its pyproject.toml names is there, and no answers are named."""
    project = tomllib.loads((unpacked / "pyproject.toml").read_text("utf-8"))
    packages = project["tool"]["setuptools"]["packages"]

    assert "solutions" not in packages and "autograder.classroom" in packages
    for package in packages:
        assert (unpacked / package.replace(".", "/") / "__init__.py").exists(), package
    assert (unpacked / "README.md").exists() and "app:" in (unpacked / "Makefile").read_text()


def test_bundle_runs_the_page_s_model(unpacked):
    """The shipped model translates on stock parts."""
    code = "from autograder.cli import main; main(['translate', 'A man is standing.'])"

    assert "Mann" in learner_runs(unpacked, code)


def test_hidden_checks_stay_away():
    """A check marked hidden goes with its decorator; every other line stays."""
    kept = 'import torch\n\n\n@check("softmax", points=2)\ndef test_a(work, draw):\n    """A."""\n'
    hidden = (
        '\n\n@check(\n    "softmax",\n    points=4,\n    hidden=True,\n)\n'
        'def test_b(work, draw):\n    """B."""\n    secret = 1\n'
    )
    after = '\n\n@check("softmax", 1, hidden=False)\ndef test_c(work, draw):\n    """C."""\n'

    assert without_hidden(kept + hidden + after) == kept + after
    assert without_hidden(kept + after) == kept + after


def test_bundle_refuses_notebooks_with_somebody_s_work(tmp_path):
    """A teacher's own answers are not handed out by mistake; without, bytes repeat themselves."""
    with pytest.MonkeyPatch.context() as patch:
        project = a.project(tmp_path / "project")
        patch.chdir(project)
        list(teaching.init(settings.read()))
        list(teaching.release(settings.read(), ["01"]))
    (project / "solutions").mkdir()
    (project / "pyproject.toml").write_text("")
    released = project / f"build/release/{a.UNIT}/attention.ipynb"
    notebook = json.loads(released.read_text())
    a.write(project / f"exercises/{a.UNIT}/attention.ipynb", notebook)
    for name in ("one.zip", "other.zip"):
        list(bundle(tmp_path / name, root=project))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        course = archive.read("attention-lab/build/nbgrader_config.py").decode()
    assert str(project / "build/exchange") in course

    work = a.answer(notebook, softmax=a.right("softmax"))
    a.write(project / f"exercises/{a.UNIT}/attention.ipynb", work)

    with pytest.raises(ValueError, match="holds somebody's work in softmax"):
        list(bundle(tmp_path / "lab.zip", root=project))


def test_a_bundle_makes_no_bundle(tmp_path):
    """There are no answers to leave out."""
    with pytest.raises(ValueError, match="is a bundle already"):
        list(bundle(tmp_path / "lab.zip", root=tmp_path))
