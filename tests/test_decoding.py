"""Decoding: its laws for both implementations, and the fast search against the plain functions."""

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise, product

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from autograder.drawing import Draw
from lab import decoding, parts
from lab.model import Config, build
from solutions import decoding as plain

PAD, BOS, EOS = 0, 1, 2
MAX_LEN = 12


# Models to decode with


class Chain:
    """A model that is no nn.Module: the next token hangs on the last one alone.

    Chain({BOS: {3: 0.6, 4: 0.4}}) writes 3 or 4 after BOS, and EOS after what it does not name.
    """

    pad_id = PAD

    def __init__(self, chances: dict[int, dict[int, float]], vocab_size: int = 6):
        table = torch.zeros(vocab_size, vocab_size, dtype=torch.float64)
        for last in range(vocab_size):
            for token, chance in chances.get(last, {EOS: 1.0}).items():
                table[last, token] = chance
        self.logits = table.log()
        self.encoded = 0

    def encode(self, src):
        self.encoded += 1
        return src.unsqueeze(-1).double()

    def decode(self, tgt, memory, src):
        assert not torch.is_grad_enabled()
        assert_close(memory, src.unsqueeze(-1).double())
        return self.logits[tgt]


CONFIGS = {
    "one layer": Config(11, 12, n_heads=3, n_layers=1, d_ff=24, dropout=0.0, max_len=MAX_LEN),
    "two layers": Config(17, 16, n_heads=2, n_layers=2, d_ff=20, dropout=0.0, max_len=MAX_LEN),
}
for_each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def copier(config: Config) -> nn.Module:
    """A model of the parts in force that has only begun to copy: every sentence goes its own way.

    In float64, so that no rounding decides between two tokens.
    """
    model = build(config).double()
    model.load_state_dict(beginners_weights(replace(config, dropout=0.0)))
    return model.eval()


@cache
def beginners_weights(config: Config, steps: int = 40) -> dict[str, torch.Tensor]:
    draw = Draw(torch.float64)
    model = draw.fill(build(config), std=0.3)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.ones_(parameter)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        src = draw.sentences(32, 8, PAD, config.vocab_size)
        tgt = F.pad(src, (1, 1), value=PAD)
        tgt[:, 0] = BOS
        tgt.scatter_(1, 1 + (src != PAD).sum(1, keepdim=True), EOS)
        parts.train_step(model, optimizer, src, tgt)
    return model.state_dict()


def sources(config: Config, count: int = 50) -> torch.Tensor:
    return Draw(torch.float64).sentences(count, 7, PAD, config.vocab_size)


def alone(src: torch.Tensor) -> list[torch.Tensor]:
    """Every sentence as a batch of its own, without padding."""
    return [row[row != PAD][None] for row in src]


def written(row: list[int]) -> list[int]:
    """A row without what fills it after its end."""
    return row[: row.index(EOS) + 1] if EOS in row else row


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


# Laws of everything that writes


def greedily(work, model, src, **settings):
    return work.greedy_decode(model, src, BOS, EOS, **settings)


def by_lot(work, model, src, **settings):
    return work.sample_decode(model, src, BOS, EOS, generator=seed(), **settings)


def by_beam(work, model, src, **settings):
    best = [work.beam_search(model, row, BOS, EOS, **settings)[0][0] for row in src.split(1)]
    return nn.utils.rnn.pad_sequence(
        [torch.tensor(ids) for ids in best], batch_first=True, padding_value=PAD
    )


however_written = pytest.mark.parametrize("write", [greedily, by_lot, by_beam])


@however_written
@pytest.mark.parametrize("max_len", [1, 2, 5, MAX_LEN])
def test_sentences_begin_and_end_by_the_rules(work, write, max_len):
    """bos first, eos kept, padding after it, no more than max_len ids, no step more than needed."""
    config = CONFIGS["one layer"]

    ids = write(work, copier(config), sources(config, 11), max_len=max_len)

    is_end = ids == EOS
    beyond_end = is_end.cumsum(1) - is_end.long() > 0
    assert ids.dtype == torch.long
    assert (ids[:, 0] == BOS).all()
    assert (ids[beyond_end] == PAD).all()
    assert ids.size(1) <= max_len
    assert is_end.any(1).all() or ids.size(1) == max_len
    assert ids.size(1) == max_len or is_end[:, -1].any()


