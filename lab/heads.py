"""Heads on and off: the model without some of its heads, how much each matters, what it does.

    switched = switch_off(checkpoint, "A dog is running.", [Head("cross", 2, 1)])
    switched.after.translation.text, switched.change

A head that is off says nothing: its part of the heads' output is zero before out_proj. The model
itself is left alone; another one with the same weights does without, so sessions share it safely.
"""

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lab.model import Checkpoint
from lab.recording import KINDS
from lab.steps import Path, follow
from lab.tokens import BOS_ID, pad
from lab.translation import Search, encode, entropy, forced, log_probabilities

TOGETHER = 32  # sentences in one pass


class Head(NamedTuple):
    kind: str  # encoder, decoder or cross, see lab.recording
    layer: int  # from 0
    head: int  # from 0


def heads_of(
    checkpoint: Checkpoint, kind: str | None = None, layer: int | None = None
) -> list[Head]:
    """All heads, or those of a kind, a layer, a layer of a kind: what to switch off together."""
    _check(checkpoint, Head(kind or next(iter(KINDS)), layer or 0, 0))
    config = checkpoint.config
    return [
        Head(each, at, head)
        for each in ([kind] if kind else KINDS)
        for at in ([layer] if layer is not None else range(config.n_layers))
        for head in range(config.n_heads)
    ]


def twin(model: nn.Module) -> nn.Module:
    """The same parameters in modules of its own, without anybody's hooks: what is replaced or
    hooked there, nobody else sees."""
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    hooks = {id(module._forward_hooks): OrderedDict() for module in model.modules()}
    return copy.deepcopy(model, {**shared, **hooks})


def attention_of(model: nn.Module, kind: str, layer: int) -> Any:
    """The attention module of a kind in a layer."""
    side, name = KINDS[kind]
    return getattr(getattr(model, side).layers[layer], name)


def without(checkpoint: Checkpoint, heads: Iterable[tuple[str, int, int]]) -> Checkpoint:
    """The checkpoint with these heads off: their columns of out_proj are zero, its bias stays."""
    off = defaultdict(set)
    for head in (Head(*each) for each in heads):
        _check(checkpoint, head)
        off[head.kind, head.layer].add(head.head)
    model = twin(checkpoint.model)
    for (kind, layer), numbers in off.items():
        projection = attention_of(model, kind, layer).out_proj
        weight = projection.weight.detach().clone()
        weight.unflatten(1, (checkpoint.config.n_heads, -1))[:, sorted(numbers)] = 0
        projection.weight = nn.Parameter(weight, requires_grad=False)
    return replace(checkpoint, model=model)


def _check(checkpoint: Checkpoint, head: Head) -> None:
    config = checkpoint.config
    if head.kind not in KINDS:
        raise ValueError(f"kind {head.kind!r}: choose from {', '.join(KINDS)}")
    if not (0 <= head.layer < config.n_layers and 0 <= head.head < config.n_heads):
        raise ValueError(
            f"there is no head {head.head} in layer {head.layer}: the model has {config.n_heads} "
            f"heads in each of {config.n_layers} layers, both from 0"
        )


@dataclass(frozen=True)
class Switched:
    """A translation with all heads, and without some."""

    before: Path
    after: Path
    change: float  # in the log-probability of the translation before: below 0 is less probable


def switch_off(
    checkpoint: Checkpoint,
    sentence: str,
    heads: Iterable[tuple[str, int, int]],
    search: Search = Search(),  # noqa: B008 (frozen)
    *,
    before: Path | None = None,
    explain: bool = False,
) -> Switched:
    """Translate without some heads; `before` is the translation with all, where it is known."""
    less = without(checkpoint, heads)
    if before is None:
        before = follow(checkpoint, [sentence], search, explain=explain)[0]
    after = follow(less, [sentence], search, explain=explain)[0]
    source = encode(checkpoint, [sentence])
    usual, changed = (
        _Forced(each, source, [before.ids]).log_probability for each in (checkpoint, less)
    )
    return Switched(before, after, float(changed - usual))


class _Forced:
    """What a model says of targets that are given: padding counts for nothing."""

    def __init__(
        self, checkpoint: Checkpoint, sources: Sequence[list[int]], targets: Sequence[list[int]]
    ):
        device = next(checkpoint.model.parameters()).device
        target = pad([[BOS_ID, *ids] for ids in targets]).to(device)
        logits = forced(checkpoint.model, pad(sources).to(device), target)
        self.words = torch.arange(target.size(1) - 1, device=device) < torch.tensor(
            [[len(ids)] for ids in targets], device=device
        )
        self.gains: Float[Tensor, "B T"] = log_probabilities(logits, target)
        self.greedy: Bool[Tensor, "B T"] = logits.argmax(-1) == target[:, 1:]

    @property
    def log_probability(self) -> float:
        """Of all targets together."""
        return self.gains.where(self.words, 0).sum().item()

    @property
    def kept(self) -> int:
        """Targets that greedy search would write: each piece is the most probable one."""
        return int((self.greedy | ~self.words).all(-1).sum())


# What each head is worth


@dataclass(frozen=True)
class Habits:
    """Where a head looks, the mean over some sentences. None where it does not apply."""

    previous: float | None  # queries whose highest weight is on the token before them
    alignment: float | None  # correlation of a piece's place with that of the word it looks at most
    sink: float  # weight on the mark: </s> of the source, <s> of the target
    breadth: float  # entropy, as a share of the highest possible


