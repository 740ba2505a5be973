"""Notebooks are what the lessons build: the same each time, without answers, and they run.

All eleven run from top to bottom in IPython's own shell, one process for all of them, once as they
are handed out and once with the solutions in; two of them run in a real kernel too, as in nbgrader.
"""

import ast
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from a_lesson import NOTEBOOK, QUESTIONS, ROOT, TEXT, UNIT, ask, project
from a_server import free_ports, status, until

from autograder import cli, quizzes, release
from autograder.release import Faults, build, shown, with_marks
from lab.course import UNITS

pytestmark = pytest.mark.xdist_group("lessons")  # built and run once for all of them
MODULES = [unit.module for unit in UNITS]


def built(folder, text=TEXT, **options):
    """The notebook of the small lesson, built in `folder`."""
    list(build([UNIT], project(folder, text), questions=ask, **options))
    return json.loads((folder / NOTEBOOK).read_text("utf-8"))


def source_of(cell):
    return "".join(cell["source"])


def by_id(notebook):
    cells = {c["metadata"].get("nbgrader", {}).get("grade_id"): c for c in notebook["cells"]}
    cells.pop(None, None)
    return cells


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The small lesson as it is handed out."""
    return built(tmp_path_factory.mktemp("small"))


# What a text becomes


def test_cells_stand_in_the_order_of_the_text(small):
    """Imports behind the title, a check behind each part, the quiz, then status and submit."""
    named = [(c["metadata"].get("nbgrader") or {}).get("grade_id", "") for c in small["cells"]]
    said = [source_of(c).splitlines()[0] for c in small["cells"]]

    assert [name for name in named if name] == [
        "given-0", "given-1", "softmax", "check-softmax", "soft_lookup", "check-soft_lookup",
        "given-2", "scaled_dot_product_attention", "check-scaled_dot_product_attention",
        "SelfAttention", "check-SelfAttention", "check-quiz",
    ]  # fmt: skip
    assert said[0] == "# 01 A small lesson"
    assert said[1] == "from autograder import check, hint, quiz, reset, status, submit"
    assert said[-3:] == ["## For those who want more", "status()", 'submit("01-attention")']


def test_nbgrader_knows_points_and_locks(small):
    """Check cells carry the course's points; they and given cells are locked, solutions are not."""
    cells = by_id(small)
    points = {name: c["metadata"]["nbgrader"].get("points") for name, c in cells.items()}

    for part, (worth, _) in UNIT.parts.items():
        assert points[f"check-{part}"] == worth
        assert source_of(cells[f"check-{part}"]) == f'check("{part}")'
        assert cells[part]["metadata"]["nbgrader"]["solution"]
        assert cells[part]["metadata"].get("editable", True)
    assert points["check-quiz"] == UNIT.quiz
    assert sum(filter(None, points.values())) == UNIT.points
    for name in ("given-0", "given-1", "check-softmax", "check-quiz"):
        assert cells[name]["metadata"]["nbgrader"]["locked"]
        assert cells[name]["metadata"]["editable"] is False
    assert {c["metadata"]["nbgrader"]["schema_version"] for c in cells.values()} == {3}


def test_a_stub_keeps_signature_docstring_and_super(small):
    """Bodies, with the functions and comments in them, become one line."""
    cells = by_id(small)

    assert source_of(cells["softmax"]) == (
        "def softmax(scores, dim: int = -1):\n"
        '    """Positive weights that sum to 1 over `dim`."""\n'
        "    raise NotImplementedError"
    )
    assert source_of(cells["soft_lookup"]) == (
        "def soft_lookup(query, keys, values):\n    raise NotImplementedError"
    )
    assert source_of(cells["SelfAttention"]).splitlines() == [
        "class SelfAttention(nn.Module):",
        '    """One head."""',
        "",
        "    def __init__(self, d_model, d_k=None, d_v=None):",
        "        super().__init__()",
        "        raise NotImplementedError",
        "",
        "    def forward(self, x, mask=None):",
        '        """The tokens ask each other."""',
        "        raise NotImplementedError",
    ]
    assert "# True = may look" in source_of(cells["scaled_dot_product_attention"])
    assert "secret" not in json.dumps(small)


