"""The course on the page without a browser: who comes in, what is kept, who sees what."""

import asyncio
import contextlib
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import a_course as a
import a_course_page as c
import httpx
import pytest
from a_server import until

from autograder.classroom import accounts, door, grading, settings, teaching
from autograder.classroom.accounts import Account, Accounts, Rate
from autograder.classroom.inbox import HandIn, Inbox, Limits, plain
from autograder.classroom.page import Course
from autograder.classroom.queue import Queue
from autograder.cli import main
from autograder.oracle import job
from lab.page.words import WORDS

pytestmark = [pytest.mark.xdist_group("course-page"), *a.WARNINGS]

EVERY_ADDRESS = [
    "/course/mine", "/course/changes", "/course/notebook?id=01-attention/1", "/course/class",
    "/course/report", "/course/export?format=nbgrader", "/config", "/gradio_api/info",
    "/gradio_api/queue/data", "/gradio_api/heartbeat/x", "/theme.css", "/monitoring",
]  # fmt: skip
TEACHERS = ["/course/class", "/course/report", "/course/report?similar=yes",
            "/course/export?format=nbgrader"]  # fmt: skip


@pytest.fixture(scope="module")
def new_project(tmp_path_factory):
    return c.make(tmp_path_factory.mktemp("class"))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small sizes for scrypt, and nobody's guesses from another test."""
    monkeypatch.setattr(accounts, "SIZES", (16, 8, 1))
    for name in ("GUESSES", "NAME_GUESSES", "ADDRESS_GUESSES"):
        kept = getattr(door, name)
        monkeypatch.setattr(door, name, Rate(kept.times, kept.seconds))


@pytest.fixture
def project(new_project, tmp_path):
    return c.copy_of(new_project, tmp_path)


@pytest.fixture
def course(project):
    """A course whose queue waits: nothing is graded."""
    return Course(settings.read(project))


@pytest.fixture
def ada(course):
    return c.log_in(c.visitor(course), "ada")


# Coming in


@pytest.mark.parametrize("address", EVERY_ADDRESS)
def test_a_stranger_gets_nothing(course, address):
    """Neither the course's addresses nor Gradio's answer who has not logged in."""
    answer = c.visitor(course).get(address)

    assert answer.status_code == 401
    assert answer.json() == {"fault": "log in first"}


def test_a_stranger_is_sent_to_the_login(course):
    """The page itself leads there; files and hand-ins do not come in."""
    stranger = c.visitor(course)

    assert stranger.get("/").headers["location"] == "./login"
    assert "Log in" in stranger.get("/login").text
    assert c.hand_in(stranger, b"{}") == {"fault": "log in first"}
    assert stranger.post("/gradio_api/upload").status_code == 401


def test_unknown_names_and_wrong_passwords_are_told_the_same(course):
    """Nobody learns who has an account; what was typed comes back as text."""
    stranger = c.visitor(course)
    answers = [
        stranger.post("/login", data={"name": name, "password": "wrong"})
        for name in ("ada", "nobody")
    ]
    typed = stranger.post("/login", data={"name": c.HOSTILE, "password": "wrong"})

    assert [each.status_code for each in answers] == [401, 401]
    assert answers[0].text.replace("ada", "") == answers[1].text.replace("nobody", "")
    assert WORDS["en"]["login.wrong"] in answers[0].text
    assert c.HOSTILE not in typed.text and "&lt;img" in typed.text
    assert "set-cookie" not in answers[0].headers


def test_guessing_has_an_end(course):
    """After five wrong passwords even the right one waits; another name does not."""
    stranger = c.visitor(course)
    for _ in range(5):
        assert stranger.post("/login", data={"name": "ada", "password": "x"}).status_code == 401

    answer = stranger.post("/login", data={"name": "ada", "password": c.PASSWORD})

    assert answer.status_code == 429
    assert "Too many wrong passwords: wait 5 min." in answer.text
    c.log_in(stranger, "王小明")


