"""Steps: what was chosen from what, equal to what the search did and to what the model says."""

import math

import pytest
import torch
from a_checkpoint import MAX_LEN, SENTENCES, a_checkpoint, for_each_checkpoint
from torch.testing import assert_close

from lab import decoding
from lab.steps import START, beam_tree, distribution, follow, read_back
from lab.tokens import BOS_ID, EOS_ID, PAD_ID, pad
from lab.translation import Search, translate

LENGTH = 15  # ids at most, <s> counted
SAMPLE = Search("sample", temperature=1.3, top_k=40, top_p=0.95, seed=5)
SEARCHES = [Search(), SAMPLE, Search("beam", beam_size=3)]
however_searched = pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.method)


def source_of(checkpoint, sentence=SENTENCES[0]):
    return pad([checkpoint.tokenizer.encode(sentence)])


def model_says(checkpoint, prefix, sentence=SENTENCES[0]):
    """Probabilities of the next token, by the model alone."""
    with torch.no_grad():
        written = torch.tensor([[BOS_ID, *prefix]])
        return checkpoint.model(source_of(checkpoint, sentence), written)[0, -1].float().softmax(-1)


def log_probability(checkpoint, ids):
    return sum(model_says(checkpoint, ids[:t])[ids[t]].log().item() for t in range(len(ids)))


@for_each_checkpoint
@however_searched
def test_a_path_is_the_translation(name, search):
    """Watching changes nothing: text, pieces and attention are those of translate."""
    checkpoint = a_checkpoint(name)

    for sentence in SENTENCES:
        [path] = follow(checkpoint, [sentence], search, explain=True, max_len=LENGTH)
        [usual] = translate(checkpoint, [sentence], search, explain=True, max_len=LENGTH)

        assert path.translation.text == usual.text
        assert path.translation.source_pieces == usual.source_pieces
        assert path.translation.target_pieces == usual.target_pieces
        assert [step.chosen.piece for step in path.steps] == usual.target_pieces
        assert [step.chosen.id for step in path.steps] == path.ids
        assert_close(path.translation.attention, usual.attention)


@for_each_checkpoint
@however_searched
def test_candidates_are_what_the_model_says(name, search):
    """All of them sum to one, the most probable first; each has the model's probability."""
    checkpoint = a_checkpoint(name)
    size = checkpoint.config.vocab_size

    [path] = follow(checkpoint, SENTENCES[:1], search, top=size, max_len=6)

    for at, step in enumerate(path.steps):
        found = [each.probability for each in step.candidates]
        expected = model_says(checkpoint, path.ids[:at])
        assert sum(found) == pytest.approx(1, abs=1e-4)
        assert found == sorted(found, reverse=True)
        assert sorted(each.id for each in step.candidates) == list(range(size))
        ids = [each.id for each in step.candidates]
        assert_close(torch.tensor(found), expected[ids], atol=2e-5, rtol=1e-3)
        assert step.chosen in step.candidates
        if search.method == "greedy":
            assert step.chosen == step.candidates[0]


@for_each_checkpoint
def test_five_candidates_unless_asked_otherwise(name):
    """The first five of all, each with its piece."""
    checkpoint = a_checkpoint(name)

    [path] = follow(checkpoint, SENTENCES[:1])

    best = model_says(checkpoint, []).topk(5).indices.tolist()
    assert [each.id for each in path.steps[0].candidates] == best
    assert [each.piece for each in path.steps[0].candidates] == checkpoint.tokenizer.pieces(best)


@for_each_checkpoint
@pytest.mark.parametrize("at", [0, 2])
def test_another_candidate_is_gone_on_from(name, at):
    """After the prefix come the most probable pieces, one by one; before it what was forced."""
    checkpoint = a_checkpoint(name)
    [path] = follow(checkpoint, SENTENCES[:1], max_len=LENGTH)
    other = next(c.id for c in path.steps[at].candidates[1:] if c.id not in (PAD_ID, EOS_ID))
    prefix = [*path.ids[:at], other]

    [forced] = follow(checkpoint, SENTENCES[:1], prefixes=[prefix], max_len=LENGTH)

    expected = [*prefix]
    while len(expected) < LENGTH - 1 and expected[-1] != EOS_ID:
        expected.append(model_says(checkpoint, expected).argmax().item())
    assert forced.ids == expected
    assert [step.forced for step in forced.steps] == [t <= at for t in range(len(expected))]
    assert forced.steps[at].chosen == path.steps[at].candidates[
        [c.id for c in path.steps[at].candidates].index(other)
    ]  # fmt: skip


