"""Which hand-ins of a unit resemble each other more than their common task explains.

    found = pairs({"ada": {"softmax": "def softmax…"}, "bob": …}, given("01-attention"))
    found[0].score, found[0].why()

Compared is structure, not text. Each cell becomes a syntax tree without names, constants, comments,
docstrings and annotations; what torch is called by stays, for it says what is computed. Every
subtree of some size has a hash, and of neighbouring hashes the smallest is kept (winnowing, as in
Schleimer, Wilkerson and Aiken, 2003): the fingerprints. What was handed out, what the known answers
have, and what many have does not count. Each other fingerprint weighs the more the fewer have it,
and the score of two is the weight of what they share over the weight of the lesser one.

A score is a reason to read the two side by side, and no more than that.
"""

from __future__ import annotations

import ast
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations, pairwise
from pathlib import Path

from autograder import mistakes, sealed
from autograder.cells import tree_of
from lab import stock
from lab.course import unit_named

SMALLEST = 7  # nodes of a subtree that says something
WINDOW = 2  # neighbouring subtrees of which one is kept
MANY = 0.1  # of a class: what more than these have is how one writes it
FEW = 5  # but what so few have is never taken for that
RARE = 32  # to look for pairs among more than these would take long and find little
LEAST = 0.5  # the score from which two are worth reading
EVIDENCE = 9  # fingerprints shared; honest learners who chose alike have had up to 8
LARGEST = 20_000  # nodes of a cell; nobody writes more by hand

Sources = Mapping[str, str]  # the text of a hand-in's cells, by part
Lines = tuple[int, int]
Marks = Mapping[int, tuple[str, Lines]]  # fingerprints, and the part and lines they stand in


@dataclass(frozen=True)
class Pair:
    """Two hand-ins, and what they share."""

    one: str
    other: str
    score: float  # 0 to 1
    shared: int  # fingerprints that both have and few others
    holders: int  # how many have the commonest of them
    total: int  # hand-ins compared
    places: Mapping[str, tuple[tuple[Lines, ...], tuple[Lines, ...]]]  # by part: lines in both

    def why(self) -> str:
        """The score in words."""
        share = f"{self.score:.0%} of what is uncommon in the shorter one is in both"
        if self.holders == 2:
            rarity = "that nobody else has"
        else:
            rarity = f"that at most {self.holders} of {self.total} have"
        return f"{share}: {self.shared} patterns {rarity}, in {', '.join(self.places)}"


def pairs(
    submissions: Mapping[str, Sources], known: Iterable[str] = (), least: float = LEAST
) -> list[Pair]:
    """The pairs worth reading, the most alike first. `known` are texts that do not count."""
    ignored = {mark for text in known for mark in _every(text)}
    prints = {name: _of(sources) for name, sources in submissions.items()}
    total = len(prints)
    holders = Counter(mark for marks in prints.values() for mark in marks)
    most = max(FEW, MANY * total)
    weight = {
        mark: math.log((total + 2) / count)
        for mark, count in holders.items()
        if count <= most and mark not in ignored
    }
    counted = {
        name: {m: at for m, at in marks.items() if m in weight} for name, marks in prints.items()
    }
    weights = {name: sum(weight[mark] for mark in marks) for name, marks in counted.items()}
    found = []
    for one, other in _candidates(counted):
        shared = counted[one].keys() & counted[other].keys()
        if len(shared) < EVIDENCE:
            continue
        score = sum(weight[mark] for mark in shared) / min(weights[one], weights[other])
        if score >= least:
            commonest = max(holders[mark] for mark in shared)
            places = _places(shared, counted[one], counted[other])
            found.append(Pair(one, other, score, len(shared), commonest, total, places))
    return sorted(
        found, key=lambda each: (-each.score * math.log(each.shared), each.one, each.other)
    )


def _candidates(counted: Mapping[str, Marks]) -> Iterator[tuple[str, str]]:
    """Pairs that share something rare, found through an index. Of hand-ins with the very same
    fingerprints each is compared with the next one only."""
    same: dict[frozenset[int], list[str]] = defaultdict(list)
    for name, marks in counted.items():
        same[frozenset(marks)].append(name)
    index: dict[int, list[str]] = defaultdict(list)
    for marks, names in same.items():
        if len(marks) >= EVIDENCE:
            yield from pairwise(names)
            for mark in marks:
                index[mark].append(names[0])
    together: Counter[tuple[str, str]] = Counter()
    for names in index.values():
        if 1 < len(names) <= RARE:
            together.update(combinations(names, 2))
    yield from (pair for pair, count in together.items() if count >= EVIDENCE / 2)


def _places(
    shared: Iterable[int], one: Marks, other: Marks
) -> dict[str, tuple[tuple[Lines, ...], tuple[Lines, ...]]]:
    """Where the shared fingerprints stand, by the part of the first."""
    found: dict[str, tuple[set[Lines], set[Lines]]] = {}
    for mark in shared:
        for side, (part, lines) in enumerate((one[mark], other[mark])):
            found.setdefault(part, (set(), set()))[side].add(lines)
    order = {part: place for place, (part, _) in enumerate(one.values())}
    return {
        part: (tuple(sorted(found[part][0])), tuple(sorted(found[part][1])))
        for part in sorted(found, key=lambda part: order.get(part, len(order)))
    }


