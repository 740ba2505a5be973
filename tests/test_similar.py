"""Similar hand-ins: copies are found under their disguise, and honest ones are left alone."""

import inspect
import random
import textwrap
import time
from pathlib import Path

import pytest

from autograder.classroom.similar import given, pairs
from lab.course import unit_named
from lab.parts import from_package

ROOT = Path(__file__).parents[1]
UNIT = "01-attention"


def everybody(count, seed=0):
    """A class that writes attention in its own ways: each choice below is one a learner makes."""
    return {f"learner{n:04}": an_answer(random.Random(f"{seed}-{n}")) for n in range(count)}


def an_answer(rng):
    """A hand-in: the same task, with the freedom that there is."""
    x, y, z, w = rng.sample(["scores", "e", "out", "a", "tmp", "s", "total", "v", "peak"], 4)
    stable = rng.choice(
        [
            f"{x} = {x} - {x}.amax(dim, keepdim=True)",
            f"{w} = {x}.max(dim=dim, keepdim=True).values\n{x} = {x} - {w}",
            f"{w}, _ = torch.max({x}, dim, keepdim=True)\n{x} = torch.sub({x}, {w})",
            "",
        ]
    )
    inf = rng.choice(
        [
            f"{w} = torch.isinf({x}).all(dim, keepdim=True)\n{x} = torch.where({w}, 0.0, {x})",
            f"{x} = torch.nan_to_num({x}, nan=-1e9)",
            f"if ({x} == float('-inf')).all():\n    return torch.zeros_like({x})",
            "",
        ]
    )
    exponentials = rng.choice([f"{y} = torch.exp({x})", f"{y} = {x}.exp()", f"{y} = math.e ** {x}"])
    divide = rng.choice(
        [
            f"return {y} / {y}.sum(dim, keepdim=True)",
            f"{z} = torch.sum({y}, dim=dim, keepdim=True)\nreturn {y} / {z}",
            f"{z} = {y}.sum(dim=dim).unsqueeze(dim)\nreturn torch.div({y}, {z})",
            f"{z} = {y}.sum(dim, keepdim=True).clamp(min=1e-12)\nreturn {y} / {z}",
        ]
    )
    softmax = function(f"softmax({x}, dim=-1)", stable, inf, exponentials, divide)

    q, k, s, weights = rng.sample(["q", "k", "dots", "p", "att", "logits", "r", "h"], 4)
    product = rng.choice(
        [
            f"{s} = query @ key.transpose(-2, -1)",
            f"{s} = torch.matmul(query, key.mT)",
            f"{s} = torch.einsum('...tk,...sk->...ts', query, key)",
            f"{k} = key.transpose(-1, -2)\n{s} = torch.matmul(query, {k})",
        ]
    )
    scale = rng.choice(
        [
            f"{s} = {s} / math.sqrt(query.size(-1))",
            f"{q} = query.shape[-1]\n{s} = {s} / {q} ** 0.5",
            f"{q} = key.size(-1)\n{s} = {s} * {q} ** -0.5",
            f"{s} /= torch.sqrt(torch.tensor(query.shape[-1]))",
        ]
    )
    mask = rng.choice(
        [
            f"if mask is not None:\n    {s} = {s}.masked_fill(~mask, -math.inf)",
            f"if mask is not None:\n    {s} = torch.where(mask, {s}, float('-inf'))",
            f"if mask is not None:\n    {s}[~mask.expand_as({s})] = float('-inf')",
            f"{s} = {s} if mask is None else {s}.masked_fill(mask.logical_not(), -1e9)",
        ]
    )
    end = rng.choice(
        [
            f"{weights} = softmax({s})\nreturn {weights} @ value, {weights}",
            f"{weights} = softmax({s}, dim=-1)\nreturn torch.matmul({weights}, value), {weights}",
            f"{weights} = torch.softmax({s}, -1)\n{q} = {weights} @ value\nreturn {q}, {weights}",
        ]
    )
    attention = function(
        "scaled_dot_product_attention(query, key, value, mask=None)", product, scale, mask, end
    )
    return {"softmax": softmax, "scaled_dot_product_attention": attention}


