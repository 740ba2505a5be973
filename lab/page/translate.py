"""The Translate tab: a sentence in, its translation and all that is behind it out."""

import itertools
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import torch

from lab.decoding import check_sampling
from lab.model import Checkpoint, parameter_count
from lab.page import resource
from lab.page.cache import Cache
from lab.page.computing import in_one_thread
from lab.page.mathml import mathml
from lab.page.questions import Refused, one_of, prefix, sentence, whole
from lab.page.view import Value, answers, drawing, failure, message, packed
from lab.page.words import label
from lab.recording import Kept, keep
from lab.steps import BeamTree, Candidate, Path, Step, beam_tree, distribution, follow
from lab.tokens import BOS_ID, EOS_ID, pad
from lab.translation import Search, encode, finished

OPTIONS = {
    "greedy": (),
    "beam": ("beam_size",),
    "sample": ("temperature", "top_k", "top_p", "seed"),
}
LARGEST_BEAM = 8
SHOWN = 12  # pieces of a distribution; the others are summed
HOTTEST = 5.0  # temperature: beyond, every token is about as probable as any other
KEPT = 8_000_000  # characters of answers kept, about 400 sentences of a dozen tokens
PARTS = ("views", "map", "state", "draw", "export", "tree", "guess", "link")
SCRIPTS = [f"translate_{part}" for part in PARTS]
FORMULAS = {  # of lab.views.rollout and rollout_to_source, and of a beam
    "mixed": r"\hat{A}_l = \frac{1}{2} I + \frac{1}{2} \frac{1}{H} \sum_h A_{l,h}",
    "stack": r"R = \hat{A}_L \cdot \dots \cdot \hat{A}_2 \cdot \hat{A}_1",
    "cross": r"R_l = \frac{1}{2} \hat{A}_l R_{l-1} + \frac{1}{2} \frac{1}{H} \sum_h C_{l,h} R_e",
    "score": r"s = \frac{\mathrm{log} \, p}{(\frac{5 + n}{6})^a}",
}
# The question that the drawing left, as the event's inputs.
ASKED = "() => ['text', 'pair', 'method', 'options'].map((name) => lab.question[name])"


def build(checkpoints: Mapping[str, Checkpoint], _: object = None) -> None:
    """Put the tab's drawings and events into the Blocks around it."""
    pairs = list(checkpoints)
    examples = [(pair, text) for pair in pairs for text in checkpoints[pair].examples]
    first = next(iter(checkpoints[pairs[0]].examples), "")
    kept, count = Cache(KEPT), itertools.count()

    def run(
        text: list[str], pair: list[str], method: list[str], options: list[Value]
    ) -> tuple[list[Value]]:
        found = answer(checkpoints, text, pair, method, options, kept)
        # Each is told apart: a browser redraws what differs from what it shows.
        return ([{**value, "answer": next(count)} for value in found],)

    (example,) = answer(checkpoints, [first], [pairs[0]], ["greedy"], [{}], kept)
    formulas = {name: mathml(formula) for name, formula in FORMULAS.items()}
    view = drawing(
        "translate", example, scripts=SCRIPTS,
        pairs=pairs, example=first, examples=examples, formulas=formulas, standalone=standalone(),
    )  # fmt: skip
    # For programs; the page's own controls are in the drawing, where their choices have words.
    inputs = [
        gr.Textbox(first, label=label("sentence.text"), visible=False),
        gr.Textbox(pairs[0], label=label("sentence.pair"), visible=False),
        gr.Textbox("greedy", label=label("translate.method"), visible=False),
        gr.JSON({}, label=label("translate.options"), visible=False),
    ]
    # One event, so that all who ask at one time share the model's batch.
    asked = view.ask(
        in_one_thread(run),
        inputs=inputs,
        outputs=view,
        js=ASKED,
        batch=True,
        max_batch_size=32,
        concurrency_limit=1,
        concurrency_id="model",
        show_progress="hidden",
        trigger_mode="multiple",
        api_name="translate",
    )
    asked.failure(failure(count), outputs=view, queue=False, show_progress="hidden",
                  api_visibility="private")  # fmt: skip
    answers(drawing("chances", {}), lambda question: chances(checkpoints, question))


