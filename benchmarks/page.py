"""What the page bears: a class that opens it and translates, one server, this machine only.

    python benchmarks/page.py
    python benchmarks/page.py --start   # only how it starts: until the first answer, memory, import

Every session is what a browser is to the server: the page, its scripts and styles, then questions
and answers as events. The server and all sessions share the machine; numbers are wall-clock.
"""

import argparse
import asyncio
import json
import os
import random
import re
import resource
import secrets
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
MINUTE = 60
SUBJECTS = "man woman boy girl dog child player dancer singer worker".split()
COLOURS = "red blue green yellow white black brown orange pink gray".split()
ENDS = ["in the snow", "on the beach", "near a car", "at night", "in a park"]
VERBS = "running standing sitting walking playing".split()


def sentences() -> list[str]:
    """2,500 that are all different, in an order of chance."""
    found = [
        f"A {subject} in a {colour} shirt is {verb} {end}."
        for subject in SUBJECTS for colour in COLOURS for verb in VERBS for end in ENDS
    ]  # fmt: skip
    random.Random(0).shuffle(found)
    return found


@contextmanager
def served() -> Iterator[tuple[str, int]]:
    """The address of the page, started as a visitor starts it, and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "--port", str(port), "--device", "cpu"]
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as app:
        try:
            for _ in range(2400):
                try:
                    if httpx.get(f"{address}/robots.txt").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.05)  # nobody tells when it listens
            yield address, app.pid
        finally:
            app.terminate()


def megabytes(pid: int, pages: str = r"Private_\w+") -> float:
    """What the process holds: its own pages, or those named, as the kernel counts them."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(rf"{pages}:\s+(\d+)", text)) / 1024


class Visitor:
    """One browser's session."""

    def __init__(self, client: httpx.AsyncClient, session: str = ""):
        self.client, self.session = client, session or secrets.token_hex(6)

    async def open(self) -> None:
        """The page, what its HTML names, and the connection that says that somebody is there."""
        page = await self.client.get("/")
        self.event = event(page.text)
        named = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page.text)
        for path in [*named, "theme.css"]:
            (await self.client.get(f"/{path}")).raise_for_status()

    async def translate(self, text: str) -> float:
        """Seconds from the question to its answer, which must be about this sentence."""
        start = time.perf_counter()
        data = [text, "en-de", "greedy", {}][: len(self.event["inputs"])]
        question = {"data": data, "fn_index": self.event["id"], "session_hash": self.session}
        joined = await self.client.post("/gradio_api/queue/join", json=question)
        joined.raise_for_status()
        value = await self._answer(joined.json()["event_id"])
        assert about(value, text), f"asked {text!r}, and was told {str(value)[:300]}"
        return time.perf_counter() - start

    async def _answer(self, wanted: str) -> dict:
        url = "/gradio_api/queue/data"
        async with self.client.stream("GET", url, params={"session_hash": self.session}) as lines:
            async for line in lines.aiter_lines():
                if line.startswith("data:") and "process_completed" in line:
                    said = json.loads(line[5:])
                    assert said["success"] and said["event_id"] == wanted
                    return said["output"]["data"][0]
        raise AssertionError("the answer was lost")


def event(page: str) -> dict:
    """The Translate tab's event, as the page's settings have it."""
    start = page.index("window.gradio_config = ") + len("window.gradio_config = ")
    config, _ = json.JSONDecoder().raw_decode(page[start:])
    return next(each for each in config["dependencies"] if each["api_name"] == "translate")


def about(value: dict, text: str) -> bool:
    """Whether the pieces of an answer's source are the sentence that was asked."""
    return re.sub(r"\W", "", text).lower() in re.sub(r"\W", "", "".join(value["source"])).lower()


async def crowd(
    address: str, count: int, texts: list[str], seconds: float, opens: bool, name: str = ""
) -> dict:
    """`count` sessions at once, spread over `seconds` as people are; each asks one sentence. With a
    name they are the same ones as before."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
        ready = Visitor(client)
        await ready.open()

        async def visit(number: int) -> tuple[float, float]:
            await asyncio.sleep(seconds * number / count)
            visitor = Visitor(client, name and f"{name}{number}")
            start = time.perf_counter()
            if opens:
                await visitor.open()
            else:
                visitor.event = ready.event
            return time.perf_counter() - start, await visitor.translate(texts[number])

        start = time.perf_counter()
        found = await asyncio.gather(*map(visit, range(count)), return_exceptions=True)
        total = time.perf_counter() - start
    faults = [each for each in found if isinstance(each, BaseException)]
    times = [each for each in found if not isinstance(each, BaseException)]
    return {
        "faults": [repr(each)[:200] for each in faults],
        "seconds": total,
        "rate": len(times) / total,
        "open": [each[0] for each in times],
        "translate": [each[1] for each in times],
    }


async def full(address: str, count: int) -> tuple[int, int]:
    """Of `count` questions at once: how many are answered, how many are told that it is busy."""
    found = await crowd(address, count, sentences()[-count:], 0, False)
    busy = sum("503" in fault for fault in found["faults"])
    assert len(found["faults"]) == busy, found["faults"][:3]
    return len(found["translate"]), busy


def in_a_browser(address: str) -> dict[str, float]:
    """Milliseconds: from the click to the picture, and from one head to another."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(reduced_motion="reduce")
        page.goto(address)
        page.wait_for_selector("#translate [data-state=done]")
        twelve = [f"A man in a {colour} shirt is {verb} ." for colour in COLOURS for verb in VERBS]
        clicks = [page.evaluate(CLICK, text) for text in twelve[:12]]
        long = " ".join(["a man in a red shirt is standing near a car and"] * 4 + ["a dog"] * 5)
        page.evaluate(CLICK, long)
        tokens = page.locator("#translate .keys > *, #translate .source .token").count()
        heads = [page.evaluate(SWITCH) for _ in range(12)]
        browser.close()
    return {
        "click": statistics.median(clicks[2:]), "best click": min(clicks),
        "head": statistics.median(heads[2:]), "tokens": tokens,
    }  # fmt: skip


