"""11: what goes wrong when words are chosen."""

import math
from contextlib import nullcontext

import torch

from autograder.mistakes import mistake
from lab.decoding import inference

# greedy_decode: each step can go wrong by itself


def greedy_mistake(id, name, sentence, hint):
    return mistake("greedy_decode", id, name, sentence, hint)


def write(
    model,
    src,
    bos_id,
    eos_id,
    max_len=64,
    at_rest=inference,
    choose=lambda logits: logits[:, -1].argmax(-1, keepdim=True),
    fill=lambda chosen, ended, model: chosen.masked_fill(ended, model.pad_id),
    read=lambda ids: ids,
    over=lambda ended: ended.all(),
):
    """Writing, a step at a time."""
    with at_rest(model):
        memory = model.encode(src)
        ids = src.new_full((src.size(0), 1), bos_id)
        ended = torch.zeros_like(ids, dtype=torch.bool)
        while ids.size(1) < max_len and not over(ended):
            chosen = fill(choose(model.decode(read(ids), memory, src)), ended, model)
            ids = torch.cat([ids, chosen], dim=1)
            ended = ended | (chosen == eos_id)
    return ids


@greedy_mistake(
    "T3",
    "dropout is on",
    "The model is asked in the mode it came in: in train mode dropout makes it stammer.",
    "Write inside `with inference(model):`, or call model.eval() before the first word.",
)
def greedy_in_train_mode(model, src, bos_id, eos_id, max_len=64):
    return write(model, src, bos_id, eos_id, max_len, at_rest=lambda model: torch.no_grad())


@greedy_mistake(
    "T3b",
    "gradients are kept",
    "Every step keeps its graph for a backward pass that never comes: memory grows and grows.",
    "Write inside `with inference(model):`, or inside `with torch.no_grad():`.",
)
def greedy_with_gradients(model, src, bos_id, eos_id, max_len=64):
    was = getattr(model, "training", None)
    if was is not None:
        model.eval()
    ids = write(model, src, bos_id, eos_id, max_len, at_rest=lambda model: nullcontext())
    if was is not None:
        model.train(was)
    return ids


@greedy_mistake(
    "T3c",
    "the model is left in eval mode",
    "Training that goes on afterwards goes on without dropout.",
    "Note model.training before, and put it back; `inference(model)` does.",
)
def greedy_leaves_eval(model, src, bos_id, eos_id, max_len=64):
    if hasattr(model, "eval"):
        model.eval()
    with torch.no_grad():
        return write(model, src, bos_id, eos_id, max_len, at_rest=lambda model: nullcontext())


@greedy_mistake(
    "T3d",
    "the model is left in train mode",
    "A model that came in eval mode is in train mode afterwards.",
    "Put back the mode that was found, whichever it was.",
)
def greedy_leaves_train(model, src, bos_id, eos_id, max_len=64):
    ids = greedy_leaves_eval(model, src, bos_id, eos_id, max_len)
    if hasattr(model, "train"):
        model.train()
    return ids


@greedy_mistake(
    "T3e",
    "only an nn.Module is accepted",
    "model.eval() is called on whatever comes; a model needs encode, decode and pad_id only.",
    "`inference(model)` knows models that have no mode.",
)
def greedy_of_modules_only(model, src, bos_id, eos_id, max_len=64):
    was = model.training
    model.eval()
    with torch.no_grad():
        ids = write(model, src, bos_id, eos_id, max_len, at_rest=lambda model: nullcontext())
    model.train(was)
    return ids


@greedy_mistake(
    "T4",
    "the source is encoded at every step",
    "The encoder reads the same sentence again for every word: the result is right, the work is "
    "not.",
    "memory = model.encode(src) in front of the loop.",
)
def greedy_encodes_often(model, src, bos_id, eos_id, max_len=64):
    with inference(model):
        ids = src.new_full((src.size(0), 1), bos_id)
        ended = torch.zeros_like(ids, dtype=torch.bool)
        while ids.size(1) < max_len and not ended.all():
            chosen = model.decode(ids, model.encode(src), src)[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, chosen.masked_fill(ended, model.pad_id)], dim=1)
            ended = ended | (chosen == eos_id)
    return ids