@pytest.mark.parametrize(
    "source, stub",
    [
        ("def f():\n    # hint\n\n    x = 1\n    return x", "def f():\n    pass"),
        ("def f():\n    @g\n    def h():\n        return 1\n    return h", "def f():\n    pass"),
        (
            "@g\ndef f(a,  # why\n      b):\n    return a",
            "@g\ndef f(a,  # why\n      b):\n    pass",
        ),
        (
            "class A(B):\n    x: int\n\n    def f(self):\n        return 1\n        # end\n\n"
            "    # of g\n    @property\n    def g(self):\n        return 2\n\n\n"
            "def h():\n    return 3",
            "class A(B):\n    x: int\n\n    def f(self):\n        pass\n\n"
            "    # of g\n    @property\n    def g(self):\n        pass\n\n\ndef h():\n    pass",
        ),
        ('def f():\n    """Only said."""', 'def f():\n    """Only said."""'),
        (
            "class A:\n    def __init__(self):\n        super().__init__()",
            "class A:\n    def __init__(self):\n        super().__init__()",
        ),
        ("def f():\n    return '''\nx\n'''", "def f():\n    pass"),
        (
            "import math\n\n\nasync def f():\n    return 1",
            "import math\n\n\nasync def f():\n    pass",
        ),
    ],
)
def test_marks_stand_around_every_body(source, stub):
    """What nbgrader takes out is the body and nothing else."""
    marked = with_marks(source)
    cleared = re.sub(r"( *)### BEGIN SOLUTION\n.*?### END SOLUTION", r"\1pass", marked, flags=re.S)

    assert cleared == stub
    assert ast.dump(ast.parse(marked)) == ast.dump(ast.parse(source))


def test_a_cell_to_see_waits_for_its_parts(small):
    """`with see(…)` in place of the guard; where no part is needed, neither."""
    sources = [source_of(cell) for cell in small["cells"]]

    assert any(
        source.startswith('with see("softmax"):\n    weights = softmax(torch.tensor([2.0, 1.0,')
        and "fmt" not in source
        for source in sources
    )
    assert "for number in range(2):\n    print(number)" in sources
    assert any(source.startswith('with see("softmax", "SelfAttention"):') for source in sources)
    assert not any("__main__" in source for source in sources)


def test_what_stands_before_the_guard_stays():
    """An import above it is everybody's."""
    source = 'import math\n\nif __name__ == "__main__":\n    print(math.pi)'

    assert shown(source, []) == "import math\n\nprint(math.pi)"


def test_texts_say_where_one_is(small):
    """Unit, minutes and points under the title; minutes, points and the policy at each part."""
    texts = [source_of(c) for c in small["cells"] if c["cell_type"] == "markdown"]
    title = texts[0].splitlines()
    part = next(text for text in texts if text.startswith("## softmax"))

    assert title[2] == "*Unit 1 of 11 · 85 minutes of writing · 32 points · next: 02-masks*"
    assert title[4] == r"With $\sqrt{d_k}$ and an umlaut: ü."
    assert "**20 minutes · 6 points.** Write it without torch's softmax" in part


def test_the_quiz_has_questions_and_no_answers(small, tmp_path):
    """A text for each question, one cell to answer them in, and nothing of the file besides."""
    text = json.dumps(small)
    questions = [
        source_of(c)
        for c in small["cells"]
        if c["metadata"].get("lab", {}).get("text", "").startswith("attention-quiz-")
    ]
    answers = next(c for c in small["cells"] if c["metadata"].get("lab") == {"quiz": UNIT.name})

    assert questions[0] == (
        "## Quiz\n\n**1.** Why √d_k?\n\n"
        "- **a**: For fun.\n- **b**: The variance\n  stays.\n- **c**: For speed."
    )
    assert len(questions) == len(QUESTIONS)
    assert source_of(answers).splitlines()[:4] == [
        "answers = {",
        '    "why-scale": None,  # "a", "b" or "c"',
        '    "shape": None,  # a tuple, such as (2, 3)',
        '    "number": None,  # a number',
    ]
    assert "nbgrader" not in answers["metadata"]
    assert source_of(by_id(small)["check-quiz"]) == 'quiz("01-attention", answers)'
    assert "SECRET" not in text and "3.5" not in text


# Built again


