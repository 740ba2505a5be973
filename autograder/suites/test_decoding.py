"""11 Decoding turns probabilities into sentences."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from autograder.checks import D_FF, PAD, B, D, H, S, T, V, check, holds, same

BOS, EOS = 2, 10  # words are 3 to 9; PAD is 1, and 0 is nothing
MANY = 4000  # draws: a share of tenths is then right by four standard deviations and more


# greedy_decode


@check("greedy_decode", points=2)
def test_greedy_writes_the_most_probable_word(work, draw):
    """bos first, then at every step the most probable word after all words so far."""
    steps = {BOS: {3: 0.6, 4: 0.4}, 3: {5: 0.7, 3: 0.3}, 5: {4: 0.5, 3: 0.3, EOS: 0.2}}
    law = "what follows the newest word stands at the last position: 3, then 5, then 4"
    found = work.greedy_decode(Chain(steps), SOURCE, BOS, EOS, 5)
    same(found, torch.tensor([[BOS, 3, 5, 4, EOS]]), law)
    src = draw.ids(H, T, high=EOS)
    found = work.greedy_decode(Copier(), src, BOS, EOS, T + 2)
    law = "a model that copies writes the source between bos and eos: argmax at the last position"
    same(found, F.pad(F.pad(src, (1, 0), value=BOS), (0, 1), value=EOS), law)


@check("greedy_decode", points=2)
def test_greedy_ends_every_sentence_by_itself(work, draw):
    """eos stays, model.pad_id follows it, and the other sentences go on."""
    src, wanted = _of_three_lengths()

    found = work.greedy_decode(Copier(), src, BOS, EOS, wanted.size(1))
    law = "a sentence that has ended is filled with model.pad_id while the others go on"
    same(found, wanted, law)


@check("greedy_decode", points=1)
def test_greedy_stops_in_time(work, draw):
    """It stops when all sentences have ended, or at max_len ids, bos counted."""
    src, wanted = _of_three_lengths()

    for max_len in (1, 2, 4, 20):
        found = work.greedy_decode(Copier(), src, BOS, EOS, max_len)
        law = f"with max_len={max_len} there are {min(max_len, wanted.size(1))} ids, bos counted"
        same(list(found.shape), list(wanted[:, :max_len].shape), law)


@check("greedy_decode", points=1)
def test_greedy_encodes_once(work, draw):
    """The source is encoded once, before the first word."""
    model = Copier()

    work.greedy_decode(model, draw.ids(H, T, high=EOS), BOS, EOS, T + 2)
    same(model.encoded, 1, "memory does not change while the target grows: encode once, in front")


@check("greedy_decode", points=1)
def test_greedy_leaves_the_model_as_it_was(work, draw):
    """No gradients and no dropout while it writes; afterwards the mode the model had."""
    _at_rest(lambda model, src: work.greedy_decode(model, src, BOS, EOS, 4), draw)


@check("greedy_decode", points=1)
def test_greedy_asks_no_more_than_encode_and_decode(work, draw):
    """A real Transformer, a model that is no nn.Module, a batch of one: all are written alike."""
    model = draw.fill(work.Transformer(V, D, H, 1, D_FF, dropout=0.0, pad_id=PAD))
    src = draw.ids(B, S)
    wanted = torch.full((B, 1), BOS)
    with torch.no_grad():
        for _ in range(4):
            wanted = torch.cat([wanted, model(src, wanted)[:, -1:].argmax(-1)], 1)
    law = "each word is the most probable one after the words before it"
    same(work.greedy_decode(model, src, BOS, V + 1, 5)[:, :5], wanted, law)
    one = draw.ids(1, T, high=EOS)
    found = work.greedy_decode(Plain(), one, BOS, EOS)[:, : T + 1]
    law = "a model is anything with encode, decode and pad_id"
    same(found, F.pad(one, (1, 0), value=BOS), law)


# beam_search


@check("beam_search", points=2)
def test_beam_escapes_the_trap_of_greed(work, draw):
    """0.6 · 0.4 is less than 0.4 · 0.9: two hypotheses find what greed misses."""
    trap = Chain({BOS: {3: 0.6, 4: 0.4}, 3: {3: 0.3, 4: 0.3, EOS: 0.4}, 4: {EOS: 0.9, 5: 0.1}})

    found = work.beam_search(trap, SOURCE, BOS, EOS, 2, length_penalty=0.0)
    law = "P(4 </s>) = 0.36 and P(3 </s>) = 0.24: the two best sentences, each with log P"
    same(found, [([BOS, 4, EOS], math.log(0.36)), ([BOS, 3, EOS], math.log(0.24))], law, 1e-5)


@check("beam_search", points=2)
def test_beam_adds_log_probabilities(work, draw):
    """With room for every sentence it finds every sentence, with the sum of its log-chances."""
    chain, sentences = _seven_sentences(draw)

    found = work.beam_search(chain, SOURCE, BOS, EOS, 7, 6, 0.0)
    law = "a beam of 7 finds all 7 sentences that there are, each with its log-probability"
    same(_by_ids(found), _by_ids((s, _log_p(chain, s)) for s in sentences), law, 1e-5)


@check("beam_search", points=2)
def test_beam_divides_by_the_length_penalty(work, draw):
    """score = log-probability / ((5 + length) / 6)^length_penalty, bos not counted; 0.6 unasked."""
    chain, sentences = _seven_sentences(draw)

    for settings in ({}, {"length_penalty": 3.0}, {"length_penalty": 1.0}):
        penalty = settings.get("length_penalty", 0.6)
        found = work.beam_search(chain, SOURCE, BOS, EOS, 7, 6, **settings)
        law = f"length_penalty={penalty}: log-probability / ((5 + length) / 6)^{penalty}, where "
        law += "length counts </s>, but not <s>"
        wanted = _by_ids((s, _score(chain, s, penalty)) for s in sentences)
        same(_by_ids(found), wanted, law, 1e-5)


@check("beam_search", points=1)
def test_beam_keeps_ended_hypotheses_in_the_race(work, draw):
    """What has ended is neither dropped nor written on, and gives way to a better score only."""
    chain = Chain({BOS: {EOS: 0.5, 3: 0.3, 4: 0.2}, 3: {EOS: 0.9, 4: 0.1}, EOS: {5: 1.0}})
    law = "P(</s>) = 0.5 and P(3 </s>) = 0.27 are the best two, and both have ended"
    wanted = [([BOS, EOS], math.log(0.5)), ([BOS, 3, EOS], math.log(0.27))]
    same(work.beam_search(chain, SOURCE, BOS, EOS, 2, 6, 0.0), wanted, law, 1e-5)

    chain = Chain({BOS: {3: 0.7, EOS: 0.3}, 3: {4: 0.36, 5: 0.34, EOS: 0.3}})
    law = "by score, not by log-probability, is decided at every step who stays in the beam"
    wanted = [(s, _score(chain, s, 3.0)) for s in ([BOS, 3, 4, EOS], [BOS, 3, 5, EOS])]
    same(work.beam_search(chain, SOURCE, BOS, EOS, 2, 6, 3.0), wanted, law, 1e-5)


@check("beam_search", points=1)
def test_beam_gives_the_best_first(work, draw):
    """beam_size hypotheses, best first; fewer only where fewer exist."""
    chain = Chain({BOS: {3: 0.5, 4: 0.3, 5: 0.2}})

    for size, number in ((2, 2), (3, 3), (5, 3), (20, 3)):
        found = work.beam_search(chain, SOURCE, BOS, EOS, size)
        law = f"of three sentences a beam of {size} finds {number}, the most probable first"
        same([ids for ids, _ in found], [[BOS, 3, EOS], [BOS, 4, EOS], [BOS, 5, EOS]][:number], law)


@check("beam_search", points=1)
def test_beam_stops_at_max_len(work, draw):
    """At max_len ids, bos counted, unfinished hypotheses count as they are."""
    endless = Chain({BOS: {3: 0.6, 4: 0.4}, 3: {3: 0.8, 4: 0.2}, 4: {4: 0.7, 3: 0.2, EOS: 0.1}})

    for max_len in (1, 2, 4):
        found = work.beam_search(endless, SOURCE, BOS, EOS, 2, max_len, 0.0)
        wanted = [[BOS, *[word] * (max_len - 1)] for word in (3, 4)][: 1 if max_len == 1 else 2]
        law = f"with max_len={max_len} a hypothesis has at most {max_len} ids, and needs no </s>"
        same(found, [(s, _log_p(endless, s)) for s in wanted], law, 1e-5)


@check("beam_search", points=1)
def test_beam_leaves_the_model_as_it_was(work, draw):
    """Any model, encoded once, without gradients and dropout; a beam of one is greedy."""
    model = Chain({BOS: {3: 0.6, 4: 0.4}})
    work.beam_search(model, SOURCE, BOS, EOS)
    same(model.encoded, 1, "memory does not change while the target grows: encode once, in front")
    found = work.beam_search(Plain(), torch.tensor([[5, 3, 8]]), BOS, EOS, 1)
    law = "a beam of one is greedy, for anything that has encode, decode and pad_id"
    same([ids for ids, _ in found], [[BOS, 5, 3, 8, EOS]], law)
    _at_rest(lambda model, src: work.beam_search(model, src, BOS, EOS, 2, 4), draw, batch=1)


# sample_decode


@check("sample_decode", points=1)
def test_words_are_drawn_by_their_probability(work, draw):
    """Every row draws for itself: of 10 words, 6 are the one with a chance of 0.6."""
    law = "drawn by softmax(logits): of 10 words 6 are the first, 3 the second, 1 the third"
    same(_tenths(work, [0.6, 0.3, 0.1]), [[6, 3, 1]] * 2, law)


@check("sample_decode", points=1)
def test_temperature_divides_the_logits(work, draw):
    """A low temperature sharpens, a high one flattens."""
    for temperature in (0.5, 2.0):
        chances = [chance**temperature for chance in (0.6, 0.3, 0.1)]  # what division undoes
        law = f"temperature={temperature}: softmax(logits / {temperature}) gives 6, 3 and 1 of 10"
        same(_tenths(work, chances, temperature=temperature), [[6, 3, 1]] * 2, law)


@check("sample_decode", points=1)
def test_temperature_zero_is_greedy(work, draw):
    """At temperature 0 the most probable word is written, and nothing is divided by 0."""
    law = "temperature=0 gives what greedy_decode gives"
    same(_tenths(work, [0.4, 0.35, 0.25], temperature=0.0), [[10, 0, 0]] * 2, law)
    src = draw.ids(H, T, high=EOS)
    found = work.sample_decode(Copier(), src, BOS, EOS, T + 1, 0.0)
    same(found[:, : T + 1], F.pad(src, (1, 0), value=BOS), law)


@check("sample_decode", points=1)
def test_top_k_keeps_the_most_probable(work, draw):
    """Only the k most probable words are drawn, in proportion; more than V means all."""
    chances = [0.42, 0.28, 0.2, 0.1]

    for k, wanted in ((2, [6, 4, 0, 0]), (1, [10, 0, 0, 0])):
        law = f"top_k={k} of 0.42, 0.28, 0.2, 0.1: the best {k}, divided by their sum"
        same(_tenths(work, chances, top_k=k), [wanted] * 2, law)
    law = "top_k=100 is more than there are words: all may be drawn"
    same(_tenths(work, [0.4, 0.3, 0.2, 0.1], top_k=100), [[4, 3, 2, 1]] * 2, law)


@check("sample_decode", points=1)
def test_top_p_keeps_the_word_that_crosses(work, draw):
    """The fewest of the most probable words that reach p together; never none."""
    chances = [0.42, 0.28, 0.2, 0.1]

    for p, wanted in ((0.25, [10, 0, 0, 0]), (0.6, [6, 4, 0, 0])):
        law = f"top_p={p} of 0.42, 0.28, 0.2, 0.1: the word that crosses {p} stays, those after go"
        same(_tenths(work, chances, top_p=p), [wanted] * 2, law)
    law = "top_p=1 keeps all words"
    same(_tenths(work, [0.4, 0.3, 0.2, 0.1], top_p=1.0), [[4, 3, 2, 1]] * 2, law)


@check("sample_decode", points=1)
def test_temperature_then_top_k_then_top_p(work, draw):
    """First the temperature, then top_k, then top_p of what is left."""
    law = "top_k=3 leaves 0.5, 0.33, 0.17 of 0.45, 0.3, 0.15, 0.1; of these top_p=0.8 leaves two"
    found = _tenths(work, [0.45, 0.3, 0.15, 0.1], top_k=3, top_p=0.8)
    same(found, [[6, 4, 0, 0]] * 2, law)
    chances = [0.6**0.5, 0.3**0.5, 0.1**0.5]
    law = "temperature=0.5 makes 0.6, 0.3, 0.1 of 0.47, 0.33, 0.19; of these top_p=0.55 leaves one"
    same(_tenths(work, chances, temperature=0.5, top_p=0.55), [[10, 0, 0]] * 2, law)


@check("sample_decode", points=1)
def test_the_generator_decides(work, draw):
    """The same seed draws the same sentences, another seed others."""
    chain = Chain({word: dict.fromkeys((3, 4, 5, 6), 0.25) for word in (BOS, 3, 4, 5, 6)})
    first, again, other = (
        work.sample_decode(chain, SOURCE, BOS, EOS, 40, generator=_seeded(seed))
        for seed in (1, 1, 2)
    )
    repeats = torch.equal(first, again)
    holds(repeats, "the same generator draws the same", "two calls with one seed differ")
    differs = not torch.equal(first, other)
    holds(differs, "another seed draws others", "39 words in a row are the same for two seeds")


@check("sample_decode", points=1)
def test_sampled_sentences_obey_the_rules(work, draw):
    """bos first, eos, then padding; any model, encoded once, at rest, left as it was."""
    src, wanted = _of_three_lengths()
    model = Copier(sure=80.0)
    law = "a model that is sure leaves no choice: bos, the words, eos, then model.pad_id"
    same(work.sample_decode(model, src, BOS, EOS, 20), wanted, law)
    same(model.encoded, 1, "memory does not change while the target grows: encode once, in front")
    law = "with max_len=3 there are 3 ids, bos counted"
    same(work.sample_decode(model, src, BOS, EOS, 3), wanted[:, :3], law)
    found = work.sample_decode(Plain(), src, BOS, EOS, 20)
    same(found, wanted, "a model is anything with encode, decode and pad_id")
    _at_rest(lambda model, src: work.sample_decode(model, src, BOS, EOS, 4), draw)


# Models whose every word is known beforehand

SOURCE = torch.tensor([[5, 4, 3]])


class Noting(nn.Module):
    """A model with the contract's encode, decode and pad_id; it notes how it is asked."""

    pad_id = PAD

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))  # so that gradients could
        self.encoded = 0
        self.in_train_mode = self.with_gradients = False

    def encode(self, src):
        self.encoded += 1
        return self.noted(F.one_hot(src, V).double())

    def noted(self, x):
        self.in_train_mode |= self.training
        self.with_gradients |= torch.is_grad_enabled()
        return x + self.weight


