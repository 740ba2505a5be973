"""What the page makes of people who mean harm: one clear sentence, no stack trace, and it lives on.

Every attack here goes to the running page, as from outside; one goes through a real browser.
"""

import itertools
import json
import re
import secrets
import socket
from types import SimpleNamespace

import httpx
import pytest
from gradio.context import Context

from lab.page.gate import DEPTH, SIZE
from lab.page.headers import POLICY, Headers, framing
from lab.page.view import failure
from lab.page.words import WORDS

pytestmark = pytest.mark.xdist_group("page")  # one server for all of them

EVENTS = ("/gradio_api/queue/join", "/gradio_api/run/predict")
MARKUP = "<img src=x onerror=hacked=1><script>hacked=1</script><svg onload=hacked=1>"
SENTENCES = [
    MARKUP + " A dog",
    "\"'><iframe srcdoc='<script>parent.hacked=1</script>'></iframe> a dog",
    "javascript:hacked=1 //a dog", "{{constructor.constructor('hacked=1')()}} a dog",
    "${hacked=1} a dog", "</script><script>hacked=1</script> dog", "&lt;b&gt; &#x3c;b&#x3e; dog",
    "\u202ea dog\u202d is\u2066 running\u2069", "a\u200bdog\u200d\ufeff is\u2060 here",
    "a\x00dog\x07 \x1b[31mred",
    "dog\r\nSet-Cookie: a=b\r\n\r\n<b>", "a dog" + "\u0301" * 300, "👩‍👩‍👧‍👦" * 30 + " dog",
    "\ufdfa" * 90, "a " * 199, "dog" * 133, "\U000e0041\U000e0042 a dog", "%s%n%x {0} {text} a dog",
    "__proto__ constructor dog", "../../../etc/passwd", "' OR 1=1; DROP TABLE dogs; --",
    "\uffff\ufffe a dog", "𝒂 𝒅𝒐𝒈 ⓓⓞⓖ ﬁ", "<s> </s> <pad> <unk> a dog",
]  # fmt: skip


@pytest.fixture(scope="module")
def client(running_page):
    with httpx.Client(base_url=running_page, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def config(client):
    return client.get("/config").json()


def asked(config):
    """The events of the page's drawings: what a browser sends to the server."""
    return [each for each in config["dependencies"] if each["backend_fn"]]


def ask(client, event, asked=None, data=(), session=None):
    """The answer of an event, as the browser gets it: the status, and the values if there are."""
    session = session or secrets.token_hex(6)
    question = {"data": [*data], "event_data": asked, "fn_index": event["id"]}
    question |= {"session_hash": session, "trigger_id": event["targets"][0][0]}
    answer = client.post(EVENTS[0 if event["queue"] else 1], json=question)
    if answer.status_code != 200 or not event["queue"]:
        return answer.status_code, answer.json()
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as lines:
        for line in lines.iter_lines():
            if line.startswith("data:") and "process_completed" in line:
                said = json.loads(line[5:])
                return (200 if said["success"] else 500), said["output"]
    raise AssertionError("the answer was lost")


def translate(client, config, text):
    """What the Translate tab is given for a sentence."""
    (event,) = [each for each in config["dependencies"] if each["api_name"] == "translate"]
    status, value = ask(client, event, data=[text, "en-de", "greedy", {}])
    assert status == 200
    return value["data"][0]


# Addresses

FILES = [
    "/gradio_api/file=/etc/passwd", "/gradio_api/file=pyproject.toml", "/gradio_api/file=app.py",
    "/gradio_api/file=../../../etc/passwd", "/gradio_api/file=C:/Windows/win.ini",
    "/gradio_api/file=http://127.0.0.1:1/", "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/file/etc/passwd", "/file=/etc/passwd", "/gradio_api/proxy=http://127.0.0.1:1/",
    "/static/../../../../etc/passwd", "/static/%2e%2e/%2e%2e/%2e%2e/routes.py",
    "/assets/..%2f..%2f..%2froutes.py", "/assets/%2fetc%2fpasswd", "/assets//etc/passwd",
    "/assets/..%5c..%5croutes.py", "/static/img/%00", "/svelte/../../../../etc/passwd",
    "/gradio_api/custom_component/x/client/component/../../../../etc/passwd",
    "/gradio_api/deep_link?session_hash=x", "/monitoring", "/monitoring/summary",
    "/gradio_api/runs", "/gradio_api/vibe-code", "/gradio_api/openapi.json", "/docs",
    "/openapi.json", "/.git/config",
    "/gradio_api/stream/x/y/1/playlist.m3u8", "/gradio_api/upload_progress?upload_id=x",
    "/gradio_api/profiling/traces", "/gradio_api/dev/reload", "/course/mine", "/login",
    "/gradio_api/heartbeat/../upload", "/gradio_api/call/x/y", "/pwa_icon", "/" + "a" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("path", FILES)
def test_no_file_and_no_spare_address_is_served(client, path):
    """Files of the machine, of the lab and of other visitors; and what Gradio has besides."""
    for method in ("GET", "POST", "HEAD"):
        answer = client.request(method, path)

        assert 400 <= answer.status_code < 500, (method, answer.status_code)
        assert not re.search(r"root:|\[project\]|Traceback|File \"", answer.text)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/gradio_api/upload"), ("POST", "/gradio_api/component_server"),
     ("POST", "/gradio_api/component_server/"), ("POST", "/gradio_api/process_recording"),
     ("POST", "/gradio_api/stream/x"), ("POST", "/gradio_api/call/translate"),
     ("POST", "/gradio_api/call/v2/translate"), ("POST", "/gradio_api/api/predict"),
     ("POST", "/gradio_api/vibe-edit"), ("POST", "/gradio_api/run-history/connect"),
     ("PUT", "/gradio_api/queue/join"), ("DELETE", "/config"), ("PATCH", "/"), ("POST", "/"),
     ("TRACE", "/"), ("CONNECT", "/"), ("PROPFIND", "/"), ("X" * 300, "/"),
     ("POST", "/assets/index.js"), ("GET", "/gradio_api/queue/join"),
     ("POST", "/gradio_api/queue/data"), ("POST", "/gradio_api/heartbeat/x")],
)  # fmt: skip
def test_wrong_methods_and_writing_addresses_are_refused(client, method, path):
    """Nothing is uploaded, recorded or called but by the page's own way."""
    body = None if method == "GET" else b"{}"
    answer = client.request(method, path, content=body, headers={"content-type": "text/plain"})

    assert 400 <= answer.status_code < 500
    assert "Traceback" not in answer.text


