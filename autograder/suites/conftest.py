"""Gives the suites the work to judge: pytest autograder/suites --work solutions --seed 3."""

import pytest
import torch

from autograder.drawing import Draw
from autograder.judge import alone
from lab.course import PARTS
from lab.parts import from_package


def pytest_addoption(parser):
    parser.addoption("--work", default="solutions", help="A package with one module per unit.")
    parser.addoption("--seed", type=int, default=0, help="Of every random input.")


@pytest.fixture
def work(request):
    """All parts: the one the check is about from --work, every other one stock's."""
    part = request.function.check.part
    assert part in PARTS
    with alone(part, from_package(request.config.getoption("--work"))[part]) as parts:
        yield parts


@pytest.fixture
def draw(request):
    """Seeded random inputs."""
    seed = request.config.getoption("--seed")
    torch.manual_seed(seed)
    return Draw(torch.float64, seed=seed)
