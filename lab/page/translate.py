"""The Translate tab: a sentence in, its translation and the attention behind it out."""

import random
import time
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from lab.model import Checkpoint, describe
from lab.page.view import LANGUAGES, as_json, attention_view
from lab.translation import Search, Translation, translate

MAX_CHARACTERS = 400
MAX_PIECES = 60  # of the source: a heat map beyond is not readable
SEARCHES = {
    "Greedy": Search("greedy"),
    "Beam search (4)": Search("beam", beam_size=4),
    "Sampling (top-p 0.9)": Search("sample", top_p=0.9),
}
SCRIPTS = {"en": "LATIN", "de": "LATIN", "fr": "LATIN", "zh": "CJK"}
PRESS = "() => document.querySelector('#go').click()"


def build(checkpoints: Mapping[str, Checkpoint]) -> None:
    """Put the tab's components and events into the Blocks around it."""
    pairs = list(checkpoints)
    names = [(_pair_name(checkpoints[pair]), pair) for pair in pairs]
    examples = [(pair, text) for pair in pairs for text in checkpoints[pair].examples]
    first = next(iter(checkpoints[pairs[0]].examples), "")

    gr.Markdown(
        "Type a sentence. The model writes its translation token by token; choose a token and see "
        "which words it looked at."
    )
    with gr.Row():
        text = gr.Textbox(
            first, label="Sentence", lines=1, max_lines=4, scale=4, min_width=300,
            elem_id="sentence",
        )  # fmt: skip
        pair = _choice(names, label="Languages", elem_id="pair")
        method = _choice(list(SEARCHES), label="Next word by", elem_id="method")
    go = gr.Button("Translate", variant="primary", elem_id="go")
    with gr.Row(elem_classes="examples"):
        for known, example in examples:
            label = f"{example} → {_name(checkpoints[known].target)}"
            gr.Button(label, size="sm", min_width=260).click(
                lambda known=known, example=example: (example, known),
                outputs=[text, pair],
                queue=False,
                api_visibility="private",
            ).then(None, js=PRESS)
    view = attention_view(answer(checkpoints, [first], [pairs[0]], ["Greedy"])[0])

    def run(texts: list[str], chosen: list[str], methods: list[str]) -> tuple[list[dict[str, Any]]]:
        return (answer(checkpoints, texts, chosen, methods),)

    # One event, so that all who ask at one time, by button or by Enter, share the model's batch.
    gr.on(
        [go.click, text.submit],
        run,
        inputs=[text, pair, method],
        outputs=view,
        batch=True,
        max_batch_size=32,
        concurrency_limit=1,
        concurrency_id="model",
        show_progress="minimal",
        trigger_mode="once",
        api_name="translate",
    )


def _choice(choices: list[Any], **options: Any) -> gr.Dropdown:
    first = choices[0][1] if isinstance(choices[0], tuple) else choices[0]
    box = gr.Dropdown(choices, value=first, scale=1, min_width=210, **options)
    # Gradio's own check raises, and one forged request would fail all others in its batch;
    # `answer` checks each request by itself.
    box.preprocess = lambda payload: payload  # type: ignore[method-assign]
    return box


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
            search = replace(search, seed=random.getrandbits(32))
        start = time.perf_counter()
        found = translate(checkpoint, [texts[i] for i in rows], search, explain=True)
        seconds = time.perf_counter() - start
        for i, translation in zip(rows, found, strict=True):
            about = _about(translation, checkpoint, method, seconds)
            answers[i] = as_json(translation, checkpoint.source, checkpoint.target, about)
    return answers


def _about(translation: Translation, checkpoint: Checkpoint, method: str, seconds: float) -> str:
    count = len(translation.target_pieces)
    cut = "" if translation.ended else f" Cut off after {count} tokens."
    return (
        f"{method}: {count} tokens in {seconds * 1000:.0f} ms, log-probability "
        f"{translation.log_probability:.1f}. Model: {describe(checkpoint.model)}.{cut}"
    )


def _problem(
    checkpoints: Mapping[str, Checkpoint], text: Any, pair: Any, method: Any
) -> str | None:
    """Why this request cannot be translated, and what to do; None when it can."""
    known = isinstance(pair, str) and isinstance(method, str)
    if not known or pair not in checkpoints or method not in SEARCHES:
        return f"Choose one of {', '.join(checkpoints)} and one of {', '.join(SEARCHES)}."
    checkpoint = checkpoints[pair]
    language = _name(checkpoint.source)
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
        letters = "Chinese characters" if found == "CJK" else f"{found.capitalize()} letters"
        return (
            f"This model reads {language}, and most of your text is in {letters}: "
            f"type a sentence in {language} or choose other languages."
        )
    pieces = len(checkpoint.tokenizer.encode(text))
    limit = min(MAX_PIECES, checkpoint.config.max_len)
    if pieces > limit:
        return (
            f"Your text has {pieces} tokens, the page shows at most {limit}: "
            "translate it sentence by sentence."
        )
    return None


def script(text: str) -> str | None:
    """The script most letters belong to, as Unicode names it: script("Привет") == "CYRILLIC"."""
    letters = Counter(
        unicodedata.name(character, "UNKNOWN").split()[0]
        for character in unicodedata.normalize("NFKC", text)
        if character.isalpha()
    )
    return letters.most_common(1)[0][0] if letters else None


def _name(language: str) -> str:
    return LANGUAGES.get(language, language)


def _pair_name(checkpoint: Checkpoint) -> str:
    return f"{_name(checkpoint.source)} → {_name(checkpoint.target)}"