def test_no_upload_reaches_the_disk(client):
    """A file of any size is refused before it is read."""
    files = {"files": ("evil.html", b"<script>hacked=1</script>" * 100_000, "text/html")}

    assert client.post("/gradio_api/upload", files=files).status_code == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://["]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages_of_other_sites_ask_nothing(client, method, origin):
    """Their questions are refused; a preflight alone opens nothing."""
    headers = {"origin": origin, "access-control-request-method": method}

    assert client.request(method, EVENTS[0], headers=headers).status_code == 403
    client.options(EVENTS[0], headers=headers)
    assert client.request(method, "/", headers=headers).status_code == 403
    other = {"sec-fetch-site": "cross-site"}
    assert client.post(EVENTS[0], json={}, headers=other).status_code == 403


def test_a_forged_host_is_not_kept(client):
    """What a proxy's headers claim is believed for their own answer at most."""
    forged = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https"}
    client.get("/", headers=forged)

    assert "evil.example" not in client.get("/").text
    assert "evil.example" not in client.get("/config").text


# Headers


@pytest.mark.parametrize(
    "path", ["/", "/config", "/theme.css", "/gradio_api/info", "/static/img/logo.svg", "/nothing",
             "/gradio_api/file=/etc/passwd", "/robots.txt", "/assets/nothing.js",
             "/gradio_api/heartbeat/abc", "/gradio_api/queue/data?session_hash=nobody"]
)  # fmt: skip
def test_every_answer_tells_the_browser_about_safety(client, path):
    """Policy, no guessing of types, no framing: on pages, scripts, data, streams and faults."""
    with client.stream("GET", path) as answer:
        headers = answer.headers

    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert policy["object-src"] == policy["frame-ancestors"] == "'none'"
    assert "http" not in headers["content-security-policy"] and "*" not in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"


def test_frames_are_for_whom_they_are_named(monkeypatch):
    """A Moodle that may show the page is named in the policy; the older header cannot do that."""
    monkeypatch.setenv("LAB_FRAME_FROM", "https://moodle.example https://b.example:8443")
    headers = Headers(None, framing()).headers
    policy = headers["Content-Security-Policy"]

    assert policy.endswith("frame-ancestors https://moodle.example https://b.example:8443")
    assert "X-Frame-Options" not in headers
    for wrong in ("*", "moodle.example", "https://a;script-src *", "https://a/path", "https:"):
        monkeypatch.setenv("LAB_FRAME_FROM", wrong)
        with pytest.raises(ValueError, match="is no origin, such as"):
            framing()


