"""Hand-ins are found wherever they lie, each once, and what cannot be read says why."""

import io
import os
import struct
import zipfile
from pathlib import Path

import pytest

from autograder.oracle import finding
from autograder.oracle.finding import Refused, find


def put(path, text="{}"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def names(folder, *paths):
    """What is found, as names within the folder."""
    return [each.name.removeprefix(f"{folder}{os.sep}") for each in find(paths or [folder])]


def why(hand_in):
    with pytest.raises(Refused) as refused:
        hand_in.read()
    return str(refused.value)


def packed(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_folders_hold_notebooks_and_what_systems_leave_there(tmp_path):
    """Every notebook below a folder counts; copies that a system made do not."""
    for name in ("b/x.ipynb", "a/deep/er/Y.IPYNB", "a/.ipynb_checkpoints/x.ipynb", "a/._x.ipynb",
                 "__MACOSX/x.ipynb", "a/notes.txt"):  # fmt: skip
        put(tmp_path / name)

    assert names(tmp_path) == ["a/deep/er/Y.IPYNB", "b/x.ipynb"]


def test_paths_that_overlap_count_once(tmp_path):
    """A notebook that is asked for twice is one hand-in."""
    one = put(tmp_path / "one.ipynb")

    assert names(tmp_path, one, tmp_path, Path(tmp_path / "." / "one.ipynb")) == ["one.ipynb"]


def test_a_file_of_any_name_is_a_notebook_if_it_is_asked_for(tmp_path):
    """An upload may have lost its ending."""
    file = put(tmp_path / "multi_head.ipynb.txt", '{"cells": []}')

    assert [each.read() for each in find([file])] == [b'{"cells": []}']


def test_nothing_to_grade_is_said(tmp_path):
    """A wrong path and an empty folder end in a sentence."""
    with pytest.raises(ValueError, match="nowhere is not there"):
        find([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="holds no notebook"):
        find([tmp_path])


def test_of_what_nbgrader_collected_the_unit_s_notebook_counts(tmp_path):
    """Scratch copies beside it do not count, a renamed one does, a missing one is told of."""
    for student in ("anna", "ben", "cleo"):
        put(tmp_path / student / "06-feed-forward" / "timestamp.txt")
    put(tmp_path / "anna/06-feed-forward/feed_forward.ipynb")
    put(tmp_path / "anna/06-feed-forward/feed_forward-Copy1.ipynb")
    put(tmp_path / "anna/06-feed-forward/old/feed_forward.ipynb")
    put(tmp_path / "ben/06-feed-forward/mine.ipynb")
    put(tmp_path / "cleo/06-feed-forward/answer.py")
    found = find([tmp_path])

    assert names(tmp_path) == [
        "anna/06-feed-forward/feed_forward.ipynb",
        "ben/06-feed-forward/mine.ipynb",
        "cleo/06-feed-forward/feed_forward.ipynb",
    ]
    assert why(found[2]) == "it is missing; handed in: answer.py"
    assert {each.unit.name for each in found} == {"06-feed-forward"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFO, and a link takes a privilege")
def test_links_and_pipes_are_not_followed(tmp_path):
    """A link may lead to another learner's work or to the answers; a pipe never ends."""
    put(tmp_path / "b" / "right.ipynb")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.ipynb").symlink_to(tmp_path / "b" / "right.ipynb")
    (tmp_path / "a" / "others").symlink_to(tmp_path / "b")
    os.mkfifo(tmp_path / "a" / "pipe.ipynb")
    found = find([tmp_path])

    assert names(tmp_path) == ["a/mine.ipynb", "a/pipe.ipynb", "b/right.ipynb"]
    assert "a link" in why(found[0])
    assert why(found[1]) == "it is no file"


def test_zips_in_zips(tmp_path):
    """A course's zip holds learners' zips, and those hold folders; nothing is unpacked."""
    inner = io.BytesIO()
    packed(inner, {"06-feed-forward/feed_forward.ipynb": "inner", "__MACOSX/x.ipynb": "no"})
    packed(tmp_path / "all.zip", {"anna/x.ipynb": "outer", "ben/mine.zip": inner.getvalue()})
    found = find([tmp_path])

    assert {each.name.rpartition("all.zip/")[2]: each.read() for each in found} == {
        "anna/x.ipynb": b"outer",
        "ben/mine.zip/06-feed-forward/feed_forward.ipynb": b"inner",
    }
    assert found[1].unit.module == "feed_forward"
    assert [each.name for each in tmp_path.iterdir()] == ["all.zip"]


def test_zips_end_somewhere(tmp_path):
    """A zip in a zip in a zip in a zip is not opened, and says so."""
    content = b"{}"
    for name in ("x.ipynb", "a.zip", "b.zip", "c.zip"):
        outer = io.BytesIO()
        packed(outer, {name: content})
        content = outer.getvalue()
    (tmp_path / "d.zip").write_bytes(content)

    (only,) = find([tmp_path])

    assert why(only).startswith("more than 3 zips")


@pytest.mark.parametrize(
    "raw, wanted",
    [
        ("Müller/x.ipynb".encode("cp437"), "Müller/x.ipynb"),
        ("Muñoz/x.ipynb".encode("cp437"), "Muñoz/x.ipynb"),
        ("张伟/x.ipynb".encode(), "张伟/x.ipynb"),
        ("张伟/作业.ipynb".encode("gb2312"), "张伟/作业.ipynb"),
        (b"../../etc/x.ipynb", "etc/x.ipynb"),
        (b"/abroad/x.ipynb", "abroad/x.ipynb"),
        (rb"C:\course\x.ipynb", "course/x.ipynb"),
        (b"a/\x1b[2J/x.ipynb", "a/[2J/x.ipynb"),
    ],
)
def test_names_in_zips_are_read_as_they_were_written_and_lead_nowhere(tmp_path, raw, wanted):
    """Zips of other systems do not say how their names are written."""
    placeholder = "N" * (len(raw) - 6) + ".ipynb"
    packed(tmp_path / "all.zip", {placeholder: "{}"})
    content = (tmp_path / "all.zip").read_bytes().replace(placeholder.encode(), raw)
    (tmp_path / "all.zip").write_bytes(content)

    (only,) = find([tmp_path])

    assert only.name == f"{tmp_path / 'all.zip'}/{wanted}"
    assert only.read() == b"{}"


def test_two_members_of_one_name_are_two_hand_ins(tmp_path):
    """Neither is lost, and they are told apart."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            archive.writestr("x.ipynb", "1")
            archive.writestr("x.ipynb", "2")

    found = find([tmp_path])

    assert [Path(each.name).name for each in found] == ["x.ipynb", "x.ipynb (2)"]
    assert [each.read() for each in found] == [b"1", b"2"]


def test_a_bomb_is_read_up_to_a_bound(tmp_path, monkeypatch):
    """What a zip unpacks to is counted, each notebook and all together; sizes are not believed."""
    monkeypatch.setattr(finding, "TOO_LARGE", 1_000_000)
    monkeypatch.setattr(finding, "UNPACKED", 1_500_000)
    bomb = bytes(50_000_000)
    members = {"a.ipynb": bomb, "b.ipynb": bytes(400_000), "c.ipynb": bomb, "d.ipynb": b"{}"}
    path = packed(tmp_path / "bomb.zip", members)
    assert path.stat().st_size < 200_000
    found = find([path])

    assert "more than 1 MB" in why(found[0])
    assert len(found[1].read()) == 400_000
    assert "zip unpacks to more than" in why(found[2])
    assert "zip unpacks to more than" in why(found[3])


def test_a_member_that_lies_about_its_size_is_no_notebook(tmp_path):
    """More bytes than the zip's table says are not taken."""
    path = packed(tmp_path / "lie.zip", {"a.ipynb": bytes(5_000_000)})
    content = path.read_bytes().replace(struct.pack("<I", 5_000_000), struct.pack("<I", 10))
    path.write_bytes(content)

    (only,) = find([path])

    assert why(only).startswith("it cannot be read")


def test_damaged_and_locked_members_cost_themselves(tmp_path):
    """The others in the zip are read."""
    path = packed(
        tmp_path / "all.zip",
        {"a.ipynb": "AAAA", "b.ipynb": "BBBB", "c.ipynb": "CCCC"},
        zipfile.ZIP_STORED,
    )
    content = bytearray(path.read_bytes().replace(b"AAAA", b"AXAA"))
    third = content.rindex(b"PK\x01\x02")
    content[third + 8] |= 1  # c.ipynb has a password
    path.write_bytes(content)

    damaged, whole, locked = find([path])

    assert "it cannot be read" in why(damaged)
    assert whole.read() == b"BBBB"
    assert "password" in why(locked)


def test_half_a_zip_is_a_hand_in_that_cannot_be_read(tmp_path):
    """Nobody whose upload broke off is left out."""
    content = packed(tmp_path / "x.zip", {"a.ipynb": "{}"}).read_bytes()
    (tmp_path / "x.zip").write_bytes(content[:-30])

    (only,) = find([tmp_path])

    assert "no zip that can be read" in why(only)


def test_a_notebook_of_100_mb_is_not_read_further(tmp_path):
    """It is its outputs; they can be cleared."""
    with (tmp_path / "x.ipynb").open("wb") as file:
        file.truncate(finding.TOO_LARGE + 1)

    (only,) = find([tmp_path])

    assert why(only) == "it has more than 100 MB: clear its outputs and save"
