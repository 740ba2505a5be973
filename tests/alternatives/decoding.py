"""11 written otherwise."""

import heapq
import math
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from lab.decoding import inference
from lab.parts import greedy_decode

# greedy_decode


@torch.no_grad()
def greedy_by_hand(model, src, bos_id, eos_id, max_len=64):
    """The mode noted and put back; a list of columns."""
    was = getattr(model, "training", False)
    if was:
        model.eval()
    memory = model.encode(src)
    columns = [torch.full((len(src),), bos_id, dtype=torch.long, device=src.device)]
    going = torch.ones(len(src), dtype=torch.bool, device=src.device)
    for _ in range(max_len - 1):
        ids = torch.stack(columns, dim=1)
        best = torch.argmax(model.decode(ids, memory, src)[:, -1, :], dim=-1)
        columns.append(torch.where(going, best, torch.full_like(best, model.pad_id)))
        going &= best != eos_id
        if not going.any():
            break
    if was:
        model.train()
    return torch.stack(columns, dim=1)


def greedy_into_a_table(model, src, bos_id, eos_id, max_len=64):
    """A table full of padding, filled column by column, cut at the end."""
    with inference(model), torch.inference_mode():
        memory = model.encode(src)
        table = torch.full((src.shape[0], max_len), model.pad_id, dtype=torch.long)
        table = table.to(src.device)
        table[:, 0] = bos_id
        length = 1
        done = set()
        while length < max_len and len(done) < len(src):
            words = model.decode(table[:, :length], memory, src)[:, -1].topk(1).indices[:, 0]
            for row, word in enumerate(words.tolist()):
                if row not in done:
                    table[row, length] = word
                    if word == eos_id:
                        done.add(row)
            length += 1
    return table[:, :length].clone()


def greedy_of_those_that_go_on(model, src, bos_id, eos_id, max_len=64):
    """Only unfinished sentences are decoded; rows of different length are padded at the end."""
    with inference(model):
        memory = model.encode(src)
        written = [[bos_id] for _ in src]
        going = list(range(len(src)))
        while going and len(written[going[0]]) < max_len:
            ids = src.new_tensor([written[row] for row in going])
            logits = model.decode(ids, memory[going], src[going])
            for row, word in zip(going, logits[:, -1].max(-1).indices.tolist(), strict=True):
                written[row].append(word)
            going = [row for row in going if written[row][-1] != eos_id]
    width = max(map(len, written))
    return src.new_tensor([row + [model.pad_id] * (width - len(row)) for row in written])


# beam_search


def beam_in_one_batch(
    model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6, *, verbose=False
):
    """All hypotheses of a step in one batch, and tensors to the end."""
    with inference(model):
        memory = model.encode(src)
        ids = src.new_full((1, 1), bos_id)
        totals = torch.zeros(1, dtype=torch.float64)
        lengths = torch.zeros(1, dtype=torch.float64)
        ended = torch.zeros(1, dtype=torch.bool)
        for _ in range(max_len - 1):
            rows = len(ids)
            logits = model.decode(ids, memory.expand(rows, -1, -1), src.expand(rows, -1))[:, -1]
            gains = F.log_softmax(logits.double(), dim=-1)
            only_pad = torch.full_like(gains, -math.inf)
            only_pad[:, model.pad_id] = 0
            gains = torch.where(ended[:, None], only_pad, gains)
            longer = lengths + (~ended).double()
            sums = totals[:, None] + gains
            scores = sums / ((5 + longer[:, None]) / 6) ** length_penalty
            best = scores.flatten().topk(min(beam_size, scores.numel()))
            flat = best.indices[best.values > -math.inf]
            row, word = flat // gains.size(-1), flat % gains.size(-1)
            totals, lengths = sums.flatten()[flat], longer[row]
            ended = ended[row] | (word == eos_id)
            ids = torch.cat([ids[row], word[:, None]], dim=1)
            if ended.all():
                break
    scores = totals / ((5 + lengths) / 6) ** length_penalty
    order = scores.argsort(descending=True).tolist()
    return [(ids[i, : int(lengths[i]) + 1].tolist(), scores[i].item()) for i in order]


def beam_with_the_ended_apart(
    model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6
):
    """What has ended waits in a list of its own, and leaves its place to others."""
    with inference(model):
        memory = model.encode(src)
        going, ended = [(0.0, [bos_id])], []
        for length in range(1, max_len):
            candidates = []
            for total, ids in going:
                log_p = model.decode(torch.tensor([ids]), memory, src)[0, -1].log_softmax(-1)
                for word in log_p.isfinite().nonzero().flatten().tolist():
                    candidates.append((total + log_p[word].item(), ids + [word]))
            penalty = ((5 + length) / 6) ** length_penalty
            ended += [(t / penalty, ids) for t, ids in candidates if ids[-1] == eos_id]
            unfinished = [each for each in candidates if each[1][-1] != eos_id]
            going = heapq.nlargest(beam_size, unfinished)
            if not going:
                break
        last = [(t / ((4 + len(ids)) / 6) ** length_penalty, ids) for t, ids in going]
    return [(ids, score) for score, ids in heapq.nlargest(beam_size, ended + last)]


