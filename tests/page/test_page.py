"""The page without a browser: what a request gets, through the same server a browser talks to."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch
from gradio_client import Client

from lab.model import Checkpoint, shipped
from lab.page import server
from lab.page.questions import script
from lab.translation import translate

pytestmark = pytest.mark.xdist_group("page")  # one server for all of them

ROOT = Path(__file__).parents[2]
SENTENCE = "Two dogs are playing in the snow."


def test_all_shipped_models_are_on_the_page():
    """English to German, to French and to Chinese come with the lab."""
    assert set(server.load(torch.device("cpu"))) == {"en-de", "en-fr", "en-zh"} == set(shipped())


def test_gradio_is_imported_without_its_stubs():
    """Beside its installed classes no .pyi is looked at or written, and nothing else is changed."""
    code = """
import inspect, sys
touched, getfile = [], inspect.getfile
sys.addaudithook(lambda event, given: touched.append(str(given[0])) if event == "open" else None)
import lab.page
import gradio as gr
print([path for path in touched if path.endswith(".pyi")])
print(inspect.getfile is getfile, inspect.getfile(gr.HTML).endswith("html.py"))
with gr.Blocks() as page:
    gr.Button().click(int, gr.Textbox(), gr.HTML())
print([event.targets[0][1] for event in page.fns.values()])
"""

    found = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)

    assert found.splitlines() == ["[]", "True True", "['click']"]


def test_script_names_what_most_letters_are():
    """Digits and points do not count."""
    assert script("a man, 7 人") == "LATIN"
    assert script("人人 a") == "CJK"
    assert script("7 + 7") is None


def test_a_forged_request_fails_alone(running_page):
    """Others in its batch get their translations, each by its own options."""
    client = Client(running_page, verbose=False)
    requests = [
        ("en-de", "greedy", {}),
        ("en-de", "beam", {"beam_size": 2}),
        ("evil", "greedy", {}),
        ("en-de", "sample", {"temperature": "hot"}),
        ("en-fr", "greedy", {}),
        ("en-zh", "greedy", {}),
    ]

    jobs = [client.submit(SENTENCE, *each, api_name="/translate") for each in requests]
    values = [job.result(timeout=60) for job in jobs]

    assert ["message" in value for value in values] == [False, False, True, True, False, False]
    assert values[1]["asked"]["options"]["beam_size"] == 2
    assert [each["languages"]["target"] for each in values[4:]] == ["fr", "zh-CN"]


def test_a_port_that_is_taken_is_told(running_page):
    """A second page at the same address ends in one line that says what to do."""
    port = running_page.rsplit(":", 1)[1]

    done = subprocess.run(
        [sys.executable, "app.py", "--port", port], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f":{port}: give another --port or --host")
    assert "Traceback" not in done.stderr


def test_served_page_answers_its_client_and_hides_its_files(running_page):
    """The public endpoint gives the value; files of the machine are not served."""
    client = Client(running_page, verbose=False)
    value = client.predict(SENTENCE, "en-de", "greedy", api_name="/translate")

    assert value["text"] == translate(Checkpoint.load(shipped()["en-de"]), [SENTENCE])[0].text
    for path in ("/gradio_api/file=/etc/passwd", "/gradio_api/file=pyproject.toml"):
        assert httpx.get(running_page + path).status_code in (403, 404)
