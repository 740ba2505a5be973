"""Accounts of a course: what is kept of a password, who has one, and how often one may guess."""

import csv
import json
import os
import shutil
import stat
import threading

import a_course as a
import pytest

from autograder.classroom import accounts as module
from autograder.classroom import settings, teaching
from autograder.classroom.accounts import (
    Account,
    Accounts,
    Rate,
    a_while,
    fault_of_password,
    new_password,
)
from autograder.cli import main

pytestmark = a.WARNINGS


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The real sizes take a quarter of a second a password."""
    monkeypatch.setattr(module, "SIZES", (16, 8, 1))


@pytest.fixture
def accounts(tmp_path):
    return Accounts(tmp_path / "accounts.json")


def test_the_file_holds_no_password_and_is_its_owner_s(accounts):
    """Salts and hashes, each its own, in a file with mode 600."""
    passwords = accounts.make(["ada", "bob", "王小明"])

    text = accounts.path.read_text("utf-8")
    kept = json.loads(text)
    assert set(passwords) == {"ada", "bob", "王小明"} == {each["id"] for each in kept}
    assert not any(password in text for password in passwords.values())
    assert len({each["salt"] for each in kept}) == len({each["hash"] for each in kept}) == 3
    assert stat.S_IMODE(os.stat(accounts.path).st_mode) == 0o600


def test_only_the_right_password_of_the_right_name_fits(accounts):
    """Another one's password, the empty one, a longer one and an unknown name do not."""
    passwords = accounts.make(["ada", "bob"])

    assert accounts.check("ada", passwords["ada"]).id == "ada"
    for password in (passwords["bob"], "", passwords["ada"] + "x", "\ud800", "x" * 100_000):
        assert accounts.check("ada", password) is None
    assert accounts.check("eve", passwords["ada"]) is None


def test_who_is_unknown_takes_as_long_as_who_is_not(accounts, monkeypatch):
    """A name that nobody has costs one hash, too."""
    accounts.make(["ada"])
    hashed = []
    real = module._hash
    monkeypatch.setattr(module, "_hash", lambda *given: hashed.append(given) or real(*given))

    accounts.check("ada", "wrong")
    accounts.check("nobody", "wrong")

    assert len(hashed) == 2
    assert hashed[0][2] == hashed[1][2]  # of the same sizes


def test_sizes_are_kept_so_that_they_can_grow(accounts, monkeypatch):
    """A password that was hashed with older sizes still fits."""
    password = accounts.make(["ada"])["ada"]
    monkeypatch.setattr(module, "SIZES", (32, 8, 1))

    assert accounts.check("ada", password)
    accounts.change("ada", "a-new-password")
    assert accounts.all()["ada"].sizes == (32, 8, 1)
    assert accounts.check("ada", "a-new-password")


def test_the_real_sizes_are_strong():
    """At least what OWASP's password storage cheat sheet asks of scrypt; and they work."""
    n, r, p = Account.__dataclass_fields__["sizes"].default

    assert (n * r * p >= 2**14 * 8 * 5) and r == 8
    assert module._hash("x", b"salt" * 4, (n, r, p)) != module._hash("y", b"salt" * 4, (n, r, p))


def test_who_has_an_account_keeps_it(accounts):
    """Made again, nobody's password changes; with `again` just that one's, and not the role."""
    accounts.make(["turing"], teacher=True)
    first = accounts.make(["ada"])["ada"]

    assert accounts.make(["ada", "bob"]).keys() == {"bob"}
    assert accounts.check("ada", first)
    second = accounts.make(["turing"], again=True)["turing"]
    assert accounts.check("turing", second).teacher
    assert accounts.check("turing", second).initial


def test_writers_do_not_lose_each_other(accounts):
    """Twenty threads make an account each; twenty accounts are there."""
    others = [Accounts(accounts.path) for _ in range(20)]
    threads = [
        threading.Thread(target=each.make, args=([f"learner{number}"],))
        for number, each in enumerate(others)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(accounts.all()) == 20


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "", "a\nb", "x*"])
def test_a_name_is_a_name_in_nbgrader_too(accounts, name):
    """What could not be a folder below submitted/ is refused."""
    with pytest.raises(ValueError, match="the id|there is no id"):
        accounts.make([name])
    assert accounts.all() == {}


