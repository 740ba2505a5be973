"""nbgrader's settings, for `lab` and for nbgrader's own commands in this folder.

Everything it reads and writes lies under build/, which git ignores; only what learners open goes to
exercises/.
"""

from pathlib import Path

c = get_config()  # noqa: F821 (nbgrader provides it)
project = Path(__file__).resolve().parent

c.CourseDirectory.course_id = "attention-lab"
c.CourseDirectory.root = str(project / "build")
c.CourseDirectory.release_directory = str(project / "exercises")
# nbgrader copies every file beside a notebook into the release; answers are Python files.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "__pycache__", "*.pyc", "*.py", "feedback"]

# What stands in a solution's place; check() knows an unwritten part by it.
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError"}

# A check cell that a learner deleted comes back; it is graded with the rest.
c.OverwriteCells.add_missing_cells = True
# Seconds for one cell: the first one imports torch, lesson 10 trains. One cell more than that costs
# the whole notebook, so there is room.
c.Execute.timeout = 300
c.Execute.startup_timeout = 120