def test_guessing_all_at_once_has_an_end_too(course):
    """Thirty guesses at a time are no more than five."""
    app = c.visitor(course).app  # in one event loop, as a server has it

    async def guess(client):
        form = {"name": "ada", "password": "x"}
        return (await client.post("/login", data=form)).status_code

    async def thirty():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://lab") as client:
            return await asyncio.gather(*(guess(client) for _ in range(30)))

    with ThreadPoolExecutor() as apart:  # from the browser's loop, which may run in this thread
        codes = apart.submit(lambda: asyncio.run(thirty())).result()

    assert sorted(set(codes)) == [401, 429]
    assert codes.count(401) <= 5


def test_a_first_password_opens_nothing_but_its_change(course):
    """Who was given a password chooses another one, and only then comes in."""
    first = course.accounts.make(["eve"])["eve"]
    eve = c.log_in(c.visitor(course), "eve", first)

    assert eve.get("/").headers["location"] == "./password"
    assert eve.get("/course/mine").status_code == 401

    def change(password, new, again=None):
        form = {"password": password, "new": new, "again": again or new}
        return eve.post("/password", data=form)

    assert "another one" in change("wrong", "a-new-password").text
    assert "not the same" in change(first, "a-new-password", "another-password").text
    assert "of 10 or more characters" in change(first, "short").text
    assert "the old one" in change(first, first).text
    assert change(first, "a-new-password").headers["location"] == "./"
    assert eve.get("/course/mine").json()["id"] == "eve"
    assert course.accounts.check("eve", first) is None


def test_the_cookie_is_for_this_site_and_no_script(course):
    """HttpOnly, SameSite, and Secure where the page is served so."""
    plainly = c.log_in(c.visitor(course), "ada")
    assert plainly.get("/").status_code == 200
    form = {"name": "ada", "password": c.PASSWORD}
    safely = c.visitor(course, base_url="https://lab.example").post("/login", data=form)

    cookie = safely.headers["set-cookie"].lower()
    assert all(each in cookie for each in ("httponly", "samesite=lax", "secure", "path=/"))


def test_sessions_end(course, ada, monkeypatch):
    """By logging out, by a new password, by removal of the account, and by themselves."""
    second, third = (c.log_in(c.visitor(course), "ada") for _ in range(2))
    assert second.get("/logout").status_code == 303 and c.mine(second)  # a link does nothing
    second.post("/logout")
    assert second.get("/course/mine").status_code == 401
    assert c.mine(third)
    course.accounts.change("ada", "another-password")
    assert third.get("/course/mine").status_code == ada.get("/course/mine").status_code == 401
    bob = c.log_in(c.visitor(course), "王小明")
    Accounts(course.accounts.path).remove(["王小明"])
    assert bob.get("/course/mine").status_code == 401

    now = [0.0]
    sessions = door.Sessions(clock=lambda: now[0])
    account = course.accounts.all()["ada"]
    token = sessions.begin(account)
    now[0] = door.HOURS * 3600 - 1
    assert sessions.find(token, course.accounts) == account
    now[0] += 2
    assert sessions.find(token, course.accounts) is None
    assert token not in str(sessions._all)


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://testserver:81"},
     {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}],
)  # fmt: skip
def test_other_sites_cannot_use_somebody_s_login(course, ada, headers, project):
    """What another origin sends with Ada's cookie is refused; nothing is handed in for her."""
    answer = ada.post("/course/hand-in", content=c.right(project), headers=headers)

    assert answer.status_code == 403
    assert c.mine(ada)["units"] == []
    if "origin" in headers:
        assert ada.get("/course/mine", headers=headers).status_code == 403
    assert ada.get("/course/mine", headers={"origin": "http://testserver"}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "sent", "language"),
    [("/login", "zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"), ("/login", "zh", "zh-CN"),
     ("/login", "zh-Hans-CN", "zh-CN"), ("/login", "en-GB,zh;q=0.5", "en"),
     ("/login", "de", "en"), ("/login", "", "en"), ("/login?lang=en", "zh-CN", "en"),
     ("/login?lang=zh", "en", "zh-CN"), ("/login?lang=%22%3E%3Cscript%3E", "zh", "en")],
)  # fmt: skip
def test_the_login_speaks_the_browser_s_language(course, asked, sent, language):
    """By its first language, as the page does, or by the address; faults and the way to the other
    language, too."""
    visitor, headers = c.visitor(course), {"accept-language": sent}
    answer = visitor.get(asked, headers=headers)
    wrong = visitor.post(asked, headers=headers, data={"name": "ada", "password": "x"})
    words, other = WORDS[language], "en" if language == "zh-CN" else "zh-CN"

    assert f'<html lang="{language}">' in answer.text
    assert words["login.about"] in answer.text and words["page.language"] in answer.text
    assert f'href="./login?lang={other}"' in answer.text
    assert words["login.wrong"] in wrong.text
    assert "<script" not in answer.text


