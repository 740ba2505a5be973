"""The Translate tab: a sentence in, its translation and the attention behind it out."""

import random
import time
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from lab.model import Checkpoint, describe
from lab.page.view import LANGUAGES, as_json, attention_view
from lab.translation import MAX_LEN, Search, Translation, translate

MAX_CHARACTERS = 400
MAX_PIECES = 60  # of the source: a heat map beyond is not readable
SEARCHES = {
    "Greedy": Search("greedy"),
    "Beam search (4)": Search("beam", beam_size=4),
    "Sampling (top-p 0.9)": Search("sample", top_p=0.9),
}
EXAMPLES = {
    "en-de": [
        "A man in a blue shirt is standing on a ladder.",
        "Two young girls are playing with a small dog in the snow.",
        "A group of people is sitting around a table.",
    ],
    "en-zh": [
        "I don't know what to do.",
        "She bought a new car yesterday.",
        "Where is the nearest hospital?",
    ],
}
SCRIPTS = {"en": "LATIN", "de": "LATIN", "fr": "LATIN", "zh": "CJK"}


def build(checkpoints: Mapping[str, Checkpoint]) -> None:
    """Put the tab's components and events into the Blocks around it."""
    pairs = list(checkpoints)
    names = [(_pair_name(checkpoints[pair]), pair) for pair in pairs]
    first = EXAMPLES.get(pairs[0], ["A man is standing."])[0]

    gr.Markdown(
        "Type a sentence. The model writes its translation token by token; choose a token and see "
        "which words it looked at."
    )
    with gr.Row():
        text = gr.Textbox(
            first, label="Sentence", max_length=MAX_CHARACTERS, lines=1, max_lines=4, scale=4,
            min_width=300, elem_id="sentence",
        )  # fmt: skip
        pair = gr.Dropdown(
            names, value=pairs[0], label="Languages", scale=1, min_width=170, elem_id="pair"
        )
        method = gr.Dropdown(
            list(SEARCHES), value="Greedy", label="Next word by", scale=1, min_width=170,
            elem_id="method",
        )  # fmt: skip
    go = gr.Button("Translate", variant="primary", elem_id="go")
    examples = [(known, example) for known in pairs for example in EXAMPLES.get(known, [])]
    with gr.Row(elem_classes="examples"):
        chips = [
            gr.Button(
                f"{example} → {LANGUAGES[checkpoints[known].target]}", size="sm", min_width=260
            )
            for known, example in examples
        ]
    view = attention_view(answer(checkpoints, [first], [pairs[0]], ["Greedy"])[0])

    def run(texts: list[str], chosen: list[str], methods: list[str]) -> tuple[list[dict[str, Any]]]:
        return (answer(checkpoints, texts, chosen, methods),)

    event: dict[str, Any] = dict(
        fn=run, inputs=[text, pair, method], outputs=view, batch=True, max_batch_size=32,
        concurrency_limit=1, concurrency_id="model", show_progress="minimal", trigger_mode="once",
    )  # fmt: skip
    go.click(**event, api_name="translate")
    text.submit(**event, api_visibility="private")
    for chip, (known, example) in zip(chips, examples, strict=True):
        chip.click(
            lambda known=known, example=example: (example, known),
            outputs=[text, pair], queue=False, api_visibility="private",
        ).then(**event, api_visibility="private")  # fmt: skip


def answer(
    checkpoints: Mapping[str, Checkpoint],
    texts: Sequence[str],
    pairs: Sequence[str],
    methods: Sequence[str],
) -> list[dict[str, Any]]:
    """One value for the view per request. Requests alike in pair and method share the model's run;
    one that cannot be translated gets its message, and the others their translations."""
    answers: list[dict[str, Any]] = [{} for _ in texts]
    groups: dict[tuple[str, str], list[int]] = {}
    for i, request in enumerate(zip(texts, pairs, methods, strict=True)):
        if problem := _problem(checkpoints, *request):
            answers[i] = {"message": problem}
        else:
            groups.setdefault((pairs[i], methods[i]), []).append(i)
    for (pair, method), rows in groups.items():
        checkpoint, search = checkpoints[pair], SEARCHES[method]
        if search.method == "sample":  # each press draws anew
            search = Search("sample", top_p=search.top_p, seed=random.getrandbits(32))
        start = time.perf_counter()
        found = translate(checkpoint, [texts[i] for i in rows], search, attention=True)
        seconds = time.perf_counter() - start
        for i, translation in zip(rows, found, strict=True):
            about = _about(translation, checkpoint, method, seconds)
            answers[i] = as_json(translation, checkpoint.source, checkpoint.target, about)
    return answers


def _about(translation: Translation, checkpoint: Checkpoint, method: str, seconds: float) -> str:
    count = len(translation.target_pieces)
    cut = f" Cut off after {count} tokens." if count >= MAX_LEN - 1 else ""
    return (
        f"{method}: {count} tokens in {seconds * 1000:.0f} ms, log-probability "
        f"{translation.log_probability:.1f}. Model: {describe(checkpoint.model)}.{cut}"
    )


def _problem(
    checkpoints: Mapping[str, Checkpoint], text: Any, pair: Any, method: Any
) -> str | None:
    """Why this request cannot be translated, and what to do; None when it can."""
    if pair not in checkpoints or method not in SEARCHES:
        return f"Choose one of {', '.join(checkpoints)} and one of {', '.join(SEARCHES)}."
    checkpoint = checkpoints[pair]
    language = LANGUAGES.get(checkpoint.source, checkpoint.source)
    if not isinstance(text, str) or not text.strip():
        return f"There is nothing to translate yet: type a sentence in {language}."
    if len(text) > MAX_CHARACTERS:
        return (
            f"Your text has {len(text):,} characters, the page takes {MAX_CHARACTERS}: "
            "translate it sentence by sentence."
        )
    found = script(text)
    if found is None:
        return f"There are no words in your text: type a sentence in {language}."
    expected = SCRIPTS.get(checkpoint.source, found)
    if found != expected:
        return (
            f"This model reads {language}, and most of your text is in {found.capitalize()} "
            f"script: type a sentence in {language} or choose other languages."
        )
    pieces = len(checkpoint.tokenizer.encode(text))
    if pieces > MAX_PIECES:
        return (
            f"Your text has {pieces} tokens, the page shows at most {MAX_PIECES}: "
            "translate it sentence by sentence."
        )
    return None


def script(text: str) -> str | None:
    """The script most letters belong to, as Unicode names it: script("Привет") == "CYRILLIC"."""
    letters = Counter(
        unicodedata.name(character, "UNKNOWN").split()[0]
        for character in text
        if character.isalpha()
    )
    return letters.most_common(1)[0][0] if letters else None


def _pair_name(checkpoint: Checkpoint) -> str:
    source, target = checkpoint.source, checkpoint.target
    return f"{LANGUAGES.get(source, source)} → {LANGUAGES.get(target, target)}"