@pytest.mark.parametrize(
    ("password", "said"),
    [("short", "10 or more"), ("x" * 201, "are enough"), ("my-ada-password", "easy to guess"),
     ("aaaaaaaaaaaa", "easy to guess"), ("correct-horse-9", "")],
)  # fmt: skip
def test_a_password_that_is_easy_to_guess_is_told(password, said):
    """Too short, too long, the own name, one letter."""
    assert said in fault_of_password("ada", password)
    assert bool(said) == bool(fault_of_password("ada", password))


def test_first_passwords_can_be_typed_from_paper():
    """Three groups of four, of letters that look like no other; no two are the same."""
    found = {new_password() for _ in range(200)}

    assert len(found) == 200
    assert all(len(each) == 14 and each.count("-") == 2 for each in found)
    assert not set("".join(found)) & set("01ilo")


def test_rate_counts_each_key_by_itself():
    """Three times in ten seconds; then one waits as long as is said."""
    now = [0.0]
    rate = Rate(3, 10, clock=lambda: now[0])
    for moment in (0, 1, 2):
        now[0] = moment
        assert rate.wait("ada") == 0
        rate.count("ada")

    assert rate.wait("ada") == 8
    assert rate.wait("bob") == 0
    now[0] = 10.5
    assert rate.wait("ada") == 0


def test_made_up_names_do_not_fill_the_memory():
    """Keys whose time is over are forgotten."""
    now = [0.0]
    rate = Rate(3, 10, clock=lambda: now[0])
    for number in range(10_050):
        now[0] += 0.01
        rate.count(f"name {number}")

    assert len(rate._when) < 1_200


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "1 s"), (40, "40 s"), (241, "5 min")])
def test_waiting_in_words(seconds, said):
    """Rounded so that who waits that long has waited long enough."""
    assert a_while(seconds) == said


@pytest.fixture(scope="module")
def new_course(tmp_path_factory):
    """A course with a roster that a spreadsheet would stumble over."""
    folder = tmp_path_factory.mktemp("course")
    project = a.project(folder / "project")
    roster = folder / "roster.csv"
    roster.write_text(
        'id,first_name,last_name\nada,Ada,"=1+1, Countess"\n王小明,小明,王\n', "utf-8"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        list(teaching.init(settings.read(), roster))
    return project


@pytest.fixture
def course(new_course, tmp_path, monkeypatch):
    """One of its own for each test."""
    project = shutil.copytree(new_course, tmp_path / "project")
    monkeypatch.chdir(project)
    return project


def test_the_command_gives_passwords_once(course, capsys):
    """A CSV with everybody in the gradebook and the teachers; the second time nothing is new."""
    main_quietly(["course", "accounts", "--teacher", "turing"])
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))

    assert [(row["id"], row["role"]) for row in rows] == [
        ("turing", "teacher"), ("ada", "learner"), ("王小明", "learner"),
    ]  # fmt: skip
    assert rows[1]["name"] == "Ada =1+1, Countess"
    found = Accounts(course / "build" / "accounts.json")
    for row in rows:
        account = found.check(row["id"], row["password"])
        assert account.initial and account.teacher == (row["role"] == "teacher")
    main_quietly(["course", "accounts"])
    said = capsys.readouterr()
    assert said.out == "" and "no new account" in said.err


def test_the_command_resets_one_and_removes_one(course, capsys):
    """--reset gives one new password and leaves the others; --remove takes the account away."""
    main_quietly(["course", "accounts"])
    first = {
        row["id"]: row["password"] for row in csv.DictReader(capsys.readouterr().out.split("\n"))
    }
    main_quietly(["course", "accounts", "--reset", "ada", "--remove", "王小明"])
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())

    found = Accounts(course / "build" / "accounts.json")
    assert row["id"] == "ada" and found.check("ada", row["password"])
    assert not found.check("ada", first["ada"])
    assert set(found.all()) == {"ada"}


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--teacher", "ada"], "in the gradebook, so no teacher"), (["--reset", "eve"], "no such"),
     (["--remove", "eve"], "has no account"), (["--teacher", "a/b"], "paths cannot have")],
)  # fmt: skip
def test_what_the_command_cannot_do_is_one_sentence(course, capsys, options, said):
    """A learner is no teacher; who is not there is neither reset nor removed."""
    with pytest.raises(SystemExit) as end:
        main(["course", "accounts", *options])

    assert end.value.code == 1
    assert said in capsys.readouterr().err
    assert not (course / "build" / "accounts.json").exists()


def main_quietly(arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code in (0, None)