def test_only_what_never_changes_is_kept(client):
    """Scripts, whose names hold their hash; not a page, not an answer, not a fault."""
    script = re.search(r"/assets/index-[\w-]+\.js", client.get("/").text)[0]

    assert "immutable" in client.get(script).headers["cache-control"]
    for path in ("/", "/config", "/assets/nothing.js", "/gradio_api/file=x"):
        assert "immutable" not in client.get(path).headers.get("cache-control", "")


# Questions


def deep(levels):
    return json.loads("[" * levels + "]" * levels)


FORGED = [
    {}, [], None, "x", 7, {"data": None}, {"data": {}}, {"data": "x"}, {"data": [None] * 99},
    {"data": [[]], "batched": True}, {"simple_format": True}, {"request": {"headers": {}}},
    {"fn_index": None}, {"fn_index": -1}, {"fn_index": 10**30}, {"fn_index": "0"},
    {"fn_index": True}, {"fn_index": [0]}, {"session_hash": None}, {"session_hash": ""},
    {"session_hash": 7}, {"session_hash": "../../x"}, {"session_hash": "x" * 1000},
    {"session_hash": "a\nb"}, {"trigger_id": 10**9}, {"trigger_id": "x"}, {"trigger_id": []},
    {"event_data": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}},
    {"event_data": deep(DEPTH + 2)}, {"event_data": deep(400)}, {"event_id": "x"},
    {"oauth_token": "x"}, {"__proto__": {}}, {"event_data": {"text": "\ud800 dog"}},
]  # fmt: skip


@pytest.mark.parametrize("forged", FORGED, ids=range(len(FORGED)))
def test_forged_questions_end_in_a_sentence(client, config, forged):
    """Whatever field is wrong, of whatever event: a 4xx that says so, before anything runs."""
    for event in asked(config):
        question = {"data": [None] * len(event["inputs"]), "fn_index": event["id"]}
        question["session_hash"] = "abc"
        body = question | forged if isinstance(forged, dict) and forged else forged
        for path in EVENTS:
            answer = client.post(
                path, content=json.dumps(body), headers={"content-type": "application/json"}
            )
            assert 400 <= answer.status_code < 500
            assert answer.json()["fault"]


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"data": NaN', b"\x00" * 10, b"<xml/>", b"1" * 9_000,
     b'{"data": [], "data": [1]}'],
)  # fmt: skip
def test_what_is_no_json_ends_in_a_sentence(client, raw):
    """Broken, binary, endless numbers, brackets without end."""
    answer = client.post(EVENTS[0], content=raw, headers={"content-type": "application/json"})

    assert answer.status_code == 400
    assert answer.json()["fault"]