@for_each_checkpoint
@pytest.mark.parametrize("search", [Search(), SAMPLE], ids=["greedy", "sample"])
@pytest.mark.parametrize("length", [1, 3])
def test_its_own_beginning_changes_nothing(name, search, length):
    """Forced or chosen by itself: what follows is the same, also by lot."""
    checkpoint = a_checkpoint(name)
    [path] = follow(checkpoint, SENTENCES[:1], search, max_len=LENGTH)

    [again] = follow(
        checkpoint, SENTENCES[:1], search, prefixes=[path.ids[:length]], max_len=LENGTH
    )

    assert again.ids == path.ids


@for_each_checkpoint
@however_searched
def test_all_forced_is_teacher_forcing(name, search):
    """One pass over the target finds at every step what the search did."""
    checkpoint = a_checkpoint(name)
    ids = [*checkpoint.tokenizer.encode("Ein Hund")[:-1][:5], EOS_ID]

    [path] = follow(checkpoint, SENTENCES[:1], search, prefixes=[ids], max_len=LENGTH)
    steps = read_back(checkpoint, source_of(checkpoint)[0].tolist(), ids)

    assert path.ids == ids and all(step.forced for step in path.steps)
    assert [step.chosen.id for step in steps] == ids
    for step, expected in zip(path.steps, steps, strict=True):
        assert step.chosen.probability == pytest.approx(expected.chosen.probability, rel=1e-3)
        found, wanted = ([c.probability for c in each.candidates] for each in (step, expected))
        assert found == pytest.approx(wanted, rel=1e-3)


@for_each_checkpoint
@however_searched
def test_nobody_s_company_matters(name, search):
    """Sentences and prefixes of different lengths, together and alone."""
    checkpoint = a_checkpoint(name)
    begin = checkpoint.tokenizer.encode("Ein alter Hund")[:-1]
    prefixes = [begin[:1], begin[:3]]

    together = follow(checkpoint, SENTENCES, search, prefixes, max_len=LENGTH)

    for sentence, prefix, expected in zip(SENTENCES, prefixes, together, strict=True):
        [alone] = follow(checkpoint, [sentence], search, [prefix], max_len=LENGTH)
        assert alone.ids == expected.ids
        assert alone.translation == expected.translation


def test_nothing_to_follow():
    """No sentences give no paths; no room gives no steps."""
    checkpoint = a_checkpoint("tiny")

    assert follow(checkpoint, []) == []
    [path] = follow(checkpoint, SENTENCES[:1], max_len=1)
    assert (path.ids, path.steps, path.translation.ended) == ([], [], False)


# The tree of a beam


def replayed(tree, beam_size):
    """Beam search once more, with nothing but the tree: of all that is there at each step, ended
    or new, the beam_size best by score go on."""
    beam, found = {START}, []
    for step in range(1, 1 + max(node.step for node in tree.nodes)):
        pool = {place for place in beam if place != START and tree.nodes[place].ended}
        pool |= {
            place
            for place, node in enumerate(tree.nodes)
            if node.step == step and node.parent in beam
        }
        found = sorted(pool, key=lambda place: -tree.nodes[place].score)[:beam_size]
        new = {place for place in found if tree.nodes[place].step == step}
        kept = {p for p, node in enumerate(tree.nodes) if node.step == step and node.kept}
        assert new == kept
        beam = set(found)
    return [[tree.nodes[place].candidate.id for place in tree.way(leaf)] for leaf in found]


