"""What is broken on purpose: each fault as the catalogue knows it, each law as told."""

import itertools
import math

import pytest
import torch
from a_checkpoint import LAYERS, SENTENCES, D, H, a_checkpoint, for_each_checkpoint, tiny
from torch.testing import assert_close

from autograder.mistakes import attention as wrong_attention
from autograder.mistakes import masks as wrong_masks
from autograder.mistakes import mistakes_of
from lab import experiments, faults, parts
from lab.experiments import break_with, paint, positions, shuffle, without_positions
from lab.faults import FAULTS
from lab.recording import KINDS
from lab.steps import follow
from lab.tokens import EOS_ID

FORGOT, UPSIDE_DOWN, LATE, *OTHERS = FAULTS
SENTENCE = SENTENCES[1]


def weights_with(checkpoint, fault, kind):
    found = break_with(checkpoint, SENTENCE, [fault], explain=True)
    return found.wrong.translation.attention[kind]


# Faults


@pytest.mark.parametrize("mask", [None, torch.tensor([[1, 0, 1, 0, 0], [0, 1, 1, 1, 0]] * 2) == 1])
@pytest.mark.parametrize(
    "ours, theirs",
    [
        (faults.attention_with_mask_upside_down, wrong_attention.inverted_mask),
        (faults.attention_masked_after_softmax, wrong_attention.masked_late),
    ],
)
def test_attention_goes_wrong_as_in_the_catalogue(draw, ours, theirs, mask):
    """Output and weights of the mistake that checks call by this name."""
    q, k, v = draw(2, 3, 4, 6), draw(2, 3, 5, 6), draw(2, 3, 5, 7)

    assert_close(ours(q, k, v, mask), theirs(q, k, v, mask))


def test_masks_go_wrong_as_in_the_catalogue(draw):
    """The causal mask is all ones, and of the decoder's only the padding is left."""
    ids = draw.sentences(3, 5)

    assert_close(faults.causal_mask_forgotten(4), wrong_masks.causal_of_ones(4))
    assert_close(
        faults.decoder_mask_without_causal(ids, 0),
        (ids != 0)[:, None, None].expand(3, 1, 5, 5),
    )


@pytest.mark.parametrize("fault", OTHERS)
def test_parts_go_wrong_as_in_the_catalogue(draw, fault):
    """The others have the catalogue's names, and give what the mistakes of these names give."""
    part, ours = next(iter(FAULTS[fault].items()))
    theirs = {each.name: each.implementation for each in mistakes_of(part)}[fault]

    if part == "scaled_dot_product_attention":
        mask = draw.mask(2, 4, 5)
        q, k, v = draw(2, 4, 6), draw(2, 5, 6), draw(2, 5, 7)
        assert_close(ours(q, k, v, mask), theirs(q, k, v, mask))
        return
    sizes = (6, 10) if part == "FeedForward" else (6,)
    right, wrong = draw.fill(theirs(*sizes)).eval(), ours(*sizes).to(torch.float64).eval()
    wrong.load_state_dict(right.state_dict())
    inputs = [draw(2, 5, 6) for _ in range(2 if part == "AddNorm" else 1)]
    assert_close(wrong(*inputs), right(*inputs))


@for_each_checkpoint
def test_a_forgotten_causal_mask_sees_the_future(name):
    """Weight above the diagonal; rows still sum to one. With the mask there is none."""
    checkpoint = a_checkpoint(name)

    weights = weights_with(checkpoint, FORGOT, "decoder")

    assert (weights.triu(1).sum((-1, -2)) > 0).all()
    assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    right = follow(checkpoint, [SENTENCE], explain=True)[0].translation.attention["decoder"]
    assert not right.triu(1).any()


@for_each_checkpoint
def test_masks_upside_down_hide_all_that_matters(name):
    """Nobody sees the source: all sentences are translated alike. The decoder sees the future."""
    checkpoint = a_checkpoint(name)

    one, other = (break_with(checkpoint, sentence, [UPSIDE_DOWN]) for sentence in SENTENCES)

    assert one.wrong.ids == other.wrong.ids
    assert not weights_with(checkpoint, UPSIDE_DOWN, "cross").any()
    assert not weights_with(checkpoint, UPSIDE_DOWN, "decoder").tril().any()


