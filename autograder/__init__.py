"""Holds a learner's work to account. The suites come with the lessons."""
