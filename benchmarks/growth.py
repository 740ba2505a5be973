"""How cost grows with length: attention written out and fused, decoding with a cache and without.

    taskset -c 0 python benchmarks/growth.py

Rivals take turns; times are CPU time, the best of all rounds. The power is the slope between the
last two lengths on doubly logarithmic paper: 1 is a straight line, 2 a parabola. Memory is what
the process needed at most during the call, beyond what it had before (Linux).
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import functools
import gc
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import speed
import torch
import torch.nn.functional as F

from lab import decoding
from lab.files import replacing
from lab.model import Config, build, initialise
from lab.plotting import lines
from solutions.attention import scaled_dot_product_attention

torch.set_num_threads(1)
HEADS, WIDTH = 4, 64
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)
WRITTEN = (10, 25, 50, 100, 200, 400)
CONFIG = Config(vocab_size=8000, d_model=256, n_heads=4, n_layers=3, d_ff=1024)
PICTURES = Path(__file__).parent


def attention() -> None:
    """Forward, one sentence, by the solution's code and by torch's fused kernel."""
    rivals = {"written out": scaled_dot_product_attention, "fused": F.scaled_dot_product_attention}
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    memory: dict[str, list[float]] = {name: [] for name in rivals}
    for length in LENGTHS:
        heads = torch.randn(3, 1, HEADS, length, WIDTH).unbind()
        calls: dict[str, Callable[[], object]] = {
            name: functools.partial(run, *heads) for name, run in rivals.items()
        }
        with torch.no_grad():
            for name, found in speed.measure(calls, rounds=7).items():
                seconds[name].append(min(found))
                memory[name].append(peak(calls[name]))
    title = f"attention forward, {HEADS} heads of {WIDTH}, tokens"
    table(title, LENGTHS, seconds, "ms", 1e3, {"written out": 2, "fused": 2})
    table("its memory", LENGTHS, memory, "MB", 1e-6, {"written out": 2, "fused": 1})
    plot("growth_attention.png", LENGTHS, seconds, 2, "tokens")


def writing() -> None:
    """Greedy decoding of one sentence that never ends."""
    model = build(CONFIG)
    initialise(model, seed=0)
    src = torch.randint(3, CONFIG.vocab_size, (1, 14), generator=torch.Generator().manual_seed(0))
    seconds: dict[str, list[float]] = {"no cache": [], "KV cache": []}
    for length in WRITTEN:
        write = functools.partial(decoding.greedy_decode, model, src, 1, -1, max_len=length + 1)
        calls: dict[str, Callable[[], object]] = {
            "no cache": functools.partial(write, cache=False),
            "KV cache": functools.partial(write, cache=True),
        }
        for name, found in speed.measure(calls, rounds=3).items():
            seconds[name].append(min(found))
    table("greedy decoding, one sentence, tokens written", WRITTEN, seconds, "ms", 1e3,
          {"no cache": 2, "KV cache": 1})  # fmt: skip
    plot("growth_decoding.png", WRITTEN, seconds, 2, "tokens written")


def table(
    title: str,
    lengths: Sequence[int],
    found: dict[str, list[float]],
    unit: str,
    factor: float,
    expected: dict[str, int],
) -> None:
    """A row for each rival; the measured power of the last step beside the expected one."""
    print(f"\n| {title} | {' | '.join(map(str, lengths))} | power | for large T |")
    print("|---" * (len(lengths) + 3) + "|")
    for name, values in found.items():
        cells = " | ".join(f"{value * factor:,.1f}" for value in values)
        grown = math.log(max(values[-1], 1e-9) / max(values[-2], 1e-9))
        power = grown / math.log(lengths[-1] / lengths[-2])
        print(f"| {name}, {unit} | {cells} | {power:.1f} | {expected[name]} |")


def plot(
    name: str, lengths: Sequence[int], seconds: dict[str, list[float]], power: int, xlabel: str
) -> None:
    """Measured curves, and the line that the expected power gives from the last point back."""
    curves = {label: torch.tensor(values) * 1e3 for label, values in seconds.items()}
    last = next(iter(curves.values()))[-1]
    curves[f"power {power}"] = last * (torch.tensor(lengths) / lengths[-1]) ** power
    with replacing(PICTURES / name) as path:
        figure = lines(curves, lengths, xlabel=xlabel, ylabel="ms", logx=True, logy=True)
        figure.savefig(path, format="png", dpi=120)


def peak(run: Callable[[], object]) -> float:
    """Bytes that a call needs at most, beyond what the process holds."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    run()
    return max(_status("VmHWM") - before, 0)


def _status(key: str) -> float:
    text = Path("/proc/self/status").read_text()
    return 1024 * float(re.search(rf"{key}:\s+(\d+)", text)[1])  # type: ignore[index]


if __name__ == "__main__":
    print(f"{speed.processor()}, one core, torch {torch.__version__}")
    attention()
    writing()
