"""How much the autograder catches, how much of it by name, and what a check costs.

python benchmarks/diagnosis.py [--seeds 3]
"""

import argparse
import re
import statistics
import time

import torch

from autograder import diagnosis
from autograder.diagnosis import candidates
from autograder.judge import checks_of, judge
from autograder.mistakes import mistakes_of
from autograder.report import report_on
from lab.course import PARTS, UNITS
from lab.parts import from_package

# The rows of the catalogue of common mistakes for which the nearest auto-graded notebooks
# (duoan/TorchCode) have a task, as far as they concern these parts: 47 wrong answers.
TORCHCODE = (
    "S1 S2 S3 S5 S6 A1 A2 A3 A4 A5 A6 A7 A9 A10 A12 M1 M2 M3 M6 M7 M8 "
    "H1 H2 H3 H4 H5 H6 H7 H8 H11 H12 H13 N1 N2 N3 N4 N5 N6 N7 L1 L2 L3 L4 L5 L7 T7 T10"
).split()


def main() -> None:
    """Print the counts, the shares and the times as one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    mistakes = [mistake for part in PARTS for mistake in mistakes_of(part)]
    caught, named = set(), set()
    for mistake in mistakes:
        outcomes = [judge(mistake.part, mistake.implementation, seed) for seed in seeds]
        if all(any(not each.passed for each in run) for run in outcomes):
            caught.add(mistake)
        found = [
            candidates(mistake.part, run, seed) for seed, run in zip(seeds, outcomes, strict=True)
        ]
        if all(each == [mistake] for each in found):
            named.add(mistake)
    print(f"units {len(UNITS)}, parts {len(PARTS)}, ", end="")
    print(f"checks {sum(len(checks_of(part)) for part in PARTS)}, ", end="")
    print(f"points {sum(unit.points for unit in UNITS)}, quiz {sum(unit.quiz for unit in UNITS)}")
    print(f"known mistakes {len(mistakes)}; caught {_share(caught, mistakes)}, ", end="")
    print(f"named {_share(named, mistakes)}, under {len(seeds)} seeds")
    rows = {row: _of_row(row, mistakes) for row in TORCHCODE}
    print(f"the {len(rows)} rows of the TorchCode column: ", end="")
    print(f"caught {sum(bool(of) and of <= caught for of in rows.values())}, ", end="")
    print(f"named {sum(bool(of) and of <= named for of in rows.values())}; ", end="")
    print(f"without a mistake of ours: {[row for row, of in rows.items() if not of]}")
    right, first, later = _times()
    for name, times in (
        ("right part", right),
        ("wrong part, first", first),
        ("wrong part, later", later),
    ):
        print(f"check of a {name}: median {1000 * statistics.median(times):.0f} ms, ", end="")
        print(f"largest {1000 * max(times):.0f} ms (CPU)")


def _share(some: set, of: list) -> str:
    return f"{len(some)} ({len(some) / len(of):.1%})"


def _of_row(row: str, mistakes: list) -> set:
    return {mistake for mistake in mistakes if re.fullmatch(rf"{row}[a-z]?", mistake.id)}


def _times() -> tuple[list[float], list[float], list[float]]:
    """CPU seconds of a check: of each reference, of each mistake for the first time, and again."""
    right, first, later = [], [], []
    references = from_package("solutions")
    for part in PARTS:
        report_on(part, references[part])
        right.append(_seconds(part, references[part]))
        for mistake in mistakes_of(part):
            diagnosis._outcome.cache_clear()
            first.append(_seconds(part, mistake.implementation))
            later.append(_seconds(part, mistake.implementation))
    return right, first, later


def _seconds(part: str, implementation: object) -> float:
    begun = time.process_time()
    report_on(part, implementation)
    return time.process_time() - begun


if __name__ == "__main__":
    main()
