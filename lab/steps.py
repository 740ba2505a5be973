"""How a sentence was chosen: the candidates of each step, another one taken, the tree of a beam.

    path = follow(checkpoint, ["A dog is running."])[0]
    path.steps[2].candidates  # the five most probable third pieces
    follow(checkpoint, ["A dog is running."], prefixes=[[*path.ids[:2], another]])

All of it is lab.decoding at work, watched, whichever decoding part is in force.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lab import decoding
from lab.model import Checkpoint
from lab.recording import keep
from lab.tokens import BOS_ID, EOS_ID, PAD_ID, Tokenizer, pad
from lab.translation import MAX_LEN, Search, Translation, encode, finished, forced

START = -1  # where a tree begins: <s>, which is no node


@dataclass(frozen=True)
class Candidate:
    """A piece that could come next, and the probability the model gives it."""

    id: int
    piece: str
    probability: float  # before temperature, top-k and top-p


@dataclass(frozen=True)
class Step:
    """What was chosen, and from what."""

    chosen: Candidate
    candidates: list[Candidate]  # the most probable first
    forced: bool = False  # by a prefix


@dataclass(frozen=True)
class Path:
    """A translation, its ids, and a step for each of them."""

    translation: Translation
    ids: list[int]  # without <s>
    steps: list[Step]


def follow(
    checkpoint: Checkpoint,
    sentences: Sequence[str],
    search: Search = Search(),  # noqa: B008 (frozen)
    prefixes: Sequence[Sequence[int]] | None = None,
    *,
    top: int = 5,
    explain: bool = False,
    max_len: int = MAX_LEN,
) -> list[Path]:
    """Translate, each sentence from its prefix of ids on, and say what each step chose from.

    The greedy ones take each step together; the others go one by one, so that a seed gives the
    same in any company. ValueError for a prefix the model could not have written.
    """
    encoded = encode(checkpoint, sentences)
    return follow_ids(
        checkpoint, sentences, encoded, search, prefixes, top=top, explain=explain, max_len=max_len
    )


def follow_ids(
    checkpoint: Checkpoint,
    sentences: Sequence[str],
    encoded: Sequence[Sequence[int]],
    search: Search = Search(),  # noqa: B008 (frozen)
    prefixes: Sequence[Sequence[int]] | None = None,
    *,
    top: int = 5,
    explain: bool = False,
    max_len: int = MAX_LEN,
) -> list[Path]:
    """`follow` for sentences that are ids already."""
    max_len = min(max_len, checkpoint.config.max_len)
    begun = [_checked(checkpoint, each, max_len) for each in prefixes or [()] * len(encoded)]
    if len(begun) != len(encoded):
        raise ValueError(f"{len(begun)} prefixes for {len(encoded)} sentences: give one to each")
    if not encoded:
        return []
    with keep(checkpoint.model) if explain else nullcontext() as kept:
        if search.method == "greedy":
            found = _written(checkpoint, encoded, search, begun, top, max_len)
        elif search.method == "sample":
            found = [
                path
                for row, prefix in zip(encoded, begun, strict=True)
                for path in _written(checkpoint, [row], search, [prefix], top, max_len)
            ]
        elif search.method == "beam":
            trees = [
                _grown(checkpoint, row, search, prefix, top, max_len)
                for row, prefix in zip(encoded, begun, strict=True)
            ]
            found = [tree.best for tree in trees]
        else:
            raise ValueError(f"method {search.method!r}: choose greedy, beam or sample")
    device = next(checkpoint.model.parameters()).device
    source = pad(encoded).to(device)
    target = pad([[BOS_ID, *ids] for ids, _ in found]).to(device)
    told = finished(checkpoint, sentences, source, target, explain=explain, kept=kept)
    return [Path(one, *path) for one, path in zip(told, found, strict=True)]


def read_back(
    checkpoint: Checkpoint, source: Sequence[int], ids: Sequence[int], *, top: int = 5
) -> list[Step]:
    """The steps of a target that is given whole, by teacher forcing: one pass of the model."""
    device = next(checkpoint.model.parameters()).device
    logits = forced(checkpoint.model, pad([source]).to(device), pad([[BOS_ID, *ids]]).to(device))[0]
    return _steps(checkpoint.tokenizer, *_told(logits, pad([ids])[0].to(device), top), len(ids))


def _checked(checkpoint: Checkpoint, prefix: Sequence[int], max_len: int) -> list[int]:
    size = checkpoint.config.vocab_size
    if wrong := [i for i in prefix if not 0 <= i < size or i == PAD_ID]:
        raise ValueError(f"id {wrong[0]} in a prefix: choose from 1 to {size - 1}")
    if EOS_ID in prefix[:-1]:
        raise ValueError(f"a prefix goes on after </s> (id {EOS_ID}): end it there")
    if len(prefix) >= max_len:
        raise ValueError(f"a prefix of {len(prefix)} pieces is too long: at most {max_len - 1}")
    return list(prefix)


Chosen = tuple[list[int], list[Step]]


def _written(
    checkpoint: Checkpoint,
    encoded: Sequence[Sequence[int]],
    search: Search,
    prefixes: list[list[int]],
    top: int,
    max_len: int,
) -> list[Chosen]:
    """By greedy search or by lot. A forced token is drawn too, and not used: the lots after it are
    those of the sentence that chose it by itself."""
    source = pad(encoded).to(next(checkpoint.model.parameters()).device)
    generator = torch.Generator(device=source.device).manual_seed(search.seed)
    if search.method == "greedy":
        usual = decoding.chooser(temperature=0.0)
    else:
        usual = decoding.chooser(search.temperature, search.top_k, search.top_p, generator)
    prefix = pad([[*each, PAD_ID] for each in prefixes]).to(source.device)
    told = []

    def choose(logits: Float[Tensor, "B V"]) -> Int[Tensor, " B"]:
        chosen = usual(logits)
        if (at := len(told)) < prefix.size(1):
            chosen = prefix[:, at].where(prefix[:, at] != PAD_ID, chosen)
        told.append(_told(logits, chosen, top))
        return chosen

    ids = decoding.write(checkpoint.model, source, BOS_ID, EOS_ID, max_len, choose)[:, 1:].tolist()
    columns = [torch.stack(column, dim=1) for column in zip(*told, strict=True)]  # (B, T, ...)
    found = []
    for row, (one, begun) in enumerate(zip(ids, prefixes, strict=True)):
        end = one.index(EOS_ID) + 1 if EOS_ID in one else len(one)
        rows = [column[row, :end] for column in columns]
        steps = _steps(checkpoint.tokenizer, *rows, n_forced=len(begun)) if rows else []
        found.append((one[:end], steps))
    return found


def _told(
    logits: Float[Tensor, "*axes V"], chosen: Int[Tensor, "*axes"], top: int
) -> tuple[
    Int[Tensor, "*axes"],
    Float[Tensor, "*axes"],
    Int[Tensor, "*axes top"],
    Float[Tensor, "*axes top"],
]:
    """What was chosen and the `top` most probable, with their probabilities."""
    probabilities = logits.float().softmax(-1)
    of_chosen = probabilities.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    best = probabilities.topk(min(top, logits.size(-1)))
    return chosen, of_chosen, best.indices, best.values


def _steps(
    tokenizer: Tokenizer,
    chosen: Int[Tensor, " T"],
    of_chosen: Float[Tensor, " T"],
    best: Int[Tensor, "T top"],
    of_best: Float[Tensor, "T top"],
    n_forced: int,
) -> list[Step]:
    return [
        Step(first, candidates, forced=at < n_forced)
        for at, (first, candidates) in enumerate(
            zip(
                _candidates(tokenizer, chosen.tolist(), of_chosen.tolist()),
                (
                    _candidates(tokenizer, ids, probabilities)
                    for ids, probabilities in zip(best.tolist(), of_best.tolist(), strict=True)
                ),
                strict=True,
            )
        )
    ]


def _candidates(
    tokenizer: Tokenizer, ids: Sequence[int], probabilities: Sequence[float]
) -> list[Candidate]:
    return [*map(Candidate, ids, tokenizer.pieces(ids), probabilities)]


# The tree of a beam


@dataclass(frozen=True)
class Node:
    """A piece with which a sentence of the beam went on, or could have.

    `kept` says that it was among the beam_size best of its step. A kept node without a kept child
    and without a rank was pruned later.
    """

    parent: int  # its place in `nodes`, START after <s>
    step: int  # 1 is the first piece
    candidate: Candidate
    log_probability: float  # of the sentence up to here
    score: float  # the same by the length penalty
    kept: bool
    rank: int | None = None  # among the sentences found, 0 the best

    @property
    def ended(self) -> bool:
        return self.candidate.id == EOS_ID


@dataclass(frozen=True)
class BeamTree:
    """Every sentence the beam held, and the best of those it let go, in order of their steps."""

    nodes: list[Node]
    sentences: list[tuple[list[int], float]]  # found: ids without <s> and score, best first
    says: dict[int, list[Candidate]] = field(repr=False)  # most probable next, by node or START
    n_forced: int = 0

    def way(self, node: int) -> list[int]:
        """The places of the nodes from <s> to this one."""
        found = []
        while node != START:
            found.append(node)
            node = self.nodes[node].parent
        return found[::-1]

    @property
    def best(self) -> Chosen:
        """Ids and steps of the best sentence."""
        ends = [place for place, node in enumerate(self.nodes) if node.rank == 0]
        way = [self.nodes[place] for end in ends for place in self.way(end)]
        steps = [
            Step(node.candidate, self.says[node.parent], forced=at < self.n_forced)
            for at, node in enumerate(way)
        ]
        return self.sentences[0][0], steps


def beam_tree(
    checkpoint: Checkpoint,
    sentence: str,
    search: Search = Search("beam"),  # noqa: B008 (frozen)
    prefix: Sequence[int] = (),
    *,
    top: int = 5,
    max_len: int = MAX_LEN,
) -> BeamTree:
    """All that a beam search went through. Each sentence of the beam shows its `top` next pieces,
    and at least beam_size: so the tree alone tells which had to be kept."""
    max_len = min(max_len, checkpoint.config.max_len)
    begun = _checked(checkpoint, prefix, max_len)
    return _grown(checkpoint, encode(checkpoint, [sentence])[0], search, begun, top, max_len)


def _grown(
    checkpoint: Checkpoint,
    source: Sequence[int],
    search: Search,
    prefix: list[int],
    top: int,
    max_len: int,
) -> BeamTree:
    grown = _Growth(checkpoint.tokenizer, top, search.beam_size)
    found = decoding.beam_decode(
        checkpoint.model,
        pad([source]).to(next(checkpoint.model.parameters()).device),
        BOS_ID,
        EOS_ID,
        search.beam_size,
        max_len,
        search.length_penalty,
        prefix=prefix,
        watch=grown.watch,
    )[0]
    sentences = [(ids[1:], score) for ids, score in found]
    return BeamTree(grown.ranked(), sentences, grown.says, len(prefix))


class _Growth:
    """A tree while its search goes on."""

    def __init__(self, tokenizer: Tokenizer, top: int, beam_size: int):
        self.tokenizer, self.top, self.width = tokenizer, top, max(top, beam_size)
        self.nodes: list[Node] = []
        self.says: dict[int, list[Candidate]] = {}
        self.beam: list[int | None] = [START, *[None] * (beam_size - 1)]  # None: not there
        self.step = 0

    def watch(self, step: decoding.BeamStep) -> None:
        self.step += 1
        totals, scores, chances = step.totals[0].cpu(), step.scores[0].cpu(), step.gains[0].exp()
        size = scores.size(-1)
        places: dict[int, int] = {}  # of hypothesis * V + token
        best = step.best[0].tolist()
        for row, parent in enumerate(self.beam):
            if parent is None:
                continue
            if parent != START and self.nodes[parent].ended:
                places[row * size + PAD_ID] = parent  # carried on as it is
                continue
            said = chances[row].topk(min(self.top, size))
            self.says[parent] = _candidates(
                self.tokenizer, said.indices.tolist(), said.values.tolist()
            )
            shown = scores[row].topk(min(self.width, size)).indices
            shown = shown[scores[row, shown] > -math.inf]
            candidates = _candidates(
                self.tokenizer, shown.tolist(), chances[row].cpu()[shown].tolist()
            )
            numbers = (totals[row, shown].tolist(), scores[row, shown].tolist())
            for candidate, total, score in zip(candidates, *numbers, strict=True):
                at = row * size + candidate.id
                places[at] = len(self.nodes)
                node = Node(parent, self.step, candidate, total, score, kept=at in best)
                self.nodes.append(node)
        self.beam = [places.get(at) for at in best]

    def ranked(self) -> list[Node]:
        """The nodes, those where a found sentence ends with its rank."""
        ends = [place for place in self.beam if place is not None and place != START]
        ranks = {place: rank for rank, place in enumerate(ends)}
        return [
            node if place not in ranks else Node(**{**vars(node), "rank": ranks[place]})
            for place, node in enumerate(self.nodes)
        ]


# Temperature, top-k, top-p


@dataclass(frozen=True)
class Chance:
    """A piece, as probable as the model says (before) and as it is drawn (after)."""

    id: int
    piece: str
    before: float
    after: float


@dataclass(frozen=True)
class Distribution:
    """The next piece before and after temperature, top-k and top-p."""

    chances: list[Chance]  # the most probable first
    others: tuple[float, float]  # of all other pieces together, before and after
    left: int  # pieces that can still be drawn


def distribution(
    checkpoint: Checkpoint,
    sentence: str,
    prefix: Sequence[int] = (),
    search: Search = Search("sample"),  # noqa: B008 (frozen)
    *,
    top: int = 20,
) -> Distribution:
    """What the piece after a prefix is drawn from; temperature 0 leaves the most probable alone."""
    decoding.check_sampling(search.temperature, search.top_k, search.top_p)
    prefix = _checked(checkpoint, prefix, checkpoint.config.max_len)
    if EOS_ID in prefix:
        raise ValueError("nothing comes after </s>: shorten the prefix")
    device = next(checkpoint.model.parameters()).device
    source = pad(encode(checkpoint, [sentence])).to(device)
    with decoding.inference(checkpoint.model):
        written = torch.tensor([[BOS_ID, *prefix]], device=device)
        logits = checkpoint.model(source, written)[:, -1].float()
    before = logits.softmax(-1)
    if search.temperature == 0:
        after = torch.zeros_like(before).scatter(-1, logits.argmax(-1, keepdim=True), 1)
    else:
        cuts = (search.temperature, search.top_k, search.top_p)
        after = decoding.next_token_probabilities(logits, *cuts)
    ids = before[0].topk(min(top, before.size(-1))).indices
    shown = (before[0, ids].tolist(), after[0, ids].tolist())
    pieces = checkpoint.tokenizer.pieces(ids.tolist())
    return Distribution(
        chances=[*map(Chance, ids.tolist(), pieces, *shown)],
        others=(max(0.0, 1 - sum(shown[0])), max(0.0, 1 - sum(shown[1]))),
        left=int((after > 0).sum()),
    )