class Copier(Noting):
    """Word t of the target is word t of the source; after its end come eos and then words again."""

    def __init__(self, sure=8.0):
        super().__init__()
        self.sure = sure

    def decode(self, tgt, memory, src):
        padded = F.pad(src, (0, max(tgt.size(1) - src.size(1), 0)), value=PAD)
        behind = (padded == PAD).cumsum(1)
        says = padded.masked_fill(behind == 1, EOS).masked_fill(behind > 1, 3)
        copied = F.one_hot(says[:, : tgt.size(1)], V) * self.sure
        return self.noted(copied + memory[:, :1] * 0)


class Plain:
    """A copier that is no nn.Module."""

    pad_id = PAD

    def __init__(self):
        copier = Copier(sure=80.0).eval()
        self.encode, self.decode = copier.encode, copier.decode


class Chain(Noting):
    """The next word hangs on the last one alone.

    Chain({BOS: {3: 0.6, 4: 0.4}}) writes 3 or 4 after bos, and eos after what it does not name.
    With two tables the first word of the source says which of them is in force, 5 or 6.
    """

    def __init__(self, *tables):
        super().__init__()
        chances = torch.zeros(len(tables), V, V, dtype=torch.float64)
        for which, table in enumerate(tables):
            for last in range(V):
                for word, chance in table.get(last, {EOS: 1.0}).items():
                    chances[which, last, word] = chance
        self.logits = chances.log()

    def decode(self, tgt, memory, src):
        which = memory[:, 0].argmax(-1) - 5
        return self.noted(self.logits[which.unsqueeze(1), tgt])