@however_written
@for_each_config
def test_a_model_is_left_as_it_was_found(work, write, config):
    """No dropout while it writes, no gradients; then the mode it had, also after a failure."""
    model, src = copier(replace(config, dropout=0.5)), sources(config, 3)

    at_rest = write(work, model, src, max_len=5)
    assert not model.training
    model.train()
    assert_close(write(work, model, src, max_len=5), at_rest)
    assert all(module.training for module in model.modules())
    with pytest.raises(IndexError):
        write(work, model, torch.full_like(src, config.vocab_size))
    assert model.training
    assert torch.is_grad_enabled()


@however_written
def test_the_source_is_encoded_once(work, write):
    """Memory is computed at the start, and is the same at every step (the chain checks)."""
    chain = Chain({BOS: {3: 0.5, 4: 0.5}, 3: {4: 0.7, EOS: 0.3}})

    write(work, chain, torch.tensor([[5, 4, 3]]))

    assert chain.encoded == 1


@for_each_config
def test_greedy_takes_the_most_probable_token(work, config):
    """Teacher forcing on what was written finds each token at the top."""
    model, src = copier(config), sources(config)

    ids = work.greedy_decode(model, src, BOS, EOS, MAX_LEN)

    best = model(src, ids[:, :-1]).argmax(-1)
    before_end = (ids == EOS).cumsum(1)[:, :-1] == 0
    assert_close(ids[:, 1:][before_end], best[before_end])
    assert len(set(map(tuple, ids.tolist()))) > 10  # else the models had little to say


@for_each_config
def test_greedy_writes_the_same_alone_and_in_a_batch(work, config):
    """Neither padding nor neighbours matter."""
    model, src = copier(config), sources(config, 11)

    together = work.greedy_decode(model, src, BOS, EOS, MAX_LEN).tolist()

    for row, sentence in zip(together, alone(src), strict=True):
        assert [written(row)] == work.greedy_decode(model, sentence, BOS, EOS, MAX_LEN).tolist()


# Beam search


def test_a_beam_escapes_the_trap_of_greed(work):
    """The most probable first token leads where nothing is probable; two hypotheses find out."""
    trap = Chain({BOS: {3: 0.6, 4: 0.4}, 3: {3: 0.3, 4: 0.3, EOS: 0.4}, 4: {EOS: 0.9, 5: 0.1}})
    src = torch.tensor([[5, 4, 3]])

    greedy = work.greedy_decode(trap, src, BOS, EOS)
    best, score = work.beam_search(trap, src, BOS, EOS, beam_size=2)[0]

    assert greedy.tolist() == [[BOS, 3, EOS]]  # 0.6 · 0.4 = 0.24
    assert best == [BOS, 4, EOS]  # 0.4 · 0.9 = 0.36
    assert score == pytest.approx(math.log(0.36) / (7 / 6) ** 0.6)


def every_sentence(chain, max_len, length_penalty):
    """All sentences a chain can write, each with its score."""
    scores = {}
    for length in range(1, max_len):
        for tokens in product(range(len(chain.logits)), repeat=length):
            ended, early = tokens[-1] == EOS, EOS in tokens[:-1]
            if not early and (ended or length == max_len - 1):
                steps = pairwise((BOS, *tokens))
                total = sum(chain.logits[last, token].item() for last, token in steps)
                scores[BOS, *tokens] = total / ((5 + length) / 6) ** length_penalty
    return scores


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 3.0])
def test_a_wide_beam_finds_every_sentence(work, length_penalty):
    """With room for all it is the exhaustive search, and returns no more than there is."""
    chances = torch.rand(4, 4, generator=seed(), dtype=torch.float64)
    chances = (chances / chances.sum(-1, keepdim=True)).tolist()
    chain = Chain({last: dict(enumerate(row)) for last, row in enumerate(chances)}, vocab_size=4)

    found = work.beam_search(chain, torch.tensor([[3]]), BOS, EOS, 50, 4, length_penalty)

    assert len(found) == 1 + 3 * 1 + 3 * 3 * 4  # that end after one token, after two, or not at all
    expected = every_sentence(chain, 4, length_penalty)
    assert {tuple(ids): score for ids, score in found} == pytest.approx(expected)
    best_first = sorted((score for _, score in found), reverse=True)
    assert [score for _, score in found] == best_first