@for_each_checkpoint
def test_masked_late_the_future_has_had_its_share(name):
    """Rows of the decoder sum to less than one, but for the last; those of the source to one."""
    checkpoint = a_checkpoint(name)

    weights = weights_with(checkpoint, LATE, "decoder")

    sums = weights.sum(-1)
    assert (sums < 1 + 1e-5).all() and not weights.triu(1).any()
    assert (sums[..., :-1].mean(-1) < 0.99).any(-1).all()  # in each layer, but not in each head
    assert_close(sums[..., -1], torch.ones(sums.shape[:-1]))
    cross = weights_with(checkpoint, LATE, "cross")
    assert_close(cross.sum(-1), torch.ones(cross.shape[:-1]))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_fault_is_in_the_parts_whoever_wrote_the_others(work, fault):
    """A model of either implementation breaks as the other does, and is whole afterwards."""
    checkpoint = tiny()
    right = follow(checkpoint, [SENTENCE])[0]

    found = break_with(checkpoint, SENTENCE, [fault])

    with parts.using({}, alone=True):
        expected = break_with(tiny(), SENTENCE, [fault])
    assert found.wrong.ids == expected.wrong.ids
    assert found.right == right == follow(checkpoint, [SENTENCE])[0]
    assert found.change == pytest.approx(expected.change, abs=1e-3)


def test_trained_models_break():
    """Of these sentences each fault changes at least one translation, and makes the right ones less
    probable; what has no end is cut off."""
    checkpoint = a_checkpoint("en-de")
    sentences = [
        *checkpoint.examples,
        "A woman in a red coat is talking on her phone while she waits for the bus.",
        "An elderly man is walking a brown dog using a red leash.",
    ]
    for fault in FAULTS:
        found = [break_with(checkpoint, sentence, [fault]) for sentence in sentences]
        assert any(each.right.ids != each.wrong.ids for each in found), fault
        assert sum(each.change for each in found) < 0
        assert all(len(each.wrong.ids) <= experiments.ENOUGH for each in found)


@for_each_checkpoint
def test_layers_say_what_add_and_norm_are_for(name):
    """Without the norm the numbers grow with every layer of both sides; trained tokens become one
    another without the residual; without a fault both models hand on the same."""
    checkpoint = a_checkpoint(name)

    none, norm, residual = (
        break_with(checkpoint, SENTENCE, faults).layers
        for faults in ([], ["the norm is missing"], ["the residual is missing"])
    )

    n_layers = checkpoint.config.n_layers
    assert none[0] == none[1] == norm[0] and len(none[0]) == 2 * n_layers
    for side in (norm[1][:n_layers], norm[1][n_layers:]):
        assert all(low.size < high.size for low, high in itertools.pairwise(side))
    if name != "tiny":
        assert residual[1][-1].alike > 0.95 > 0.5 > residual[0][-1].alike
        assert norm[1][-1].size > 100 * norm[0][-1].size


def test_a_layer_is_measured():
    """Root mean square of the numbers, mean cosine of the pairs; worked by hand."""
    same, across = torch.tensor([[3.0, 4.0]] * 2), torch.tensor([[2.0, 0.0], [0.0, 1.0]])

    assert experiments._alike(same) == pytest.approx(1)
    assert experiments._alike(across) == pytest.approx(0)
    assert experiments._alike(torch.cat([across, -across])) == pytest.approx(-1 / 3)
    assert experiments._alike(same[:1]) == 1


def test_faults_together():
    """Several parts can be wrong at once, one in two ways cannot; without a fault all is right."""
    checkpoint = a_checkpoint("tiny")

    both = break_with(checkpoint, SENTENCE, [FORGOT, LATE], explain=True).wrong
    decoder = both.translation.attention["decoder"]
    assert (decoder.triu(1).sum((-1, -2)) > 0).all()
    several = break_with(checkpoint, SENTENCE, [LATE, OTHERS[-1], "normed over the tokens"])
    assert several.change != break_with(checkpoint, SENTENCE, [LATE]).change
    none = break_with(checkpoint, SENTENCE, [])
    assert none.right.ids == none.wrong.ids and none.change == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="both replace scaled_dot_product_attention: choose one"):
        break_with(checkpoint, SENTENCE, [LATE, UPSIDE_DOWN])
    with pytest.raises(ValueError, match="fault 'bad': choose from forgot the causal mask, mask"):
        break_with(checkpoint, SENTENCE, ["bad"])