def test_a_build_repeats_itself_to_the_byte(tmp_path):
    """Nothing depends on the folder or the day; lines end in LF, letters stay letters."""
    for name in ("one", "two"):
        built(tmp_path / name)
    one, two = ((tmp_path / name / NOTEBOOK).read_bytes() for name in ("one", "two"))

    assert one == two
    assert b"\r" not in one and one.endswith(b"}\n")
    assert "√d_k" in one.decode() and "ü" in one.decode()
    ids = [cell["id"] for cell in json.loads(one)["cells"]]
    assert all(re.fullmatch(r"[0-9a-f]{8}", each) for each in ids)
    assert len(set(ids)) == len(ids)


def test_nbgrader_s_own_command_makes_the_same(tmp_path):
    """`nbgrader generate_assignment` in the project writes the same notebook to the same place."""
    built(tmp_path)
    ours = (tmp_path / NOTEBOOK).read_bytes()
    (tmp_path / NOTEBOOK).write_text("")
    code = (
        "import sys; sys.modules['rfc3987_syntax'] = None\n"
        "from nbgrader.apps import NbGraderApp\n"
        "NbGraderApp.launch_instance(['generate_assignment', '01-attention', '--force'])"
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert (tmp_path / NOTEBOOK).read_bytes() == ours
    assert (tmp_path / "build" / "gradebook.db").exists()


def test_somebody_s_work_is_not_built_over(tmp_path):
    """A part that was written, or an answered question, stops the build; --force does not ask."""
    notebook = built(tmp_path)
    path = tmp_path / NOTEBOOK
    before = path.read_bytes()
    for old, new, name in (
        ("raise NotImplementedError", "return scores", "softmax"),
        ('"number": None', '"number": 0', "quiz"),
    ):
        theirs = json.loads(json.dumps(notebook))
        cell = next(cell for cell in theirs["cells"] if old in source_of(cell))
        cell["source"] = source_of(cell).replace(old, new)
        path.write_text(json.dumps(theirs))
        said = rf"^{NOTEBOOK} holds somebody's work \({name}\): move it, or use --force"
        with pytest.raises(Faults, match=said):
            list(build([UNIT], tmp_path, questions=ask))
        assert json.loads(path.read_text()) == theirs
    said = list(build([UNIT], tmp_path, questions=ask, force=True))

    assert path.read_bytes() == before
    assert said == ["01-attention: 30 cells, 32 points, 85 minutes, built"]
    assert list(build([UNIT], tmp_path, questions=ask))[0].endswith("as before")


def test_other_files_beside_a_notebook_stay(tmp_path):
    """A build writes its notebooks and nothing else."""
    built(tmp_path)
    (tmp_path / NOTEBOOK).with_name("notes.txt").write_text("mine")
    list(build([UNIT], tmp_path, questions=ask, force=True))

    assert (tmp_path / NOTEBOOK).with_name("notes.txt").read_text() == "mine"


# Another language


def test_texts_come_from_a_folder_where_it_has_them(tmp_path):
    """By key; what is missing stays English, and code is the same."""
    english = built(tmp_path)
    folder = tmp_path / "solutions" / "zh"
    folder.mkdir()
    (folder / "attention.toml").write_text(
        'attention-1 = "# 01 一课"\n"attention-quiz-shape" = "哪个？"\n'
        'unit-line = "第 {number} 单元，共 {count} 单元"\n'
        'part-line = "{minutes} 分钟，{points} 分"\n',
        encoding="utf-8",
    )
    list(build([UNIT], tmp_path, questions=ask, language="zh"))
    path = tmp_path / "exercises" / "zh" / UNIT.name / "attention.ipynb"
    chinese = json.loads(path.read_text("utf-8"))
    texts = {
        c["metadata"]["lab"]["text"]: source_of(c)
        for c in chinese["cells"]
        if c["cell_type"] == "markdown"
    }

    assert texts["attention-1"] == "# 01 一课\n\n第 1 单元，共 11 单元"
    assert texts["attention-2"].endswith("Scores become weights.\n\n20 分钟，6 分")
    assert texts["attention-quiz-shape"] == "**2.** 哪个？"
    assert texts["attention-6"] == "## For those who want more"
    assert len(texts) == sum(c["cell_type"] == "markdown" for c in english["cells"])
    code = [
        [source_of(c) for c in n["cells"] if c["cell_type"] == "code"] for n in (english, chinese)
    ]
    assert code[0] == code[1]


# Faults


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("# %% given\nimport", "# %%\nimport", r'attention\.py: unknown header "# %%" \(line 8\)'),
        ('see="softmax"', 'sea="softmax"', r'unknown header "# %% sea="softmax""'),
        ('see="softmax"', 'see="sofmax"', r"py:41: see names 'sofmax', which is no part"),
        (
            '# %% solution="soft_lookup"',
            "# %% given",
            'there is no cell # %% solution="soft_lookup"',
        ),
        ('# %% check="softmax"', "# %% quiz", 'there is no cell # %% check="softmax"'),
        ("# %% quiz", "", "there are 0 cells # %% quiz, not one"),
        ('solution="soft_lookup"', 'solution="lookup"', "'lookup' is no part of 01-attention"),
        ("# %% [markdown]", "x = 1\n# %% [markdown]", "something stands before the first # %%"),
        ('"""\n## soft_lookup\n"""', "# soft_lookup", "py:47: a text is one string literal"),
        ("## softmax", r"## \\softmax", 'a text with a backslash is written r"""…"""'),
        (
            '# %% [markdown]\n"""\n## soft_lookup\n"""',
            "# %% given",
            "no text stands before the solution of soft_lookup",
        ),
        ('# %% check="softmax"\n', '# %% check="softmax"\nx = 1\n', "a check cell is empty"),
        (
            'if __name__ == "__main__":\n    for',
            "if True:\n    for",
            "a see cell runs under one `if __name__",
        ),
        (
            "print(number)",
            'print("""a\n    b""")',
            "a string over several lines changes when this cell is dedented",
        ),
        (
            "def soft_lookup(query, keys, values):",
            "PEAK = 3\ndef soft_lookup(query, keys, values):",
            "soft_lookup: line 1 of the cell would stay in the stub",
        ),
        (
            "def soft_lookup(query, keys, values):",
            "def helper(): return 1\ndef soft_lookup(query, keys, values):",
            "soft_lookup: the body of helper stands on the line of its head",
        ),
        ("def soft_lookup(", "def soft_lookup(:", "soft_lookup: invalid syntax"),
    ],
)
def test_a_fault_in_a_text_is_named(tmp_path, old, new, said):
    """A sentence with the file, the line where there is one, and the remedy."""
    assert old in TEXT
    project(tmp_path, TEXT.replace(old, new, 1))

    with pytest.raises(Faults, match=said):
        list(build([UNIT], tmp_path, questions=ask))
    assert not (tmp_path / NOTEBOOK).exists()


