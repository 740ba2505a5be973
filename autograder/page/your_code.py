"""The Your code tab: the learner's parts in the trained model, beside stock's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lab.page.view import Value, answers, drawing, message, packed  # isort: skip
import gradio as gr  # isort: skip

from autograder.chinese import spoken
from autograder.oracle.zygote import Unavailable, Zygote
from autograder.page import comparing
from autograder.page.apart import Apart, Ended, Failed
from autograder.page.checking import Checks
from autograder.page.comparing import FAR, Difference, Stock, Verdict, Written
from autograder.page.live import Live
from autograder.page.work import Work, sent
from autograder.page.writing import SEARCHES
from lab.course import PARTS, UNITS
from lab.model import Checkpoint
from lab.page.questions import Refused, one_of, sentence
from lab.page.words import label

HERE = Path(__file__).parent
SCRIPTS = ("news", "matrix")
MAX_LEN = 60
KEPT = 64  # answers
Parts = frozenset[str]
BOTH_AXES = ("weights", "scores", "mask")  # rows and columns are tokens


class YourCode:
    """Answers the tab's questions; one at a time, whatever the learner's parts do meanwhile."""

    def __init__(
        self, work: Work, checks: Checks, checkpoints: Mapping[str, Checkpoint], zygote: Zygote
    ):
        self.work, self.checks, self.checkpoints, self.zygote = work, checks, checkpoints, zygote
        self._one = threading.Lock()  # a Zygote answers one at a time
        self._stock: dict[tuple[str, str, str], Stock] = {}
        self._lost: dict[str, Verdict] = {}  # by key: what never ends need not be waited for twice
        self._answers: dict[Any, Value] = {}

    def warm(self) -> None:
        """Have torch imported for the sandbox while nobody waits for it."""

        def start() -> None:
            with self._one, suppress(Unavailable):  # whoever asks is told
                self.zygote.start()

        threading.Thread(target=start, daemon=True).start()

    def answer(self, question: Value) -> Value:
        checkpoint, text = sentence(self.checkpoints, question)
        search = one_of({"search": "greedy"} | question, "search", list(SEARCHES))
        off, on = _parts(question, "off"), _parts(question, "on")
        with self._one:
            version = self.work.look()
            asked = (version, checkpoint.pair, text, search, off, on)
            if asked not in self._answers:
                self._answers[asked] = self._compared(checkpoint, text, search, off, on)
                for old in list(self._answers)[:-KEPT]:
                    del self._answers[old]
            found = self._answers[asked] | {"version": version}
            return found | {"parts": self._states(found)}

    def _compared(
        self, checkpoint: Checkpoint, text: str, search: str, off: Parts, on: Parts
    ) -> Value:
        """All that is written is on, unless it is `off`; a shortcut only where it is `on`."""
        begun = time.monotonic()
        stock = self._of_stock(checkpoint, text, search)
        cells = self.work.cells
        written = {p for p, each in cells.items() if each.state == "written"}
        written |= {p for p, each in cells.items() if each.state == "forbidden" and p in on}
        tried = [part for part in stock.calls if part in written - off]
        try:
            with Apart(self.zygote) as apart:
                verdicts = self._define(apart, tried)
                comparing.weights(apart, checkpoint)
                for part in tried:
                    if part not in verdicts:
                        verdicts[part] = self._verdict(apart, stock, part)
                first = comparing.first(stock, verdicts)
                runs = [part for part in tried if verdicts[part].runs]
                yours, fault = _written(apart, checkpoint, stock, runs, search)
                found = first and comparing.difference(apart, stock, *first)
        except (Unavailable, Ended, Failed) as error:
            raise Refused("your_code.no_process", reason=str(error)) from None
        return {
            "languages": {"source": checkpoint.source, "target": checkpoint.target},
            "search": search,
            "on": tried,
            "used": list(stock.calls),
            "verdicts": {part: _told(each) for part, each in verdicts.items()},
            "source": stock.pieces,
            "stock": _translation(stock.written),
            "yours": yours and _translation(yours),
            "fault": fault,
            "first": first and self._first(stock, verdicts, *first, found),
            "calls": sum(each.calls for each in verdicts.values()),
            "seconds": round(time.monotonic() - begun, 2),
        }

    def _of_stock(self, checkpoint: Checkpoint, text: str, search: str) -> Stock:
        asked = checkpoint.pair, text, search
        if asked not in self._stock:
            limit = min(MAX_LEN, checkpoint.config.max_len)
            self._stock[asked] = comparing.of_stock(checkpoint, text, search, limit)
            for old in list(self._stock)[:-4]:  # each holds every tensor of a forward pass
                del self._stock[old]
        return self._stock[asked]

    def _define(self, apart: Apart, tried: list[str]) -> dict[str, Verdict]:
        """Have the cells run; verdicts on those that give no part."""
        verdicts = {p: self._lost[k] for p in tried if (k := self.work.cells[p].key) in self._lost}
        for unit in UNITS:
            program = self.work.notebooks[unit.name].program
            parts = [part for part in unit.parts if part in tried and part not in verdicts]
            if program is None or not parts:
                continue
            try:
                failed = apart.keep("define", program=sent(program))
            except Ended:  # by one of the cells: each by itself, to see which
                failed = self._one_by_one(apart, sent(program), parts)
            except Failed as error:
                failed = dict.fromkeys(parts, {"words": error.words, "where": error.where})
            for part in parts:
                told = failed.get(part) if isinstance(failed, dict) else None
                if isinstance(told, Verdict):
                    verdicts[part] = told
                elif told is not None:
                    error = Failed(told)
                    verdicts[part] = Verdict("raises", words=error.words, where=error.where)
        return verdicts

    def _one_by_one(self, apart: Apart, program: list[Any], parts: list[str]) -> dict[str, Any]:
        imports, given, cells = program
        failed: dict[str, Any] = {}
        for part in parts:
            alone = [[name, text if name == part else None] for name, text in cells]
            try:
                told = apart.keep("define", program=[imports, given, alone])
                if isinstance(told, dict) and part in told:
                    failed[part] = told[part]
            except (Ended, Failed) as error:
                state = error.state if isinstance(error, Ended) else "crashed"
                failed[part] = self._lost[self.work.cells[part].key] = Verdict(state)
        return failed

    def _verdict(self, apart: Apart, stock: Stock, part: str) -> Verdict:
        verdict = comparing.compare(apart, stock, part)
        if verdict.state in ("timeout", "crashed"):
            self._lost[self.work.cells[part].key] = verdict
        return verdict

    def _first(
        self, stock: Stock, verdicts: dict[str, Verdict], part: str, call: Any, found: Any
    ) -> Value:
        """The first part that is not as stock's: where in the model, which tensor, which lesson."""
        unit = PARTS[part]
        self.checks.look_up(part)
        return {
            "part": part,
            "place": call.place,
            "verdict": _told(verdicts[part]),
            "unit": unit.name,
            "notebook": self.work.name(unit),
            "difference": found and _difference(stock, found),
        }

    def _states(self, answer: Value) -> list[Value]:
        """Every part of the course: how its cell stands, whether it is on."""
        passed = self.work.passed()
        found = []
        for part, cell in self.work.cells.items():
            checked = self.checks.result(part)
            state = "passed" if part in passed else checked["state"] if checked else cell.state
            found.append({"part": part, "unit": cell.unit.name, "state": state,
                          "used": part in answer["used"], "on": part in answer["on"],
                          "words": cell.words})  # fmt: skip
        return found