def test_a_language_goes_along_through_the_door(course):
    """Chosen at the login, it is the page's; chosen on the page, it is the next login's."""
    form = {"name": "ada", "password": c.PASSWORD}
    visitor = c.visitor(course)

    assert visitor.post("/login?lang=zh-CN", data=form).headers["location"] == "./?lang=zh-CN"
    assert visitor.post("/logout?lang=zh-CN").headers["location"] == "./login?lang=zh-CN"
    assert visitor.post("/login", data=form).headers["location"] == "./"


# Handing in


def test_a_hand_in_is_where_nbgrader_looks_and_kept_beside(course, ada, project):
    """The bytes as they came, a time nbgrader reads, a receipt with their hash."""
    raw = c.right(project)
    said = c.hand_in(ada, raw)

    submitted = project / "build/submitted/ada" / a.UNIT
    kept = project / "build/hand-ins/ada" / a.UNIT / "0001"
    assert (submitted / "attention.ipynb").read_bytes() == raw
    assert (kept / "attention.ipynb").read_bytes() == raw
    receipt = json.loads((kept / "receipt.json").read_text("utf-8"))
    assert receipt["sha256"] == sha256(raw).hexdigest()
    assert receipt["sha256"] in said["receipt"] and said["receipt"].startswith("Handed in: 01-")
    stamp = course.settings.coursedir.get_existing_timestamp(str(submitted))
    assert stamp.replace(tzinfo=UTC).isoformat() == receipt["time"]
    assert ada.get("/course/notebook", params={"id": said["id"]}).content == raw
    assert os.stat(project / "build/hand-ins").st_mode & 0o077 == 0


def test_nothing_is_overwritten(course, ada, project):
    """The last one counts, the earlier ones stay, and so does what came another way."""
    submitted = project / "build/submitted/ada" / a.UNIT
    a.write(submitted / "attention.ipynb", c.released(project))
    by_mail = (submitted / "attention.ipynb").read_bytes()
    files = [c.wrong(project), c.right(project), c.wrong(project)]
    ids = [c.hand_in(ada, raw)["id"] for raw in files]

    home = project / "build/hand-ins/ada" / a.UNIT
    assert ids == [f"{a.UNIT}/{number}" for number in (1, 2, 3)]
    assert [(home / f"000{n}/attention.ipynb").read_bytes() for n in (1, 2, 3)] == files
    assert [path.read_bytes() for path in home.glob("before-*.ipynb")] == [by_mail]
    assert (submitted / "attention.ipynb").read_bytes() == files[-1]
    unit = c.the_unit(ada)
    assert unit["number"] == 3 and [each["number"] for each in unit["earlier"]] == [2, 1]
    assert "3rd time" in unit["receipt"]


