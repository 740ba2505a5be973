"""The teacher's report: what it counts, and that no name can do anything in it."""

import json
import os
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import a_class as a
import a_course as course
import pytest
from test_similar import DISGUISED, ODD, everybody

from autograder.classroom import settings, teaching
from autograder.classroom.report import Report, marked, plain, sources_of
from autograder.classroom.results import Entry, entries, of_gradebook, read
from autograder.classroom.teaching import Learner
from autograder.cli import main

PLAIN = "def softmax(s, dim=-1):\n    return s.exp() / s.exp().sum(dim, True)"
CRASHED = {"state": "crashed", "points": 0.0}


def unit_of(report):
    (unit,) = report.units
    return unit


@pytest.fixture(scope="module")
def copied():
    """A class in which two answers are one, under names that are markup."""
    everyone = everybody(40) | {"img": ODD, "zhang": DISGUISED}
    return {a.UNIT.name: {name: dict(parts) for name, parts in everyone.items()}}


# What is counted


def test_histogram_counts_everybody_graded_once():
    """Bars of whole points from 0 to the most, the last one with its end."""
    unit = unit_of(Report.of(a.everybody()))

    assert [(bar.low, bar.high) for bar in unit.histogram] == [(n, n + 4) for n in range(0, 32, 4)]
    assert [bar.count for bar in unit.histogram] == [0, 0, 1, 0, 0, 0, 0, 8]
    assert unit.said() == (
        "9 graded; median 32, mean 29.3 of 32 points; 8 with all of them; "
        "2 not graded; 1 handed in nothing"
    )


def test_points_at_every_edge_have_a_bar():
    """0, the most, and what lies between two whole points."""
    for points, place in ((0, 0), (3.5, 0), (4, 1), (31.5, 7), (32, 7)):
        result = a.result("ada", a.part("softmax", points, 32, "partial"))
        unit = unit_of(Report.of(entries([result])))
        assert [bar.count for bar in unit.histogram].index(1) == place


def test_stuck_at_the_first_part_that_is_not_passed():
    """Who passes the first and not the second is stuck at the second, and nowhere else."""
    second = a.everything("ada")
    second["parts"][1] |= CRASHED
    second["parts"][3] |= CRASHED
    unit = unit_of(Report.of(entries([second, a.half("bob"), a.everything("cem")])))

    found = {each.part: [(e.learner.id, state) for e, state, _ in each.who] for each in unit.stuck}
    assert found == {"softmax": [("bob", "partial")], "soft_lookup": [("ada", "crashed")]}


def test_mistakes_by_name_and_number():
    """The most frequent first, with everybody who made it."""
    one, other = "no maximum taken off", "one maximum for all rows"
    results = [a.half(f"s{n}") for n in range(5)]
    for result in results[:2]:
        result["parts"][0]["mistake"] = other
    unit = unit_of(Report.of(entries(results)))

    assert [(each.part, each.name, len(each.who)) for each in unit.mistakes] == [
        ("softmax", one, 3),
        ("softmax", other, 2),
    ]
    assert [each.learner.id for each in unit.mistakes[1].who] == ["s0", "s1"]


def test_units_stand_in_the_order_of_the_course():
    """Whatever the order in the file; a notebook of no unit is listed, not lost."""
    from lab.course import unit_named

    later = a.result("ada", unit=unit_named("02-masks"))
    lost = a.result("bob", status="rejected", reason="x.ipynb belongs to no unit") | {"unit": None}
    report = Report.of(entries([later, lost, a.half("ada")]))

    assert [each.unit.name for each in report.units] == ["01-attention", "02-masks"]
    assert [each.learner.id for each in report.lost] == ["bob"]
    assert "belongs to no unit: bob: x.ipynb belongs to no unit" in report.text()


# In a terminal


def test_text_says_all_of_it(copied):
    """Bars, states, who is stuck, mistakes, copies, and who has no points and why."""
    text = Report.of(a.everybody(), copied).text()

    for line in (
        "01-attention Attention is a soft look-up",
        "28 to 32 8 ████████████████████████████████████████",
        "8 to <12 1 █████",
        "softmax 1 Half Written (half): partial",
        "softmax no maximum taken off 1 ████████████",
        "not graded: Machine Down (down): fault of the machine: no process",
        "nothing from Never Came (gone)",
    ):
        assert line in re.sub(" +", " ", text)
    similar = text[text.index("Similar") : text.index("not graded:")]
    assert "<img src=x onerror=alert(1)>" in similar and "张伟 (zhang)" in similar
    assert re.search(r"\d\d% of what is uncommon", similar)


def test_text_steers_no_terminal():
    """Without a terminal there is no escape code, not even one that is part of a name."""
    text = Report.of(a.everybody()).text()

    assert all(each.isprintable() or each == "\n" for each in text)
    assert plain("a\x1b[31mb\u202ec\nd") == "a [31mb c d"
    assert "\x1b[" in Report.of(a.everybody()).text(colour=True)


