"""Honest solutions in other styles: every one of them earns full points."""