def test_the_same_file_again_gives_the_same_receipt(course, ada, project):
    """Pressed twice, it is handed in once, at the first time."""
    first, second = (c.hand_in(ada, c.right(project)) for _ in range(2))

    assert first["id"] == second["id"]
    assert first["receipt"] == second["receipt"]
    assert len(course.inbox.of("ada")) == 1


@pytest.mark.parametrize(
    "name",
    ["../../../etc/passwd", "..", "/etc/cron.d/x.ipynb", "C:\\evil\\x.ipynb", "注意力 (1).ipynb",
     "a\x00b\nc.ipynb", c.HOSTILE, "x" * 5_000, "", "‮bpnyi.exe"],
)  # fmt: skip
def test_a_file_s_name_is_a_word_and_no_place(course, ada, project, name):
    """Whatever it is called, it lies where it belongs; the receipt says the name as text."""
    before = everything_in(project)
    assert "id" in c.hand_in(ada, c.right(project), name)

    new = {path for path in everything_in(project) - before if path.is_file()}
    places = ("build/hand-ins/ada/01-attention/0001", "build/submitted/ada/01-attention")
    assert {path.parent.relative_to(project).as_posix() for path in new} == set(places)
    assert {path.name for path in new} == {"attention.ipynb", "receipt.json", "timestamp.txt"}
    shown = c.the_unit(ada)["notebook"]
    assert len(shown) <= 120 and shown.isprintable() and not set("/\\") & set(shown)


def everything_in(folder):
    return set(Path(folder).rglob("*"))


def test_names_keep_their_letters():
    """Chinese, spaces and emoji stay; folders and what cannot be seen go."""
    assert plain("作业/注意力 (1) 🙂.ipynb") == "注意力 (1) 🙂.ipynb"
    assert plain("C:\\a\\b.ipynb") == "b.ipynb"
    assert plain("a\u202eb\n.ipynb") == "ab.ipynb"


@pytest.mark.parametrize(
    ("raw", "said"),
    [(b"", "is empty"), (b"GIF89a", "is no notebook"), (b'{"cells": []}', "belongs to no unit"),
     (b"[1, 2]", "no list of cells"), (b'{"cells": [{"cell_', "no JSON"),
     (b"\xff\xfe\x00", "is no notebook"), (b'{"nbformat": 3, "worksheets": []}', "version"),
     (b"[" * 200_000, "is no notebook")],
)  # fmt: skip
def test_a_wrong_file_is_refused_in_a_sentence(course, ada, project, raw, said):
    """With the words of `Submission.problems`, and nothing is kept of it."""
    before = everything_in(project)
    answer = ada.post("/course/hand-in", params={"name": "my.ipynb"}, content=raw)

    assert answer.status_code == 400
    assert said in answer.json()["fault"]
    assert everything_in(project) == before


def test_a_unit_that_is_not_released_is_not_open(course, ada, project):
    """A notebook of another unit is told so."""
    text = json.dumps(c.released(project)).replace("softmax", "split_heads")
    other = text.replace("soft_lookup", "x").replace("scaled_dot_product_attention", "y")

    said = c.hand_in(ada, other.replace("SelfAttention", "z").encode())

    assert said == {"fault": "03-multi-head is not open for handing in yet"}


def limited(project, **limits):
    course = Course(settings.read(project), Limits(**limits))
    return course, c.log_in(c.visitor(course), "ada")


def test_a_file_too_large_is_refused_while_it_comes(project):
    """Said at once where the length is told, and counted where it is not; nothing stays."""
    course, ada = limited(project, file=5_000)
    before = everything_in(project)

    def slowly():
        for _ in range(6):
            yield b"x" * 1_000

    for content in (b"x" * 5_001, slowly()):
        said = c.hand_in(ada, content)["fault"]
        assert said.startswith("it has more than 0.005 MB: clear its outputs")
    assert everything_in(project) == before
    assert Limits().file == 100_000_000 and Limits().learner == 1_000_000_000


