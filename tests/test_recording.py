"""Recording: every attention weight of a run, and nothing else about the run changed."""

from threading import Thread

import pytest
import torch
from a_checkpoint import SENTENCES, a_checkpoint, for_each_checkpoint
from torch import nn
from torch.testing import assert_close

from autograder.torchs import ask, hidden
from lab import decoding
from lab.model import Config, build
from lab.recording import KINDS, keep, record
from lab.steps import follow
from lab.translation import Search, finished, translate

# All different, so that no axis and no kind can be taken for another
B, H, T, S, V, LAYERS, PAD = 5, 3, 4, 7, 11, 2, 0
CONFIG = Config(V, d_model=18, n_heads=H, n_layers=LAYERS, d_ff=8, dropout=0.0, pad_id=PAD)
SHAPES = {
    "encoder": (LAYERS, B, H, S, S),
    "decoder": (LAYERS, B, H, T, T),
    "cross": (LAYERS, B, H, T, S),
}


@pytest.fixture
def model(work, draw):
    return draw.fill(build(CONFIG))


@pytest.fixture
def sentences(draw):
    return draw.sentences(B, S, PAD, V), draw.sentences(B, T, PAD, V)


def attentions(model, kind):
    side, name = KINDS[kind]
    return [getattr(layer, name) for layer in getattr(model, side).layers]


@pytest.mark.parametrize("kind", SHAPES)
def test_weights_are_those_torch_finds(model, sentences, kind):
    """Layer by layer: nn.MultiheadAttention, asked what each attention module was asked."""
    asked = {}
    for attention in attentions(model, kind):
        attention.register_forward_pre_hook(lambda module, inputs: asked.update({module: inputs}))

    with record(model) as attention_of:
        model(*sentences)

    torchs = nn.MultiheadAttention(CONFIG.d_model, H, batch_first=True, dtype=torch.float64)
    expected = []
    for attention in attentions(model, kind):
        *query_key_value, mask = asked[attention]
        hide = hidden(mask, *SHAPES[kind][1:])
        answer = ask(
            torchs, attention, *query_key_value, attn_mask=hide, average_attn_weights=False
        )
        expected.append(answer[1])
    assert attention_of[kind].shape == SHAPES[kind]
    assert not attention_of[kind].requires_grad
    assert_close(attention_of[kind], torch.stack(expected).detach())


def test_weights_obey_the_masks(model, sentences):
    """No weight on padding, none on the future, and all of every row on what is left."""
    src, tgt = sentences

    with record(model) as attention:
        model(src, tgt)

    assert not attention["encoder"].masked_select((src == PAD)[:, None, None, :]).any()
    assert not attention["cross"].masked_select((src == PAD)[:, None, None, :]).any()
    assert not attention["decoder"].triu(1).any()
    for kind in KINDS:
        sums = attention[kind].sum(-1)
        assert_close(sums, torch.ones_like(sums))


def test_recording_changes_no_result(model, sentences):
    """Logits and gradients are the same to the last bit."""

    def run():
        logits = model(*sentences)
        gradients = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
        return [logits, *gradients]

    before = run()
    with record(model):
        during = run()

    assert all(torch.equal(a, b) for a, b in zip(before, during, strict=True))


def test_every_call_is_kept(model, sentences):
    """Writing token by token leaves one recording per step, the last one at hand."""
    src, tgt = sentences

    with record(model) as attention:
        memory = model.encode(src)
        for length in range(1, T + 1):
            model.decode(tgt[:, :length], memory, src)

    assert len(attention.calls("encoder")) == 1
    assert [weights.shape[-2:] for weights in attention.calls("cross")] == [
        (length, S) for length in range(1, T + 1)
    ]
    assert torch.equal(attention["decoder"], attention.calls("decoder")[-1])


def test_recordings_do_not_see_each_other(model, sentences):
    """An inner block records its own calls, the outer one all of them."""
    with record(model) as outer:
        with record(model) as inner:
            model(*sentences)
        model(*sentences)

    assert len(inner.calls("cross")) == 1
    assert len(outer.calls("cross")) == 2


def hooks(model):
    return [hook for module in model.modules() for hook in module._forward_hooks]