def test_checks_that_stand_before_their_part_are_named(tmp_path):
    """So does a part in another order than the course's."""
    blocks = re.split(r"(?=^# %% )", TEXT, flags=re.M)
    check = next(block for block in blocks if block.startswith('# %% check="softmax"'))
    blocks.remove(check)
    project(tmp_path, "".join([blocks[1], check, *blocks[2:]]))

    with pytest.raises(Faults, match="the check of softmax stands before its solution"):
        list(build([UNIT], tmp_path, questions=ask))


@pytest.mark.parametrize(
    "asked, said",
    [
        (QUESTIONS[:-1], r"attention\.toml: 5 questions, lab/course\.py says 6"),
        (
            (replace(QUESTIONS[0], why={"a": "No.", "b": " "}), *QUESTIONS[1:]),
            "why-scale does not explain b, c",
        ),
        ((replace(QUESTIONS[1], why={"right": "Yes."}), *QUESTIONS[2:], QUESTIONS[0]),
         "shape does not explain default"),
        ((replace(QUESTIONS[0], right="d"), *QUESTIONS[1:]), "'d' is none of its options"),
        ((QUESTIONS[0], *QUESTIONS[:-1]), "two questions have one id"),
        ((replace(QUESTIONS[0], kind="essay"), *QUESTIONS[1:]), "unknown kind 'essay'"),
    ],
)  # fmt: skip
def test_a_fault_in_a_quiz_is_named(tmp_path, asked, said):
    """Every answer has its explanation, and there are as many questions as the course says."""
    project(tmp_path)

    with pytest.raises(Faults, match=said):
        list(build([UNIT], tmp_path, questions=lambda unit: asked))