def _parts(question: Value, field: str) -> Parts:
    """The field's value, some of the parts; none where it is missing."""
    named = question.get(field, [])
    if not isinstance(named, list) or len(named) > len(PARTS):
        raise Refused("refused.choice", field=field, choices=", ".join(PARTS))
    return frozenset(one_of({field: each}, field, list(PARTS)) for each in named)


def _written(
    apart: Apart, checkpoint: Checkpoint, stock: Stock, on: list[str], search: str
) -> tuple[Written | None, Value | None]:
    """The learner's translation, or why there is none."""
    if not on:
        return None, None
    try:
        return comparing.write(apart, checkpoint, stock, on, search), None
    except Failed as error:
        return None, {"state": "raises", "words": error.words, "where": error.where}
    except Ended as error:
        return None, {"state": error.state, "words": "", "where": ""}


def _told(verdict: Verdict) -> Value:
    return {"state": verdict.state, "most": _number(verdict.most), "calls": verdict.calls,
            "words": verdict.words, "where": verdict.where, "changes": verdict.changes}  # fmt: skip


def _number(value: float) -> float | None:
    """To four digits; None where one of the two is no number or far from all of the other's."""
    return float(f"{value:.4g}") if value < FAR / 10 else None


def _translation(written: Written) -> Value:
    layers, heads = written.attention["cross"].shape[:2]
    return {
        "text": written.text,
        "pieces": written.pieces,
        "ended": written.ended,
        "log_probability": _number(-written.log_probability),
        "layers": layers,
        "heads": heads,
        "attention": {kind: packed(each) for kind, each in written.attention.items()},
    }