@for_each_checkpoint
@pytest.mark.parametrize("beam_size, penalty, top", [(1, 0.6, 1), (3, 0.0, 5), (5, 0.8, 2)])
def test_replaying_the_tree_gives_the_translation(name, beam_size, penalty, top):
    """The tree alone leads to the sentences and scores of decoding.beam_search, in their order."""
    checkpoint = a_checkpoint(name)
    search = Search("beam", beam_size=beam_size, length_penalty=penalty)

    tree = beam_tree(checkpoint, SENTENCES[0], search, top=top, max_len=LENGTH)

    found = decoding.beam_search(
        checkpoint.model, source_of(checkpoint), BOS_ID, EOS_ID, beam_size, LENGTH, penalty
    )
    assert tree.sentences == [(ids[1:], score) for ids, score in found]
    assert replayed(tree, beam_size) == [ids[1:] for ids, _ in found]
    ends = {node.rank: place for place, node in enumerate(tree.nodes) if node.rank is not None}
    assert sorted(ends) == list(range(len(found)))
    for rank, (ids, score) in enumerate(tree.sentences):
        assert [tree.nodes[place].candidate.id for place in tree.way(ends[rank])] == ids
        assert tree.nodes[ends[rank]].score == score
    assert any(not node.kept for node in tree.nodes) or top == beam_size == 1


@for_each_checkpoint
def test_the_numbers_of_a_tree_are_the_model_s(name):
    """Each node's log-probability, score and probability, worked out from the model alone."""
    checkpoint = a_checkpoint(name)

    tree = beam_tree(
        checkpoint, SENTENCES[0], Search("beam", beam_size=2, length_penalty=0.7), max_len=5
    )

    for place, node in enumerate(tree.nodes):
        ids = [tree.nodes[each].candidate.id for each in tree.way(place)]
        total = log_probability(checkpoint, ids)
        assert len(ids) == node.step
        assert node.log_probability == pytest.approx(total, abs=2e-3)
        assert node.score == pytest.approx(total / ((5 + len(ids)) / 6) ** 0.7, abs=2e-3)
        assert node.candidate.probability == pytest.approx(
            model_says(checkpoint, ids[:-1])[ids[-1]].item(), rel=2e-3, abs=1e-7
        )
        if node.parent in tree.says and len(ids) > 1:
            best = model_says(checkpoint, ids[:-1]).topk(5).values.tolist()
            said = [each.probability for each in tree.says[node.parent]]
            assert said == pytest.approx(best, rel=2e-3, abs=1e-7)


@for_each_checkpoint
def test_a_beam_goes_on_from_a_prefix(name):
    """All it holds begins alike, and the model's scores are those of the whole sentence."""
    checkpoint = a_checkpoint(name)
    prefix = checkpoint.tokenizer.encode("Ein Hund")[:2]
    search = Search("beam", beam_size=3, length_penalty=0.0)

    tree = beam_tree(checkpoint, SENTENCES[0], search, prefix, max_len=9)

    assert len(tree.sentences) == 3
    for ids, score in tree.sentences:
        assert ids[: len(prefix)] == prefix
        assert score == pytest.approx(log_probability(checkpoint, ids), abs=2e-3)
    first = [node for node in tree.nodes if node.step == 1]
    assert [node.candidate.id for node in first] == prefix[:1]
    assert len(tree.says[START]) == 5  # what the model would have said is there all the same


# Temperature, top-k, top-p


def by_hand(before, temperature, top_k, top_p):
    """The definitions, one token after the other."""
    heated = [p ** (1 / temperature) for p in before.double().tolist()]
    total = sum(heated)
    order = sorted(range(len(heated)), key=lambda i: -heated[i])[:top_k]
    kept = sum(heated[i] for i in order) / total
    after, reached = [0.0] * len(heated), 0.0
    for i in order:
        if top_p is not None and reached >= top_p:
            break
        after[i] = heated[i] / total
        reached += heated[i] / total / kept
    return [p / sum(after) for p in after]