def test_fewer_hypotheses_where_fewer_exist(work):
    """What has no probability is no hypothesis."""
    chain = Chain({BOS: {3: 1.0}, 3: {4: 0.8, 5: 0.2}})

    found = work.beam_search(chain, torch.tensor([[3]]), BOS, EOS, beam_size=4)

    assert [ids for ids, _ in found] == [[BOS, 3, 4, EOS], [BOS, 3, 5, EOS]]
    assert [score for _, score in found] == pytest.approx(
        [math.log(chance) / (8 / 6) ** 0.6 for chance in (0.8, 0.2)]
    )


@for_each_config
@pytest.mark.parametrize("beam_size, length_penalty", [(2, 0.0), (3, 0.6), (5, 1.5)])
def test_a_score_is_what_the_model_says_of_the_sentence(work, config, beam_size, length_penalty):
    """log-probability / ((5 + length) / 6)^length_penalty, by teacher forcing (Wu et al. 2016)."""
    model = copier(config)
    for src in alone(sources(config, 3)):
        found = work.beam_search(model, src, BOS, EOS, beam_size, MAX_LEN, length_penalty)

        scores = [score for _, score in found]
        assert len({tuple(ids) for ids, _ in found}) == beam_size
        assert scores == sorted(scores, reverse=True)
        for ids, score in found:
            log_probabilities = model(src, torch.tensor([ids[:-1]])).log_softmax(-1)[0]
            total = log_probabilities[range(len(ids) - 1), ids[1:]].sum().item()
            assert ids[0] == BOS and EOS not in ids[:-1]
            assert ids[-1] == EOS or len(ids) == MAX_LEN
            assert score == pytest.approx(total / ((4 + len(ids)) / 6) ** length_penalty)


@for_each_config
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_beam_of_one_is_greedy(work, config, length_penalty):
    """Whatever the penalty: all its candidates have one length."""
    model = copier(config)
    for src in alone(sources(config, 5)):
        [(ids, _)] = work.beam_search(model, src, BOS, EOS, 1, MAX_LEN, length_penalty)

        assert [ids] == work.greedy_decode(model, src, BOS, EOS, MAX_LEN).tolist()


# Sampling


@for_each_config
@pytest.mark.parametrize(
    "settings",
    [{"temperature": 0.0}, {"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-9}],
    ids=str,
)
def test_sampling_without_a_choice_is_greedy(work, config, settings):
    """No temperature, or only the best token left."""
    model, src = copier(config), sources(config)

    drawn = by_lot(work, model, src, max_len=MAX_LEN, **settings)

    assert_close(drawn, work.greedy_decode(model, src, BOS, EOS, MAX_LEN))


@for_each_config
@pytest.mark.parametrize("settings", [{"top_k": 1000}, {"top_p": 1.0}], ids=str)
def test_limits_that_limit_nothing(work, config, settings):
    """A top_k beyond the vocabulary and a top_p of one keep all tokens."""
    model, src = copier(config), sources(config)

    limited = by_lot(work, model, src, max_len=MAX_LEN, **settings)

    assert_close(limited, by_lot(work, model, src, max_len=MAX_LEN))


def test_the_generator_decides(work):
    """The same seed draws the same sentences, another seed others."""
    config = CONFIGS["two layers"]
    model, src = copier(config), sources(config)

    first, again, other = (
        work.sample_decode(model, src, BOS, EOS, MAX_LEN, generator=seed(n)) for n in (1, 1, 2)
    )

    assert_close(first, again)
    assert first.tolist() != other.tolist()


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),  # squares
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.35}, [1, 0, 0, 0]),
        ({"top_p": 0.5}, [4 / 7, 3 / 7, 0, 0]),  # the token that crosses 0.5 stays
        ({"top_p": 0.75}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_k": 3, "top_p": 0.75}, [4 / 7, 3 / 7, 0, 0]),  # of 4/9, 3/9, 2/9: top_k comes first
        ({"temperature": 0.5, "top_p": 0.6}, [16 / 25, 9 / 25, 0, 0]),  # temperature before top_p
        ({"temperature": 0.5, "top_k": 3, "top_p": 0.5}, [1, 0, 0, 0]),  # 16/29 crosses 0.5
    ],
    ids=str,
)
def test_tokens_are_drawn_by_their_probability(work, settings, expected):
    """Temperature, then top_k, then top_p, worked by hand and counted in 4000 draws."""
    chain = Chain({BOS: {5: 0.4, 3: 0.3, EOS: 0.2, 4: 0.1}})
    src = torch.full((4000, 1), 3)

    drawn = by_lot(work, chain, src, max_len=2, **settings)[:, 1]

    counted = torch.stack([drawn == token for token in (5, 3, EOS, 4)]).double().mean(1)
    four_deviations = 4 * (0.25 / 4000) ** 0.5
    assert_close(counted, torch.tensor(expected).double(), rtol=0, atol=four_deviations)
    assert not counted[torch.tensor(expected) == 0].any()


