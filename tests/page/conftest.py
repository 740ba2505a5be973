"""A page that runs, and a browser to look at it."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def running_page(tmp_path_factory):
    """The address of the page, started as a visitor starts it; it may not print a stack trace."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said = tmp_path_factory.mktemp("page") / "said.txt"
    command = [sys.executable, "app.py", "--port", str(port), "--device", "cpu"]
    with said.open("w") as out, subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out) as app:
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_until_served(address, app, said)
            yield address
        finally:
            app.terminate()
    assert "Traceback" not in said.read_text()


def _wait_until_served(address, app, said, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if httpx.get(address, timeout=10).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)  # not listening yet
        assert app.poll() is None, said.read_text()
    raise AssertionError(f"no page after {seconds} s: {said.read_text()}")