def test_a_learner_s_room_has_an_end_and_nobody_else_s(project):
    """What does not fit any more is told; what was handed in before stays."""
    raw, other = c.right(project), c.wrong(project)
    course, ada = limited(project, learner=len(raw) + len(other) - 1)

    assert "id" in c.hand_in(ada, raw)
    assert "altogether, and nothing is thrown away" in c.hand_in(ada, other)["fault"]
    assert len(course.inbox.of("ada")) == 1
    assert "id" in c.hand_in(c.log_in(c.visitor(course), "王小明"), other)


def test_so_many_files_an_hour(project):
    """Wrong ones count, too; another learner's do not."""
    course, ada = limited(project, times=3)
    for raw in (b"", b"x", c.right(project)):
        c.hand_in(ada, raw)

    said = c.hand_in(ada, c.wrong(project))["fault"]

    assert said.startswith("you sent 3 files within an hour: wait 60 min.")
    assert "id" in c.hand_in(c.log_in(c.visitor(course), "王小明"), c.right(project))


def test_a_full_disk_takes_nothing(project, monkeypatch):
    """It is said before the file comes, and where the disk ends in the middle."""
    course, ada = limited(project, spare=10**18)
    assert "no room left" in c.hand_in(ada, c.right(project))["fault"]

    course, ada = limited(project)
    before = everything_in(project)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    answer = ada.post("/course/hand-in", content=c.right(project))
    assert answer.status_code == 507 and "tell your teacher" in answer.json()["fault"]
    assert {path for path in everything_in(project) - before if path.is_file()} == set()