@greedy_mistake(
    "T5",
    "the first position's word",
    "logits[:, 0] says what follows <s>, at every step again.",
    "What follows the newest word stands at the last position: logits[:, -1].",
)
def greedy_first_position(model, src, bos_id, eos_id, max_len=64):
    def choose(logits):
        return logits[:, 0].argmax(-1, keepdim=True)

    return write(model, src, bos_id, eos_id, max_len, choose=choose)


@greedy_mistake(
    "T5b",
    "argmax over the positions",
    "argmax(1) of [B, T, V] finds for every word the position where it is likeliest.",
    "Take the last position first, then argmax over the words, the last axis.",
)
def greedy_wrong_axis(model, src, bos_id, eos_id, max_len=64):
    def choose(logits):
        return logits.argmax(1)[:, -1:]

    return write(model, src, bos_id, eos_id, max_len, choose=choose)


@greedy_mistake(
    "T5c",
    "the least probable word",
    "argmin picks the word the model believes in least.",
    "argmax",
)
def greedy_argmin(model, src, bos_id, eos_id, max_len=64):
    def choose(logits):
        return logits[:, -1].argmin(-1, keepdim=True)

    return write(model, src, bos_id, eos_id, max_len, choose=choose)


@greedy_mistake(
    "T5d",
    "only the newest word is read",
    "The decoder is given the last word alone: it forgets what it has written, and where it is.",
    "model.decode(ids, memory, src) with all ids so far.",
)
def greedy_reads_one_word(model, src, bos_id, eos_id, max_len=64):
    return write(model, src, bos_id, eos_id, max_len, read=lambda ids: ids[:, -1:])


@greedy_mistake(
    "T5e",
    "one word for the whole batch",
    "The first sentence's word is written in every sentence.",
    "argmax over the last axis gives one word a sentence: [B].",
)
def greedy_one_for_all(model, src, bos_id, eos_id, max_len=64):
    def choose(logits):
        return logits[:1, -1].argmax(-1, keepdim=True).expand(logits.size(0), 1)

    return write(model, src, bos_id, eos_id, max_len, choose=choose)


@greedy_mistake(
    "T6",
    "it stops when any sentence has ended",
    "The shortest sentence ends the writing for all: the others are cut off.",
    "Stop when ended.all().",
)
def greedy_stops_at_any(model, src, bos_id, eos_id, max_len=64):
    return write(model, src, bos_id, eos_id, max_len, over=lambda ended: ended.any())


@greedy_mistake(
    "T6b",
    "words after the end",
    "A sentence that has ended is written on while others still go.",
    "Where a sentence has ended, write model.pad_id in place of what was chosen.",
)
def greedy_writes_on(model, src, bos_id, eos_id, max_len=64):
    return write(model, src, bos_id, eos_id, max_len, fill=lambda chosen, ended, model: chosen)


@greedy_mistake(
    "T6c",
    "filled with eos",
    "A sentence that has ended gets eos again and again; model.pad_id is asked for.",
    "chosen.masked_fill(ended, model.pad_id)",
)
def greedy_fills_eos(model, src, bos_id, eos_id, max_len=64):
    return write(
        model,
        src,
        bos_id,
        eos_id,
        max_len,
        fill=lambda chosen, ended, _: chosen.masked_fill(ended, eos_id),
    )


@greedy_mistake(
    "T6d",
    "filled with 0",
    "The padding is taken to be 0; it is model.pad_id.",
    "chosen.masked_fill(ended, model.pad_id)",
)
def greedy_fills_zero(model, src, bos_id, eos_id, max_len=64):
    return write(
        model,
        src,
        bos_id,
        eos_id,
        max_len,
        fill=lambda chosen, ended, _: chosen.masked_fill(ended, 0),
    )