def test_hooks_go_with_the_block(model, sentences):
    """Also when the block fails, and when there is nothing to record."""
    with record(model) as attention:
        assert len(hooks(model)) == 3 * LAYERS
    assert not hooks(model)
    model(*sentences)
    assert not attention.calls("cross")

    with pytest.raises(ZeroDivisionError), record(model):
        raise ZeroDivisionError
    assert not hooks(model)

    del model.decoder.layers[-1].cross_attention
    with pytest.raises(AttributeError, match="cross_attention"), record(model):
        pass
    assert not hooks(model)


def test_asking_for_what_is_not_there(model):
    """A wrong kind names the right ones; a kind without calls says to run the model."""
    with record(model) as attention:
        pass

    with pytest.raises(KeyError, match="'self': choose from encoder, decoder, cross"):
        attention["self"]
    with pytest.raises(LookupError, match="no cross attention was recorded: run the model"):
        attention["cross"]


def test_other_threads_are_not_recorded(model, sentences):
    """A session that runs the same model meanwhile leaves no trace."""
    with record(model) as attention:
        thread = Thread(target=lambda: model(*sentences))
        thread.start()
        thread.join()
        assert not attention.calls("cross")
        model(*sentences)

    assert len(attention.calls("cross")) == 1


# What the fast search keeps

BOS, EOS, MAX_LEN = 1, 2, 9
SEARCHES = {
    "greedy": lambda *given: decoding.greedy_decode(*given, BOS, EOS, MAX_LEN)[0].tolist(),
    "sample": lambda *given: decoding.sample_decode(*given, BOS, EOS, MAX_LEN)[0].tolist(),
    "beam": lambda *given: decoding.beam_search(*given, BOS, EOS, 4, MAX_LEN)[0][0],
}


@pytest.mark.parametrize("search", SEARCHES)
def test_what_was_kept_is_what_one_pass_records(draw, search):
    """Weights and logits of every step, those of a beam's best sentence too."""
    for _ in range(4):
        model, src = draw.fill(build(CONFIG)), draw.ids(1, S)

        with keep(model) as kept:
            ids = SEARCHES[search](model, src)
        with record(model) as attention:
            expected = model(src, torch.tensor([ids[:-1]]))

        found = kept.find(src[0].tolist(), ids)
        assert found is not None
        assert_close(found[0], expected[0].detach())
        for kind in KINDS:
            assert not found[1][kind].is_inference(), "whoever asked may go on computing with it"
            assert_close(found[1][kind], attention[kind][:, 0])


def test_nothing_is_kept_of_what_was_not_asked_for(draw):
    """Another model, a batch, other ids, and what comes after the block."""
    model, other = (draw.fill(build(CONFIG)) for _ in range(2))
    src = draw.ids(2, S)

    with keep(model) as kept:
        decoding.greedy_decode(other, src[:1], BOS, EOS, MAX_LEN)
        decoding.greedy_decode(model, src, BOS, EOS, MAX_LEN)
        decoding.greedy_decode(model, src[:1], BOS, EOS, MAX_LEN, cache=False)
        assert not kept.runs
        ids = decoding.greedy_decode(model, src[:1], BOS, EOS, MAX_LEN)[0].tolist()
    decoding.greedy_decode(model, src[1:], BOS, EOS, MAX_LEN)

    assert len(kept.runs) == 1
    source = src[0].tolist()
    assert kept.find(source, ids) is not None
    for written in ([BOS], [BOS, *ids], [*ids, EOS]):
        assert kept.find(source, written) is None
    assert kept.find(src[1].tolist(), ids) is None


@for_each_checkpoint
@pytest.mark.parametrize("method", SEARCHES)
def test_explaining_one_sentence_reads_nothing_again(name, method):
    """Its weights are those of its steps, to rounding the ones of one more pass."""
    checkpoint, passes = a_checkpoint(name), []
    hook = checkpoint.model.register_forward_hook(lambda *_: passes.append(1))

    [path] = follow(checkpoint, SENTENCES[:1], Search(method), explain=True, max_len=20)
    [usual] = translate(checkpoint, SENTENCES[:1], Search(method), explain=True, max_len=20)
    before = len(passes)
    source = torch.tensor([checkpoint.tokenizer.encode(SENTENCES[0])])
    target = torch.tensor([[BOS, *path.ids]])
    [again] = finished(checkpoint, SENTENCES[:1], source, target, explain=True)

    hook.remove()
    assert (before, len(passes)) == (0, 1)
    for found in (path.translation, usual):
        assert found.log_probability == pytest.approx(again.log_probability, abs=1e-3)
        for kind in KINDS:
            assert_close(found.attention[kind], again.attention[kind], atol=1e-5, rtol=0)
