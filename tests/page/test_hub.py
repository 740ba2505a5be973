"""The course's page as a service of a real JupyterHub, and of some that misbehave."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import a_course as a
import a_course_page as c
import httpx
import pytest
from a_server import free_ports, until

from autograder.classroom import settings, teaching
from autograder.classroom.door import ON_THE_WAY, _out
from autograder.classroom.hub import LONGEST, SECRET, Hub, People, Visitor
from autograder.classroom.page import Course
from autograder.cli import main
from lab.page.words import spelled

pytestmark = [pytest.mark.xdist_group("course-page"), *a.WARNINGS]

HOST = "https://hub.example"
PREFIX = "/jupyter/services/attention-lab"
SCOPE = "access:services!service=attention-lab"
REST = """
from jupyterhub.proxy import Proxy

class NoProxy(Proxy):
    should_start = False

    async def get_all_routes(self):
        return {}

    async def add_route(self, routespec, target, data):
        pass

    async def delete_route(self, routespec):
        pass

c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.allow_all = True
c.DummyAuthenticator.admin_users = {"root"}
c.JupyterHub.base_url = "/jupyter/"
c.JupyterHub.hub_ip = "127.0.0.1"
"""


# The whole round, at a real Hub


class OneHost(httpx.BaseTransport):
    """What the Hub's proxy does: one host with TLS, both servers behind it, paths as they are."""

    def __init__(self, hub, page):
        self.hub, self.page, self.inner = hub, page, httpx.HTTPTransport()

    def close(self):
        self.inner.close()

    def handle_request(self, request):
        below = request.url.path.removeprefix(PREFIX)
        port = self.page if below != request.url.path and below[:1] in ("", "/") else self.hub
        url = request.url.copy_with(scheme="http", host="127.0.0.1", port=port)
        headers = [*request.headers.raw, (b"X-Forwarded-Proto", b"https,http")]
        return self.inner.handle_request(
            httpx.Request(request.method, url, headers=headers, stream=request.stream)
        )


@pytest.fixture(scope="module")
def new_project(tmp_path_factory):
    return c.make(tmp_path_factory.mktemp("class"))


@pytest.fixture(scope="module")
def hub(new_project, tmp_path_factory):
    """A Hub with the configuration of docs/teaching.md, which starts the page by itself:
    the two ports, and what was said."""
    if find_spec("jupyterhub") is None:
        pytest.skip("jupyterhub is not installed: pip install -e '.[dev]'")
    folder, (port, page) = tmp_path_factory.mktemp("hub"), free_ports(2)
    configuration = folder / "jupyterhub_config.py"
    ours = {"port": port, "page": page, "project": new_project}
    configuration.write_text(config(**ours), "utf-8")
    said = folder / "said.txt"
    command = [sys.executable, "-m", "jupyterhub", "-f", str(configuration)]
    with said.open("w") as out, subprocess.Popen(command, cwd=folder, stdout=out, stderr=out) as it:
        try:
            # the Hub answers before its services do; it says when all are there
            until(lambda: "JupyterHub is now running" in said.read_text(), it, said)
            yield (port, page), said
        finally:
            it.send_signal(signal.SIGTERM)
            it.wait(30)
    assert "Traceback" not in said.read_text()
    assert not processes_of(page), "the Hub left its service running"


def config(port, page, project):
    """The section's Python, with this machine's ports and folders in it."""
    text = (c.ROOT / "docs/teaching.md").read_text("utf-8").split("service of a JupyterHub\n")[1]
    snippet = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    changes = {
        "10180": str(page), '"/srv/attention-lab"': repr(str(project)),
        '"lab", "app"': f"{sys.executable!r}, {str(c.ROOT / 'app.py')!r}",
    }  # fmt: skip
    for theirs, ours in changes.items():
        assert theirs in snippet
        snippet = snippet.replace(theirs, ours)
    environment = {"PYTHONPATH": str(c.ROOT), "OMP_NUM_THREADS": "1"}
    return (
        f"{snippet}{REST}c.JupyterHub.hub_port = {port}\n"
        f"c.JupyterHub.services[0]['environment'] = {environment!r}\n"
    )


