"""The page as docs/deploy.md serves it: nginx with the configuration we ship, two processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from a_server import free_ports, status, until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs/deploy"
pytestmark = pytest.mark.xdist_group("deploy")


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    """The address of nginx, with our file in a bare configuration; only ports and folders differ.
    Then those of the two processes behind it."""
    binary = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if binary is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx)")
    folder = tmp_path_factory.mktemp("nginx")
    front, *behind = free_ports(3)
    shipped = (DEPLOY / "nginx.conf").read_text("utf-8")
    ours = {
        "listen 80;": f"listen 127.0.0.1:{front};", "/var/cache/nginx/lab": f"{folder}/cache",
        "7861;": f"{behind[0]};", "7862;": f"{behind[1]};",
    }  # fmt: skip
    for old, new in ours.items():
        assert old in shipped
        shipped = shipped.replace(old, new)
    folders = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{name}_temp_path {folder}/{name};\n" for name in folders)
    (folder / "lab.conf").write_text(shipped, "utf-8")
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        + ("user root;\n" if os.getuid() == 0 else "")  # else its workers could not read folder
        + f"events {{}} http {{ access_log off;\n{temporary} include {folder}/lab.conf; }}",
        "utf-8",
    )
    processes = []
    environment = os.environ | {"GRADIO_ROOT_PATH": "/lab", "OMP_NUM_THREADS": "1"}
    try:
        for port in behind:
            said = folder / f"{port}.txt"
            command = [sys.executable, "app.py", "--port", str(port), "--device", "cpu"]
            with said.open("w") as out:
                processes.append(
                    subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=environment)
                )
        for port, process in zip(behind, processes, strict=True):
            address, said = f"http://127.0.0.1:{port}/robots.txt", folder / f"{port}.txt"
            until(lambda address=address: status(address) == 200, process, said)
        said = folder / "said.txt"
        with said.open("w") as out:
            command = [binary, "-p", str(folder), "-c", str(folder / "nginx.conf")]
            processes.append(subprocess.Popen(command, stdout=out, stderr=out))
        address = f"http://127.0.0.1:{front}"
        until(lambda: status(f"{address}/lab") == 301, processes[-1], said)
        yield address, [f"http://127.0.0.1:{port}" for port in behind]
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(30)
    for port in behind:
        assert "Traceback" not in (folder / f"{port}.txt").read_text()


def translate(client, text, session):
    """A question and its answer, as a browser asks below the sub-path."""
    config = client.get("/lab/config").json()
    (event,) = [each for each in config["dependencies"] if each["api_name"] == "translate"]
    question = {"data": [text, "en-de", "greedy", {}][: len(event["inputs"])]}
    question |= {"fn_index": event["id"], "session_hash": session}
    joined = client.post("/lab/gradio_api/queue/join", json=question)
    assert joined.status_code == 200, joined.text
    data = "/lab/gradio_api/queue/data"
    with client.stream("GET", data, params={"session_hash": session}) as lines:
        assert lines.status_code == 200
        for line in lines.iter_lines():
            if line.startswith("data:") and "process_completed" in line:
                return json.loads(line[5:])["output"]["data"][0]
    raise AssertionError("the answer was lost")


def test_the_sub_path_leads_to_the_page(nginx):
    """/lab and /lab/ are the page; what it names lies below /lab, compressed where it is text."""
    address, _ = nginx
    with httpx.Client(base_url=address, follow_redirects=True) as client:
        page = client.get("/lab")
        config = client.get("/lab/config")

        assert page.status_code == 200 and str(page.url).endswith("/lab/")
        assert page.headers["content-encoding"] == config.headers["content-encoding"] == "gzip"
        assert config.json()["root"] == f"{address}/lab"
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert client.get("/").status_code == 404 or "Attention Lab" not in client.get("/").text


def test_a_visitor_stays_with_one_process(nginx):
    """By a cookie, though all have one address; and visitors are on both."""
    address, behind = nginx
    ids = [httpx.get(f"{each}/gradio_api/app_id").json()["app_id"] for each in behind]
    found = []
    for _ in range(12):
        with httpx.Client(base_url=address) as client:
            cookie = client.get("/lab/").headers["set-cookie"]
            assert "HttpOnly" in cookie and "Path=/lab/" in cookie
            assert "set-cookie" not in client.get("/lab/").headers
            seen = {client.get("/lab/gradio_api/app_id").json()["app_id"] for _ in range(5)}
            assert len(seen) == 1
            found += seen

    assert set(found) == set(ids)


def test_questions_are_answered_through_it(nginx):
    """Many visitors at a time: each gets the translation of their own sentence."""
    address, _ = nginx
    texts = [f"{number} dogs are running." for number in ("Two", "Three", "Four", "Five", "Six")]

    def visit(text):
        with httpx.Client(base_url=address, timeout=60) as client:
            client.get("/lab/")
            return translate(client, text, re.sub(r"\W", "", text))

    with ThreadPoolExecutor(5) as visitors:
        values = list(visitors.map(visit, texts))

    for text, value in zip(texts, values, strict=True):
        pieces = "".join(map(str, value["source"]))
        assert text.split()[0].lower() in pieces.lower()


def test_answers_come_as_they_are_made(nginx):
    """The stream is not held back: its first event is here before the answer is."""
    address, _ = nginx
    with httpx.Client(base_url=address, timeout=60) as client:
        client.get("/lab/")
        with client.stream("GET", "/lab/gradio_api/heartbeat/abc") as beat:
            assert next(beat.iter_bytes())


def test_scripts_are_kept_by_nginx_and_the_browser(nginx):
    """The second one to ask for a script does not reach the page's process."""
    address, _ = nginx
    with httpx.Client(base_url=address) as client:
        script = re.search(r"assets/index-[\w-]+\.js", client.get("/lab/").text)[0]
        answers = [client.get(f"/lab/{script}") for _ in range(2)]

    assert [answer.headers["x-cache"] for answer in answers] == ["MISS", "HIT"]
    assert answers[0].content == answers[1].content
    assert all("immutable" in answer.headers["cache-control"] for answer in answers)
    assert answers[1].headers["x-content-type-options"] == "nosniff"


