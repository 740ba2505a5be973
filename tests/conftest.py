"""What the tests share: the two implementations of the parts, and seeded random inputs."""

from types import SimpleNamespace

import pytest
import torch

from autograder.drawing import Draw
from lab import stock
from lab.course import PARTS
from lab.parts import from_package, using

torch.set_num_threads(1)  # the tensors are tiny: a second thread costs more than it gives


@pytest.fixture(params=["stock", "solutions"])
def work(request):
    """All parts of one implementation, in force while the test runs."""
    if request.param == "stock":
        parts = {part: getattr(stock, part) for part in PARTS}
    else:
        parts = from_package(request.param)
    with using(parts):
        yield SimpleNamespace(**parts)


@pytest.fixture
def draw(request) -> Draw:
    return Draw(getattr(request, "param", torch.float64))