def processes_of(port):
    """The page's process and those below it."""
    found = {}
    for each in Path("/proc").glob("[0-9]*"):
        try:
            words = (each / "cmdline").read_bytes().split(b"\0")
            parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it has just ended
        found[int(each.name)] = parent, str(port).encode() in words and b"--course" in words
    ours = {pid for pid, (_, is_page) in found.items() if is_page}
    while more := {pid for pid, (parent, _) in found.items() if parent in ours} - ours:
        ours |= more
    return ours


@pytest.fixture
def browser(hub):
    clients = []

    def new(language="en"):
        clients.append(
            httpx.Client(
                transport=OneHost(*hub[0]), base_url=HOST + PREFIX, timeout=60,
                headers={"Accept-Language": language}, follow_redirects=True,
            )
        )  # fmt: skip
        return clients[-1]

    yield new
    for each in clients:
        each.close()


def at_the_hub(client, name, address="/"):
    """What comes after somebody opens the page, is led to the Hub, and logs in there."""
    page = client.get(address)
    assert page.url.path == "/jupyter/hub/login", page.text
    action = unescape(re.search(r'<form[^>]*action="([^"]+)"', page.text)[1])
    xsrf = re.search(r'name="_xsrf"\s+value="([^"]+)"', page.text)[1]
    form = {"username": name, "password": "", "_xsrf": unescape(xsrf)}
    return client.post(page.url.join(action), data=form)


def come_in(client, name):
    page = at_the_hub(client, name)
    assert page.status_code == 200 and page.url.path == f"{PREFIX}/", page.text
    return client


def test_a_whole_round(hub, browser, new_project):
    """To the Hub, back with a name, a file is handed in and graded; another sees only his own."""
    ada, other = come_in(browser(), "ada"), come_in(browser(), "王小明")
    assert c.mine(ada)["id"] == "ada" and c.mine(other)["id"] == "王小明"

    receipt = c.hand_in(ada, c.right(new_project))

    assert receipt["id"] == "01-attention/1"
    assert c.until_graded(ada)["points"] == a.POINTS
    assert c.mine(other)["units"] == []
    assert other.get("/course/notebook", params={"id": receipt["id"]}).status_code == 404
    assert other.get("/course/class").status_code == 403
    assert not (new_project / "build/hand-ins/王小明").exists()


def test_the_page_is_whole_below_its_prefix(browser):
    """Gradio knows where it is; the address without its slash leads to the one with it."""
    ada = come_in(browser(), "ada")
    page = ada.get("/")

    assert ada.get("/config").json()["root"] == HOST + PREFIX
    assets = re.findall(r'(?:src|href)="(\.?/[^"]*?assets/[^"]+)"', page.text)
    assert assets and ada.get(page.url.join(assets[0])).status_code == 200
    assert ada.get(HOST + PREFIX).url.path == f"{PREFIX}/"
    assert ada.get("/gradio_api/info").status_code == 200
    assert "a[href=password]" in json.dumps(ada.get("/config").json())
    assert ada.get("/password").status_code == 403


def test_the_hub_s_group_teaches(browser):
    """Who is in it and not in the gradebook; an admin of the Hub is nobody here."""
    teacher = come_in(browser(), c.TEACHER)
    assert teacher.get("/course/class").status_code == 200

    admin = at_the_hub(browser(), "root")
    chinese = at_the_hub(browser("zh-CN"), "root")

    assert admin.status_code == chinese.status_code == 403
    assert spelled("en", "login.hub_stranger", id="root").replace("'", "&#x27;") in admin.text
    assert spelled("zh-CN", "login.hub_stranger", id="root") in chinese.text
    assert 'href="/jupyter/hub/logout"' in admin.text


def test_a_language_goes_to_the_hub_and_back(browser):
    """What the address names stands in it again."""
    page = at_the_hub(browser(), "ada", "/?lang=zh-CN")

    assert page.url.path == f"{PREFIX}/" and page.url.query == b"lang=zh-CN"


def test_logging_out_ends_both(browser):
    """The page's session and the Hub's."""
    ada = come_in(browser(), "ada")
    session = ada.cookies["attention-lab"]

    assert ada.post("/logout").url.path == "/jupyter/hub/login"

    assert ada.get("/course/mine").status_code == 401
    assert ada.get("/").url.path == "/jupyter/hub/login"
    ada.cookies.set("attention-lab", session, "hub.example", f"{PREFIX}/")
    assert ada.get("/course/mine").status_code == 401


