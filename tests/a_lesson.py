"""A small lesson with every kind of cell, for the first unit, in a project of its own."""

import shutil
from pathlib import Path

from autograder.quizzes import Question
from lab.course import UNITS

ROOT = Path(__file__).parents[1]
UNIT = UNITS[0]
NOTEBOOK = f"exercises/{UNIT.name}/{UNIT.module}.ipynb"

TEXT = '''\
# %% [markdown]
r"""
# 01 A small lesson

With $\\sqrt{d_k}$ and an umlaut: ü.
"""

# %% given
import math

import torch
from torch import nn

from lab.lesson import see, show, translate_with

# %% [markdown]
"""
## softmax

Scores become weights.
"""


# %% solution="softmax"
def softmax(scores, dim: int = -1):
    """Positive weights that sum to 1 over `dim`."""
    # the secret of the peak

    def shifted(x):
        peak = x.detach().amax(dim, keepdim=True)
        return x - peak.masked_fill(peak == -math.inf, 0)

    exponentials = torch.exp(shifted(scores))
    total = exponentials.sum(dim, keepdim=True)
    return exponentials / total.masked_fill(total == 0, 1)
    # the secret of the end


# %% check="softmax"

# %% see="softmax"
if __name__ == "__main__":
    weights = softmax(torch.tensor([2.0, 1.0,
                                    0.0]))  # fmt: skip
    print("sum", weights.sum().item())

# %% [markdown]
"""
## soft_lookup
"""


# %% solution="soft_lookup"
def soft_lookup(query, keys, values):
    weights = softmax(keys @ query)
    return weights @ values, weights


# %% check="soft_lookup"

# %% given
EPSILON = 1e-5

# %% [markdown]
"""
## scaled_dot_product_attention
"""


# %% solution="scaled_dot_product_attention"
def scaled_dot_product_attention(
    query,
    key,
    value,
    mask=None,  # True = may look
):
    """(output, weights)."""
    scores = query / math.sqrt(query.size(-1)) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = softmax(scores)
    return weights @ value, weights


# %% check="scaled_dot_product_attention"

# %% see=""
if __name__ == "__main__":
    for number in range(2):
        print(number)

# %% [markdown]
"""
## SelfAttention
"""


# %% solution="SelfAttention"
class SelfAttention(nn.Module):
    """One head."""

    def __init__(self, d_model, d_k=None, d_v=None):
        super().__init__()
        self.q_proj = nn.Linear(d_model, d_k or d_model)
        self.k_proj = nn.Linear(d_model, d_k or d_model)
        self.v_proj = nn.Linear(d_model, d_v or d_model)

    def forward(self, x, mask=None):
        """The tokens ask each other."""
        query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return scaled_dot_product_attention(query, key, value, mask)


# %% check="SelfAttention"

# %% see="softmax, SelfAttention"
if __name__ == "__main__":
    print(SelfAttention(4)(torch.zeros(1, 2, 4))[1])

# %% quiz

# %% [markdown]
"""
## For those who want more
"""
'''

QUESTIONS = (
    Question(
        "why-scale",
        "choice",
        "Why √d_k?",
        "b",
        {"a": "SECRET no.", "b": "SECRET yes.", "c": "SECRET no, neither."},
        {"a": "For fun.", "b": "The variance\nstays.", "c": "For speed."},
    ),
    Question("shape", "shape", "Which?", [2, 4], {"right": "SECRET", "default": "SECRET"}, {}),
    Question("number", "number", "How many?", 3.5, {"right": "SECRET", "default": "SECRET"}, {}),
    *(
        Question(
            f"more-{n}", "choice", "?", "a", {"a": "SECRET", "b": "SECRET"}, {"a": "", "b": ""}
        )
        for n in range(3)
    ),
)


def project(folder: Path, text: str = TEXT) -> Path:
    """A project that holds nothing but this lesson and nbgrader's settings."""
    (folder / "solutions").mkdir(parents=True)
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    (folder / "solutions" / f"{UNIT.module}.py").write_text(text, encoding="utf-8")
    return folder


def ask(unit: str) -> tuple[Question, ...]:
    """In place of the quiz's file."""
    return QUESTIONS