@greedy_mistake(
    "T6e",
    "it never stops early",
    "It goes on to max_len although every sentence has ended: columns of padding.",
    "Leave the loop when ended.all().",
)
def greedy_never_stops(model, src, bos_id, eos_id, max_len=64):
    return write(model, src, bos_id, eos_id, max_len, over=lambda ended: False)


@greedy_mistake(
    "T6f",
    "max_len words after bos",
    "One id too many: bos counts.",
    "Go on while ids.size(1) < max_len.",
)
def greedy_one_too_many(model, src, bos_id, eos_id, max_len=64):
    return write(model, src, bos_id, eos_id, max_len + 1)


@greedy_mistake(
    "T2",
    "bos is cut off",
    "The ids begin with the first word; they should begin with bos_id.",
    "Return all ids, bos among them.",
)
def greedy_without_bos(model, src, bos_id, eos_id, max_len=64):
    return write(model, src, bos_id, eos_id, max_len)[:, 1:]


@greedy_mistake(
    "T2b",
    "eos is lost",
    "eos is replaced by padding: nobody can tell a sentence that ended from one that was cut off.",
    "Fill with padding what comes after eos, not eos itself.",
)
def greedy_without_eos(model, src, bos_id, eos_id, max_len=64):
    ids = write(model, src, bos_id, eos_id, max_len)
    return ids.masked_fill(ids == eos_id, model.pad_id)


# beam_search


def beam_mistake(id, name, sentence, hint):
    return mistake("beam_search", id, name, sentence, hint)


def penalised(total, length, penalty):
    return total / ((5 + length) / 6) ** penalty


def search(
    model,
    src,
    bos_id,
    eos_id,
    beam_size=4,
    max_len=64,
    length_penalty=0.6,
    at_rest=inference,
    gains=lambda logits: logits.log_softmax(-1),
    add=lambda total, gain: total + gain,
    score=lambda total, ids, penalty: penalised(total, len(ids) - 1, penalty),
    rank=None,  # during the search, where it is not by score
    stays=lambda ended: list(ended),
    has_ended=lambda ids, eos_id: ids[-1] == eos_id,
    possible=lambda gain: gain > -math.inf,
    over=lambda ended, beam, size: not beam,
    result=lambda ended, beam: ended + beam,
    best_first=True,
    encode_often=False,
):
    """Beam search, a step at a time."""

    def by_score(hypothesis):
        ids, total = hypothesis
        return score(total, ids, length_penalty)

    ranked = by_score if rank is None else rank
    with at_rest(model):
        memory = model.encode(src)
        beam, ended = [([bos_id], 0.0)], []
        for _ in range(max_len - 1):
            candidates = stays(ended)
            for ids, total in beam:
                memory = model.encode(src) if encode_often else memory
                chances = gains(model.decode(src.new_tensor([ids]), memory, src)[0, -1])
                best = chances.topk(min(beam_size, chances.size(-1)))
                for gain, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                    if possible(gain):
                        candidates.append(([*ids, token], add(total, gain)))
            kept = sorted(candidates, key=ranked, reverse=True)[:beam_size]
            ended = [each for each in kept if has_ended(each[0], eos_id)]
            beam = [each for each in kept if not has_ended(each[0], eos_id)]
            if over(ended, beam, beam_size):
                break
    found = sorted(result(ended, beam), key=by_score, reverse=best_first)
    return [(ids, by_score((ids, total))) for ids, total in found]