def back(client, name):
    """The address the Hub sends somebody back to, not yet opened."""
    with pytest.MonkeyPatch.context() as patch:
        send = client._transport.handle_request
        seen = []

        def stop(request):
            if request.url.path == f"{PREFIX}/oauth_callback":
                seen.append(request.url)
                return httpx.Response(200)
            return send(request)

        patch.setattr(client._transport, "handle_request", stop)
        at_the_hub(client, name)
    return seen[0]


def test_a_code_counts_once_and_in_its_own_browser(hub, browser):
    """Neither a second time, nor in another browser, whatever state that one has; nor is it, or
    what it takes, in the logs."""
    ada, eve = browser(), browser()
    address = back(ada, "ada")
    cookie = ada.cookies[ON_THE_WAY]
    (code,) = parse_qs(address.query.decode())["code"]
    theirs = back(eve, "王小明")

    stolen = eve.get(theirs.copy_set_param("code", code))
    assert stolen.status_code == 400 and "attention-lab" not in eve.cookies
    foreign = browser().get(address)
    assert foreign.status_code == 400
    first = ada.get(address)
    ada.cookies.set(ON_THE_WAY, cookie, "hub.example", f"{PREFIX}/")
    again = ada.get(address)

    assert first.status_code == 200 and again.status_code == 400
    assert c.mine(ada)["id"] == "ada"  # of before
    sentence = spelled("en", "login.hub_again")
    assert all(sentence in each.text for each in (stolen, foreign, again))
    logged = hub[1].read_text()
    assert code not in logged and cookie.split(".")[0] not in logged


def test_the_cookies_are_for_this_page_alone(browser):
    """Not for other servers on the Hub's host, nor for scripts, nor without TLS."""
    ada = browser()
    address = back(ada, "ada")
    ada.follow_redirects = False
    arriving, leaving = (ada.get(each).headers["set-cookie"] for each in (address, "/login"))

    for cookie in (leaving, arriving):
        assert "HttpOnly" in cookie and "Secure" in cookie and "SameSite=lax" in cookie
        assert f"Path={PREFIX}/" in cookie


def test_no_process_that_grades_knows_the_secret(hub, browser):
    """It stays with the page's own process, which learners' code does not see; nor is it logged."""
    environments = [Path(f"/proc/{each}/environ") for each in processes_of(hub[0][1])]

    knowing = [each for each in environments if SECRET.encode() in each.read_bytes()]

    assert len(environments) > 1, "no process grades"
    assert len(knowing) == 1
    secret = re.search(rb"JUPYTERHUB_API_TOKEN=(\w+)", knowing[0].read_bytes())[1].decode()
    assert secret not in hub[1].read_text()


# Hubs that misbehave, and visitors who do


ENVIRONMENT = {
    "JUPYTERHUB_API_TOKEN": "page-secret", "JUPYTERHUB_API_URL": "http://127.0.0.1:9/hub/api",
    "JUPYTERHUB_SERVICE_NAME": "attention-lab",
    "JUPYTERHUB_SERVICE_PREFIX": "/services/attention-lab/",
}  # fmt: skip
ADA = {"kind": "user", "name": "ada", "groups": [], "scopes": [SCOPE]}


def says(user=ADA, status=200, token='{"access_token": "user-secret"}', token_status=200):
    """A Hub that gives these two answers."""

    def answer(request):
        if request.url.path.endswith("/oauth2/token"):
            return httpx.Response(token_status, text=token)
        return httpx.Response(status, text=user if isinstance(user, str) else json.dumps(user))

    return httpx.MockTransport(answer)


def fails(request):
    raise httpx.ConnectError("connection refused", request=request)


@pytest.fixture
def visit(new_project):
    """A stranger before the page of a course, whose Hub is not there."""

    def new(transport=None, **options):
        hub = replace(Hub.of(ENVIRONMENT), transport=transport or httpx.MockTransport(fails))
        course = Course(settings.read(new_project), hub=hub)
        base = "http://testserver/services/attention-lab"
        root = {"root_path": "/services/attention-lab"}
        return c.visitor(course, base_url=base, **root, **options)

    return new


def state_of(client):
    """On the way to the Hub; what the Hub has to give back."""
    answer = client.get("/login")
    assert answer.status_code == 303
    return parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]