# The fast search of the lab

with_and_without_cache = pytest.mark.parametrize("cache", [True, False, None])  # None: lab.fast
BEAMS = [(1, 0.0), (2, 0.0), (3, 0.6), (5, 1.0)]  # sizes and length penalties


@for_each_config
@with_and_without_cache
def test_fast_greedy_is_the_plain_one(work, config, cache):
    """Token for token, on 50 sentences of each model."""
    model, src = copier(config), sources(config)

    fast = decoding.greedy_decode(model, src, BOS, EOS, MAX_LEN, cache=cache)

    assert_close(fast, plain.greedy_decode(model, src, BOS, EOS, MAX_LEN))


@for_each_config
@with_and_without_cache
@pytest.mark.parametrize("settings", [{}, {"temperature": 1.7, "top_k": 5, "top_p": 0.9}], ids=str)
def test_fast_sampling_is_the_plain_one(work, config, cache, settings):
    """The same seed draws the same tokens."""
    model, src = copier(config), sources(config)

    fast = decoding.sample_decode(
        model, src, BOS, EOS, MAX_LEN, generator=seed(), cache=cache, **settings
    )

    slow = plain.sample_decode(model, src, BOS, EOS, MAX_LEN, generator=seed(), **settings)
    assert_close(fast, slow)


@for_each_config
def test_fast_beam_search_is_the_plain_one(work, config):
    """Sentences and scores, on 50 sentences of each model, every beam on a part of them."""
    model = copier(config)
    for n, src in enumerate(alone(sources(config))):
        beam_size, length_penalty = BEAMS[n % len(BEAMS)]
        settings = model, src, BOS, EOS, beam_size, MAX_LEN, length_penalty

        fast, slow = decoding.beam_search(*settings), plain.beam_search(*settings)
        without_cache = decoding.beam_search(*settings, cache=False)

        for found in (fast, without_cache):
            assert [ids for ids, _ in found] == [ids for ids, _ in slow]
            assert [score for _, score in found] == pytest.approx([score for _, score in slow])


@for_each_config
@with_and_without_cache
@pytest.mark.parametrize("beam_size, length_penalty", BEAMS)
def test_a_batch_of_beams_is_one_beam_after_another(work, config, cache, beam_size, length_penalty):
    """Neither padding nor the beams of other sentences matter."""
    model, src = copier(config), sources(config, 11)
    settings = {"beam_size": beam_size, "max_len": MAX_LEN, "length_penalty": length_penalty}

    together = decoding.beam_decode(model, src, BOS, EOS, **settings, cache=cache)

    for found, sentence in zip(together, alone(src), strict=True):
        by_itself = decoding.beam_search(model, sentence, BOS, EOS, **settings)
        assert [ids for ids, _ in found] == [ids for ids, _ in by_itself]
        assert [score for _, score in found] == pytest.approx([score for _, score in by_itself])