@beam_mistake(
    "T7",
    "only the last word's probability counts",
    "Log-probabilities are not added up: a hypothesis is judged by its newest word alone.",
    "total + gain: the log-probability of a sentence is the sum over its words.",
)
def last_gain_only(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(
        model, src, bos_id, eos_id, beam_size, max_len, length_penalty, add=lambda total, gain: gain
    )


@beam_mistake(
    "T7b",
    "no length penalty",
    "The score is the bare log-probability, and short sentences win.",
    "Divide by ((5 + length) / 6) ** length_penalty.",
)
def no_penalty(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(model, src, bos_id, eos_id, beam_size, max_len, 0.0)


@beam_mistake(
    "T7c",
    "multiplied by the length penalty",
    "A longer sentence is made worse, not better: log-probabilities are negative.",
    "Divide: a negative number comes nearer to 0.",
)
def multiplied_penalty(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(model, src, bos_id, eos_id, beam_size, max_len, -length_penalty)


@beam_mistake(
    "T7d",
    "the length counts bos",
    "Every sentence is taken for one word longer than what was written.",
    "length = len(ids) - 1",
)
def counts_bos(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    def score(total, ids, penalty):
        return penalised(total, len(ids), penalty)

    return search(model, src, bos_id, eos_id, beam_size, max_len, length_penalty, score=score)


@beam_mistake(
    "T7e",
    "the length leaves out eos",
    "</s> was chosen like any other word, and its probability is in the sum: it counts.",
    "length = len(ids) - 1: all but bos.",
)
def leaves_out_eos(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    def score(total, ids, penalty):
        return penalised(total, len(ids) - 1 - (ids[-1] == eos_id), penalty)

    return search(model, src, bos_id, eos_id, beam_size, max_len, length_penalty, score=score)


@beam_mistake(
    "T7f",
    "divided by length^penalty",
    "The plain power of the length is another penalty; Wu et al. have ((5 + length) / 6)^α.",
    "((5 + length) / 6) ** length_penalty",
)
def plain_length(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    def score(total, ids, penalty):
        return total / max(len(ids) - 1, 1) ** penalty

    return search(model, src, bos_id, eos_id, beam_size, max_len, length_penalty, score=score)


@beam_mistake(
    "T7g",
    "the power is taken of the numerator only",
    "(5 + length)^α / 6 is not ((5 + length) / 6)^α.",
    "Put the whole fraction in brackets before **.",
)
def power_of_numerator(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    def score(total, ids, penalty):
        return total / ((5 + len(ids) - 1) ** penalty / 6)

    return search(model, src, bos_id, eos_id, beam_size, max_len, length_penalty, score=score)


@beam_mistake(
    "T7h",
    "the length penalty comes at the end only",
    "While it searches, bare log-probabilities decide, and what has ended early crowds out the "
    "longer hypotheses.",
    "Sort the candidates of every step by their score.",
)
def penalty_at_the_end(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(
        model, src, bos_id, eos_id, beam_size, max_len, length_penalty, rank=lambda each: each[1]
    )


@beam_mistake(
    "T7i",
    "log-probabilities returned as scores",
    "The hypotheses are sorted by score, but each comes with its bare log-probability.",
    "Return (ids, score).",
)
def returns_totals(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    found = search(model, src, bos_id, eos_id, beam_size, max_len, length_penalty)
    return [(ids, s * ((4 + len(ids)) / 6) ** length_penalty) for ids, s in found]


@beam_mistake(
    "T7j",
    "logits added up",
    "Raw logits are no log-probabilities: they are not comparable from step to step.",
    "logits.log_softmax(-1) before topk.",
)
def adds_logits(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(
        model, src, bos_id, eos_id, beam_size, max_len, length_penalty,
        gains=lambda logits: logits + 1.0,
    )  # fmt: skip


@beam_mistake(
    "T7k",
    "probabilities added up",
    "Probabilities of steps are multiplied; it is their logarithms that are added.",
    "log_softmax, not softmax.",
)
def adds_probabilities(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(
        model, src, bos_id, eos_id, beam_size, max_len, length_penalty,
        gains=lambda logits: logits.softmax(-1), possible=lambda gain: gain > 0,
    )  # fmt: skip


@beam_mistake(
    "T7l",
    "ended hypotheses are dropped",
    "What has ended leaves the race, and only unfinished sentences are left.",
    "Put the ended hypotheses among the candidates of the next step, as they are.",
)
def drops_ended(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(
        model, src, bos_id, eos_id, beam_size, max_len, length_penalty, stays=lambda ended: []
    )


@beam_mistake(
    "T7m",
    "ended hypotheses are written on",
    "Words are added after </s>.",
    "Extend only hypotheses that do not end with eos_id.",
)
def extends_ended(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(
        model, src, bos_id, eos_id, beam_size, max_len, length_penalty,
        has_ended=lambda ids, eos_id: False,
    )  # fmt: skip


@beam_mistake(
    "T7n",
    "it stops when the first hypothesis has ended",
    "Hypotheses that would end a little later, with a better score, are never finished.",
    "Go on until none in the beam is unfinished, or to max_len.",
)
def stops_at_first_end(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(
        model, src, bos_id, eos_id, beam_size, max_len, length_penalty,
        over=lambda ended, beam, size: bool(ended),
    )  # fmt: skip


@beam_mistake(
    "T7o",
    "unfinished hypotheses are left out",
    "At max_len only sentences with </s> are returned; both kinds compete by score alone.",
    "Return ended and unfinished ones together, by score.",
)
def only_ended(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(
        model, src, bos_id, eos_id, beam_size, max_len, length_penalty,
        result=lambda ended, beam: ended,
    )  # fmt: skip


@beam_mistake(
    "T7p",
    "worst first",
    "The hypotheses come in rising order; the best belongs in front.",
    "sorted(..., reverse=True)",
)
def worst_first(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(model, src, bos_id, eos_id, beam_size, max_len, length_penalty, best_first=False)


@beam_mistake(
    "T7q",
    "only the best is returned",
    "One hypothesis comes back; beam_size of them are asked for.",
    "Return the whole list.",
)
def only_the_best(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(model, src, bos_id, eos_id, beam_size, max_len, length_penalty)[:1]


@beam_mistake(
    "T7r",
    "a list in place of a pair",
    "The best ids come back alone; a list of (ids, score) is asked for.",
    "return [(ids, score), …]",
)
def ids_alone(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(model, src, bos_id, eos_id, beam_size, max_len, length_penalty)[0][0]


@beam_mistake(
    "T7s",
    "impossible hypotheses",
    "Words with no probability fill up the list: scores of -inf.",
    "Leave out candidates whose log-probability is -inf.",
)
def keeps_impossible(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(
        model, src, bos_id, eos_id, beam_size, max_len, length_penalty, possible=lambda gain: True
    )


@beam_mistake(
    "T7t",
    "a beam wider than the vocabulary",
    "topk(beam_size) fails where there are fewer words than that.",
    "topk(min(beam_size, V))",
)
def topk_too_wide(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    def gains(logits):
        logits.topk(beam_size)
        return logits.log_softmax(-1)

    return search(model, src, bos_id, eos_id, beam_size, max_len, length_penalty, gains=gains)


@beam_mistake(
    "T7u",
    "one word a hypothesis",
    "Each hypothesis is continued by its most probable word only: the beam never branches.",
    "Each hypothesis offers its best beam_size words; then the best beam_size of all are kept.",
)
def greedy_beam(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(model, src, bos_id, eos_id, 1, max_len, length_penalty)


@beam_mistake(
    "T6f",
    "max_len words after bos",
    "One id too many: bos counts.",
    "max_len - 1 steps.",
)
def beam_one_too_many(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(model, src, bos_id, eos_id, beam_size, max_len + 1, length_penalty)


@beam_mistake(
    "T2",
    "bos is cut off",
    "The ids begin with the first word; they should begin with bos_id.",
    "Return ids as they are, bos among them.",
)
def beam_without_bos(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    found = search(model, src, bos_id, eos_id, beam_size, max_len, length_penalty)
    return [(ids[1:], score) for ids, score in found]


@beam_mistake(
    "T3",
    "dropout is on",
    "The model is asked in the mode it came in: in train mode every step is another model.",
    "Search inside `with inference(model):`.",
)
def beam_in_train_mode(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(
        model, src, bos_id, eos_id, beam_size, max_len, length_penalty,
        at_rest=lambda model: torch.no_grad(),
    )  # fmt: skip


@beam_mistake(
    "T4",
    "the source is encoded at every step",
    "The encoder reads the same sentence again for every hypothesis of every step.",
    "memory = model.encode(src) in front of the loop.",
)
def beam_encodes_often(model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6):
    return search(model, src, bos_id, eos_id, beam_size, max_len, length_penalty, encode_often=True)


# sample_decode


def sample_mistake(id, name, sentence, hint):
    return mistake("sample_decode", id, name, sentence, hint)


def cut(logits, temperature=1.0, top_k=None, top_p=None):
    """The probabilities to draw from, as they should be."""
    logits = logits / temperature
    if top_k is not None:
        logits = within_top_k(logits, top_k)
    if top_p is not None:
        logits = within_top_p(logits, top_p)
    return logits.softmax(-1)


def within_top_k(logits, top_k):
    worst = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
    return logits.masked_fill(logits < worst, -math.inf)


def within_top_p(logits, top_p, before=lambda ordered: ordered.cumsum(-1) - ordered):
    ordered, order = logits.softmax(-1).sort(-1, descending=True)
    out = (before(ordered) >= top_p).gather(-1, order.argsort(-1))
    return logits.masked_fill(out, -math.inf)


def draw(
    model, src, bos_id, eos_id, max_len, temperature, top_k, top_p, generator,
    cut=cut, greedy_at_zero=True,
    pick=lambda chances, generator: torch.multinomial(chances, 1, generator=generator),
    **how,
):  # fmt: skip
    """Drawing, a step at a time; `how` as in `write`."""
    if temperature == 0 and greedy_at_zero:
        return write(model, src, bos_id, eos_id, max_len, **how)

    def choose(logits):
        return pick(cut(logits[:, -1], temperature, top_k, top_p), generator)

    return write(model, src, bos_id, eos_id, max_len, choose=choose, **how)


@sample_mistake(
    "T10",
    "multiplied by the temperature",
    "A high temperature sharpens here, a low one flattens.",
    "logits / temperature",
)
def times_temperature(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    settings = temperature and 1 / temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings)


@sample_mistake(
    "T10b",
    "the temperature is not used",
    "Words are drawn by the model's own probabilities, whatever the temperature.",
    "Divide the logits by it before softmax.",
)
def no_temperature(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    settings = temperature and 1.0, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings)


@sample_mistake(
    "T10c",
    "probabilities divided by the temperature",
    "softmax comes first and the division second: multinomial divides by the sum, so nothing "
    "changes, and top_p counts other numbers.",
    "softmax(logits / temperature)",
)
def divided_late(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def late(logits, temperature, top_k, top_p):
        probabilities, order = cut(logits, 1.0, top_k).div(temperature).sort(-1, descending=True)
        if top_p is not None:
            before = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(before >= top_p, 0)
        return torch.zeros_like(probabilities).scatter(-1, order, probabilities)

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, cut=late)


@sample_mistake(
    "T10d",
    "division by a temperature of 0",
    "logits / 0 is inf or NaN, and nothing can be drawn from that.",
    "Temperature 0 means greedy: return greedy_decode(…) in front.",
)
def divides_by_zero(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, greedy_at_zero=False)


@sample_mistake(
    "T10e",
    "nothing is drawn",
    "The most probable word is taken at every step: this is greedy.",
    "torch.multinomial(probabilities, 1, generator=generator)",
)
def always_greedy(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    return write(model, src, bos_id, eos_id, max_len)


@sample_mistake(
    "T10f",
    "one draw for the whole batch",
    "The first sentence's word is written in every sentence.",
    "multinomial of [B, V] draws one word a row.",
)
def one_draw_for_all(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def pick(chances, generator):
        drawn = torch.multinomial(chances[:1], 1, generator=generator)
        return drawn.expand(chances.size(0), 1)

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, pick=pick)


@sample_mistake(
    "T10g",
    "the generator is not used",
    "Draws come from torch's global state: a seed repeats nothing.",
    "torch.multinomial(…, generator=generator)",
)
def ignores_generator(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    settings = temperature, top_k, top_p, None
    return draw(model, src, bos_id, eos_id, max_len, *settings)


@sample_mistake(
    "T10h",
    "always the same seed",
    "A fixed seed is set inside: every call draws the same sentence.",
    "Leave the seed to the caller's generator.",
)
def fixed_seed(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    settings = temperature, top_k, top_p, torch.Generator(src.device).manual_seed(0)
    return draw(model, src, bos_id, eos_id, max_len, *settings)


@sample_mistake(
    "T10i",
    "top_k keeps the least probable",
    "The k least probable words are left; the order is the wrong way round.",
    "topk gives the largest first; sort needs descending=True.",
)
def keeps_least(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def least(logits, temperature, top_k, top_p):
        if top_k is not None and top_k < logits.size(-1):
            finite = logits.masked_fill(logits == -math.inf, math.inf)
            best = finite.topk(top_k, largest=False).values[:, -1:]
            logits = logits.masked_fill(finite > best, -math.inf)
        return cut(logits, temperature, None, top_p)

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, cut=least)


@sample_mistake(
    "T10j",
    "top_k is not used",
    "All words may be drawn, whatever top_k says.",
    "Set all logits below the k-th best to -inf.",
)
def no_top_k(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    settings = temperature, None, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings)


@sample_mistake(
    "T10k",
    "top_k keeps one too many",
    "k + 1 words are left.",
    "In the sorted logits, places 0 to k - 1 stay: ordered[:, top_k:] = -inf.",
)
def one_more(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    settings = temperature, None if top_k is None else top_k + 1, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings)


@sample_mistake(
    "T10l",
    "dropped words get a logit of 0",
    "A logit of 0 is no small logit: e⁰ = 1, and all that was dropped comes back.",
    "Fill with -inf.",
)
def zero_logits(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def zeroed(logits, temperature, top_k, top_p):
        logits = logits / temperature
        if top_k is not None:
            worst = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
            logits = logits.masked_fill(logits < worst, 0.0)
        return cut(logits, 1.0, None, top_p)

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, cut=zeroed)


@sample_mistake(
    "T10m",
    "top_k beyond the vocabulary fails",
    "topk(k) raises an error where there are fewer than k words; all of them are meant then.",
    "topk(min(top_k, V)), or a slice of the sorted logits.",
)
def top_k_too_large(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def strict(logits, temperature, top_k, top_p):
        if top_k is not None:
            logits.topk(top_k)
        return cut(logits, temperature, top_k, top_p)

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, cut=strict)


@sample_mistake(
    "T10n",
    "one limit for the whole batch",
    "The first sentence's choice of words is used for all sentences.",
    "Every row has its own best words: keep the batch axis.",
)
def first_rows_words(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def shared(logits, temperature, top_k, top_p):
        if top_k is None and top_p is None:
            return cut(logits, temperature)
        allowed = cut(logits[:1], temperature, top_k, top_p) > 0
        chances = cut(logits, temperature) * allowed
        return chances + 1e-12 * (chances.sum(-1, keepdim=True) == 0)

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, cut=shared)


@sample_mistake(
    "T10o",
    "the word that crosses p is dropped",
    "Words are kept while their sum stays below p: too few, and sometimes none.",
    "Look at the sum of the words before: a word goes if that has reached p already.",
)
def drops_crossing(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def strict(logits, temperature, top_k, top_p):
        logits = torch.log(cut(logits, temperature, top_k))
        if top_p is not None:
            logits = within_top_p(logits, min(top_p, 1 - 1e-9), lambda ordered: ordered.cumsum(-1))
        return logits.softmax(-1)

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, cut=strict)


@sample_mistake(
    "T10p",
    "the word that crosses p is dropped, the first never",
    "Words are kept while their sum stays below p, and the best one always: too few.",
    "Look at the sum of the words before: a word goes if that has reached p already.",
)
def drops_crossing_but_first(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def before(ordered):
        return torch.cat([torch.zeros_like(ordered[:, :1]), ordered.cumsum(-1)[:, 1:]], -1)

    def strict(logits, temperature, top_k, top_p):
        logits = torch.log(cut(logits, temperature, top_k))
        if top_p is not None and top_p < 1:
            logits = within_top_p(logits, top_p, before)
        return logits.softmax(-1)

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, cut=strict)


@sample_mistake(
    "T10q",
    "top_p is not used",
    "All words may be drawn, whatever top_p says.",
    "Keep the fewest of the most probable words that reach top_p together.",
)
def no_top_p(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    settings = temperature, top_k, None, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings)


@sample_mistake(
    "T10r",
    "top_p counts from the least probable",
    "The sum runs from the least probable word up: the best ones are cut off.",
    "Sort with descending=True before cumsum.",
)
def ascending_top_p(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def ascending(logits, temperature, top_k, top_p):
        logits = torch.log(cut(logits, temperature, top_k))
        if top_p is not None:
            ordered, order = logits.softmax(-1).sort(-1)
            out = (ordered.cumsum(-1) - ordered >= top_p).gather(-1, order.argsort(-1))
            logits = logits.masked_fill(out, -math.inf)
        return logits.softmax(-1)

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, cut=ascending)


@sample_mistake(
    "T10s",
    "sorted, and never put back",
    "Places in the sorted list are taken for ids: place 0, the best, is written as id 0.",
    "order says which word each place is: scatter the probabilities back, or gather from order.",
)
def never_put_back(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def in_order(logits, temperature, top_k, top_p):
        chances = cut(logits, temperature, top_k, top_p)
        return chances.sort(-1, descending=True).values if top_k or top_p else chances

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, cut=in_order)


@sample_mistake(
    "T10t",
    "top_p before top_k",
    "top_p is measured on all words, then top_k cuts: another set of words is left.",
    "Temperature, then top_k, then top_p on what is left.",
)
def top_p_first(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def turned(logits, temperature, top_k, top_p):
        return cut(torch.log(cut(logits, temperature, None, top_p)), 1.0, top_k)

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, cut=turned)


@sample_mistake(
    "T10u",
    "the temperature after top_p",
    "top_p is measured before the temperature has changed the probabilities.",
    "Divide by the temperature first.",
)
def temperature_last(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def late(logits, temperature, top_k, top_p):
        return cut(torch.log(cut(logits, 1.0, top_k, top_p)), temperature)

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, cut=late)


@sample_mistake(
    "T10v",
    "drawn by equal chances",
    "Every word that is left is as likely as any other: the model's opinion is lost.",
    "softmax(logits) are the chances; multinomial draws by them.",
)
def uniform(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    def even(logits, temperature, top_k, top_p):
        return (cut(logits, temperature, top_k, top_p) > 1e-9).to(logits)

    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len, *settings, cut=even)


@sample_mistake(
    "T3",
    "dropout is on",
    "The model is asked in the mode it came in: in train mode dropout plays along.",
    "Draw inside `with inference(model):`.",
)
def sample_in_train_mode(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    settings = temperature, top_k, top_p, generator
    return draw(
        model, src, bos_id, eos_id, max_len, *settings, at_rest=lambda model: torch.no_grad()
    )


@sample_mistake(
    "T6b",
    "words after the end",
    "A sentence that has ended is written on while others still go.",
    "Where a sentence has ended, write model.pad_id in place of what was drawn.",
)
def sample_writes_on(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    settings = temperature, top_k, top_p, generator
    return draw(
        model, src, bos_id, eos_id, max_len, *settings, fill=lambda chosen, ended, model: chosen
    )


@sample_mistake(
    "T6f",
    "max_len words after bos",
    "One id too many: bos counts.",
    "Go on while ids.size(1) < max_len.",
)
def sample_one_too_many(
    model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, top_p=None, generator=None
):
    settings = temperature, top_k, top_p, generator
    return draw(model, src, bos_id, eos_id, max_len + 1, *settings)