@pytest.mark.parametrize(
    ("transport", "status", "word"),
    {
        "away": (httpx.MockTransport(fails), 502, "hub_away"),
        "in pieces": (says(token_status=500), 502, "hub_away"),
        "no JSON": (says(token="<html>"), 502, "hub_away"),
        "no token": (says(token="[]"), 502, "hub_away"),
        "a token that is no header": (says(token='{"access_token": "é\\n"}'), 502, "hub_away"),
        "not our secret": (says(token_status=401), 502, "hub_away"),
        "a used code": (says(token_status=400), 400, "hub_again"),
        "a token that is over": (says(status=403), 400, "hub_again"),
        "no user": (says("null"), 502, "hub_away"),
        "no name": (says(ADA | {"name": None}), 502, "hub_away"),
        "groups that are none": (says(ADA | {"groups": [[]]}), 502, "hub_away"),
        "no access": (says(ADA | {"scopes": ["self"]}), 403, "hub_refused"),
        "access elsewhere": (says(ADA | {"scopes": [SCOPE + "2"]}), 403, "hub_refused"),
        "another service": (says(ADA | {"kind": "service"}), 403, "hub_refused"),
    }.values(),
)
def test_a_hub_that_says_nothing_good_ends_in_a_sentence(visit, transport, status, word):
    """Nobody is in, and what the Hub said is not passed on."""
    stranger = visit(transport)
    query = {"state": state_of(stranger), "code": "x"}

    answer = stranger.get("/oauth_callback", params=query)

    assert answer.status_code == status and spelled("en", f"login.{word}") in answer.text
    assert "secret" not in answer.text and "attention-lab" not in stranger.cookies
    assert stranger.get("/course/mine").status_code == 401


@pytest.mark.parametrize(
    "name",
    ["../ada", "ada/", "Ada", "ada ", "a\u0301da", "小王", "x" * 9999, c.HOSTILE, "\x00", ""],
)
@pytest.mark.parametrize("groups", [[], ["formgrade-another"]])
def test_only_a_name_of_the_list_comes_in(visit, name, groups):
    """Letter for letter; anything else is text in a sentence."""
    stranger = visit(says(ADA | {"name": name, "groups": groups}))
    answer = stranger.get("/oauth_callback", params={"state": state_of(stranger), "code": "x"})

    assert answer.status_code == 403
    assert "on this course" in answer.text and c.HOSTILE not in answer.text
    assert "attention-lab" not in stranger.cookies


@pytest.mark.parametrize("name", ["../turing", "a/b", ".turing", "a\nb", ""])
def test_a_teacher_s_name_is_a_folder_s_name(visit, name):
    """Whatever group the Hub says it is in."""
    stranger = visit(says(ADA | {"name": name, "groups": ["formgrade-attention-lab"]}))
    answer = stranger.get("/oauth_callback", params={"state": state_of(stranger), "code": "x"})

    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ({}, 400, "hub_again"),
        ({"code": "x"}, 400, "hub_again"),
        ({"code": "x", "state": "wrong"}, 400, "hub_again"),
        ({"code": "x", "state": "é\udce9"}, 400, "hub_again"),
        ({"error": "access_denied", "state": "wrong"}, 400, "hub_again"),
        ({"error": c.HOSTILE, "state": None}, 403, "hub_refused"),
        ({"state": None}, 400, "hub_again"),
        ({"state": None, "code": "x" * (LONGEST + 1)}, 400, "hub_again"),
    ],
)
def test_who_comes_back_with_nonsense_reads_a_sentence(visit, query, status, word):
    """The Hub is not asked; None stands for the right state."""
    asked = []
    stranger = visit(httpx.MockTransport(asked.append), headers={"Accept-Language": "zh"})
    state = state_of(stranger)
    query = {name: state if value is None else value for name, value in query.items()}

    answer = stranger.get(f"/oauth_callback?{urlencode(query, errors='surrogateescape')}")

    assert answer.status_code == status and spelled("zh-CN", f"login.{word}") in answer.text
    assert not asked and c.HOSTILE not in answer.text
    assert ON_THE_WAY not in stranger.cookies  # one try for each verifier


def test_a_cookie_of_nonsense_is_no_verifier(visit):
    """Empty, or of bytes that are no text."""
    for cookie in ("", ".", ".zh-CN", "\xe9\xff.xx", "x" * 4000):
        stranger = visit(says())
        header = {"Cookie": f"{ON_THE_WAY}={cookie}".encode("latin-1")}
        for state in ("", "x"):
            query = {"state": state, "code": "x"}
            answer = stranger.get("/oauth_callback", params=query, headers=header)
            assert answer.status_code == 400 and "oauth" not in answer.text


