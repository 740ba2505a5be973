"""A learner's folder: every unit's notebook, its parts right, wrong or not written yet."""

import json
import re
from pathlib import Path

from autograder.quizzes import questions
from lab.course import PARTS, UNITS

ROOT = Path(__file__).parents[2]
WRONG = {  # what stands in the reference, and what stands there instead
    "scaled_dot_product_attention": ("query / math.sqrt(query.size(-1))", "query"),
    "causal_mask": (".tril()", ".triu()"),
    "DecoderLayer": ("(x, memory, memory, cross_mask)", "(x, x, x, self_mask)"),
}
ENDLESS = "def softmax(scores, dim=-1):\n    while True:\n        pass\n"
CRASH = "import os\n\ndef merge_heads(x):\n    os._exit(3)\n"
RAISING = "def split_heads(x, n_heads):\n    return x.view(x.size(0), n_heads, -1, 7)\n"
HUNGRY = "import torch\n\ndef padding_mask(ids, pad_id):\n    return torch.ones(1 << 40)\n"
EXAMPLE = "A man in a blue shirt is standing on a ladder."


def right(part):
    """The text of a right answer."""
    text = (ROOT / "solutions" / f"{PARTS[part].module}.py").read_text("utf-8")
    return re.search(rf'^# %% solution="{part}"\n(.*?)(?=^# %%|\Z)', text, re.S | re.M)[1]


def wrong(part):
    """The same with one thing wrong."""
    there, instead = WRONG[part]
    assert there in right(part)
    return right(part).replace(there, instead)


def write(folder, unit, solved=True, **other):
    """A unit's notebook: as it was handed out, or solved; `other` are parts that say other things,
    None one that is not written."""
    notebook = json.loads(
        (ROOT / "exercises" / unit.name / f"{unit.module}.ipynb").read_text("utf-8")
    )
    for cell in notebook["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if name in unit.parts and (solved or name in other):
            text = other[name] if name in other else right(name)
            cell["source"] = cell["source"] if text is None else text
        if solved and "quiz" in cell["metadata"].get("lab", {}):
            answers = {each.id: each.right for each in questions(unit.name)}
            cell["source"] = f"answers = {answers!r}"
    path = folder / unit.name / f"{unit.module}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path


def a_folder(folder, solved=True, **other):
    """All units' notebooks."""
    for unit in UNITS:
        mine = {part: text for part, text in other.items() if part in unit.parts}
        write(folder, unit, solved, **mine)
    return folder