def function(head, *steps):
    body = "\n".join(filter(None, steps))
    return f"def {head}:\n{textwrap.indent(body, '    ')}\n"


# An answer of somebody who thinks in loops: right, and like nobody else's.
ODD = {
    "softmax": '''
def softmax(scores, dim=-1):
    """Positive weights that sum to 1."""
    moved = scores.movedim(dim, -1)
    rows = moved.reshape(-1, moved.shape[-1])
    collected = []
    for row in rows:
        largest = max(float(entry) for entry in row)
        if largest == float("-inf"):
            collected.append(torch.zeros_like(row))
            continue
        powers = torch.stack([torch.exp(entry - largest) for entry in row])
        collected.append(powers / powers.sum())
    return torch.stack(collected).reshape(moved.shape).movedim(-1, dim)
''',
    "scaled_dot_product_attention": """
def scaled_dot_product_attention(query, key, value, mask=None):
    width = key.shape[-1]
    table = []
    for position in range(query.shape[-2]):
        asked = query[..., position, :].unsqueeze(-2)
        table.append((asked * key).sum(-1) / width**0.5)
    dots = torch.stack(table, dim=-2)
    if mask is not None:
        forbidden = torch.logical_not(mask).expand(dots.shape)
        dots = dots.clone()
        dots[forbidden] = float("-inf")
    weights = softmax(dots, dim=-1)
    return torch.einsum("...ts,...sv->...tv", weights, value), weights
""",
}

# The same, as somebody hands it in who does not want it seen.
DISGUISED = {
    "softmax": """
import torch as t

def softmax(x, dim: int = -1) -> "Tensor":
    # first the axis, then the rows
    print("softmax")
    a = x.movedim(dim, -1)
    b = a.reshape(-1, a.shape[-1])
    res: list = []
    for r in b:
        m = max(float(q) for q in r)
        if m == float("-Infinity"):
            res.append(torch.zeros_like(r))
            continue
        e = torch.stack([torch.exp(q - m) for q in r])
        res.append(e / e.sum())
    unused = 17
    return torch.stack(res).reshape(a.shape).movedim(-1, dim)
""",
    "scaled_dot_product_attention": """
def scaled_dot_product_attention(query, key, value, mask=None):
    '''My own words.'''
    out = []
    n = key.shape[-1]
    for i in range(query.shape[-2]):
        row = query[..., i, :].unsqueeze(-2)
        out.append((row * key).sum(-1) / n**0.50)
    s = torch.stack(out, dim=-2)
    if mask is not None:
        hide = torch.logical_not(mask).expand(s.shape)
        s = s.clone()
        s[hide] = float("-inf")
    p = softmax(s, dim=-1)
    return torch.einsum("...qk,...kd->...qd", p, value), p
""",
}


@pytest.fixture(scope="module")
def known():
    return given(UNIT)


@pytest.mark.parametrize("size", [3, 30, 300])
def test_disguised_copy_is_found_first(known, size):
    """Other names, constants, comments, types, prints and a new order of lines hide nothing."""
    everyone = everybody(size - 2) | {"ada": ODD, "bob": DISGUISED}

    found = pairs(everyone, known)

    assert {found[0].one, found[0].other} == {"ada", "bob"}
    assert found[0].score > 0.8 and found[0].shared > 20


@pytest.mark.parametrize("seed", range(3))
def test_honest_class_is_left_alone(known, seed):
    """Who chooses among the same few ways to write a line resembles others, and is not named."""
    found = pairs(everybody(120, seed), known)

    assert [(pair.score, pair.why()) for pair in found] == []


def test_common_answer_does_not_count(known):
    """Thirty of two hundred who hand in the same plain answer are no thirty copies."""
    plain = an_answer(random.Random(5))
    everyone = everybody(170) | {f"plain{n}": plain for n in range(30)}

    assert not [pair for pair in pairs(everyone, known) if pair.one.startswith("plain")]


