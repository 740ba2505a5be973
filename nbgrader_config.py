"""nbgrader's settings, for `lab` and for nbgrader's own commands in this folder.

Everything it reads and writes lies under build/, which git ignores; only what learners open goes to
exercises/.
"""

from pathlib import Path

from autograder.classroom.settings import make_ready

make_ready()
c = get_config()  # noqa: F821 (nbgrader provides it)
project = Path(__file__).resolve().parent

c.CourseDirectory.course_id = "attention-lab"
c.CourseDirectory.root = str(project / "build")
c.CourseDirectory.release_directory = str(project / "exercises")
# nbgrader copies every file beside a notebook into the release; answers are Python files.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "__pycache__", "*.pyc", "*.py", "feedback"]

# What stands in a solution's place; check() knows an unwritten part by it.
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError"}

# No kernel: the oracle judges, in a process that holds no learner's code. These are nbgrader's own
# lists, with Reader and Mend before them and Oracle where Execute was.
c.Autograde.exporter_class = "autograder.classroom.executor.Reader"
c.Autograde.sanitize_preprocessors = [
    "autograder.classroom.executor.Mend",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.DeduplicateIds",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Autograde.autograde_preprocessors = [
    "autograder.classroom.executor.Oracle",
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]

# For assignments of your own, which are no units of this course and run in a kernel.
c.OverwriteCells.add_missing_cells = True
c.Execute.timeout = 300
c.Execute.startup_timeout = 120