def test_points_have_to_add_up(tmp_path, monkeypatch):
    """The suite's points are the course's points."""
    worth = SimpleNamespace(points=5)
    monkeypatch.setattr(release, "checks_of", lambda part: [worth])
    project(tmp_path)

    with pytest.raises(Faults, match="the checks of softmax are worth 5 points, .* says 6"):
        list(build([UNIT], tmp_path, questions=ask))


def test_a_faulty_unit_does_not_stop_the_others(tmp_path):
    """All faults come at the end, from all units; the others are built."""
    project(tmp_path)
    said = []

    with pytest.raises(Faults) as found:
        for line in build([UNITS[1], UNIT], tmp_path, questions=ask):
            said.append(line)
    assert said[0] == "02-masks: not built"
    assert said[1].startswith("01-attention: 30 cells")
    assert "solutions/masks.py is missing" in found.value.faults


# The commands


def test_lab_build_says_what_is_wrong_line_by_line(tmp_path, monkeypatch, capsys):
    """One line a unit on stdout, one line a fault on stderr, status 1."""
    project(tmp_path, TEXT.replace("# %% quiz\n", "").replace("# %% given\n", "# %%\n", 1))
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit) as end:
        cli.main(["build", "01"])
    said = capsys.readouterr()
    assert end.value.code == 1
    assert said.out == "01-attention: not built\n"
    faults = said.err.splitlines()
    assert faults[0].startswith('error: solutions/attention.py: unknown header "# %%" (line 8)')
    assert faults[1] == "error: solutions/attention.py: there are 0 cells # %% quiz, not one"
    assert all(line.startswith("error: ") for line in faults)


def test_an_unknown_unit_is_one_line(capsys):
    """With what there is."""
    with pytest.raises(SystemExit) as end:
        cli.main(["build", "12-nothing"])
    assert end.value.code == 1
    assert "there is no unit '12-nothing': choose from 01-attention" in capsys.readouterr().err


def test_lab_without_a_command_of_ours_stays_light():
    """`lab --help` loads neither torch nor nbgrader."""
    code = (
        "import sys, autograder.cli\n"
        "print([x for x in ('torch', 'nbgrader', 'nbformat', 'IPython') if x in sys.modules])"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.fixture
def jupyter(tmp_path):
    """Where JupyterLab may write."""
    (tmp_path / "config").mkdir()
    settings = "c.ServerApp.allow_root = True\nc.ServerApp.token = 'open'\n"
    (tmp_path / "config" / "jupyter_lab_config.py").write_text(settings)
    folders = {
        f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "RUNTIME")
    }
    return {**os.environ, **folders, "JUPYTER_DATA_DIR": str(tmp_path / "data")}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="stops a server by a signal")
def test_lab_notebook_opens_the_lessons(tmp_path, jupyter):
    """JupyterLab serves exercises/, opens the unit asked for, and a taken port is one line."""
    built(tmp_path)
    (port,) = free_ports()
    code = "from autograder.cli import main; import sys; main(sys.argv[1:])"
    arguments = [sys.executable, "-c", code, "notebook", "1", "--no-browser", "--port", str(port)]
    log = tmp_path / "log"
    url = f"http://127.0.0.1:{port}/api/contents/01-attention?token=open"
    with log.open("w") as out:
        server = subprocess.Popen(
            arguments, cwd=tmp_path, env=jupyter, stdout=out, stderr=out, start_new_session=True
        )
    try:
        until(lambda: status(url) == 200, server, log)
        found = httpx.get(url).json()
        again = subprocess.run(arguments, cwd=tmp_path, env=jupyter, capture_output=True, text=True)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)

    assert [each["name"] for each in found["content"]] == ["attention.ipynb"]
    assert "/lab/tree/01-attention/attention.ipynb?token=" in log.read_text()
    assert "not a subdirectory" not in log.read_text()
    assert again.returncode == 1
    assert again.stderr.strip() == (
        f"error: port {port} is taken: choose another, or leave out --port"
    )


def test_a_notebook_that_is_not_built_is_one_line(tmp_path, monkeypatch, capsys):
    """And says how to build it."""
    project(tmp_path)
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SystemExit):
        cli.main(["notebook", "01"])
    path = Path(NOTEBOOK)
    assert capsys.readouterr().err.split() == (
        f"error: {path} is not there: run `lab build 01-attention`".split()
    )


