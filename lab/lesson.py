"""What the lessons share: cells that wait for a part, pictures on the screen, the trained model.

with see("softmax"):
    show(lines({"weights": softmax(scores)}))
"""

import base64
import functools
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from lab import parts
from lab.model import Checkpoint, build, shipped

SHARP = 90  # pixels an inch
SENTENCES = (
    "A man in a blue shirt is standing on a ladder.",
    "Two dogs are playing in the snow.",
)


@contextmanager
def see(*needed: str) -> Iterator[None]:
    """A cell that shows something a learner's parts do: one line while they are not written yet."""
    try:
        yield
    except NotImplementedError:
        print(f"This waits for {' and '.join(filter(None, needed)) or 'a part above'}.")
    except NameError as error:
        if error.name not in needed:
            raise
        print(f"{error.name} is not there yet: run the cell that defines it.")


def show(figure: Figure) -> None:
    """A figure below the cell; outside a notebook, nothing."""
    try:
        from IPython.core.getipython import get_ipython
        from IPython.display import display
    except ImportError:  # reading a lesson as a module needs no notebook
        return
    if get_ipython() is None:
        return
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=2 * SHARP)  # two dots a pixel: sharp on any screen
    width, height = (round(size * SHARP) for size in figure.get_size_inches())
    display(
        {
            "image/png": base64.b64encode(picture.getvalue()).decode("ascii"),
            "text/plain": f"a figure: {', '.join(filter(None, map(_title, figure.axes)))}",
        },
        metadata={"image/png": {"width": width, "height": height}},
        raw=True,
    )


def _title(axes: Any) -> str:
    return axes.get_title() or axes.get_ylabel()


def timed(run: Callable[..., object], *arguments: Any, rounds: int = 5) -> float:
    """Seconds of a call: the best of some rounds, the others were disturbed."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        run(*arguments)
        found.append(time.perf_counter() - start)
    return min(found)


def translate_with(
    implementations: Mapping[str, Callable[..., Any]],
    sentences: Sequence[str] = SENTENCES,
    pair: str = "en-de",
) -> list[str]:
    """Translate with these parts in place of stock, everywhere in the trained model they occur.

    Prints each sentence, its translation with PyTorch's own layers, and, where it differs, the one
    with yours. Returns yours.
    """
    from lab.translation import translate

    with parts.using({}, alone=True):
        usual = translate(trained(pair), sentences)
    with parts.using(implementations, alone=True):
        yours = translate(rebuilt(pair), sentences)
    for stock, mine in zip(usual, yours, strict=True):
        print(f"{stock.source}\n    with yours: {mine.text}")
        if mine.text != stock.text:
            print(f"    with stock: {stock.text}")
    agreed = sum(mine.text == stock.text for stock, mine in zip(usual, yours, strict=True))
    print(f"{agreed} of {len(yours)} translations are the same, word for word.")
    return [mine.text for mine in yours]


def rebuilt(pair: str = "en-de") -> Checkpoint:
    """The trained model, built anew from the parts in force."""
    stock = trained(pair)
    model = build(stock.config).eval()
    model.load_state_dict(stock.model.state_dict())
    return replace(stock, model=model)


@functools.cache
def trained(pair: str = "en-de") -> Checkpoint:
    """The trained model that ships, on PyTorch's own layers."""
    with parts.using({}, alone=True):
        return Checkpoint.load(shipped()[pair])