def test_text_keeps_its_width():
    """Columns of Chinese names and long messages stay within the terminal."""
    from rich.cells import cell_len

    named = [Learner(f"s{n}", "明明明明", "欧阳欧阳") for n in range(30)]
    text = Report.of(entries([a.half(each.id) for each in named], named)).text(width=60)

    table = text[text.index("Stuck") : text.index("Mistakes")]
    assert "欧阳欧阳明明明明 (s29): partial" in "".join(re.sub(r"\s+", " ", table))
    assert max(map(cell_len, table.splitlines())) <= 60


# As a page


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_page_needs_nothing_and_runs_nothing(copied):
    """No script, no link, no picture: names, messages and code are text."""
    html = Report.of(a.everybody(), copied).html("Class <1> & co")
    page = Page(html)

    assert {tag for tag, _ in page.elements} <= set(
        "html head meta title style body div section h1 h2 h3 p table thead tbody tr th td span "
        "details summary b pre mark".split()
    )
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert not re.search(r"\burl\(|@import|https?:", html)
    assert "<img src=x onerror=alert(1)> ]]>&amp;" in page.text
    assert "Class <1> & co" in page.text


def test_every_name_is_text_on_the_page():
    """Commas, quotes, formulas, line ends, markup and Chinese are read as they were written."""
    found = entries([a.half(each.id) for each in a.LEARNERS], a.LEARNERS)
    text = Page(Report.of(found).html()).text

    for each in found:
        assert plain(each.name, kept="\n\t") in text
    assert all(each.isprintable() or each in "\n\t" for each in text)


def test_similar_code_stands_side_by_side(copied):
    """Both cells in full, what they share marked."""
    page = Page(Report.of(a.everybody(), copied).html())

    assert "for row in rows:" in page.text and "for r in b:" in page.text
    assert [tag for tag, _ in page.elements].count("pre") == 4
    assert [tag for tag, _ in page.elements].count("mark") > 10
    assert "张伟 (zhang)" in page.text


def test_marked_lines_keep_their_numbers():
    """A cell of Windows' line ends and markup: the second line is marked, nothing is lost."""
    assert marked("a < b\r\nc & d\re", [(2, 2)]) == "a &lt; b\n<mark>c &amp; d\n</mark>e\n"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_in_a_browser(browser, tmp_path, copied, scheme):
    """Opened as a file it shows the names as text, in both schemes, and asks for nothing."""
    Report.of(a.everybody(), copied).write(tmp_path / "report.html")
    page = browser.new_page(color_scheme=scheme)
    heard = []
    page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: heard.append(message.text))
    page.on("request", lambda request: heard.append(request.url))
    page.goto(f"file://{tmp_path}/report.html")

    assert page.get_by_text("<img src=x onerror=alert(1)>").count() > 0
    assert heard == [f"file://{tmp_path}/report.html"]
    ink, paper = page.evaluate(
        "() => { const s = getComputedStyle(document.querySelector('.lab-report'));"
        " return [s.color, s.backgroundColor].map(c => +c.match(/\\d+/)[0]) }"
    )
    assert (ink < 80 and paper > 200) if scheme == "light" else (ink > 200 and paper < 80)
    bars = [bar.bounding_box()["width"] for bar in page.locator("section .bar").all()]
    assert max(bars) > 200 and min(bars) >= 1
    page.locator("details", has=page.locator("pre")).first.locator("summary").click()
    assert page.locator("pre").first.is_visible()
    page.close()


@pytest.mark.browser
def test_page_on_paper(browser, tmp_path, copied):
    """Printed, it is black on white whatever the screen, and what is folded is open."""
    Report.of(a.everybody(), copied).write(tmp_path / "report.html")
    page = browser.new_page(color_scheme="dark", viewport={"width": 800, "height": 1000})
    page.goto(f"file://{tmp_path}/report.html")
    folded = page.locator("pre").first.is_visible()
    page.emulate_media(media="print", color_scheme="light")

    assert not folded and page.locator("pre").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 800
    page.close()


# Where it all comes from


def test_sources_are_found_where_the_results_say(tmp_path, monkeypatch):
    """In folders and in zips, under the names that `lab grade` gives; what is gone is left out."""
    monkeypatch.chdir(tmp_path)
    notebook = course.answer(course._source(), softmax=ODD["softmax"])
    course.write(tmp_path / "in/ada/attention.ipynb", notebook)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "in/ada/attention.ipynb", "bob/attention.ipynb")
    names = {
        "ada": "in/ada/attention.ipynb",
        "bob": "all.zip/bob/attention.ipynb",
        "cem": "no.ipynb",
    }
    found = entries([a.half(who) | {"notebook": name} for who, name in names.items()])
    assert [each.learner.id for each in found] == ["ada", "bob", "no"]

    sources = sources_of(found)[a.UNIT.name]

    assert sources["ada"]["softmax"] == sources["bob"]["softmax"] == ODD["softmax"]
    assert set(sources) == {"ada", "bob"}


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return ended.value.code