@dataclass(frozen=True)
class Importance:
    """A row of the table: how much a head matters, and what it seems to do."""

    head: Head
    loss: float  # of log-probability per piece when it is off, in nats
    changed: float  # share of the translations that greedy search would no longer write
    label: str  # by the rules of `label`
    habits: Habits


def importance(
    checkpoint: Checkpoint,
    sentences: Sequence[str],
    heads: Iterable[tuple[str, int, int]] | None = None,
    *,
    progress: Callable[[int, int], bool | None] = lambda done, total: None,
) -> list[Importance]:
    """What is lost when each head alone is off, by the model's own greedy translations.

    As Michel et al. 2019 ("Are Sixteen Heads Really Better than One?", §3.2) with the model's
    log-probability in place of BLEU. `progress(heads done, heads in all)` is called before the
    first and after each; where it answers False the rows so far are the result.
    """
    if not sentences:
        raise ValueError("no sentences: give at least one")
    wanted = [Head(*each) for each in heads] if heads is not None else heads_of(checkpoint)
    for head in wanted:
        _check(checkpoint, head)
    rows: list[Importance] = []
    if progress(0, len(wanted)) is False:
        return rows
    sources = encode(checkpoint, sentences)
    batches = [slice(at, at + TOGETHER) for at in range(0, len(sources), TOGETHER)]
    paths = [path for some in batches for path in follow(checkpoint, sentences[some], explain=True)]
    targets = [path.ids for path in paths]

    def judged(model: Checkpoint) -> tuple[float, int]:
        each = [_Forced(model, sources[some], targets[some]) for some in batches]
        return sum(one.log_probability for one in each), sum(one.kept for one in each)

    usual, kept = judged(checkpoint)
    n_pieces = sum(map(len, targets))
    for head in wanted:
        total, still = judged(without(checkpoint, [head]))
        found = habits(head, [path.translation.attention or {} for path in paths])
        rows.append(
            Importance(
                head,
                loss=(usual - total) / n_pieces,
                changed=(kept - still) / len(paths),
                label=label(found),
                habits=found,
            )
        )
        if progress(len(rows), len(wanted)) is False:
            break
    return rows


# Labels

PREVIOUS = 0.9  # of the queries: Voita et al. 2019 ("Analyzing Multi-Head Self-Attention", §5.1)
SINK = 0.5  # of the weight: more than to all else together (Clark et al. 2019, §3.2, on [SEP])
ALIGNMENT = 0.8  # correlation: word alignments run close to the diagonal (Dyer et al. 2013, §2)
BREADTH = 0.8  # of the highest entropy: "very broad" heads, Clark et al. 2019, §3.3


def label(found: Habits) -> str:
    """What a head seems to do, the first rule that holds; "none" where none does.

    - "sink": at least half of its weight goes to </s> of the source or <s> of the target, where a
      head looks that has nothing to do (Clark et al. 2019);
    - "previous token": for at least 90 % of the queries the highest weight is on the token before
      (Voita et al. 2019: a positional head);
    - "alignment": cross-attention whose most-looked-at word moves on with the pieces written,
      correlation at least 0.8. A head that aligns languages of another order is not recognised;
    - "broad": its entropy is at least 80 % of the highest possible (Clark et al. 2019).

    The thresholds of sink, alignment and broad are ours. A label is where the head looked in these
    sentences, not what it is for.
    """
    rules = {
        "sink": found.sink >= SINK,
        "previous token": found.previous is not None and found.previous >= PREVIOUS,
        "alignment": found.alignment is not None and found.alignment >= ALIGNMENT,
        "broad": found.breadth >= BREADTH,
    }
    return next((name for name, holds in rules.items() if holds), "none")


def habits(head: Head, attentions: Sequence[dict[str, Float[Tensor, "L H _ _"]]]) -> Habits:
    """Where a head looked in some translations; lab.translation says what a row is.

    Left out: queries that have one key alone, and the step that writes </s>.
    """
    weights = [each[head.kind][head.layer, head.head] for each in attentions]
    return Habits(
        previous=None if head.kind == "cross" else _mean(map(_looks_back, weights)),
        alignment=_mean(map(_moves_on, weights)) if head.kind == "cross" else None,
        sink=_mean(each[1:, 0] if head.kind == "decoder" else each[:, -1] for each in weights),
        breadth=_mean(_breadth(each, causal=head.kind == "decoder") for each in weights),
    )


def _looks_back(weights: Float[Tensor, "T T"]) -> Float[Tensor, " T-1"]:
    before = torch.arange(len(weights) - 1, device=weights.device)
    return (weights[1:].argmax(-1) == before).float()


def _moves_on(weights: Float[Tensor, "T S"]) -> Float[Tensor, " one"]:
    """Pearson's correlation; none (0) for a head that stays where it is, nothing below 3 pieces."""
    words = weights[:-1, :-1]
    if min(words.shape) < 3:
        return weights.new_zeros(0)
    places = torch.arange(len(words), device=words.device)
    return torch.corrcoef(torch.stack([places, words.argmax(-1)]).float())[:1, 1].nan_to_num()


def _breadth(weights: Float[Tensor, "T S"], causal: bool) -> Float[Tensor, " rows"]:
    n_keys = torch.full((len(weights),), weights.size(-1), device=weights.device)
    if causal:
        n_keys = torch.arange(1, len(weights) + 1, device=weights.device)
    several = n_keys > 1
    return entropy(weights[several]) / n_keys[several].log2()


def _mean(parts: Iterable[Float[Tensor, " _"]]) -> float:
    values = torch.cat([*parts])
    return values.mean().item() if len(values) else 0.0
