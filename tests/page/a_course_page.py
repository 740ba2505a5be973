"""A course with accounts, for the tests of the page: two learners, one with a Chinese name, and a
teacher."""

import json
import os
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import a_course as a
import a_server
import pytest
from a_server import free_ports, until
from starlette.testclient import TestClient

from autograder.classroom import accounts, settings, teaching
from autograder.classroom.accounts import Accounts
from autograder.classroom.door import Door

ROOT = Path(__file__).parents[2]
LEARNERS = ("ada", "王小明")
TEACHER = "turing"
PASSWORD = "correct-horse-9"
MISTAKE = """\
def softmax(scores, dim=-1):
    return torch.exp(scores) / torch.exp(scores).sum(dim, keepdim=True)"""
HOSTILE = '<img src=x onerror="document.title=1">'


def make(folder):
    """A project with a released unit that is due in the year 2100, and everybody's account."""
    project = a.project(folder / "project")
    roster = folder / "roster.csv"
    roster.write_text("id,first_name,last_name\nada,Ada,Byron\n王小明,小明,王\n", "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setattr(accounts, "SIZES", (16, 8, 1))  # the real ones take a quarter of a second
        course = settings.read()
        list(teaching.init(course, roster))
        course = settings.read()
        list(teaching.release(course, ["01"], teaching.read_date("2100-01-01")))
        found = Accounts.of(course)
        found.make(LEARNERS)
        found.make([TEACHER], teacher=True)
        for name in (*LEARNERS, TEACHER):
            found.change(name, PASSWORD)
    return project


def released(project):
    return json.loads((project / "build/release" / a.UNIT / "attention.ipynb").read_text("utf-8"))


def right(project):
    return as_bytes(a.everything_right(released(project)))


def wrong(project, softmax=MISTAKE):
    return as_bytes(a.answer(released(project), softmax=softmax))


def as_bytes(notebook):
    return json.dumps(notebook, ensure_ascii=False).encode()


def visitor(course, **options):
    """A browser without a window, before the door of a course that no server serves."""

    async def behind(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the page"})

    door = Door(behind, course.accounts, course.routes(), hub=course.hub)
    return TestClient(door, follow_redirects=False, **options)


def log_in(client, name, password=PASSWORD):
    answer = client.post("/login", data={"name": name, "password": password})
    assert answer.status_code == 303, answer.text
    return client


def hand_in(client, raw, name="attention.ipynb"):
    """What the page answers: a receipt or a fault."""
    return client.post("/course/hand-in", params={"name": name}, content=raw).json()


def mine(client):
    return client.get("/course/mine").json()


def the_unit(client):
    """The one unit of the course, as its learner sees it."""
    (found,) = mine(client)["units"]
    return found


def until_graded(client, seconds=120):
    """The unit, as soon as it is graded."""
    until(lambda: the_unit(client)["state"] not in ("waiting", "replaced"), seconds=seconds)
    return the_unit(client)


@contextmanager
def served(project, said):
    """The address of `lab app --course` in a project; and its process, which may be killed."""
    (port,) = free_ports()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, ROOT / "app.py", "--course", "--port", str(port), "--device", "cpu"]
    there = {"cwd": project, "env": os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}}
    with a_server.served(command, f"{address}/login", said, signal.SIGINT, **there) as app:
        yield address, app


def copy_of(project, folder):
    """The same course somewhere else, for a test that changes it."""
    return Path(shutil.copytree(project, folder / "project"))