def test_a_question_has_an_end(client):
    """By the length it tells, by what comes where it tells none, and by what comes beyond it."""

    def endless():
        for _ in range(10):
            yield b" " * (SIZE // 5)

    for content in (b" " * (SIZE + 1), endless()):
        answer = client.post(EVENTS[0], content=content)
        assert answer.status_code == 413 and "at most" in answer.json()["fault"]


WRONG = [
    None, 7, "x", [], {}, True, 1e308, [[[]]], {"text": None}, {"text": 7}, {"text": ["a"]},
    {"text": {"a": 1}}, {"pair": None}, {"pair": ["en-de"]}, {"pair": "../../x"}, {"pair": MARKUP},
    {"text": "A dog.", "pair": "en-de"}, {"text": "A dog.", "pair": "en-de", "layer": "x"},
    {"text": "A dog.", "pair": "en-de", "layer": 10**30, "head": -1, "query": 1e9, "key": None},
    {"text": "A dog.", "pair": "en-de", "mask": [[2]], "masks": "x", "off": "all", "heads": [[9]]},
    {"text": "A dog.", "pair": "en-de", "what": MARKUP, "kind": MARKUP, "method": MARKUP},
    {"text": "A dog.", "pair": "en-de", "method": "sample", "temperature": -1, "top_k": 1e99},
    {"text": "A dog.", "pair": "en-de", "prefix": [10**9], "forced": ["x"], "temperature": "nan"},
    {"sentences": ["x"] * 10_000, "pair": "en-de"}, {"part": MARKUP, "unit": "../../etc"},
]  # fmt: skip


def test_every_event_answers_every_nonsense(client, config):
    """Each tab's question with each field of a wrong kind: a message or a picture, never a fault
    of the machine."""
    for event in asked(config):
        for wrong in WRONG:
            data = [wrong] * len(event["inputs"])
            status, value = ask(client, event, wrong, data)
            assert status == 200, (event["targets"], wrong, value)
            assert "Traceback" not in json.dumps(value)


@pytest.mark.parametrize("text", SENTENCES, ids=range(len(SENTENCES)))
def test_hostile_sentences_are_sentences(client, config, text):
    """Translated like any other, or refused in words; the value is JSON, and holds the sentence as
    it is read, not as markup."""
    found = translate(client, config, text)

    assert "message" in found or found["target"]
    json.dumps(found, allow_nan=False)


def test_sessions_are_apart(client, config):
    """Who knows no session's name gets none of its answers."""
    stranger = secrets.token_hex(6)
    found = translate(client, config, "A secret dog.")
    answers = [
        client.get("/gradio_api/queue/data", params={"session_hash": session})
        for session in (stranger, "", "*", "../x", "__proto__")
    ]

    assert found["target"]
    assert [answer.status_code for answer in answers] == [404] * 5


def test_raw_nonsense_on_the_wire(running_page):
    """What is no HTTP gets a 400 or nothing, and the next visitor a page."""
    host, port = running_page.removeprefix("http://").split(":")
    for raw in (b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 1000,
                b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
                b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"):  # fmt: skip
        with socket.create_connection((host, int(port)), timeout=5) as wire:
            wire.sendall(raw)
            wire.shutdown(socket.SHUT_WR)
            answer = wire.recv(65_536)
            assert not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 101", b"HTTP/1.1 5"))

    assert httpx.get(running_page).status_code == 200


def test_a_full_queue_is_told_as_what_it_is(monkeypatch):
    """What Gradio refuses when too many wait ends in our words, in both languages; anything else
    that fails is not blamed on the crowd."""

    class Waiting(list):
        max_size = 8

    page = SimpleNamespace()
    monkeypatch.setattr(Context, "root_block", page)
    said = failure(itertools.count())
    for waiting, word in ((8, "page.busy"), (5, "page.busy"), (0, "page.unknown")):
        page._queue = Waiting(range(waiting))
        assert said()["message"]["word"] == word
    assert said()["answer"] != said()["answer"]
    assert all("page.busy" in words for words in WORDS.values())


# In a browser


@pytest.mark.browser
@pytest.mark.parametrize("where", ["text", "address", "model"])
def test_nothing_that_is_said_runs_in_a_browser(browser, running_page, where):
    """Markup typed, in a link, or from a model that was made to say it: it is read as letters."""
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    dialogs, elsewhere = [], []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((running_page, "data:", "blob:"))
            else elsewhere.append(request.url)
        ),
    )
    if where == "model":
        page.route("**/gradio_api/queue/data*", hostile_answer)
    address = running_page
    if where == "address":
        fields = (
            "s",
            "text",
            "pair",
            "layer",
            "head",
            "token",
            "query",
            "kind",
            "view",
            "tab",
            "lang",
        )
        address += f"/?{httpx.QueryParams({field: MARKUP for field in fields})}#{MARKUP}"
    page.goto(address)
    page.wait_for_selector("#translate [data-state]:not([data-state=asking])", state="attached")
    if where != "address":
        field = page.locator("#translate input.text, #sentence textarea").first
        field.fill(MARKUP + " A dog is running.")
        before = page.locator("[data-answers]").first.get_attribute("data-answers")
        field.press("Enter")
        page.wait_for_selector(f"[data-answers]:not([data-answers='{before}'])", state="attached")

    assert page.evaluate("window.hacked") is None
    assert page.locator("#translate :is(img, script, svg[onload], iframe)").count() == 0
    assert dialogs == [] and elsewhere == []
    if where == "model":
        assert "<img src=x" in page.locator("#translate").inner_text()  # it was there, as letters
    context.close()


def hostile_answer(route):
    """The server's answer, each piece of text in it made markup."""
    answer = route.fetch()

    def spoiled(value):
        if isinstance(value, dict):
            return {key: each if key == "data" else spoiled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [spoiled(each) for each in value]
        return MARKUP if isinstance(value, str) else value

    lines = []
    for line in answer.text().split("\n"):
        if line.startswith("data:") and "process_completed" in line:
            said = json.loads(line[5:])
            said["output"]["data"] = [
                {key: spoiled(each) if key in ("source", "target", "text", "about") else each
                 for key, each in value.items()}
                for value in said["output"]["data"]
            ]  # fmt: skip
            line = f"data: {json.dumps(said)}"
        lines.append(line)
    route.fulfill(response=answer, body="\n".join(lines))