def given(unit: str) -> list[str]:
    """What the project itself knows of a unit: torch's own parts, and the known mistakes, which
    are references with one thing wrong. Who makes one of them has copied nobody."""
    file = f"mistakes/{unit_named(unit).module}.py"
    path = Path(mistakes.__file__).parents[1] / file
    text = path.read_text("utf-8") if path.exists() else sealed.unsealed().get(file, "")
    return [text, Path(stock.__file__).read_text("utf-8")]


# Fingerprints


def _of(sources: Sources) -> dict[int, tuple[str, Lines]]:
    """The fingerprints of a hand-in, and where the first of each stands."""
    found: dict[int, tuple[str, Lines]] = {}
    for part, source in sources.items():
        for mark, lines in _winnowed(_subtrees(source)):
            found.setdefault(mark, (part, lines))
    return found


def _every(source: str) -> set[int]:
    return {mark for mark, _ in _subtrees(source)}


def _winnowed(marks: list[tuple[int, Lines]]) -> set[tuple[int, Lines]]:
    """The smallest of every window: whoever shares a whole window shares what is kept of it."""
    windows = range(max(1, len(marks) - WINDOW + 1)) if marks else ()
    return {min(marks[start : start + WINDOW]) for start in windows}


def _subtrees(source: str) -> list[tuple[int, Lines]]:
    """A hash for each subtree of a cell that is large enough, from the inside out."""
    tree = tree_of(source)
    if sum(1 for _ in ast.walk(tree)) > LARGEST:
        return []
    hashing = _Hashing(_bound(tree))
    try:
        hashing.of(tree)
    except RecursionError:  # brackets in brackets in brackets
        return []
    return hashing.found


def _bound(tree: ast.AST) -> set[str]:
    """The names a cell gives itself, which may be any."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            names.add(node.attr)
        elif isinstance(node, ast.alias) and node.asname:
            names.add(node.asname)
    return names


class _Hashing:
    """Walks a tree as it would look without names, constants, words and types."""

    def __init__(self, bound: set[str]):
        self.bound = bound
        self.found: list[tuple[int, Lines]] = []

    def of(self, node: ast.AST) -> tuple[int, int]:
        """A subtree's hash and its nodes."""
        node = _plain(node)
        size, said = 1, [type(node).__name__, self._label(node)]
        for children in self._children(node):
            hashed = [self.of(child) for child in children]
            size += sum(nodes for _, nodes in hashed)
            said.append(",".join(str(mark) for mark, _ in hashed))
        text = "|".join(said).encode("utf-8", "surrogatepass")
        mark = int.from_bytes(blake2b(text, digest_size=8).digest())
        first, last = getattr(node, "lineno", None), getattr(node, "end_lineno", None)
        if size >= SMALLEST and first and last:
            self.found.append((mark, (first, last)))
        return mark, size

    def _label(self, node: ast.AST) -> str:
        if isinstance(node, ast.Name):
            return "" if node.id in self.bound else node.id
        if isinstance(node, ast.Attribute):
            return "" if node.attr in self.bound else node.attr
        if isinstance(node, ast.keyword):
            return node.arg or "**"
        if isinstance(node, ast.Constant):
            kept = node.value is None or isinstance(node.value, bool)
            return str(node.value) if kept else type(node.value).__name__
        return ""

    def _children(self, node: ast.AST) -> Iterator[list[ast.AST]]:
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "ctx", "type_comment", "type_params"}:
                continue
            if isinstance(node, (ast.Call, ast.ClassDef)) and name == "keywords":
                yield sorted(value, key=ast.dump)  # their order says nothing
            elif isinstance(value, list):
                yield [each for each in value if isinstance(each, ast.AST) and not _silent(each)]
            elif isinstance(value, ast.AST):
                yield [value]


def _plain(node: ast.AST) -> ast.AST:
    """The simplest way to write the same."""
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        return ast.copy_location(ast.Assign([node.target], node.value), node)
    if isinstance(node, ast.AugAssign):
        value = ast.copy_location(ast.BinOp(node.target, node.op, node.value), node)
        return ast.copy_location(ast.Assign([node.target], value), node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        return node.operand if isinstance(node.op, ast.USub) else node
    return node


def _silent(node: ast.AST) -> bool:
    """What computes nothing: docstrings and other loose constants, pass, print, a bare name."""
    if isinstance(node, ast.Expr):
        call = node.value
        printing = isinstance(call, ast.Call) and getattr(call.func, "id", "") == "print"
        return printing or isinstance(call, (ast.Constant, ast.Name))
    return isinstance(node, (ast.Pass, ast.Import, ast.ImportFrom))