# The course


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """All eleven lessons built anew: source and exercises by module, and what was wrong."""
    out = tmp_path_factory.mktemp("course")
    folder = project(out / "project")
    (folder / "solutions" / f"{UNIT.module}.py").unlink()
    (folder / "solutions").rmdir()
    (folder / "solutions").symlink_to(ROOT / "solutions")
    faults = ()
    try:
        list(build(UNITS, folder))
    except Faults as found:
        faults = found.faults
    return SimpleNamespace(
        faults=faults,
        sources={
            u.module: folder / "build" / "source" / u.name / f"{u.module}.ipynb" for u in UNITS
        },
        exercises={u.module: folder / "exercises" / u.name / f"{u.module}.ipynb" for u in UNITS},
    )


def load(path):
    if not path.exists():
        pytest.fail(f"{path.parent.name} is not built: see test_every_lesson_builds")
    return json.loads(path.read_text("utf-8"))


def test_every_lesson_builds(course):
    """No header, part, check or question is missing, and points add up."""
    assert not course.faults, "\n".join(course.faults)


@pytest.mark.parametrize("module", MODULES)
def test_exercises_are_what_solutions_build(course, module):
    """To the byte: nobody edits them by hand, and nobody forgets `lab build`."""
    load(course.exercises[module])
    unit = next(unit for unit in UNITS if unit.module == module)
    committed = ROOT / "exercises" / unit.name / f"{module}.ipynb"

    assert committed.exists(), f"run `lab build {unit.name}`"
    assert committed.read_bytes() == course.exercises[module].read_bytes()


def test_exercises_hold_nothing_else():
    """One folder a unit, one notebook in it, and the page that says how to open them."""
    found = {
        path.relative_to(ROOT / "exercises").as_posix()
        for path in (ROOT / "exercises").rglob("*")
        if path.is_file() and ".ipynb_checkpoints" not in path.parts
    }

    assert found == {"README.md", *(f"{unit.name}/{unit.module}.ipynb" for unit in UNITS)}


@pytest.mark.parametrize("module", MODULES)
def test_no_released_cell_holds_a_line_of_a_solution(course, module):
    """Stubs compile and raise; no line from between the marks is in any of them."""
    source, released = load(course.sources[module]), load(course.exercises[module])
    unit = next(unit for unit in UNITS if unit.module == module)
    stubs = by_id(released)
    stubbed = {line.strip() for part in unit.parts for line in source_of(stubs[part]).splitlines()}
    for part in unit.parts:
        compile(source_of(stubs[part]), part, "exec")
        assert "raise NotImplementedError" in source_of(stubs[part])
        assert "SOLUTION" not in source_of(stubs[part])
        marked = source_of(by_id(source)[part])
        bodies = re.findall(r"### BEGIN SOLUTION\n(.*?) *### END SOLUTION", marked, re.S)
        hidden = {line.strip() for body in bodies for line in body.splitlines()}
        telling = {line for line in hidden if len(line) > 16}
        assert telling, part
        assert not telling & stubbed


@pytest.mark.parametrize("module", MODULES)
def test_no_released_notebook_holds_a_quiz_s_answers(course, module):
    """Neither an explanation nor which option is right; every answer is still None."""
    unit = next(unit for unit in UNITS if unit.module == module)
    notebook = load(course.exercises[module])
    text = "\n".join(map(source_of, notebook["cells"]))
    answers = next(c for c in notebook["cells"] if c["metadata"].get("lab") == {"quiz": unit.name})
    asked = quizzes.questions(unit.name)

    assert ast.literal_eval(source_of(answers).removeprefix("answers = ")) == dict.fromkeys(
        question.id for question in asked
    )
    for question in asked:
        for why in question.why.values():
            assert why.strip() not in text, question.id
    assert '"right"' not in json.dumps(notebook["metadata"])


# From top to bottom