def _of_three_lengths():
    """A padded source, and what a copier makes of it."""
    src = [[5, 3, 8, PAD, PAD], [4, 9, 9, 6, 7], [7, PAD, PAD, PAD, PAD]]
    tgt = [
        [BOS, 5, 3, 8, EOS, PAD, PAD],
        [BOS, 4, 9, 9, 6, 7, EOS],
        [BOS, 7, EOS, PAD, PAD, PAD, PAD],
    ]
    return torch.tensor(src), torch.tensor(tgt)


def _seven_sentences(draw):
    """A chain, and all that it can write: no word comes before a smaller one."""
    one, two, three = torch.rand(3, generator=draw.generator).mul(0.4).add(0.2).tolist()
    chain = Chain(
        {
            BOS: {3: 0.5, 4: 0.5 - 0.5 * one, EOS: 0.5 * one},
            3: {4: two, 5: 0.4 - 0.4 * two, EOS: 0.6 - 0.6 * two},
            4: {5: three, EOS: 1 - three},
        }
    )
    written = "", "3", "4", "34", "35", "45", "345"
    return chain, [[BOS, *map(int, words), EOS] for words in written]


def _log_p(chain, ids):
    return sum((chain.logits[0, last, word].item() for last, word in pairwise(ids)), 0.0)


