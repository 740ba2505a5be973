"""Honest notebooks that look odd: they keep their points."""

import json

import pytest
from test_attacks import PROJECT, notebook, points

from autograder.oracle.grading import grade, secret
from autograder.submission import Submission
from lab.course import PARTS

pytestmark = pytest.mark.xdist_group("oracle")


@pytest.fixture
def zygote(learners):
    return learners


SOFTMAX = """
def softmax(scores, dim=-1):
    peak = scores.detach().amax(dim, keepdim=True)
    exponentials = torch.exp(scores - peak.masked_fill(peak.isneginf(), 0))
    total = exponentials.sum(dim, keepdim=True)
    return exponentials / total.masked_fill(total == 0, 1)
"""
FEED_FORWARD = """
class FeedForward(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
    def forward(self, x):
        return self.linear2(self.linear1(x).relu())
"""

# The part, and what its cell says.
ODD = {
    "magics": ("softmax", "%matplotlib inline\n%time x = 1\n!pip install torch\n" + SOFTMAX),
    "a cell magic": ("softmax", "%%time\n" + SOFTMAX),
    "a question": ("softmax", "torch.softmax?\n" + SOFTMAX + "\nsoftmax??\n"),
    "a command's answer": ("softmax", "files = !ls -la\nprint(files)\n" + SOFTMAX),
    "a plot": (
        "softmax",
        "import matplotlib.pyplot as plt\n"
        + SOFTMAX
        + "plt.plot(softmax(torch.linspace(-3, 3, 50)))\nplt.title('softmax')\nplt.show()\n",
    ),
    "prints": ("softmax", SOFTMAX.replace("    peak", "    print('scores', scores)\n    peak", 1)),
    "megabytes printed": (
        "softmax",
        SOFTMAX.replace("    peak", "    print('spam ' * 400_000)\n    peak", 1),
    ),
    "warnings": (
        "softmax",
        "import warnings\n"
        + SOFTMAX.replace("    peak", "    warnings.warn('is this right?')\n    peak", 1),
    ),
    "warnings that are errors elsewhere": (
        "softmax",
        "import warnings\nwarnings.filterwarnings('error')\n" + SOFTMAX,
    ),
    "stderr": (
        "softmax",
        "import sys, os, logging\nlogging.basicConfig(level=logging.DEBUG)\n"
        + SOFTMAX.replace(
            "    peak",
            "    print('hm', file=sys.stderr); logging.error('hm'); os.write(2, b'hm')\n    peak",
            1,
        ),
    ),
    "a progress bar": (
        "softmax",
        "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)): pass\n" + SOFTMAX,
    ),
    "slow imports": (
        "softmax",
        "import asyncio, unittest, xml.dom.minidom, sqlite3, multiprocessing, concurrent.futures\n"
        "import torch.distributions, torch.fx\n" + SOFTMAX,
    ),
    "an import that is not there": (
        "softmax",
        "try:\n    import seaborn_of_tomorrow\nexcept ImportError:\n    pass\n" + SOFTMAX,
    ),
    "a file of its own": (
        "softmax",
        "open('notes.txt', 'w').write('mine')\nassert open('notes.txt').read()\n" + SOFTMAX,
    ),
    "a question to the user": (
        "softmax",
        "try:\n    name = input('Your name? ')\nexcept EOFError:\n    name = ''\n" + SOFTMAX,
    ),
    "float64 by default": (
        "soft_lookup",
        "torch.set_default_dtype(torch.float64)\n"
        "def soft_lookup(query, keys, values):\n"
        "    weights = softmax(keys @ query)\n    return weights @ values, weights\n",
    ),
    "threads": ("softmax", "torch.set_num_threads(4)\n" + SOFTMAX),
    "a seed": (
        "softmax",
        "import random, numpy as np\n"
        "random.seed(0); np.random.seed(0); torch.manual_seed(0)\n" + SOFTMAX,
    ),
    "a device": (
        "softmax",
        "device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')\n"
        "torch.set_default_device(device)\n" + SOFTMAX,
    ),
    "anomaly detection": ("softmax", "torch.autograd.set_detect_anomaly(True)\n" + SOFTMAX),
    "a helper": (
        "softmax",
        "def shifted(x, dim):\n"
        "    peak = x.detach().amax(dim, keepdim=True)\n"
        "    return x - peak.masked_fill(peak.isneginf(), 0)\n"
        "def softmax(scores, dim=-1):\n"
        "    e = shifted(scores, dim).exp()\n    total = e.sum(dim, keepdim=True)\n"
        "    return e / total.masked_fill(total == 0, 1)\n",
    ),
    "type hints": (
        "softmax",
        SOFTMAX.replace(
            "(scores, dim=-1):",
            '(scores: Float[Tensor, "*axes"], dim: int = -1) -> Float[Tensor, "*axes"]:',
        ),
    ),
    "a decorator": (
        "softmax",
        "import functools, time\n"
        "def timed(function):\n"
        "    @functools.wraps(function)\n"
        "    def wrapped(*args, **kwargs):\n"
        "        begun = time.time()\n        result = function(*args, **kwargs)\n"
        "        print(f'{time.time() - begun:.3f} s')\n        return result\n"
        "    return wrapped\n@timed" + SOFTMAX,
    ),
    "a closure": (
        "softmax",
        "def make():\n" + "".join(f"    {line}\n" for line in SOFTMAX.splitlines())
        + "    return softmax\nsoftmax = make()\n",
    ),
    "a lambda": (
        "softmax",
        "shifted = lambda x, d: x - x.detach().amax(d, keepdim=True).nan_to_num(neginf=0)\n"
        "ratio = lambda e, d: e / e.sum(d, keepdim=True).clamp(min=torch.finfo(e.dtype).tiny)\n"
        "softmax = lambda scores, dim=-1: ratio(shifted(scores, dim).exp(), dim)\n",
    ),
    "an object that can be called": (
        "softmax",
        "class Softmax:\n"
        "    def __call__(self, scores, dim=-1): return function(scores, dim)\n"
        + SOFTMAX.replace("softmax", "function")
        + "softmax = Softmax()\n",
    ),
    "a partial": (
        "softmax",
        "from functools import partial\n"
        + SOFTMAX.replace("def softmax", "def general")
        + "softmax = partial(general)\n",
    ),
    "one name for another": (
        "softmax",
        SOFTMAX.replace("softmax", "my_softmax") + "softmax = my_softmax\n",
    ),
    "Chinese names": (
        "softmax",
        SOFTMAX.replace("exponentials", "指数").replace("total", "总和").replace("peak", "größte"),
    ),
    "tabs": ("softmax", SOFTMAX.replace("    ", "\t")),
    "CRLF": ("softmax", SOFTMAX.replace("\n", "\r\n")),
    "empty lines": ("softmax", "\n\n\n" + SOFTMAX + "\n\n\n"),
    "an assert of its own": (
        "softmax",
        SOFTMAX + "x = torch.randn(3, 4)\nassert torch.allclose(softmax(x), x.softmax(-1))\n"
        .replace("x.softmax(-1)", "softmax(x, 1)"),
    ),
    "a try at the end of the cell": (
        "soft_lookup",
        "def soft_lookup(query, keys, values):\n"
        "    weights = softmax(keys @ query)\n    return weights @ values, weights\n"
        "print(soft_lookup(torch.ones(2), torch.eye(2), torch.eye(2)))\n"
        "translate_with({})\n",
    ),
    "a dataclass": (
        "FeedForward",
        "from dataclasses import dataclass\n@dataclass(eq=False)\n"
        "class FeedForward(nn.Module):\n    d_model: int\n    d_ff: int\n"
        "    def __post_init__(self):\n        super().__init__()\n"
        "        self.linear1 = nn.Linear(self.d_model, self.d_ff)\n"
        "        self.linear2 = nn.Linear(self.d_ff, self.d_model)\n"
        "    def forward(self, x): return self.linear2(self.linear1(x).relu())\n",
    ),
    "a class above it": (
        "FeedForward",
        "class Base(nn.Module):\n    def extra_repr(self): return 'mine'\n"
        + FEED_FORWARD.replace("nn.Module", "Base"),
    ),
    "a factory": (
        "FeedForward",
        FEED_FORWARD.replace("class FeedForward", "class Inner")
        + "def FeedForward(d_model, d_ff):\n    return Inner(d_model, d_ff)\n",
    ),
    "attributes of all kinds": (
        "FeedForward",
        FEED_FORWARD.replace(
            "    def forward",
            "        self.sizes = {'d_model': d_model}; self.calls = 0; self.log = print\n"
            "        self.generator = torch.Generator(); self.history = []\n    def forward",
        ).replace("self, x):\n", "self, x):\n        self.calls += 1; self.history.append(x)\n"),
    ),
    "an initialisation of its own": (
        "FeedForward",
        FEED_FORWARD
        + "    def reset_parameters(self):\n"
        "        for each in self.parameters(): nn.init.normal_(each)\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_odd_notebook_keeps_its_points(name, zygote, tmp_path):
    """All of them, in all of its parts."""
    part, source = ODD[name]

    result = grade(
        Submission.load(notebook(PARTS[part], tmp_path, **{part: source})), zygote, secret()
    )

    wanted = {each: of.points for each, of in PARTS[part].parts.items()}
    assert points(result) == wanted, [each["message"] for each in result["parts"]]
    assert result["status"] == "graded"


def test_a_try_with_the_whole_model_costs_nothing(zygote, tmp_path):
    """Where the lab's own version is wanted, which is not there, the cell goes no further."""
    lesson = (PROJECT / "solutions/multi_head.py").read_text("utf-8")
    own = lesson.split('# %% solution="MultiHeadAttention"\n')[1].split("\n# %%")[0]
    tried = own + "\ntranslate_with({'MultiHeadAttention': MultiHeadAttention})\n"
    path = notebook(PARTS["MultiHeadAttention"], tmp_path, MultiHeadAttention=tried)

    result = grade(Submission.load(path), zygote, secret())

    assert points(result)["MultiHeadAttention"] == 12, result["parts"]


# Cells beside the parts'


def with_cells(unit, folder, *sources, at=0):
    """The notebook with cells of the learner's own."""
    path = notebook(unit, folder)
    content = json.loads(path.read_text("utf-8"))
    new = [{"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None,
            "source": source} for source in sources]  # fmt: skip
    content["cells"][at:at] = new
    path.write_text(json.dumps(content), "utf-8")
    return Submission.load(path)


@pytest.mark.parametrize(
    "source",
    [
        "import this_is_not_there",
        "while True: pass",
        "import os; os._exit(0)",
        "!rm -rf /",
        "%%bash\nrm -rf /",
        "%%html\n<b>Hello</b>",
        "def helper(:",
        "check = quiz = hint = None",
        "from autograder import check, hint, quiz",
        "\0",
    ],
)
def test_cells_of_its_own_cost_nothing(source, zygote, tmp_path):
    """They are not read; of their imports those are tried that there are."""
    unit = PARTS["LayerNorm"]

    result = grade(with_cells(unit, tmp_path, source), zygote, secret())

    assert points(result) == {each: of.points for each, of in unit.parts.items()}


def test_a_helper_in_another_part_s_cell_is_found(zygote, tmp_path):
    """A cell is run with those that give it a name, and without the others."""
    shared = "WIDTH = 1\ndef ratio(e, d): return e / e.sum(d, keepdim=True)\nimport os\n"
    path = notebook(
        PARTS["softmax"],
        tmp_path,
        softmax=shared + SOFTMAX,
        soft_lookup="def soft_lookup(query, keys, values):\n"
        "    weights = ratio((keys @ query - (keys @ query).max()).exp(), WIDTH - 1)\n"
        "    return weights @ values, weights\n",
    )

    result = grade(Submission.load(path), zygote, secret())

    assert points(result)["softmax"] == 6 and points(result)["soft_lookup"] == 4


def test_a_part_made_from_another_is_made(zygote, tmp_path):
    """A base class is the learner's own, for it is needed when the cell is run."""
    base = (PROJECT / "solutions/positions.py").read_text("utf-8")
    own = base.split('# %% solution="PositionalEncoding"\n')[1].split("\n# %%")[0]
    learned = """
class LearnedPositions(PositionalEncoding):
    def __init__(self, d_model, dropout=0.1, max_len=512):
        nn.Module.__init__(self)
        self.dropout, self.max_len = nn.Dropout(dropout), max_len
        self.embedding = nn.Embedding(max_len, d_model)
    def forward(self, x):
        if x.size(1) > self.max_len:
            raise ValueError(f"{x.size(1)} tokens do not fit into max_len={self.max_len}")
        return self.dropout(x + self.embedding.weight[: x.size(1)])
"""
    path = notebook(
        PARTS["PositionalEncoding"], tmp_path, PositionalEncoding=own, LearnedPositions=learned
    )

    result = grade(Submission.load(path), zygote, secret())

    assert points(result) == {"sinusoidal_positions": 8, "PositionalEncoding": 6,
                              "LearnedPositions": 4}, result["parts"]  # fmt: skip
