"""A drawing on the page: a template, its script, and one JSON value from the server.

    view = drawing("inside", value, pairs=["en-de"])
    answers(view, lambda question: {"steps": […]})

The browser draws the value, and asks for another one by `ask({…})` of common.js; whatever is in a
value reaches it as JSON and is drawn as text: nothing in a sentence is ever read as markup.
"""

import base64
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.context import Context
from jaxtyping import Float
from torch import Tensor

from lab.page import resource
from lab.page.computing import in_one_thread
from lab.page.questions import Refused
from lab.page.words import say

HERE = Path(__file__).parent
Value = dict[str, Any]


def drawing(
    name: str, value: Value, folder: Path = HERE, scripts: Sequence[str] = (), **props: Any
) -> gr.HTML:
    """The drawing of `name`.html and `name`.js; the script finds `props` beside its value.

    A script that is long for one file has others, `scripts`, which stand before it.
    """
    script = "".join(resource(f"{each}.js", folder) for each in (*scripts, name))
    view = gr.HTML(
        value,  # type: ignore[arg-type]  (any JSON will do)
        html_template=resource(f"{name}.html", folder),
        js_on_load=resource("common.js") + script,
        apply_default_css=False,
        elem_id=name.replace("_", "-"),
        **props,
    )
    # Any word that a script quotes is an event to Gradio, where the view has no such attribute; and
    # those of the constructor's are in the page's settings, which are JSON.
    view.every = view.inputs = None  # type: ignore[attr-defined]
    return view


def message(word: str, **values: Any) -> Value:
    """A value that says something in place of a picture; see `lab.page.words.say`."""
    return {"message": say(word, **values)}


def answers(view: gr.HTML, answer: Callable[[Value], Value], **options: Any) -> None:
    """Let `answer` give the drawing its next value whenever it asks; one model call at a time.

    A question is what any browser may send: `answer` looks at each field (see lab.page.questions)
    and refuses by ValueError or LookupError, which ends in a message. So does whatever else goes
    wrong; the page lives on.
    """

    count = itertools.count()

    def run(event: gr.EventData) -> Value:
        question = event._data
        try:
            value = answer(question if isinstance(question, dict) else {})
        except Refused as error:
            value = {"message": error.message}
        except (ValueError, LookupError) as error:
            value = message("page.refused", reason=str(error))
        # A browser hears of what differs from its last value: the same answer again is told apart.
        return value and {**value, "answer": next(count)}

    common: Value = dict(outputs=view, show_progress="hidden", api_visibility="private")
    # Every question is answered, in order: one that came too early would else be dropped unsaid.
    usual = {"concurrency_limit": 1, "concurrency_id": "model", "trigger_mode": "multiple"}
    settings = usual | common | options
    if settings["concurrency_limit"] == 1:
        asked = view.ask(in_one_thread(run, settings["concurrency_id"]), **settings)
    else:
        asked = view.ask(run, **settings)
    asked.failure(failure(count), queue=False, **common)


def failure(count: Iterator[int]) -> Callable[[], Value]:
    """What is said of a question that got no answer: that many ask now, or that something went
    wrong; each time told apart by `count`. Inside the page's Blocks."""
    page = Context.root_block
    assert page is not None, "within gr.Blocks"

    def said() -> Value:
        queue = page._queue
        crowded = queue.max_size is not None and len(queue) > queue.max_size // 2
        return {**message("page.busy" if crowded else "page.unknown"), "answer": next(count)}

    return said


def packed(weights: Float[Tensor, "*axes rows columns"]) -> dict[str, Any]:
    """Numbers from 0 to 1 as 16-bit ones in base64: a quarter of their size as decimal JSON."""
    numbers = (weights.clamp(0, 1) * 65_535).round().numpy().astype("<u2")
    data = base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
    return {"rows": weights.size(-2), "columns": weights.size(-1), "data": data}
