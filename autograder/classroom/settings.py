"""nbgrader, made ready: its imports, its settings, and what it says while it works.

Settings are nbgrader's own: `nbgrader_config.py` in the project and in Jupyter's folders, and the
one that `lab course init` writes into the course's folder. So a plain `nbgrader` command that is
run in the project does the same work on the same files.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SETTINGS = "nbgrader_config.py"
WRITTEN = '"""Written by `lab course init`'  # how the settings in the course's folder begin
VARIABLE = "NBGRADER_EXECUTION"  # set by nbgrader while it runs a learner's notebook


def make_ready() -> None:
    """What has to hold before nbgrader is imported or creates a gradebook."""
    # jsonschema would compile two seconds of grammars for URLs that no notebook has.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    # The gradebook starts `alembic` as a program, also where the environment is not activated.
    programs = str(Path(sys.executable).parent)
    if programs not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join(filter(None, [programs, os.environ.get("PATH", "")]))


def project(start: Path | None = None) -> Path:
    """The nearest folder with nbgrader's settings, from `start` (or here) upwards."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        found = folder / SETTINGS
        if found.exists() and not found.read_text("utf-8").startswith(WRITTEN):
            return folder
    raise ValueError(f"no {SETTINGS} in {start} or above it: go to the project's folder first")


@dataclass(frozen=True)
class Settings:
    """nbgrader's settings as its own commands read them in the project's folder."""

    project: Path
    config: Any  # traitlets' Config
    coursedir: Any  # nbgrader's CourseDirectory

    @property
    def course_id(self) -> str:
        return self.coursedir.course_id

    @property
    def root(self) -> Path:
        """Where the course's files are: source, submitted, autograded, gradebook."""
        return Path(self.coursedir.root)

    @property
    def exchange(self) -> Path | None:
        """The folder of hand-ins, if one was chosen."""
        chosen = self.config.Exchange.get("root") if "Exchange" in self.config else None
        return Path(chosen) if chosen else None

    def path(self, step: str, unit: str, student: str = ".") -> Path:
        """A unit's folder in one of nbgrader's steps: path("submitted", "01-attention", "ada")."""
        directory = getattr(self.coursedir, f"{step}_directory")
        return Path(os.path.normpath(self.coursedir.format_path(directory, student, unit)))


def read(folder: Path | None = None) -> Settings:
    """The settings in force for the project around this folder (or here)."""
    return _read(project(folder))


def read_for(folder: Path) -> Settings:
    """The settings in force for a learner's folder: of the project around it, of the project here,
    or, where notebooks came without a project, Jupyter's own."""
    for each in (folder, Path.cwd()):
        with contextlib.suppress(ValueError):
            return read(each)
    return _read(folder)


def _read(root: Path) -> Settings:
    make_ready()
    from nbgrader.apps.baseapp import NbGrader
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import Application

    with contextlib.chdir(root), listening():
        app = NbGrader(log=_log)
        app.load_config_file()
        course = Path(CourseDirectory(config=app.config, log=_log).root)
        if course != root:  # as nbgrader's commands do: the course's folder has the last word
            Application.load_config_file(app, SETTINGS, path=str(course))
        config = app.config
        config.CourseDirectory.root = str(course)
        return Settings(root, config, CourseDirectory(config=config, log=_log))


# What nbgrader says is kept, never printed: a notebook's stderr costs points.

_log = logging.getLogger("autograder.nbgrader")
_log.propagate = False
_log.setLevel(logging.INFO)


@contextlib.contextmanager
def listening() -> Iterator[io.StringIO]:
    """Everything nbgrader logs in the block. No warning is printed, and no variable outlives it."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    _log.addHandler(handler)
    before = os.environ.get(VARIABLE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SQLAlchemy's, three a hand-in; the grades are right
            yield said
    finally:
        _log.removeHandler(handler)
        # nbgrader leaves it behind when a notebook fails, and every later submit() would be silent.
        if before is None:
            os.environ.pop(VARIABLE, None)


def quietly(kind: type, settings: Settings, **arguments: Any) -> Any:
    """One of nbgrader's workers, with our settings and our log."""
    from traitlets.config import Application

    parent = Application(log=_log, config=settings.config)
    return kind(coursedir=settings.coursedir, parent=parent, **arguments)
