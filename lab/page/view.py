"""A translation as JSON for the page's drawing."""

import base64
from typing import Any

import gradio as gr
import numpy as np
from jaxtyping import Float
from torch import Tensor

from lab.page import resource
from lab.translation import Translation

LANGUAGES = {"en": "English", "de": "German", "fr": "French", "zh": "Chinese"}


def attention_view(value: dict[str, Any]) -> gr.HTML:
    """One translation with the attention behind each token, drawn in the browser.

    The value is the dictionary of `as_json`, or {"message": …} in place of a picture. It reaches
    the browser as JSON and is drawn as text: nothing in a sentence is ever read as markup.
    """
    return gr.HTML(
        value,  # type: ignore[arg-type]  (any JSON will do)
        html_template=resource("attention.html"),
        js_on_load=resource("attention.js"),
        apply_default_css=False,
        elem_id="view",
    )


def as_json(translation: Translation, source: str, target: str, about: str) -> dict[str, Any]:
    """Everything the drawing needs, in one value; language codes become `lang` attributes."""
    attention = translation.attention
    assert attention is not None, "translate with explain=True"
    n_layers, n_heads = attention["cross"].shape[:2]
    return {
        "languages": {"source": source, "target": {"zh": "zh-CN"}.get(target, target)},
        "names": {"source": LANGUAGES.get(source, source), "target": LANGUAGES.get(target, target)},
        "text": translation.text,
        "about": about,
        "source": translation.source_pieces,
        "target": translation.target_pieces,
        "layers": n_layers,
        "heads": n_heads,
        "attention": {kind: _packed(weights) for kind, weights in attention.items()},
    }


def _packed(weights: Float[Tensor, "L H T S"]) -> dict[str, Any]:
    """Weights as 16-bit numbers in base64: a quarter of their size as decimal JSON."""
    numbers = (weights.clamp(0, 1) * 65_535).round().numpy().astype("<u2")
    data = base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
    return {"rows": weights.size(2), "columns": weights.size(3), "data": data}
