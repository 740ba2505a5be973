"""What the tests share: the implementations of the parts, seeded random inputs, a browser."""

import os
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch

from autograder.drawing import Draw
from lab import stock
from lab.course import PARTS
from lab.parts import from_package, using

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# A container has no sandbox of Chromium's kind and no GPU; the rest keeps it from calling home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Whoever starts the tests in the background may have Ctrl-C ignored, and processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # the tensors are tiny: a second thread costs more than it gives
os.environ.setdefault("OMP_NUM_THREADS", "1")  # and so it is for every process that a test starts


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


@pytest.fixture(scope="session")
def browser():
    """The one browser of a test process: two of them would not share its event loop."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no Chromium here (looked for {', '.join(BROWSERS)}): nothing was clicked")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