@for_each_checkpoint
@pytest.mark.parametrize(
    "temperature, top_k, top_p",
    [(1.0, None, None), (0.5, 7, None), (2.0, None, 0.6), (1.7, 9, 0.8)],
)
def test_a_distribution_before_and_after(name, temperature, top_k, top_p):
    """As the model says it, and as the definitions of temperature, top-k and top-p change it."""
    checkpoint = a_checkpoint(name)
    size = checkpoint.config.vocab_size
    prefix = checkpoint.tokenizer.encode("Ein")[:1]
    search = Search("sample", temperature=temperature, top_k=top_k, top_p=top_p)

    found = distribution(checkpoint, SENTENCES[0], prefix, search, top=size)
    short = distribution(checkpoint, SENTENCES[0], prefix, search, top=3)

    before = model_says(checkpoint, prefix)
    ids = [chance.id for chance in found.chances]
    after = torch.tensor(by_hand(before, temperature, top_k, top_p))
    assert_close(torch.tensor([chance.before for chance in found.chances]), before[ids])
    assert_close(torch.tensor([chance.after for chance in found.chances]), after[ids])
    assert found.left == int((after > 0).sum())
    assert found.others == pytest.approx((0, 0), abs=1e-4)
    assert short.chances == found.chances[:3]
    rest = [
        sum(pair) for pair in zip(*((c.before, c.after) for c in found.chances[3:]), strict=True)
    ]
    assert short.others == pytest.approx(rest, abs=1e-4)


def test_what_is_drawn_had_a_chance():
    """Each piece a sampled path chose is one that the cuts had left."""
    checkpoint = a_checkpoint("en-de")
    search = Search("sample", temperature=2.0, top_k=3, seed=1)

    [path] = follow(checkpoint, SENTENCES[:1], search, max_len=LENGTH)

    for at, step in enumerate(path.steps):
        found = distribution(checkpoint, SENTENCES[0], path.ids[:at], search)
        assert step.chosen.id in {chance.id for chance in found.chances if chance.after > 0}
    assert path.ids != follow(checkpoint, SENTENCES[:1])[0].ids


def test_no_temperature_is_greedy():
    """All the chance is with the most probable piece."""
    checkpoint = a_checkpoint("tiny")

    found = distribution(checkpoint, SENTENCES[0], (), Search("sample", temperature=0.0))

    assert [chance.after for chance in found.chances[:2]] == [1, 0]
    assert (found.left, found.others[1]) == (1, 0)
    assert math.isclose(sum(c.before for c in found.chances) + found.others[0], 1, abs_tol=1e-5)


# What cannot be


@pytest.mark.parametrize(
    "prefix, message",
    [
        ([9, -1], "id -1 in a prefix: choose from 1 to"),
        ([0], "id 0 in a prefix: choose from 1 to"),
        ([10**6], "id 1000000 in a prefix"),
        ([9, EOS_ID, 9], "a prefix goes on after </s>"),
        ([9] * MAX_LEN, f"a prefix of {MAX_LEN} pieces is too long: at most {MAX_LEN - 1}"),
    ],
)
def test_a_prefix_no_model_writes(prefix, message):
    """Each says what a prefix is made of, wherever it is given."""
    checkpoint = a_checkpoint("tiny")

    for ask in (
        lambda: follow(checkpoint, SENTENCES[:1], prefixes=[prefix]),
        lambda: beam_tree(checkpoint, SENTENCES[0], prefix=prefix),
        lambda: distribution(checkpoint, SENTENCES[0], prefix),
    ):
        with pytest.raises(ValueError, match=message):
            ask()


def test_what_else_cannot_be():
    """One clear sentence for each."""
    checkpoint = a_checkpoint("tiny")

    with pytest.raises(ValueError, match="1 prefixes for 2 sentences: give one to each"):
        follow(checkpoint, SENTENCES, prefixes=[[9]])
    with pytest.raises(ValueError, match="method 'best': choose greedy, beam or sample"):
        follow(checkpoint, SENTENCES, Search("best"))
    with pytest.raises(ValueError, match="nothing comes after </s>"):
        distribution(checkpoint, SENTENCES[0], [EOS_ID])
    with pytest.raises(ValueError, match="top_p=2"):
        distribution(checkpoint, SENTENCES[0], [], Search("sample", top_p=2.0))
    with pytest.raises(ValueError, match="tokens is too long"):
        follow(checkpoint, ["dog " * 50])