def standalone() -> str:
    """The HTML file in which the browser saves a translation and the script that shows it."""
    style = "".join(resource(f"{name}.css") for name in ("common", "translate"))
    page = resource("standalone.html").replace("@STYLE@", style)
    return page.replace("@TEMPLATE@", resource("translate.html"))


# Questions


@dataclass(frozen=True)
class Question:
    """What is asked: who asks the same gets the same, drawn lots apart."""

    checkpoint: Checkpoint
    text: str
    search: Search
    prefix: tuple[int, ...]  # ids that the translation begins with


def read(checkpoints: Mapping[str, Checkpoint], question: Mapping[str, Any]) -> Question:
    """The question of {text, pair, method, options}; all of it may hold anything."""
    checkpoint, text = sentence(checkpoints, question)
    method = one_of(question, "method", list(OPTIONS))
    options = question.get("options") or {}
    if not isinstance(options, Mapping):
        raise Refused("translate.not_options", example='{"beam_size": 4}')
    search = Search(method)
    if method == "beam":
        size = whole({"beam_size": search.beam_size, **options}, "beam_size", LARGEST_BEAM + 1, 1)
        search = replace(search, beam_size=size)
    if method == "sample":  # without a seed, each question draws anew
        seed = whole({"seed": random.getrandbits(32), **options}, "seed", 2**32)
        search = replace(_cuts(checkpoint, options), seed=seed)
    return Question(checkpoint, text, search, prefix(checkpoint, options.get("prefix")))


def _cuts(checkpoint: Checkpoint, options: Mapping[str, Any]) -> Search:
    """Temperature, top-k and top-p; the last two may be None, which is as if left out."""
    temperature, top_k, top_p = (options.get(name) for name in ("temperature", "top_k", "top_p"))
    search = Search("sample")
    if temperature is not None:
        search = replace(search, temperature=_number(options, "temperature", HOTTEST))
    if top_k is not None:
        search = replace(search, top_k=whole(options, "top_k", checkpoint.config.vocab_size, 1))
    if top_p is not None:
        search = replace(search, top_p=_number(options, "top_p", 1.0))
    check_sampling(search.temperature, search.top_k, search.top_p)
    return search


def _number(question: Mapping[str, Any], field: str, most: float) -> float:
    value = question[field]
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise Refused("translate.not_a_number", field=field, most=most)
    return float(value)


# Answers


def answer(
    checkpoints: Mapping[str, Checkpoint],
    texts: Sequence[str],
    pairs: Sequence[str],
    methods: Sequence[str],
    options: Sequence[Value],
    kept: Cache,
) -> list[Value]:
    """One value for the view per request. Requests alike in model and search share the model's
    run, and those that ask the same an answer; one that cannot be translated gets its message.

    `kept` has the answers given before, but for those by lot.
    """
    values: list[Value] = [{} for _ in texts]
    rows: dict[Question, list[int]] = {}
    fields = ("text", "pair", "method", "options")
    for i, request in enumerate(zip(texts, pairs, methods, options, strict=True)):
        try:
            rows.setdefault(read(checkpoints, dict(zip(fields, request, strict=True))), []).append(
                i
            )
        except Refused as error:
            values[i] = {"message": error.message}
        except ValueError as error:
            values[i] = message("page.refused", reason=str(error))
    groups: dict[tuple[Checkpoint, Search], list[Question]] = {}
    found = {question: kept.get(question) for question in rows}
    for question in (each for each, value in found.items() if value is None):
        groups.setdefault((question.checkpoint, question.search), []).append(question)
    for questions in groups.values():
        for question, value in zip(questions, _translated(questions), strict=True):
            found[question] = value
            if question.search.method != "sample":
                kept.put(question, value)
    for question, places in rows.items():
        for i in places:
            values[i] = found[question]
    return values


def _translated(questions: Sequence[Question]) -> list[Value]:
    """Values of questions alike in model and search, by one run."""
    start = time.perf_counter()
    checkpoint, search = questions[0].checkpoint, questions[0].search
    texts = [question.text for question in questions]
    prefixes = [question.prefix for question in questions]
    if search.method == "beam":
        with keep(checkpoint.model) as kept:
            trees = [
                beam_tree(checkpoint, text, search, prefix)
                for text, prefix in zip(texts, prefixes, strict=True)
            ]
        paths = _best(checkpoint, texts, trees, kept)
    else:
        trees = [None] * len(questions)
        paths = follow(checkpoint, texts, search, prefixes, explain=True)
    about = _about(checkpoint, time.perf_counter() - start, paths)
    return [
        _value(question, path, about) | {"tree": tree and _tree(tree)}
        for question, path, tree in zip(questions, paths, trees, strict=True)
    ]