def test_ten_at_once_are_ten_or_refused(course, project):
    """Of many hand-ins of one learner at a time each is whole and has a number of its own."""
    raws = [c.wrong(project, f"def softmax(s, dim=-1):\n    return s * {n}") for n in range(10)]
    clients = [c.log_in(c.visitor(course), "ada") for _ in raws]
    said = []

    def send(client, raw):
        said.append(c.hand_in(client, raw))

    threads = [threading.Thread(target=send, args=pair) for pair in zip(clients, raws, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    taken = [each["id"] for each in said if "id" in each]
    assert len(said) == 10 and taken and len(set(taken)) == len(taken)
    assert all("on their way" in each["fault"] for each in said if "id" not in each)
    found = course.inbox.of("ada")
    assert [each.receipt.number for each in found] == list(range(len(taken), 0, -1))
    assert {each.notebook.read_bytes() for each in found} <= set(raws)
    last = project / "build/submitted/ada" / a.UNIT / "attention.ipynb"
    assert last.read_bytes() == found[0].notebook.read_bytes()


def test_a_late_one_is_taken_and_marked(course, ada, project):
    """In the receipt, on the page, and in nbgrader, which reads the same time."""
    date = datetime.now(UTC) - timedelta(hours=2, minutes=5)
    list(teaching.release(course.settings, ["01"], date))

    said = c.hand_in(ada, c.right(project))

    assert "LATE      by 2 h 5 min" in said["receipt"]
    assert c.the_unit(ada)["late"] == "2 h 5 min"
    (result,) = grading.grade(course.settings, a.UNIT)
    assert result.late >= timedelta(hours=2, minutes=5)


def test_a_newer_one_from_the_exchange_stays(course, ada, project):
    """Starting again does not put an old hand-in over a newer one that was collected."""
    c.hand_in(ada, c.wrong(project))
    submitted = project / "build/submitted/ada" / a.UNIT
    (submitted / "attention.ipynb").write_bytes(c.right(project))
    later = datetime.now(UTC) + timedelta(minutes=1)
    (submitted / "timestamp.txt").write_text(f"{later:%Y-%m-%d %H:%M:%S.%f} UTC")

    Inbox(course.settings)

    assert (submitted / "attention.ipynb").read_bytes() == c.right(project)


def test_what_a_stop_cut_off_is_finished_or_gone(course, ada, project):
    """Kept and not yet in submitted/: it is put there. Half an upload: it goes."""
    c.hand_in(ada, c.wrong(project))
    c.hand_in(ada, c.right(project))
    submitted = project / "build/submitted/ada" / a.UNIT
    for path in submitted.iterdir():
        path.unlink()
    (project / "build/hand-ins/.upload-x").write_bytes(b"half")

    again = Inbox(course.settings)

    assert (submitted / "attention.ipynb").read_bytes() == c.right(project)
    assert [each.receipt.number for each in again.of("ada")] == [2, 1]
    assert not (project / "build/hand-ins/.upload-x").exists()


# Who sees what


def test_a_learner_sees_only_their_own(course, ada, project):
    """Another learner's hand-ins are in no list, have no place, and are not found by their name."""
    c.hand_in(ada, c.right(project))
    other = c.log_in(c.visitor(course), "王小明")

    assert c.mine(other)["units"] == []
    assert other.get("/course/changes").json() == {"places": {}}
    for wanted in ("01-attention/1", "../ada/01-attention/1", "ada/01-attention/1"):
        assert other.get("/course/notebook", params={"id": wanted}).status_code == 404


@pytest.mark.parametrize("address", TEACHERS)
def test_the_class_is_its_teacher_s(course, ada, project, address):
    """On the server, whatever a browser shows."""
    c.hand_in(ada, c.right(project))
    answer = ada.get(address)

    assert answer.status_code == 403
    assert answer.json() == {"fault": "this is for teachers"}
    assert c.log_in(c.visitor(course), c.TEACHER).get(address).status_code == 200


def test_the_queue_has_a_place_for_everybody(course, ada, project):
    """First come, first graded; a newer hand-in of the same unit takes the place of the older."""
    other = c.log_in(c.visitor(course), "王小明")
    teacher = c.log_in(c.visitor(course), c.TEACHER)
    c.hand_in(teacher, c.right(project))  # who tries it out stands in line, too
    c.hand_in(ada, c.wrong(project))
    c.hand_in(other, c.right(project))
    assert (c.the_unit(ada)["before"], c.the_unit(other)["before"]) == (1, 2)

    c.hand_in(ada, c.right(project))

    assert (c.the_unit(other)["before"], c.the_unit(ada)["before"]) == (1, 2)
    assert c.the_unit(ada)["earlier"][0]["state"] == "replaced"
    assert ada.get("/course/changes").json() == {"places": {"01-attention/2": 2}}
    queue = teacher.get("/course/class").json()["queue"]
    assert [each["id"] for each in queue] == [c.TEACHER, "王小明", "ada"]


# Graded: one round with the real oracle


@pytest.fixture(scope="module")
def round_(new_project, tmp_path_factory):
    """Ada makes a known mistake, and a cell says what no page may run; the other is right."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "SIZES", (16, 8, 1))
        project = c.copy_of(new_project, tmp_path_factory.mktemp("round"))
        course = Course(settings.read(project))
        course.start()
        people = {name: c.log_in(c.visitor(course), name) for name in (*c.LEARNERS, c.TEACHER)}
        hostile = a.answer(
            c.released(project),
            softmax=c.MISTAKE,
            soft_lookup=f"def soft_lookup(query, *given):\n    raise ValueError({c.HOSTILE!r})",
        )
        c.hand_in(people["ada"], c.as_bytes(hostile))
        c.hand_in(people["王小明"], c.right(project))
        units = {name: c.until_graded(people[name]) for name in c.LEARNERS}
        yield course, people, units
        course.stop()


def test_the_feedback_says_what_was_wrong(round_):
    """Points and sentences by part; the mistake's words; what was not started says so."""
    _, _, units = round_
    parts = {part["name"]: part for part in units["ada"]["parts"]}

    assert units["王小明"]["points"] == a.POINTS == units["王小明"]["max_points"]
    assert 0 < parts["softmax"]["points"] < parts["softmax"]["max_points"]
    assert "overflow" in parts["softmax"]["message"]
    assert parts["SelfAttention"]["state"] == "not started"
    assert c.HOSTILE in parts["soft_lookup"]["message"]  # as text, in JSON
    assert all(check["said"].endswith(".") for check in parts["softmax"]["checks"])


def test_the_official_points_are_the_same(round_):
    """`lab course grade` finds the same hand-ins and comes to the same points."""
    course, _, units = round_

    official = {each.student: each.points for each in grading.grade(course.settings, a.UNIT)}

    assert official == {name: unit["points"] for name, unit in units.items()}


def test_the_report_is_a_page_without_a_script(round_):
    """Mistakes by name and number, who is stuck; hostile text is text, and the policy says so."""
    _, people, _ = round_
    answer = people[c.TEACHER].get("/course/report?similar=yes")

    assert "No maximum taken off" in answer.text and "Ada Byron (ada)" in answer.text
    assert c.HOSTILE not in answer.text
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


def test_every_download_is_there(round_):
    """Each format the tab offers gives a file with both learners in it; others are refused."""
    _, people, _ = round_
    teacher = people[c.TEACHER]
    offered = teacher.get("/course/class").json()["formats"]

    assert set(offered) == {"nbgrader", "canvas", "junit", "results"}
    for format in offered:
        answer = teacher.get("/course/export", params={"format": format, "unit": a.UNIT})
        assert answer.status_code == 200, answer.text
        assert "attachment" in answer.headers["content-disposition"]
        assert "ada" in answer.text and "王小明" in answer.text
    assert teacher.get("/course/export?format=../../x").status_code == 400
    assert teacher.get("/course/export?format=junit&unit=02-masks").status_code == 400


def test_the_results_go_on_to_every_other_format(round_, tmp_path, monkeypatch, capsys):
    """What is downloaded as results is what `lab export` and `lab report` read."""
    course, people, _ = round_
    answer = people[c.TEACHER].get("/course/export?format=results")
    (tmp_path / "results.json").write_bytes(answer.content)
    monkeypatch.chdir(course.settings.project)

    with pytest.raises(SystemExit) as end:
        main(["report", str(tmp_path / "results.json"), "--no-similar"])

    said = capsys.readouterr().out
    assert not end.value.code and "Ada Byron (ada)" in said and "2 graded" in said


def test_hidden_checks_stay_hidden(round_, monkeypatch):
    """Neither their sentence nor the words on what they saw are on the page."""
    from dataclasses import replace

    from autograder.classroom import views
    from autograder.judge import checks_of

    course, people, _ = round_
    hidden = [replace(check, hidden=True) for check in checks_of("softmax")]
    monkeypatch.setattr(views, "checks_of", lambda part: hidden)

    part = c.the_unit(people["ada"])["parts"][0]

    assert {check["said"]["text"] for check in part["checks"]} == {"A hidden check."}
    assert part["message"]["text"] == "One of the hidden checks is not met."


def test_a_lost_mark_costs_nothing_here_either(round_):
    """A part whose cell lost its mark is known by what it defines, as `lab course grade` has it."""
    course, people, _ = round_
    notebook = json.loads(c.right(course.settings.project))
    a.cell_of(notebook, "softmax")["metadata"].pop("nbgrader")
    teacher = people[c.TEACHER]

    c.hand_in(teacher, c.as_bytes(notebook))

    found = c.until_graded(teacher)
    assert found["points"] == a.POINTS
    assert "softmax" in found["reason"]


def test_a_large_one_is_graded_though_it_is_not_read_here(round_, monkeypatch):
    """Of a file above 10 MB the page looks at the marks only; the grader's process reads it."""
    course, people, _ = round_
    notebook = json.loads(c.right(course.settings.project))
    output = {"output_type": "stream", "name": "stdout", "text": "x" * 11_000_000}
    a.cell_of(notebook, "softmax")["outputs"] = [output]
    teacher = people[c.TEACHER]

    c.hand_in(teacher, c.as_bytes(notebook))

    assert c.until_graded(teacher)["points"] == a.POINTS
    broken = b"{" + b" " * 11_000_000 + b'"grade_id": "softmax"'
    c.hand_in(teacher, broken)
    found = c.until_graded(teacher)
    assert found["state"] == "rejected" and "cut off" in found["reason"]
    assert c.hand_in(teacher, b"x" * 11_000_000)["fault"].endswith("it is not JSON")


# Stopped and started again


def test_a_killed_server_goes_on_with_what_is_left(project, tmp_path):
    """Three hand in, the server dies in the middle; started again, all are graded, and right."""
    said = tmp_path / "said.txt"
    with c.served(project, said) as (address, app):
        for name in (*c.LEARNERS, c.TEACHER):
            with httpx.Client(base_url=address, timeout=60) as client:
                assert "id" in c.hand_in(c.log_in(client, name), c.right(project))
        app.send_signal(signal.SIGKILL)
        app.wait()
    course = settings.read(project)
    graded = [each for each in Inbox(course).last() if each.result]
    assert len(graded) < 3, "it was too quick: nothing was left to be graded"

    with c.served(project, said) as (address, _):
        for name in (*c.LEARNERS, c.TEACHER):
            with httpx.Client(base_url=address, timeout=60) as client:
                assert c.until_graded(c.log_in(client, name))["points"] == a.POINTS
                config = client.get("/config").json()
                assert client.post("/gradio_api/upload").status_code == 403
            for path in EVERY_ADDRESS:
                assert httpx.get(address + path).status_code == 401, path
    assert "Traceback" not in said.read_text()
    assert "王小明" not in json.dumps(config)
    until(lambda: not working_in(project))


def working_in(project):
    """The commands of processes that name this project: a server's graders end after it."""
    commands = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            commands.append(each.read_bytes())
    return [each for each in commands if str(project).encode() in each]


def test_a_fault_of_the_machine_is_tried_again_at_the_next_start(course, ada, project):
    """An error is no grade: it is told as what it is, and the next start puts it in the queue."""
    c.hand_in(ada, c.right(project))
    (handed_in,) = course.inbox.of("ada")
    handed_in.keep(job.failed(str(handed_in.notebook), "no process"))
    course.queue._waiting.clear()
    assert c.the_unit(ada)["state"] == "error" and c.the_unit(ada)["points"] is None

    again = Queue(Inbox(course.settings))
    again._job = Quiet()
    again.start()
    try:
        until(lambda: handed_in.result["status"] == "graded")
    finally:
        again.stop()


def test_a_result_that_cannot_be_written_is_no_loss(course, ada, project, monkeypatch):
    """The queue waits and tries again; the next one is graded, too."""
    monkeypatch.setattr("autograder.classroom.queue.PAUSE", 0.05)
    real, failures = HandIn.keep, []

    def keep(self, result):
        if len(failures) < 2:
            failures.append(self.id)
            raise OSError(28, "No space left on device")
        real(self, result)

    monkeypatch.setattr(HandIn, "keep", keep)
    c.hand_in(ada, c.right(project))
    (handed_in,) = course.inbox.of("ada")
    course.queue._job = Quiet()
    course.start()
    try:
        until(lambda: handed_in.result is not None)
    finally:
        course.stop()
    assert len(failures) == 2


class Quiet:
    """A grader that has nothing to say."""

    sandbox = {}

    def start(self):
        pass

    def close(self):
        pass

    def grade(self, name, raw):
        return job.failed(name, "") | {"status": "graded", "points": 0.0}


def test_a_course_without_accounts_does_not_open(project):
    """It says what to do; and the file's fields are what the account has."""
    (project / "build/accounts.json").unlink()

    with pytest.raises(ValueError, match="run `lab course accounts` first"):
        Course(settings.read(project))
    assert {each.name for each in fields(Account)} >= {"salt", "hash", "sizes"}