def _difference(stock: Stock, found: Difference) -> Value:
    rows, columns = found.stocks.shape
    apart = (found.stocks - found.yours).abs().clamp(max=FAR)
    shown = [each.abs()[each.abs() < FAR / 10] for each in (found.stocks, found.yours)]
    limit = max((float(each.max()) for each in shown if each.numel()), default=1.0) or 1.0
    near = apart[apart < FAR / 10]
    most = (float(near.max()) if near.numel() else 0.0) or 1.0
    labels = _labels(stock, found)
    return {
        "place": found.place,
        "name": found.name,
        "shape": found.shape,
        "other_shape": found.other_shape,
        "most": _number(found.most),
        "at": found.at,
        "corner": list(found.corner),
        "rows": labels[0][found.corner[0] : found.corner[0] + rows],
        "columns": labels[1][found.corner[1] : found.corner[1] + columns],
        "scale": _number(most),
        "limit": _number(limit),
        "apart": packed(apart / most),
        "stock": packed((found.stocks / limit + 1) / 2),
        "yours": packed((found.yours / limit + 1) / 2),
        "then": found.then and _difference(stock, found.then),
    }


def _labels(stock: Stock, found: Difference) -> tuple[list[str], list[str]]:
    """The tokens of the rows, and of the columns where those are tokens too; else numbers."""
    start = ["<s>", *stock.written.pieces[:-1]]
    inside = f"{found.call.place}.{found.place}"
    reads = start if "decoder" in inside or found.call.part.endswith("_mask") else stock.pieces
    if found.call.part == "padding_mask":
        reads = stock.pieces
    answers = stock.pieces if "cross" in inside else reads
    shape = found.shape if len(found.shape) > 1 else [1, *found.shape]
    height, width = shape[-2:] if shape[1:] else (1, 1)
    of_masks = found.call.part.endswith("_mask") or "softmax" in (found.call.part, found.place)
    both = of_masks or found.name in BOTH_AXES
    rows = reads if len(reads) == height else [str(i) for i in range(height)]
    columns = answers if both and len(answers) == width else [str(i) for i in range(width)]
    return rows, columns


def tab(live: Live | None) -> Callable[[gr.Blocks, Mapping[str, Checkpoint]], None]:
    """Puts the tab into the page; without a folder of work it says how to give one."""

    def build(_: gr.Blocks, checkpoints: Mapping[str, Checkpoint]) -> None:
        with gr.Tab(label("your_code.tab"), id="your-code"):
            if live is None:
                drawing("your_code", message("your_code.start"), HERE, SCRIPTS, live=False)
                return
            code = YourCode(live.work, live.checks, checkpoints, live.zygote)
            code.warm()
            pairs = list(checkpoints)

            first = UNITS[0]
            view = drawing(
                "your_code", {}, HERE, SCRIPTS, live=True, pairs=pairs, pause=live.pause,
                begin={"part": next(iter(first.parts)), "notebook": live.work.name(first)},
                example=checkpoints[pairs[0]].examples[0], home=live.work.folder.name,
                units=[unit.name for unit in UNITS],
            )  # fmt: skip

            def answer(question: Value) -> Value:
                return spoken(code.answer(question), question.get("language"))

            answers(view, answer, concurrency_id="your-code")

    return build