def _best(
    checkpoint: Checkpoint, texts: Sequence[str], trees: Sequence[BeamTree], kept: Kept
) -> list[Path]:
    """The best sentences of the trees, explained as `follow` does."""
    best = [tree.best for tree in trees]
    device = next(checkpoint.model.parameters()).device
    source = pad(encode(checkpoint, texts)).to(device)
    target = pad([[BOS_ID, *ids] for ids, _ in best]).to(device)
    told = finished(checkpoint, texts, source, target, explain=True, kept=kept)
    return [Path(one, *each) for one, each in zip(told, best, strict=True)]


def _about(checkpoint: Checkpoint, seconds: float, paths: Sequence[Path]) -> Value:
    """What the run took; all of its sentences shared it."""
    device = next(checkpoint.model.parameters()).device
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "ms": round(1000 * seconds),
        "each": float(f"{1000 * seconds / sum(len(path.ids) for path in paths):.2g}"),  # a token
        "together": len(paths),
        "device": "CPU" if device.type == "cpu" else f"GPU ({gpu})",
        "parameters": _short(parameter_count(checkpoint.model) / 1e6),
    }


def _value(question: Question, path: Path, about: Value) -> Value:
    """All that the drawing needs; language codes become `lang` attributes."""
    checkpoint, search, translation = question.checkpoint, question.search, path.translation
    attention = translation.attention
    assert attention is not None and translation.log_probability is not None
    n_layers, n_heads = attention["cross"].shape[:2]
    options = {name: getattr(search, name) for name in OPTIONS[search.method]}
    return {
        "asked": {
            "text": question.text,
            "pair": checkpoint.pair,
            "method": search.method,
            "options": {**options, "prefix": list(question.prefix)},
        },
        "languages": {"source": _tag(checkpoint.source), "target": _tag(checkpoint.target)},
        "text": translation.text,
        "ended": translation.ended,
        "source": translation.source_pieces,
        "target": translation.target_pieces,
        "ids": path.ids,
        "steps": [_step(step) for step in path.steps],
        "about": {**about, "log_probability": _short(translation.log_probability)},
        "layers": n_layers,
        "heads": n_heads,
        "attention": {kind: packed(weights) for kind, weights in attention.items()},
    }


def _step(step: Step) -> Value:
    """What was chosen and what could have been: [id, piece, probability]."""
    return {
        "chosen": _candidate(step.chosen),
        "candidates": [_candidate(each) for each in step.candidates],
        "forced": step.forced,
    }


def _candidate(candidate: Candidate) -> list[Any]:
    return [candidate.id, candidate.piece, _short(candidate.probability)]


def _tree(tree: BeamTree) -> Value:
    """A row a node: parent, step, id, piece, probability, log-probability, score, kept, rank."""
    return {
        "nodes": [
            [
                node.parent, node.step, *_candidate(node.candidate),
                _short(node.log_probability), _short(node.score), node.kept, node.rank,
            ]
            for node in tree.nodes
        ],
        "forced": tree.n_forced,
    }  # fmt: skip


def chances(checkpoints: Mapping[str, Checkpoint], question: Mapping[str, Any]) -> Value:
    """What the token after a prefix is drawn from, before and after temperature and cuts."""
    checkpoint, text = sentence(checkpoints, question)
    begun, search = prefix(checkpoint, question.get("prefix")), _cuts(checkpoint, question)
    if EOS_ID in begun:
        raise Refused("translate.prefix")
    found = distribution(checkpoint, text, begun, search, top=SHOWN)
    return {
        "chances": [
            [each.id, each.piece, _short(each.before), _short(each.after)] for each in found.chances
        ],
        "others": [_short(share) for share in found.others],
        "left": found.left,
        "text": checkpoint.tokenizer.decode(begun),
    }


def _short(number: float) -> float:
    """To four digits: more than is shown."""
    return float(f"{number:.4g}")


def _tag(language: str) -> str:
    """A language's code for `lang`; Chinese is the simplified one."""
    return {"zh": "zh-CN"}.get(language, language)