RUN = """
import io, json, os, sys, time
from contextlib import redirect_stdout
from IPython.core.interactiveshell import InteractiveShell

import torch
torch.set_num_threads(1)
shell = InteractiveShell.instance()
for path in sys.argv[1:]:
    shell.reset(new_session=False)
    notebook = json.load(open(path, encoding="utf-8"))
    errors, points, printed, begun = [], {}, io.StringIO(), time.perf_counter()
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] != "code":
            continue
        with redirect_stdout(printed):
            done = shell.run_cell("".join(cell["source"]), store_history=False)
        error = done.error_before_exec or done.error_in_exec
        if error is not None:
            errors.append(f"cell {number}: {type(error).__name__}: {error}")
        if (name := cell["metadata"].get("nbgrader", {}).get("grade_id", "")).startswith("check-"):
            points[name] = done.result
    said = {"path": path, "errors": errors, "points": points, "printed": printed.getvalue()}
    print(json.dumps({**said, "seconds": time.perf_counter() - begun}), flush=True)
"""

KERNEL = """
import sys; sys.modules["rfc3987_syntax"] = None
import json, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=300, kernel_name="python3", allow_errors=True).execute()
nbformat.write(notebook, sys.argv[2])
"""


def run(script, *arguments):
    """A script in a process of its own, graded as nbgrader would: no progress, no handing in."""
    quiet = {
        "NBGRADER_EXECUTION": "autograde",
        "OMP_NUM_THREADS": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], env={**os.environ, **quiet},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def handed_out(course):
    """What running each notebook with the stubs in gave."""
    paths = [path for path in course.exercises.values() if path.exists()]
    done = run(RUN, *paths)
    assert done.stderr == ""
    return {Path(x["path"]).stem: x for x in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def solved(course, tmp_path_factory):
    """What running each notebook with solutions and right answers in gave."""
    folder = tmp_path_factory.mktemp("solved")
    paths = []
    for unit in UNITS:
        if course.sources[unit.module].exists():
            paths.append(folder / f"{unit.module}.ipynb")
            paths[-1].write_text(json.dumps(_answered(load(course.sources[unit.module]), unit)))
    done = run(RUN, *paths)
    assert done.stderr == ""
    return {Path(x["path"]).stem: x for x in map(json.loads, done.stdout.splitlines())}


def _answered(notebook, unit):
    right = {
        each.id: tuple(each.right) if each.kind == "shape" else each.right
        for each in quizzes.questions(unit.name)
    }
    for cell in notebook["cells"]:
        if "quiz" in cell["metadata"].get("lab", {}):
            cell["source"] = f"answers = {right!r}"
    return notebook


@pytest.mark.parametrize("module", MODULES)
def test_a_notebook_runs_with_the_stubs_in(course, handed_out, module):
    """No cell fails, every check gives 0.0, and cells to see say what they wait for."""
    load(course.exercises[module])
    unit = next(unit for unit in UNITS if unit.module == module)
    found = handed_out[module]

    assert found["errors"] == []
    names = [*(f"check-{part}" for part in unit.parts), "check-quiz"]
    assert found["points"] == dict.fromkeys(names, 0.0)
    assert "This waits for " in found["printed"]


@pytest.mark.parametrize("module", MODULES)
def test_a_notebook_runs_with_the_solutions_in(course, solved, module):
    """No cell fails, nothing waits, and every check gives all its points."""
    load(course.exercises[module])
    unit = next(unit for unit in UNITS if unit.module == module)
    found = solved[module]

    assert found["errors"] == []
    wanted = {f"check-{part}": float(points) for part, (points, _) in unit.parts.items()}
    assert found["points"] == {**wanted, "check-quiz": float(unit.quiz)}
    assert "This waits for" not in found["printed"]


@pytest.mark.parametrize("module, kind", [("attention", "sources"), ("feed_forward", "exercises")])
def test_a_real_kernel_agrees(course, tmp_path, module, kind):
    """As nbgrader runs it: no error, nothing on stderr, a score at each check."""
    path = getattr(course, kind)[module]
    load(path)
    run(KERNEL, path, tmp_path / "run.ipynb")
    unit = next(unit for unit in UNITS if unit.module == module)

    for cell in load(tmp_path / "run.ipynb")["cells"]:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error", output
            assert output.get("name") != "stderr", output
        name = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
        if name.removeprefix("check-") in unit.parts and name.startswith("check-"):
            score = next(x for x in cell["outputs"] if x["output_type"] == "execute_result")
            points = unit.parts[name.removeprefix("check-")].points
            assert float("".join(score["data"]["text/plain"])) == (
                points if kind == "sources" else 0
            )