CLICK = """async (text) => {
    const root = document.querySelector("#translate");
    const field = root.querySelector("input.text");
    field.value = text;
    const view = document.querySelector("#translate [data-answers]") ?? root;
    const before = view.dataset.answers, start = performance.now();
    field.form.requestSubmit();
    while (view.dataset.answers === before) await new Promise((next) => setTimeout(next, 1));
    return performance.now() - start;
}"""
# Till the frame's work is done: style, layout and paint of what the click changed.
SWITCH = """async () => {
    const cells = [...document.querySelectorAll("#translate .grid button")];
    const other = cells.find((each) => each.ariaPressed !== "true" && each !== window.last);
    window.last = other;
    await new Promise(requestAnimationFrame);
    const start = performance.now();
    other.click();
    document.body.offsetHeight;
    return performance.now() - start;
}"""


IMPORTS = {
    "torch": "import torch",
    "lab": "import torch, lab",
    "its models": "import torch, lab.model, lab.translation, lab.training",
}


def starting(rounds: int = 5) -> None:
    """From nothing to the first answer, in fresh processes; and what importing the lab costs."""
    found = [_started() for _ in range(rounds)]
    seconds, spent, shared, own = zip(*found, strict=True)
    for what, times in (("seconds", seconds), ("CPU seconds", spent)):
        best, median = min(times), statistics.median(times)
        print(f"{what} from nothing to the first answer: {best:.1f} at best, median {median:.1f}")
    print(f"memory after it: {max(shared):.0f} MB resident, {max(own):.0f} its own")
    cost: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(2 * rounds):
        for name, code in IMPORTS.items():
            before = _children()
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
            cost[name].append(_children() - before)
    torch, *ours = ((name, min(found), statistics.median(found)) for name, found in cost.items())
    for name, best, median in ours:
        print(
            f"import of {name} beyond torch: {best - torch[1]:+.2f} s of CPU at best, median "
            f"{median - torch[2]:+.2f}"
        )


def _started() -> tuple[float, float, float, float]:
    """Seconds, CPU seconds, and megabytes: resident, its own."""

    async def ask(address: str) -> None:
        async with httpx.AsyncClient(base_url=address, timeout=120) as client:
            visitor = Visitor(client)
            await visitor.open()
            await visitor.translate(sentences()[0])

    before, start = _children(), time.perf_counter()
    with served() as (address, pid):
        asyncio.run(ask(address))
        seconds = time.perf_counter() - start
        memory = megabytes(pid, "Rss"), megabytes(pid)
    return seconds, _children() - before, *memory


def _children() -> float:
    """CPU seconds of the processes that this one started and saw end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--start", action="store_true")
    only_start = options.parse_args().start
    starting()
    if only_start:
        return
    texts = sentences()
    with served() as (address, pid):
        run = lambda *given: asyncio.run(crowd(address, *given))  # noqa: E731
        run(8, texts[-8:], 0, True)
        before = megabytes(pid)
        fifty = run(50, texts[:50], 0, False, "class")
        print(f"50 at once: {fifty['rate']:.1f} translations/s, {len(fifty['faults'])} faults")
        run(50, texts[50:100], 0, False, "class")
        hundred = megabytes(pid)
        found = run(200, texts[100:300], MINUTE / 2, True)
        print(
            f"200 sessions open and translate in {found['seconds']:.0f} s, "
            f"{len(found['faults'])} faults; p95 to open {p95(found['open']):.2f} s, "
            f"to translate {p95(found['translate']):.2f} s"
        )
        for fault in (fifty["faults"] + found["faults"])[:5]:
            print(f"  {fault}")
        for at in range(300, 1000, 50):
            assert not run(50, texts[at : at + 50], 0, False, "class")["faults"]
        thousand = megabytes(pid)
        print(
            f"memory: {before:.0f} MB, after 100 translations {hundred:.0f}, after 1,000 "
            f"{thousand:.0f} ({thousand / hundred - 1:+.1%})"
        )
        answered, busy = asyncio.run(full(address, 400))
        print(f"400 questions at once: {answered} answered, {busy} told that it is busy")
        shown = in_a_browser(address)
        print(
            f"in the browser: {shown['click']:.0f} ms from click to picture (best "
            f"{shown['best click']:.0f}), {shown['head']:.1f} ms to another head at "
            f"{shown['tokens']} tokens"
        )
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