def _score(chain, ids, penalty):
    return _log_p(chain, ids) / ((5 + len(ids) - 1) / 6) ** penalty


def _by_ids(found):
    return sorted((list(ids), score) for ids, score in found)


def _seeded(number):
    return torch.Generator().manual_seed(number)


def _tenths(work, chances, **settings):
    """How often each word is drawn, in tenths; for two kinds of rows with different words."""
    words = [5, 3, 8, 6][: len(chances)], [4, 9, 3, 5][: len(chances)]
    chances = [chance / sum(chances) for chance in chances]
    chain = Chain(*({BOS: dict(zip(each, chances, strict=True))} for each in words))
    src = torch.tensor([[5], [6]]).repeat(MANY // 2, 1)

    drawn = work.sample_decode(chain, src, BOS, EOS, 2, generator=_seeded(0), **settings)[:, 1:2]

    found = []
    for rows, named in zip((drawn[::2], drawn[1::2]), words, strict=True):
        count = [(rows == word).double().mean().item() for word in named]
        found.append([round(10 * share) if share > 0.002 else math.ceil(share) for share in count])
    return found


def _at_rest(write, draw, batch=H):
    src = draw.ids(batch, T, high=EOS)
    for training in (True, False):
        model, mode = Copier(sure=80.0).train(training), "train" if training else "eval"
        gradients = torch.is_grad_enabled()
        write(model, src)
        holds(model.encoded, "the source is encoded", "nobody asked the model")
        holds(not model.in_train_mode, "the model writes in eval mode", "it was in train mode")
        holds(not model.with_gradients, "no gradients are kept", "torch.no_grad() is missing")
        law = f"a model that comes in {mode} mode is left in {mode} mode"
        holds(model.training is training, law, "it is in the other mode")
        law = "afterwards gradients are as they were"
        holds(torch.is_grad_enabled() is gradients, law, "they are switched off for good")