# A painted mask


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_in_force_is_shown_and_changes_nothing(work, kind):
    """Causal in the decoder, open elsewhere; painted as it was, all is as it was."""
    checkpoint = tiny()

    shown = paint(checkpoint, SENTENCE, kind, 1).before
    again = paint(checkpoint, SENTENCE, kind, 1, shown.mask).after

    path = follow(checkpoint, [SENTENCE], explain=True)[0]
    read, written = len(path.translation.source_pieces), len(path.ids)
    size = {"encoder": (read, read), "decoder": (written, written), "cross": (written, read)}[kind]
    expected = torch.ones(size, dtype=torch.bool)
    assert torch.equal(shown.mask, expected.tril() if kind == "decoder" else expected)
    assert shown.weights.shape == (H, *size) and shown.output.shape == (size[0], D)
    assert_close(shown.weights, path.translation.attention[kind][1])
    assert [step.chosen.id for step in shown.steps] == path.ids
    for name in ("mask", "weights", "output"):
        assert_close(getattr(again, name), getattr(shown, name))
    assert [s.chosen.probability for s in again.steps] == pytest.approx(
        [s.chosen.probability for s in shown.steps]
    )


@pytest.mark.parametrize("name", ["tiny", "en-de"])
@pytest.mark.parametrize("kind", KINDS)
def test_masking_is_looking_at_the_rest(name, kind):
    """Hidden keys get nothing, the others what they had, divided by its sum; rows left as they
    were give what they gave."""
    checkpoint = a_checkpoint(name)
    before = paint(checkpoint, SENTENCE, kind, 0).before
    mask = before.mask.clone()
    mask[2:, 1] = False  # what is not in the first two rows

    after = paint(checkpoint, SENTENCE, kind, 0, mask.tolist()).after

    left = before.weights * mask
    assert torch.equal(after.mask, mask)
    assert_close(after.weights, left / left.sum(-1, keepdim=True), atol=1e-5, rtol=1e-4)
    assert_close(after.output[:2], before.output[:2])
    assert not torch.allclose(after.output[2:], before.output[2:])
    changed = [a != b for a, b in zip(after.steps, before.steps, strict=True)]
    assert any(changed)


def test_a_painted_future_is_seen():
    """A mask of all True lets the decoder look ahead; a row of all False sees nothing."""
    checkpoint = a_checkpoint("tiny")
    mask = torch.ones_like(paint(checkpoint, SENTENCE, "decoder", 1).before.mask)
    mask[1] = False

    painted = paint(checkpoint, SENTENCE, "decoder", 1, mask)

    assert (painted.after.weights[:, 0].min(-1).values > 0).all()
    assert not painted.after.weights[:, 1].any()
    bias = checkpoint.model.decoder.layers[1].self_attention.out_proj.bias
    assert_close(painted.after.output[1], bias.detach().float())
    assert not painted.before.weights[:, 0, 1:].any()


def test_a_target_of_one_s_own():
    """Given ids in place of the model's translation; the model is left alone."""
    checkpoint = a_checkpoint("tiny")
    ids = [7, 9, 30, EOS_ID]

    found = paint(checkpoint, SENTENCE, "cross", 0, target=ids).before

    assert found.weights.shape[1] == len(ids)
    assert [step.chosen.id for step in found.steps] == ids
    assert not any(module._forward_hooks for module in checkpoint.model.modules())
    assert not any(module._forward_pre_hooks for module in checkpoint.model.modules())


@pytest.mark.parametrize(
    "mask, message",
    [
        ([[True, False]], r"paint a mask of 2 rows \(queries\) and 2 columns .* \[1, 2\]"),
        ([[1, 0], [1, 1]], r"True or False; this one is \[2, 2\] of torch.int64"),
        ([[True], [True, False]], "paint a mask of 2 rows"),
        ("all", "paint a mask of 2 rows"),
    ],
)
def test_masks_that_do_not_fit(mask, message):
    """What is asked for, and what was given."""
    with pytest.raises(ValueError, match=message):
        paint(a_checkpoint("tiny"), SENTENCE, "decoder", 0, mask, target=[7, EOS_ID])


