"""A page that runs, and visitors who look at it."""

import os
import re
import sys
from pathlib import Path
from urllib.parse import urljoin

import pytest
from a_server import free_ports, served

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def running_page(tmp_path_factory):
    """The address of the page, started as a visitor starts it, even behind a proxy that is not
    there; it may not print a stack trace."""
    (port,) = free_ports()
    address = f"http://127.0.0.1:{port}"
    said = tmp_path_factory.mktemp("page") / "said.txt"
    command = [sys.executable, "app.py", "--port", str(port), "--device", "cpu"]
    nowhere = dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9")
    with served(command, address, said, cwd=ROOT, env=os.environ | nowhere):
        yield address
    assert "Traceback" not in said.read_text()


@pytest.fixture
def pardoned():
    """What a visitor's console may say all the same: that an answer was on its way when the page
    was left or loaded anew. A module may say otherwise."""
    return re.compile("AbortError|Connection errored out")


@pytest.fixture
def open_page(browser, pardoned):
    """Opens an address for a new visitor, whose page must stay free of errors and of requests to
    elsewhere; `below`: where its own addresses begin."""
    contexts, faults = [], []

    def open_page(address, before="", below="/", **options):
        size = {"width": 1280, "height": 1000}
        context = browser.new_context(**{"viewport": size, "reduced_motion": "reduce"} | options)
        contexts.append(context)
        context.add_init_script(before)
        page = context.new_page()
        ours = (urljoin(address, below), "data:", "blob:")
        page.on("console", lambda said: found(f"{said.text} {said.location}", said.type == "error"))
        page.on("pageerror", lambda error: found(str(error)))
        page.on("request", lambda asked: found(asked.url, not asked.url.startswith(ours)))
        page.goto(address)
        return page

    def found(fault, counts=True):
        if counts and not pardoned.search(fault):
            faults.append(fault)

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []
