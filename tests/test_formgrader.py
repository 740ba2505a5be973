"""The teacher's page: nbgrader's formgrader, in a real server and a real browser."""

import json
import os
import sys

import a_course as a
import pytest
from a_server import free_ports, served

from autograder.classroom import grading, settings, teaching

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("nbgrader"),
    *a.WARNINGS,
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A course with one graded hand-in, one that nobody can grade, and one that is missing."""
    folder = tmp_path_factory.mktemp("formgrader")
    project = a.project(folder / "project")
    roster = folder / "roster.csv"
    roster.write_text("id,first_name,last_name\nada,Ada,Byron\ncem,Cem,Ay\nida,Ida,Ott\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        list(teaching.init(settings.read(), roster))
        list(teaching.release(settings.read(), ["01"]))
        released = json.loads((project / f"build/release/{a.UNIT}/attention.ipynb").read_text())
        for name in ("ada", "cem"):
            home = project / "build/submitted" / name / a.UNIT
            a.write(home / "attention.ipynb", a.answer(released, softmax=a.right("softmax")))
            (home / "timestamp.txt").write_text("2026-01-01 10:00:00 UTC")
        (project / f"build/submitted/cem/{a.UNIT}/attention.ipynb").write_text("{")
        results = {each.student: each for each in grading.grade(settings.read(), a.UNIT)}
    assert results["ada"].points == 6 and not results["cem"].graded
    return project


@pytest.fixture(scope="module")
def server(project, tmp_path_factory):
    """The address of a server as `jupyter lab` in the project starts it."""
    folder = tmp_path_factory.mktemp("jupyter")
    config = folder / "config"
    config.mkdir()
    extensions = {"nbgrader.server_extensions.formgrader": True}
    enabled = {"ServerApp": {"jpserver_extensions": extensions}}
    (config / "jupyter_server_config.json").write_text(json.dumps(enabled))
    (port,) = free_ports()
    command = [
        sys.executable, "-c",
        "import sys; sys.modules['rfc3987_syntax'] = None\n"
        "from jupyter_server.serverapp import main; main()",
        "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0",
        "--IdentityProvider.token=", "--ServerApp.ip=127.0.0.1",
    ]  # fmt: skip
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
    }
    said = folder / "said.txt"
    address = f"http://127.0.0.1:{port}"
    with served(command, f"{address}/api", said, cwd=project, env=environment):
        yield address
    text = said.read_text()
    assert text.count("Traceback") == text.count("executor.Ungraded: ")  # which is no fault


@pytest.fixture(scope="module")
def page(browser, server):
    page = browser.new_page()
    page.set_default_timeout(15_000)
    yield page
    page.close()


def row(page, text):
    """The cells of the table's row with this text, once it is drawn."""
    found = page.locator("tbody tr", has_text=text)
    found.first.wait_for()
    return found.first.inner_text()


def test_assignments(page, server):
    """The unit is listed with its hand-ins."""
    page.goto(f"{server}/formgrader/manage_assignments")

    told = row(page, a.UNIT)
    assert told.split() == [a.UNIT, "None", "released", "2"]


def test_submissions_and_scores(page, server):
    """Who handed in, with the points, and what waits for a person."""
    page.goto(f"{server}/formgrader/manage_submissions/{a.UNIT}")

    assert "6 / 32" in row(page, "Byron, Ada")
    assert "graded" in row(page, "Byron, Ada")
    assert "needs autograding" in row(page, "Ay, Cem")


def test_gradebook_opens_a_hand_in(page, server):
    """From the gradebook to the notebook with its code and the report of the check."""
    page.goto(f"{server}/formgrader/gradebook/{a.UNIT}/attention")
    row(page, "Submission #")
    page.locator("tbody tr a", has_text="Submission #").first.click()
    page.get_by_text("check-softmax").first.wait_for()
    told = page.locator("body").inner_text()

    assert "def softmax(scores" in told
    assert "softmax: 6 of 6 points" in told


def test_students(page, server):
    """The roster, with what everybody has."""
    page.goto(f"{server}/formgrader/manage_students")

    assert "6 / 32" in row(page, "Byron, Ada")
    assert "0 / 32" in row(page, "Ott, Ida")


def test_the_button_asks_the_oracle(page, server, project):
    """A newer hand-in, the flash beside it: new points, no kernel, and the server lives on."""
    folder = project / "build/submitted/ada" / a.UNIT
    notebook = json.loads((folder / "attention.ipynb").read_text())
    a.write(folder / "attention.ipynb", a.everything_right(notebook))
    (folder / "timestamp.txt").write_text("2026-01-02 10:00:00 UTC")
    page.goto(f"{server}/formgrader/manage_submissions/{a.UNIT}")
    assert "needs autograding" in row(page, "Byron, Ada")

    for _ in range(2):  # the second time the oracle is warm
        page.locator("tbody tr", has_text="Byron, Ada").locator(".autograde a").click()
        page.get_by_text("Successfully autograded").wait_for(timeout=60_000)
        log = page.locator("#success-modal").inner_text()
        page.goto(f"{server}/formgrader/manage_submissions/{a.UNIT}")

        assert f"{a.POINTS} / {a.POINTS}" in row(page, "Byron, Ada")
        assert "SaveAutoGrades" in log or "Autograding" in log
        assert "Executing notebook with kernel" not in log


def test_the_button_says_why_not(page, server):
    """A hand-in that cannot be read: a reason in the window, and no points."""
    page.goto(f"{server}/formgrader/manage_submissions/{a.UNIT}")
    row(page, "Ay, Cem")
    page.locator("tbody tr", has_text="Ay, Cem").locator(".autograde a").click()
    page.get_by_text("There was an error autograding").wait_for()
    log = page.locator("#error-modal").inner_text()

    assert "Ungraded: attention.ipynb ends in the middle, at line 1: the file is cut off" in log
    page.goto(f"{server}/formgrader/manage_submissions/{a.UNIT}")
    assert "needs autograding" in row(page, "Ay, Cem")
