"""Figures for notebooks, files and exports. No pyplot state, so a server may draw in parallel."""

import json
from pathlib import Path

from matplotlib.figure import Figure

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
