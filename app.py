"""Starts the page: `python app.py` is `lab app`, with the same options."""

import sys

from autograder.cli import main

if __name__ == "__main__":
    main(["app", *sys.argv[1:]])
