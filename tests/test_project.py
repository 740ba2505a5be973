"""The project as a whole: what imports what, what ships, and that the README tells the truth."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lab.course import PARTS, UNITS
from lab.model import Checkpoint, shipped
from lab.parts import from_package

ROOT = Path(__file__).parents[1]
PACKAGES = ("lab", "solutions", "autograder")
PAGES = (
    *("README.md", "benchmarks/README.md", "CONTRIBUTING.md"),
    *("docs/teaching.md", "docs/oracle.md", "docs/deploy.md", "docs/page.md"),
)
MAY_IMPORT = {
    "lab": {"lab"},
    "solutions": {"lab", "solutions"},
    "autograder": {"lab", "autograder"},
    "app.py": {"lab", "autograder"},
}


def python_files(place):
    path = ROOT / place
    return [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


@pytest.mark.parametrize("place", MAY_IMPORT)
def test_imports_point_one_way(place):
    """lab knows neither solutions nor autograder; autograder does not know solutions."""
    for file in python_files(place):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            ours = {name.split(".")[0] for name in names} & set(PACKAGES)
            assert ours <= MAY_IMPORT[place], f"{file.relative_to(ROOT)} imports {ours}"


@pytest.mark.parametrize("package", ["gradio", "sacrebleu", "matplotlib"])
def test_nobody_waits_for_what_is_not_used(package):
    """Translating and training wait for no web server, no scores and no figures at their start."""
    code = f"import sys, lab.cli, lab.training, lab.translation; print({package!r} in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_import_lab_is_light():
    """The package itself loads nothing, not even torch."""
    code = "import sys, lab, lab.cli; print('torch' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_every_part_has_a_unit_and_a_reference():
    """The syllabus lists each part of the contract once, and solutions/ has it in that module."""
    assert len(PARTS) == sum(len(unit.parts) for unit in UNITS) == 29
    for part, implementation in from_package("solutions").items():
        assert implementation.__module__ == f"solutions.{PARTS[part].module}"


def test_every_reference_is_marked_as_a_solution_cell():
    """The cell headers from which notebooks are built name exactly the unit's parts."""
    for unit in UNITS:
        text = (ROOT / "solutions" / f"{unit.module}.py").read_text("utf-8")
        assert tuple(re.findall(r'^# %% solution="(\w+)"$', text, re.M)) == tuple(unit.parts)


def test_every_module_stands_in_the_readme_s_tree():
    """A reader finds each file in the tree, and no file there is missing."""
    tree = re.search(r"```text\n(app\.py.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)[1]
    named = {line.split()[0] for line in tree.splitlines() if line.strip()}
    one_a_unit = {"suites/", "mistakes/"}  # these stand there as folders
    modules = {
        file.name
        for place in MAY_IMPORT
        for file in python_files(place)
        if not file.name.startswith("__") and f"{file.parent.name}/" not in one_a_unit
    }

    assert modules | one_a_unit <= named
    files = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.check_output(files, text=True, cwd=ROOT).splitlines()
    there = {*listed, *(part for each in listed for part in Path(each).parts)}
    assert {name.rstrip("/") for name in named} <= there, "README names what is not there"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Every picture and file a page links to is there."""
    text = (ROOT / page).read_text("utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if not link.startswith("http"):
            assert ((ROOT / page).parent / link).exists(), link
    assert "@@" not in text


def test_every_dependency_has_its_reason_beside_it():
    """A line of pyproject.toml that names a package says what it is for."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    for dependency in wanted:
        line = next(line for line in text.splitlines() if f'"{dependency}"' in line)
        assert re.search(r'",\s+# \w+', line), dependency


def test_every_dependency_is_pinned_as_tested():
    """constraints.txt holds one exact version for each direct dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.match(r"[\w-]+", dependency)[0].lower() for dependency in wanted}
    pins = re.findall(r"^([\w-]+)==[\d.]+$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)

    assert names <= {pin.lower() for pin in pins}


@pytest.mark.parametrize("pair", ["en-de", "en-fr", "en-zh"])
def test_shipped_checkpoint_is_complete_and_small(pair):
    """Weights under 12 MB, no pickle, and a card that says where they come from."""
    folder = shipped()[pair]
    files = {path.name for path in folder.iterdir()}
    card = (folder / "card.md").read_text("utf-8")

    assert files == {
        "model.safetensors",
        "tokenizer.json",
        "config.json",
        "history.json",
        "curve.png",
        "card.md",
    }
    assert (folder / "model.safetensors").stat().st_size <= 12_000_000
    for heading in ("Data", "Licence", "How it was trained", "Scores", "Limits"):
        assert f"## {heading}" in card
    assert re.search(r"lab train --data .* --seed \d+", card.replace("\\\n", " "))
    assert "nrefs:" in card  # sacreBLEU's signature


@pytest.mark.parametrize("pair", ["en-de", "en-fr", "en-zh"])
def test_shipped_model_translates_what_it_was_trained_for(pair):
    """A sentence of the training domain comes out as a person would accept it."""
    from lab.translation import translate

    accepted = {
        "en-de": ("A man is standing.", {"Ein Mann steht.", "Ein Mann steht da."}),
        "en-fr": ("A man is standing.", {"Un homme est debout."}),
        "en-zh": ("I don't know.", {"我不知道。"}),
    }
    sentence, good = accepted[pair]

    assert translate(Checkpoint.load(shipped()[pair]), [sentence])[0].text in good


def test_nbgrader_reads_its_settings():
    """The course's configuration is one nbgrader accepts, and keeps answers out of releases."""
    code = (
        "import sys; sys.modules['rfc3987_syntax'] = None\n"  # two seconds of grammars nobody needs
        "from traitlets.config.loader import PyFileConfigLoader\n"
        "config = PyFileConfigLoader('nbgrader_config.py').load_config()\n"
        "from nbgrader.coursedir import CourseDirectory\n"
        "import json; course = CourseDirectory(config=config)\n"
        "print(json.dumps([course.course_id, course.ignore]))"
    )

    said = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    course_id, ignored = json.loads(said.splitlines()[-1])
    assert course_id == "attention-lab"
    assert "*.py" in ignored


def test_the_project_speaks_only_of_itself():
    """No path of somebody's machine, no host of a package registry."""
    telling = re.compile(r"(?<![\w.])/(work|root|home|tmp)/\w|pypi\.org|files\.pythonhosted|/opt/")
    tracked = subprocess.check_output(["git", "ls-files"], text=True, cwd=ROOT).splitlines()
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".png", ".safetensors"} or path == Path(__file__):
            continue
        found = telling.search(path.read_text("utf-8"))
        assert not found, f"{name}: {found[0]}"


@pytest.mark.xdist_group("of-its-own")
def test_groups_of_tests_stay_together(request):
    """What is slow to make is made once: a group's tests run in one process."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("one process runs all: nothing is distributed")
    assert request.node.nodeid.endswith("@of-its-own")
