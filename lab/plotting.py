"""Figures for notebooks, files and exports. No pyplot state, so a server may draw in parallel."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lab.files import replacing


def learning_curve(history: Path, picture: Path) -> None:
    """Draw history.json: losses on the left, BLEU and chrF on the right."""
    entries = json.loads(history.read_text(encoding="utf-8"))
    steps = [entry["step"] for entry in entries]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for key, style in (("training_loss", "--"), ("validation_loss", "-")):
        losses.plot(steps, [entry[key] for entry in entries], style, label=key.replace("_", " "))
    losses.set(xlabel="step", ylabel="nats per token")
    for key, label in (("bleu", "BLEU"), ("chrf", "chrF")):
        scores.plot(steps, [entry[key] for entry in entries], label=label)
    scores.set(xlabel="step", ylabel="on validation, greedy", ylim=(0, None))
    for axes in (losses, scores):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(picture) as path:
        figure.savefig(path, format="png", dpi=120)


def heat_map(
    weights: Any,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    title: str = "",
    *,
    numbers: bool = False,
) -> Figure:
    """One matrix [T, S]: rows ask, columns answer; dark is much."""
    return heat_maps({title: weights}, rows, columns, numbers=numbers)


def heat_maps(
    matrices: Mapping[str, Any],
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    numbers: bool = False,
) -> Figure:
    """Matrices of one kind side by side, each with its title, on one scale of colours.

    What has negative numbers is drawn from blue over white to red, all else from white to dark.
    A mask is drawn as it reads: dark where a query may look.
    """
    arrays = {title: np.asarray(_plain(matrix), dtype=float) for title, matrix in matrices.items()}
    high, wide = next(iter(arrays.values())).shape
    across = min(4, len(arrays))
    down = -(-len(arrays) // across)
    largest = max(high, wide)
    cell = 0.34 if largest <= 12 else 8 / max(24, largest) if rows or columns else 4 / largest
    left, above = (0.09 * max(map(len, names or [""])) for names in (rows, columns))
    size = (across * (wide * cell + left + 0.7), down * (high * cell + above + 1.0))
    figure = Figure(figsize=size, layout="constrained")
    low, top = min(a.min() for a in arrays.values()), max(a.max() for a in arrays.values())
    if low < 0:
        colours: dict[str, Any] = dict(cmap="RdBu_r", vmin=-max(-low, top), vmax=max(-low, top))
    else:
        colours = dict(cmap="Blues", vmin=0, vmax=max(top, 1e-9))
    for axes, (title, array) in zip(
        figure.subplots(down, across, squeeze=False).flat, arrays.items(), strict=False
    ):
        axes.imshow(array, aspect="equal", **colours)
        axes.set_title(title, fontsize=10)
        _label(axes.xaxis, columns, wide, rotation=90)
        _label(axes.yaxis, rows, high)
        if columns:
            axes.xaxis.tick_top()
        if numbers:
            for (t, s), value in np.ndenumerate(array):
                light = abs(value) > 0.6 * colours["vmax"]
                axes.text(s, t, f"{value:.2f}", ha="center", va="center", fontsize=7,
                          color="white" if light else "black")  # fmt: skip
    for axes in figure.axes[len(arrays) :]:
        axes.set_visible(False)
    if not numbers and len(np.unique(np.concatenate([a.ravel() for a in arrays.values()]))) > 2:
        drawn = figure.axes[: len(arrays)]
        figure.colorbar(drawn[0].images[0], ax=drawn, shrink=0.8, aspect=30)
    figure.draw_without_rendering()  # the first layout has not yet seen the titles
    return figure


def lines(
    curves: Mapping[str, Any],
    x: Any = None,
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    logx: bool = False,
    logy: bool = False,
) -> Figure:
    """Named curves over one x."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, y in curves.items():
        y = np.asarray(_plain(y), dtype=float)
        axes.plot(np.arange(len(y)) if x is None else np.asarray(_plain(x)), y, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if logx:
        axes.set_xscale("log", base=2)
    elif not np.any(np.mod(np.asarray(axes.get_lines()[0].get_xdata()), 1)):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if logy:
        axes.set_yscale("log")
    if len(curves) > 1:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def bars(values: Mapping[str, float], *, ylabel: str = "", title: str = "") -> Figure:
    """One bar a name."""
    width = 0.35 + 0.09 * max(map(len, values))  # an inch and its share for the longest name
    figure = Figure(figsize=(max(3.2, width * len(values)), 2.8), layout="constrained")
    axes = figure.subplots()
    axes.bar(list(values), [float(each) for each in values.values()], color="#3b75af")
    axes.set(ylabel=ylabel, title=title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _plain(numbers: Any) -> Any:
    """A tensor without its graph, on the CPU; anything else as it is."""
    return numbers.detach().cpu().float() if hasattr(numbers, "detach") else numbers


def _label(axis: Any, names: Sequence[str] | None, count: int, **style: Any) -> None:
    if names is None:
        axis.set_ticks(range(0, count, max(1, count // 8)))
    else:
        axis.set_ticks(range(count), labels=list(names)[:count], fontsize=9, **style)