def test_from_notebooks_to_the_report(tmp_path):
    """The real road: hand-ins, `lab grade`, `lab report`; a copy and a broken file among them."""
    base, whole = course._source(), course.everything_right(course._source())
    hand_ins = {
        "007": whole,
        "张伟": course.answer(whole, **ODD),
        "bob": course.answer(base, **DISGUISED),
        "eve": course.answer(whole, softmax=PLAIN),
    }
    for who, notebook in hand_ins.items():
        course.write(tmp_path / "submitted" / who / course.UNIT / "attention.ipynb", notebook)
    course.write(tmp_path / "submitted/cem" / course.UNIT / "attention.ipynb", {})
    roster = tmp_path / "roster.csv"
    roster.write_text("id,first_name,last_name\n007,James,Bond\ncem,<b>C,em\nida,Ida,\n", "utf-8")
    lab = [sys.executable, "-c", "from autograder.cli import main; main()"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}

    def call(*arguments):
        done = subprocess.run(
            [*lab, *arguments], cwd=tmp_path, env=environment, capture_output=True
        )
        return done.returncode, done.stdout.decode() + done.stderr.decode()

    assert call("grade", "submitted", "--json", "graded.json", "--jobs", "1")[0] == 1
    status, said = call("report", "graded.json", "--roster", "roster.csv")

    assert status == 0
    assert "4 graded; median" in said and "1 not graded; 1 handed in nothing" in said
    assert "no maximum taken off, and 0/0 in a slice of" in said
    assert "not graded: <b>C em (cem): attention.ipynb" in said and "nothing from Ida (ida)" in said
    assert "\x1b" not in said
    assert re.search(r"%  (张伟|bob) +\d+% of what is uncommon", said)
    assert call("report", "graded.json", "--roster", "roster.csv", "--html", "r.html")[0] == 0
    assert "<b>C em (cem)" in Page((tmp_path / "r.html").read_text("utf-8")).text
    assert len(read(tmp_path / "graded.json")) == 5


@pytest.fixture
def gradebook(tmp_path, monkeypatch):
    """A course of nbgrader's with real rows: graded, by hand, waiting, late, and absent."""
    folder = course.project(tmp_path / "course")
    monkeypatch.chdir(folder)
    roster = folder / "roster.csv"
    roster.write_text(
        'id,first_name,last_name\nada,Ada,"By, ron"\nbob,=1+1,@x\ncem,,\nida,,\n', "utf-8"
    )
    list(teaching.init(settings.read(), roster))
    list(teaching.release(settings.read(), [course.UNIT]))
    with teaching.gradebook(settings.read()) as book, settings.listening():
        for who in ("ada", "bob", "cem"):
            submission = book.update_or_create_submission(course.UNIT, who)
            for notebook in submission.notebooks:
                for grade in notebook.grades:
                    if who == "cem":
                        continue
                    grade.auto_score = grade.cell.max_score
                    if who == "bob" and grade.name == "check-softmax":
                        grade.auto_score, grade.manual_score = 0, 2.5
        book.db.commit()
    return folder


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_report_from_the_gradebook(gradebook, capsys):
    """Where nbgrader holds the grades they are read from there, points given by hand included."""
    with teaching.gradebook(settings.read()) as book, settings.listening():
        found = {each.learner.id: each for each in of_gradebook(book)}

    assert found["ada"].points == course.POINTS
    assert found["bob"].points == course.POINTS - 6 + 2.5
    assert found["cem"].points is None and found["cem"].why_not == "not graded yet"
    assert found["ida"].result is None
    assert run("report", "--unit", "01") == 0
    said = capsys.readouterr().out
    assert "softmax         1  =1+1 @x (bob): partial" in said
    assert "nothing from ida" in said and "lab report FILE" in said
    assert run("export", "--format", "junit", "--to", "junit.xml") == 0
    assert run("export", "--format", "canvas", "--to", "canvas.csv") == 0
    assert "'=1+1 @x,,bob,bob,,28.5" in Path("canvas.csv").read_text("utf-8")


def test_report_without_anything(tmp_path, monkeypatch, capsys):
    """Outside a course and without results it says what it needs, in one line."""
    monkeypatch.chdir(tmp_path)

    assert run("report") == 1
    said = capsys.readouterr().err
    assert "nbgrader_config.py" in said and said.count("\n") == 1
    a.write(tmp_path / "empty.json", [])
    assert run("report", "empty.json") == 1
    assert "there is no result" in capsys.readouterr().err


def test_entries_are_plain_data():
    """A page may keep them: an entry tells its points and, where there are none, why."""
    found = {each.learner.id: each for each in a.everybody()}

    assert isinstance(found["half"], Entry) and json.dumps(found["half"].parts)
    assert [found[who].why_not for who in ("half", "bad", "gone")] == [
        "",
        "bad.ipynb is cut off",
        "not handed in",
    ]