def test_a_model_that_writes_padding_is_followed(work, draw):
    """Before its end a sentence may hold pad_id: fast and plain search treat it alike."""
    config = CONFIGS["one layer"]
    model, src = copier(config), sources(config)
    with torch.no_grad():  # the chance of padding is that of the token 3
        model.embedding.embedding.weight[PAD] = model.embedding.embedding.weight[3]

    fast = by_lot(decoding, model, src, max_len=MAX_LEN)

    assert any(PAD in written(row) for row in fast.tolist())
    assert_close(fast, by_lot(plain, model, src, max_len=MAX_LEN))


def test_changed_weights_are_seen():
    """A model that is trained on, or given another parameter, writes what it now says."""
    config = CONFIGS["two layers"]
    model, src = copier(config), sources(config)
    first = decoding.greedy_decode(model, src, BOS, EOS, MAX_LEN)
    linear = model.decoder.layers[1].feed_forward.linear2

    with torch.no_grad():
        linear.weight.mul_(-3)
    changed = decoding.greedy_decode(model, src, BOS, EOS, MAX_LEN)
    assert first.tolist() != changed.tolist()
    assert_close(changed, decoding.greedy_decode(model, src, BOS, EOS, MAX_LEN, cache=False))
    linear.weight = nn.Parameter(linear.weight / -3)
    assert_close(decoding.greedy_decode(model, src, BOS, EOS, MAX_LEN), first)


def test_a_source_of_nothing_but_padding_is_decoded():
    """Attention with nothing to look at is zero, in the fast search as in the plain one."""
    config = CONFIGS["one layer"]
    model, src = copier(config), sources(config, 3)
    src[1] = PAD

    fast = decoding.greedy_decode(model, src, BOS, EOS, MAX_LEN)

    assert_close(fast, decoding.greedy_decode(model, src, BOS, EOS, MAX_LEN, cache=False))


def test_the_fast_search_restores_every_submodules_mode(work):
    """A frozen encoder inside a model in training stays frozen."""
    config = CONFIGS["one layer"]
    model = copier(config).train()
    model.encoder.eval()
    modes = [module.training for module in model.modules()]

    decoding.greedy_decode(model, sources(config, 3), BOS, EOS)

    assert [module.training for module in model.modules()] == modes


@with_and_without_cache
def test_a_sentence_beyond_the_last_position_is_refused(work, cache):
    """With and without the cache, by the same error."""
    model = build(replace(CONFIGS["one layer"], max_len=5)).double()
    nowhere = CONFIGS["one layer"].vocab_size  # an eos that is never written

    with pytest.raises(
        ValueError, match="6 tokens do not fit into max_len=5 positions: .*smaller|larger"
    ):
        decoding.greedy_decode(model, torch.tensor([[3]]), BOS, nowhere, cache=cache)


@pytest.mark.parametrize(
    "decode, settings, message",
    [
        ("greedy_decode", {"max_len": 0}, "max_len=0: a sentence has at least its first token"),
        ("beam_search", {"max_len": -1}, "max_len=-1: a sentence has at least its first token"),
        ("beam_search", {"beam_size": 0}, "beam_size=0: a beam holds at least one hypothesis"),
        ("sample_decode", {"temperature": -0.5}, "temperature=-0.5: choose 0 .greedy. or more"),
        ("sample_decode", {"temperature": math.nan}, "temperature=nan: choose 0"),
        ("sample_decode", {"temperature": math.inf}, "temperature=inf: choose 0"),
        ("sample_decode", {"top_k": 0}, "top_k=0: keep at least one token"),
        ("sample_decode", {"top_p": 0.0}, "top_p=0.0: choose a share above 0 and up to 1"),
        ("sample_decode", {"top_p": 1.5}, "top_p=1.5: choose a share above 0 and up to 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(decode, settings, message):
    """The fast search names the setting, its value and what would do."""
    with pytest.raises(ValueError, match=message):
        getattr(decoding, decode)(Chain({}), torch.tensor([[3]]), BOS, EOS, **settings)