def test_harm_does_not_come_through_either(nginx):
    """Too large, from another site, up the path: nginx or the page refuses."""
    address, _ = nginx
    with httpx.Client(base_url=address) as client:
        large = client.post("/lab/gradio_api/queue/join", content=b" " * 1_100_000)
        foreign = client.post(
            "/lab/gradio_api/queue/join", headers={"origin": "https://evil.example"}
        )
        above = client.get("/lab/..%2f..%2fetc%2fpasswd")
        upload = client.post("/lab/gradio_api/upload", files={"files": b"x"})

    assert (large.status_code, foreign.status_code, upload.status_code) == (413, 403, 403)
    assert 400 <= above.status_code < 500


@pytest.mark.browser
def test_a_browser_works_below_the_path(nginx, open_page):
    """The page, its scripts, a question and its answer; nothing is asked of the root."""
    address, _ = nginx
    page = open_page(f"{address}/lab/", below="/lab")
    page.wait_for_selector("#translate [data-answers]", state="attached")
    field = page.locator("#translate input.text, #sentence textarea").first
    field.fill("A dog is running in the park.")
    before = page.locator("[data-answers]").first.get_attribute("data-answers")
    field.press("Enter")
    page.wait_for_selector(f"[data-answers]:not([data-answers='{before}'])", state="attached")
    assert page.locator("#translate .translation").first.inner_text().strip()


def test_the_unit_is_one_that_systemd_reads(tmp_path):
    """No unknown word in the unit's file; only its program is not here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "attention-lab@7861.service"
    text = (DEPLOY / "attention-lab@.service").read_text("utf-8")
    unit.write_text(text.replace("/srv/attention-lab/.venv/bin/lab", sys.executable), "utf-8")

    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60
    )

    assert [line for line in done.stderr.splitlines() if unit.name in line] == []


def test_the_files_name_what_there_is():
    """Ports, paths and options agree with each other and with the command."""
    unit = (DEPLOY / "attention-lab@.service").read_text("utf-8")
    site = (DEPLOY / "nginx.conf").read_text("utf-8")
    container = (DEPLOY / "Containerfile").read_text("utf-8")
    said = subprocess.run(
        [sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip

    assert re.search("GRADIO_ROOT_PATH=(.*)", unit)[1] == "/lab" and "location /lab/ " in site
    for option in set(re.findall(r"--(?:host|port|device)\b", unit + container)):
        assert option in said.stdout
    assert re.search(r"app_port: (\d+)", (DEPLOY / "space.md").read_text("utf-8"))[1] in container