@pytest.mark.parametrize("more", ["next=//evil.example", "lang=//evil.example", "lang=en%0d%0aX:y"])
def test_nobody_is_led_elsewhere(visit, more):
    """There is no next address: who comes in is on the page."""
    stranger = visit(says())
    away = stranger.get(f"/login?{more}").headers["location"]
    state = parse_qs(urlsplit(away).query)["state"][0]
    answer = stranger.get(f"/oauth_callback?state={state}&code=x&{more}")

    assert away.startswith("/hub/api/oauth2/authorize?") and "evil" not in away
    assert answer.status_code == 303
    assert answer.headers["location"] in ("./", "./?lang=en")
    assert c.mine(stranger)["id"] == "ada"


def test_passwords_open_nothing_here(visit):
    """Neither the form of accounts nor their addresses are there."""
    stranger = visit(says())

    assert stranger.post("/login", data={"name": "ada", "password": c.PASSWORD}).status_code == 405
    assert stranger.post("/oauth_callback").status_code == 405
    assert stranger.get("/password").status_code == 401
    assert stranger.get("/").headers["location"] == "./login"


def test_the_list_is_the_gradebook_s(new_project, tmp_path):
    """Who is taken off is out after a minute, who is put on is in at once; what cannot be read
    changes nothing; a teacher is one as long as the Hub says so."""
    course = settings.read(c.copy_of(new_project, tmp_path))
    now = [0.0]
    people = People(course, clock=lambda: now[0])
    teachers = frozenset({"formgrade-attention-lab"})
    assert set(people.all()) == set(c.LEARNERS)
    assert people.enter(Visitor("eve")) is None
    assert people.enter(Visitor("eve", teachers)).teacher
    assert not people.enter(Visitor("ada", teachers)).teacher  # no one marks their own work
    assert people.enter(Visitor("eve")) is None and "eve" not in people.all()

    with settings.listening(), teaching.gradebook(course) as book:
        book.remove_student("ada")
        book.add_student("eve")
    assert "ada" in people.all()
    now[0] = 61
    assert set(people.all()) == {"eve", "王小明"}
    (course.root / "gradebook.db").write_bytes(b"half a file" * 999)
    now[0] = 122
    assert set(people.all()) == {"eve", "王小明"}


@pytest.mark.parametrize("missing", ENVIRONMENT)
def test_a_page_that_no_hub_started_says_so(missing):
    """And names what is not there."""
    with pytest.raises(ValueError, match=f"runs as its service: {missing} is not set"):
        Hub.of(ENVIRONMENT | {missing: ""})


def test_a_hub_may_be_on_another_host():
    """With subdomains the Hub has a host of its own, and the address to come back to is whole."""
    back = "https://page.example/services/attention-lab/oauth_callback"
    more = {
        "JUPYTERHUB_HOST": HOST, "JUPYTERHUB_BASE_URL": "/jupyter/",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": back, "JUPYTERHUB_CLIENT_ID": "another",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["custom:x"]',
    }  # fmt: skip
    hub = Hub.of(ENVIRONMENT | more)
    asked = parse_qs(urlsplit(hub.way_in("v")).query)

    assert hub.way_in("v").startswith(f"{HOST}/jupyter/hub/api/oauth2/authorize?")
    assert hub.way_out == f"{HOST}/jupyter/hub/logout"
    assert asked["redirect_uri"] == [back] and asked["client_id"] == ["another"]
    assert hub.scopes == {"custom:x"} and "page-secret" not in repr(hub)
    away = _out(hub).headers  # browsers let no form lead to another host
    assert "location" not in away and away["refresh"] == f"0; url={HOST}/jupyter/hub/logout"
    with pytest.raises(ValueError, match="the other ends in '/oauth_callback'"):
        Hub.of(ENVIRONMENT | {"JUPYTERHUB_OAUTH_CALLBACK_URL": "https://page.example/"})


def test_the_switch_needs_its_course(capsys):
    """Without --course there is nothing to log in to."""
    with pytest.raises(SystemExit) as end:
        main(["app", "--login", "hub"])

    assert end.value.code and "add it, or leave both out" in capsys.readouterr().err