def test_an_attention_that_is_not_there():
    """Kinds and layers by name; a target has a piece."""
    checkpoint = a_checkpoint("tiny")

    with pytest.raises(ValueError, match="kind 'self': choose from encoder, decoder, cross"):
        paint(checkpoint, SENTENCE, "self", 0)
    with pytest.raises(ValueError, match=f"in layer {LAYERS}: the model has"):
        paint(checkpoint, SENTENCE, "cross", LAYERS)
    with pytest.raises(ValueError, match="the target is empty"):
        paint(checkpoint, SENTENCE, "cross", 0, target=[])


# Positions


@pytest.mark.parametrize("seed", range(3))
def test_without_positions_order_does_not_matter(work, seed):
    """A law of the encoder: its outputs and weights are the same, shuffled, in float64."""
    encoder = without_positions(tiny()).model
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 300, (2, 9), generator=generator)
    order = torch.randperm(9, generator=generator)

    with torch.no_grad():
        assert_close(encoder.encode(ids[:, order]), encoder.encode(ids)[:, order])
        with_positions = tiny().model
        assert not torch.allclose(
            with_positions.encode(ids[:, order]), with_positions.encode(ids)[:, order]
        )


@for_each_checkpoint
@pytest.mark.parametrize("order", [None, "reversed"])
def test_the_same_attention_shuffled(name, order):
    """Without positions the weights move with the pieces, and the translation stays; with them
    neither."""
    checkpoint = a_checkpoint(name)
    length = len(checkpoint.tokenizer.encode(SENTENCE))
    order = order and [*range(length)][::-1]

    without = shuffle(checkpoint, SENTENCE, order, seed=3)
    with_ = shuffle(checkpoint, SENTENCE, order, seed=3, positions=True)

    assert without.difference < 1e-5
    assert without.before.ids == without.after.ids
    assert with_.difference > 0.01
    for found in (without, with_):
        pieces = found.before.translation.source_pieces
        assert found.after.translation.source_pieces == [pieces[place] for place in found.order]
        for row, column in [(0, 1), (2, length - 1)]:
            apart = (
                found.weights_after[..., row, column]
                - found.weights_before[..., found.order[row], found.order[column]]
            )
            assert apart.abs().max().item() <= found.difference + 1e-9
    assert without.order == with_.order != [*range(length)]


def test_a_seed_leaves_the_end_where_it_is():
    """A permutation, the same for the same seed, with </s> last."""
    checkpoint = a_checkpoint("tiny")

    first, again, other = (shuffle(checkpoint, SENTENCE, seed=n).order for n in (1, 1, 2))

    assert first == again != other
    assert sorted(first) == [*range(len(first))] and first[-1] == len(first) - 1


@pytest.mark.parametrize("order", [[0, 1], [0] * 50])
def test_an_order_names_each_place_once(order):
    """Anything else is said to be none."""
    with pytest.raises(ValueError, match="name each place from 0 to"):
        shuffle(a_checkpoint("tiny"), SENTENCE, order)


def test_products_of_positions_hang_on_their_distance():
    """PE·PEᵀ is constant along its diagonals: the sum of cos(distance · frequency)."""
    length, d_model = 11, 14

    found = positions(length, d_model)

    assert found.table.shape == (length, d_model) and found.products.shape == (length, length)
    frequencies = [10_000 ** (-2 * i / d_model) for i in range(d_model // 2)]
    for p in range(length):
        for q in range(length):
            expected = sum(math.cos((p - q) * frequency) for frequency in frequencies)
            assert found.products[p, q].item() == pytest.approx(expected, abs=1e-4)


def test_each_column_is_one_wave():
    """Sine and cosine in turn, of the wavelength told, from 2π on."""
    found = positions(30, 6)

    place = torch.arange(30, dtype=torch.float64)
    for column, wavelength in enumerate(found.wavelengths):
        wave = (torch.sin, torch.cos)[column % 2](2 * math.pi * place / wavelength)
        assert_close(found.table[:, column], wave.float(), atol=1e-5, rtol=0)
    assert found.wavelengths[0] == found.wavelengths[1] == pytest.approx(2 * math.pi)


def test_positions_are_those_in_force():
    """A part of somebody's own shows in the table."""
    with parts.using(
        {"sinusoidal_positions": lambda max_len, d_model: torch.ones(max_len, d_model)}
    ):
        found = positions(3, 4)

    assert_close(found.products, torch.full((3, 3), 4.0))