def test_known_answers_do_not_count(known):
    """A reference, an alternative or the same known mistake of two is no reason to look."""
    parts = unit_named(UNIT).parts
    reference = {part: source_of(from_package("solutions")[part]) for part in parts}
    mistake = {part: textwrap.dedent(text) for part, text in of_mistakes(parts)}
    everyone = everybody(60) | {"ada": mistake, "bob": mistake}

    assert not pairs(everyone, known)
    assert not pairs(everyone | {"cem": reference, "dia": reference}, [*known, *reference.values()])


def of_mistakes(parts):
    from autograder.mistakes import mistakes_of

    for part in parts:
        yield part, source_of(mistakes_of(part)[0].implementation)


def source_of(implementation):
    return textwrap.dedent(inspect.getsource(implementation))


def test_copied_part_among_own_ones(known):
    """One part of several, copied, is found, and the report says which and where."""
    mixed = {**an_answer(random.Random("own")), "softmax": DISGUISED["softmax"]}
    everyone = everybody(60) | {"ada": ODD, "bob": mixed}

    pair = pairs(everyone, known)[0]

    assert {pair.one, pair.other} == {"ada", "bob"}
    assert list(pair.places) == ["softmax"]
    mine = pair.places["softmax"][pair.one != "ada"]
    assert (9, 9) in mine or any(first <= 9 <= last for first, last in mine)
    assert "nobody else has, in softmax" in pair.why()


def test_many_copies_of_one_are_all_named(known):
    """A group that shares an odd answer is named whole, each with the next."""
    group = [f"g{n}" for n in range(5)]
    everyone = everybody(100) | {name: ODD for name in group}

    found = pairs(everyone, known)

    assert {name for pair in found for name in (pair.one, pair.other)} == set(group)
    assert all(pair.score == pytest.approx(1) for pair in found)
    assert "at most 5 of 105" in found[0].why()


def test_what_is_no_python_is_nobody_s_copy(known):
    """Half a cell, an empty one and brackets in brackets give nothing, and stop nothing."""
    broken = {"softmax": "def softmax(scores:\n"}
    deep = {"softmax": "x = " + "(" * 90 + "1" + ")" * 90 + "\ny = " + "-" * 5000 + "z"}
    long = {"softmax": "x = [" + "1," * 50_000 + "]"}
    everyone = {
        "a": broken,
        "b": broken,
        "c": {},
        "d": {},
        "e": deep,
        "f": deep,
        "g": long,
        "h": long,
    }

    assert pairs(everyone, known) == []


def test_answer_does_not_depend_on_the_order(known):
    """The same class in another order gives the same pairs."""
    everyone = everybody(40) | {"ada": ODD, "bob": DISGUISED}
    backwards = dict(reversed(everyone.items()))

    one, other = (pairs(each, known, least=0.2) for each in (everyone, backwards))

    def said(found):
        return {(frozenset((p.one, p.other)), round(p.score, 9), p.shared) for p in found}

    assert said(one) == said(other) and one


def test_two_thousand_take_seconds(known):
    """Twice as many take little more than twice as long: pairs come from an index."""
    spent = []
    for count in (1_000, 2_000):
        everyone = everybody(count - 2) | {"ada": ODD, "bob": DISGUISED}
        begun = time.process_time()
        found = pairs(everyone, known)
        spent.append(time.process_time() - begun)
        assert {found[0].one, found[0].other} == {"ada", "bob"}

    assert spent[1] < 3.5 * spent[0] and spent[1] < 60


@pytest.mark.parametrize("unit", ["attention", "multi_head", "decoding"])
def test_alternatives_are_different_answers(unit):
    """Our own second answers to each part are not taken for copies of the first."""
    files = [ROOT / "solutions" / f"{unit}.py", ROOT / "tests" / "alternatives" / f"{unit}.py"]
    texts = {file.parent.name: {unit: file.read_text("utf-8")} for file in files}

    assert not pairs(texts)
