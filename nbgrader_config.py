"""nbgrader's settings. Everything it reads and writes lies under build/, which git ignores."""

c = get_config()  # noqa: F821 (nbgrader provides it)

c.CourseDirectory.course_id = "attention-lab"
c.CourseDirectory.root = "build"
# nbgrader copies every file beside a notebook into the release; answers are Python files.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "__pycache__", "*.pyc", "*.py", "feedback"]
