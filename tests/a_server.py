"""Servers that tests start: ports that nobody has, and waits that end with the server."""

import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import httpx

PAUSE = 0.05  # seconds between two looks at what nobody tells us: that something is ready


def free_ports(count=1):
    """So many ports of this machine; all are held until the last is found, so they differ."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def until(ready, process=None, said=None, seconds=120):
    """What `ready()` gives as soon as that is true. A process that ends before, or the time that is
    over, is an error with what the process wrote to the file `said`."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        words = said.read_text() if said else ""
        assert process is None or process.poll() is None, words
        assert time.monotonic() < deadline, f"not there after {seconds} s: {words}"
        time.sleep(PAUSE)  # another process gets ready: it can only be asked again
    return found


def status(address):
    """The status of the answer at an address; None as long as nobody listens."""
    try:
        return httpx.get(address, timeout=10).status_code
    except httpx.TransportError:
        return None


@contextmanager
def served(command, address, said, end=signal.SIGTERM, **options):
    """The process of a server that answers at the address by now; what it prints goes to `said`."""
    with said.open("a") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, **options)
    try:
        until(lambda: status(address) == 200, process, said)
        yield process
    finally:
        process.send_signal(end)
        process.wait(30)