@dataclass
class Hypothesis:
    ids: tuple
    gains: tuple = ()

    def score(self, alpha):
        return math.fsum(self.gains) / ((5 + len(self.gains)) / 6) ** alpha


def beam_of_objects(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    """A class for a hypothesis, every word offered, no topk."""
    with inference(model):
        memory = model.encode(src)
        beam = [Hypothesis((bos_id,))]
        for _ in range(max_len - 1):
            offered = []
            for each in beam:
                if each.ids[-1] == eos_id:
                    offered.append(each)
                    continue
                ids = torch.tensor(each.ids, device=src.device)[None]
                chances = model.decode(ids, memory, src)[0, -1].softmax(-1).tolist()
                offered += [
                    Hypothesis((*each.ids, word), (*each.gains, math.log(chance)))
                    for word, chance in enumerate(chances)
                    if chance > 0
                ]
            offered.sort(key=lambda each: -each.score(length_penalty))
            beam = offered[:beam_size]
            if all(each.ids[-1] == eos_id for each in beam):
                break
    return [(list(each.ids), each.score(length_penalty)) for each in beam]


# sample_decode


def sample_by_gumbel(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    """The largest of logits plus Gumbel noise is a draw by softmax."""
    if temperature == 0:
        return greedy_decode(model, src, bos_id, eos_id, max_len)
    with inference(model):
        memory = model.encode(src)
        ids = torch.full((len(src), 1), bos_id)
        ended = torch.zeros(len(src), dtype=torch.bool)
        for _ in range(max_len - 1):
            if bool(ended.all()):
                break
            logits = model.decode(ids, memory, src)[:, -1] / temperature
            if top_k is not None and top_k < logits.size(-1):
                border = logits.kthvalue(logits.size(-1) - top_k + 1, dim=-1, keepdim=True).values
                logits = torch.where(logits >= border, logits, -math.inf)
            if top_p is not None:
                chances = logits.softmax(-1)
                above = (chances[:, None, :] * (chances[:, None, :] > chances[:, :, None])).sum(-1)
                logits = torch.where(above < top_p, logits, -math.inf)
            noise = torch.rand(logits.shape, generator=generator, dtype=logits.dtype)
            drawn = (logits - (-noise.log()).log()).argmax(-1)
            drawn[ended] = model.pad_id
            ended = ended | (drawn == eos_id)
            ids = torch.hstack([ids, drawn[:, None]])
    return ids


def sample_in_order(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    """Places in the sorted words are drawn, then looked up."""
    with inference(model):
        memory, pad = model.encode(src), model.pad_id
        ids, ended = src.new_full((len(src), 1), bos_id), src.new_zeros(len(src), 1).bool()
        for _ in range(1, max_len):
            logits = model.decode(ids, memory, src)[:, -1]
            width = logits.size(-1) if top_k is None else min(top_k, logits.size(-1))
            best, words = logits.topk(1 if temperature == 0 else width)
            chances = F.softmax(best / (temperature or 1.0), dim=-1)
            if top_p is not None:
                reached = F.pad(chances.cumsum(-1)[:, :-1], (1, 0)) >= top_p
                chances = chances.masked_fill(reached, 0)
            place = torch.multinomial(chances, 1, generator=generator)
            drawn = torch.where(ended, pad, words.gather(1, place))
            ids, ended = torch.cat([ids, drawn], 1), ended | (drawn == eos_id)
            if ended.all():
                break
    return ids


@contextmanager
def resting(model):
    """eval mode where there is one, and no gradients."""
    mode = getattr(model, "training", None)
    if mode is not None:
        model.eval()
    with torch.no_grad():
        yield
    if mode is not None:
        model.train(mode)


def sample_row_by_row(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    """Plain Python over the words of each row, and one random number a word."""

    def choose(chances):
        ranked = sorted(enumerate(chances), key=lambda each: -each[1])[:top_k]
        total = sum(chance for _, chance in ranked)
        kept, reached = [], 0.0
        for word, chance in ranked:
            if top_p is not None and reached >= top_p * total:
                break
            kept.append((word, chance))
            reached += chance
        point = reached * torch.rand((), generator=generator, dtype=torch.float64).item()
        for word, chance in kept:
            point -= chance
            if point < 0:
                return word
        return kept[0][0]

    if not temperature:
        return greedy_decode(model, src, bos_id, eos_id, max_len)
    with resting(model):
        memory = model.encode(src)
        rows = [[bos_id] for _ in src]
        for _ in range(max_len - 1):
            logits = model.decode(torch.tensor(rows), memory, src)[:, -1]
            for row, chances in zip(rows, (logits / temperature).softmax(-1).tolist(), strict=True):
                row.append(model.pad_id if eos_id in row else choose(chances))
            if all(eos_id in row for row in rows):
                break
    return torch.tensor(rows)


ALTERNATIVES = {
    "greedy_decode": [greedy_by_hand, greedy_into_a_table, greedy_of_those_that_go_on],
    "beam_search": [beam_in_one_batch, beam_with_the_ended_apart, beam_of_objects],
    "sample_decode": [sample_by_gumbel, sample_in_order, sample_row_by_row],
}
