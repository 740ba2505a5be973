"""10 Training by teacher forcing."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from autograder.checks import PAD, B, H, K, S, T, V, check, holds, same, same_with_gradients

# shift_target


@check("shift_target", points=2)
def test_shift_by_hand(work, draw):
    """The decoder reads all but the last word, and should say all but the first."""
    tgt = torch.tensor([[1, 5, 7, 2], [1, 6, 2, 0]])

    found = work.shift_target(tgt)

    read, said = torch.tensor([[1, 5, 7], [1, 6, 2]]), torch.tensor([[5, 7, 2], [6, 2, 0]])
    law = "of <s> 5 7 </s> the decoder reads (result[0]) <s> 5 7, and should say 5 7 </s>"
    same(found, (read, said), law)


@check("shift_target", points=1)
def test_shift_of_one_sentence_and_of_one_token(work, draw):
    """A batch of one stays a batch; a target of one token leaves two empty halves."""
    one = draw.ids(1, T)
    law = "a batch of one sentence gives [1, T-1] twice"
    same(work.shift_target(one), (one[:, :-1], one[:, 1:]), law)
    two = draw.ids(B, 2)
    same(work.shift_target(two), (two[:, :1], two[:, 1:]), "two tokens give [B, 1] twice")
    empty = torch.zeros(H, 0, dtype=torch.long)
    law = "a target of one token gives two tensors of shape [B, 0]"
    same(work.shift_target(draw.ids(H, 1)), (empty, empty), law)


@check("shift_target", points=1)
def test_shift_keeps_the_target(work, draw):
    """The target stays as it was; ids stay ids, on their device."""
    tgt = draw.sentences(H, T, PAD)

    work.shift_target(tgt)
    holds(draw.untouched(), "shift_target leaves the target as it was", "the target has changed")
    small = tgt.int()
    law = "ids keep their dtype: int32 in, int32 out"
    same(work.shift_target(small), (small[:, :-1], small[:, 1:]), law)
    read, said = work.shift_target(tgt.to("meta"))
    holds(read.is_meta and said.is_meta, "both halves are on the target's device", "one has moved")


# label_smoothing_loss


@check("label_smoothing_loss", points=2)
def test_loss_is_the_smoothed_cross_entropy(work, draw):
    """The right word gets 1 - ε and all words share ε: value and gradient are the formula's."""
    logits, expected = draw(B, T, V), draw.ids(B, T)

    found = work.label_smoothing_loss(logits, expected)

    law = "loss = (1 - ε) · -log p(right word) + ε · the mean of -log p over all V words, ε = 0.1"
    same_with_gradients(found, _loss(logits, expected, 0.1), [logits], law)


@check("label_smoothing_loss", points=1)
def test_loss_by_hand(work, draw):
    """Chances of 1/4, 1/2, 1/8, 1/8: ln 2 without smoothing, 1.5 · ln 2 with ε = 0.4."""
    logits = torch.tensor([[4, 2, 8, 8]], dtype=torch.float64).reciprocal().log()
    expected = torch.tensor([1])

    for smoothing, bits in ((0.0, 1.0), (0.4, 1.5)):  # 0.7·1 + 0.1·2 + 0.1·3 + 0.1·3
        found = work.label_smoothing_loss(logits, expected, smoothing)
        law = f"with ε={smoothing} the loss is {bits} · ln 2"
        same(found, torch.tensor(bits * math.log(2), dtype=torch.float64), law)


@check("label_smoothing_loss", points=2)
def test_padding_does_not_count(work, draw):
    """However much padding is appended, loss and gradients stay the same."""
    logits, ids = draw(B, S, V), draw.ids(B, S).clone()
    ids[0, 0] = 0  # a word like any other, where pad_id is 1
    for start, law in ((T, "two columns of padding"), (2, "five columns of padding")):
        expected = ids.masked_fill(torch.arange(S) >= start, PAD)
        found = work.label_smoothing_loss(logits, expected, 0.1, PAD)
        wanted = _loss(logits[:, :start], ids[:, :start], 0.1)
        same_with_gradients(
            found, wanted, [logits], f"{law} change nothing: the mean is over words"
        )


@check("label_smoothing_loss", points=1)
def test_every_word_counts_alike(work, draw):
    """For any leading axes it is one mean over all words: long sentences count more."""
    logits = draw(B, H, T, V)
    expected = draw.ids(B, H, T)
    lengths = torch.tensor([[1, 5, 2], [4, 1, 3]]).unsqueeze(-1)
    padded = expected.masked_fill(torch.arange(T) >= lengths, PAD)

    law = "the mean is over the words of all sentences together, not over means of sentences"
    found = work.label_smoothing_loss(logits, padded, 0.1, PAD)
    same(found, _loss(logits, padded, 0.1, PAD), law)
    law = "logits of shape [V] and a single id give the loss of that word"
    found = work.label_smoothing_loss(logits[0, 0, 0], expected[0, 0, 0], 0.1, PAD)
    same(found, _loss(logits[0, 0, :1], expected[0, 0, :1], 0.1), law)


@check("label_smoothing_loss", points=1)
def test_loss_of_huge_logits(work, draw):
    """A model that is sure and wrong gets a large loss, not inf, and a finite gradient."""
    logits, expected = draw(B, T, V), draw.ids(B, T)

    law = "the loss stays finite for logits of ±10,000: take log-softmax in one step"
    found = work.label_smoothing_loss(logits * 1e4, expected)
    same_with_gradients(found, _loss(logits * 1e4, expected, 0.1), [logits], law)


@check("label_smoothing_loss", points=1)
def test_loss_keeps_its_inputs(work, draw):
    """Logits and ids stay as they were; float32 gives float32, float16 gives float16."""
    logits, expected = draw(B, T, V), draw.sentences(B, T, PAD)

    work.label_smoothing_loss(logits, expected, 0.1, PAD)
    holds(draw.untouched(), "the loss leaves its inputs as they were", "logits or ids have changed")
    for dtype in (torch.float32, torch.float16):
        typed = logits.detach().to(dtype)
        wanted = _loss(logits, expected, 0.1, PAD).to(dtype)
        found = work.label_smoothing_loss(typed, expected, 0.1, PAD)
        same(found, wanted, "the loss has the dtype of the logits")


def _loss(logits, expected, smoothing, pad_id=-1):
    """Torch's own."""
    rows = logits.reshape(-1, logits.size(-1))
    return F.cross_entropy(
        rows, expected.reshape(-1), ignore_index=pad_id, label_smoothing=smoothing
    )


# noam_learning_rate


@check("noam_learning_rate", points=1)
def test_rate_rises_while_it_warms_up(work, draw):
    """Up to `warmup` the rate rises in a straight line: twice the step, twice the rate."""
    found = [_rate(work, step, 16, 100) for step in (1, 2, 50, 100)]

    law = "while step ≤ warmup: rate = d_model^-0.5 · step · warmup^-1.5, here step / 4000"
    same(found, [0.00025, 0.0005, 0.0125, 0.025], law)


@check("noam_learning_rate", points=1)
def test_rate_falls_afterwards(work, draw):
    """After `warmup` it falls with the root of the step: four times the step, half the rate."""
    found = [_rate(work, step, 16, 100) for step in (100, 400, 1600, 10_000)]

    law = "from warmup on: rate = d_model^-0.5 · step^-0.5; the peak at step 100 is 1/4 · 1/10"
    same(found, [0.025, 0.0125, 0.00625, 0.0025], law)


@check("noam_learning_rate", points=1)
def test_rate_depends_on_width_and_warmup(work, draw):
    """Wider models take smaller steps; warmup is 4000 unless it is given."""
    law = "at the peak the rate is (d_model · warmup)^-0.5; here d_model=512 and warmup=4000"
    same(_rate(work, 4000, 512), (512 * 4000) ** -0.5, law)
    law = "the rate is proportional to d_model^-0.5, and warmup is the argument"
    found = [_rate(work, 3, width, warmup) for width, warmup in ((4, 9), (25, 9))]
    same(found, [3 / 27 / 2, 3 / 27 / 5], law)


@check("noam_learning_rate", points=1)
def test_rate_of_step_zero(work, draw):
    """Step 0 is treated as step 1, and the rate is a Python float."""
    found = work.noam_learning_rate(0, 16, 100)

    law = "schedulers ask for step 0 as well: its rate is that of step 1, a Python float"
    same(found, 0.00025, law)


def _rate(work, *args):
    """The rate as a number; that it is a float is asked once, above."""
    found = work.noam_learning_rate(*args)
    return found.item() if isinstance(found, torch.Tensor) else found


# train_step


@check("train_step", points=2)
def test_step_goes_down_the_gradient(work, draw):
    """Three steps leave the weights where plain gradient descent on the shifted target does."""
    model, src, tgt = _setting(draw)
    by_hand = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)

    for number in (1, 2, 3):
        work.train_step(model, optimizer, src, tgt, max_norm=1e6)
        _descend(by_hand, 0.5, src, tgt)
        law = f"after step {number} the weights are w - rate · gradient of the loss"
        same(_weights(model), _weights(by_hand), law, 1e-5)


@check("train_step", points=1)
def test_step_returns_the_loss_before_it(work, draw):
    """The result is the loss of this batch before the update, as a Python float."""
    model, src, tgt = _setting(draw)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    wanted = _loss_of(model, src, tgt).item()

    found = work.train_step(model, optimizer, src, tgt)
    law = "train_step returns the loss that the update was made for, loss.item()"
    same(found, wanted, law, 1e-5)


@check("train_step", points=1)
def test_step_forgets_old_gradients(work, draw):
    """Gradients left over from an earlier batch play no part."""
    model, src, tgt = _setting(draw)
    by_hand = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)

    work.train_step(model, torch.optim.SGD(model.parameters(), lr=0.5), src, tgt, max_norm=1e6)
    _descend(by_hand, 0.5, src, tgt)
    law = "backward() adds to the gradients that are there, so they are cleared before it"
    same(_weights(model), _weights(by_hand), law, 1e-5)


@check("train_step", points=2)
def test_step_clips_the_gradient(work, draw):
    """A gradient longer than max_norm is shortened to it, in the same direction, then applied."""
    for settings in ({"max_norm": 0.03}, {}):  # 1.0 unless it is given
        model, src, tgt = _setting(draw, std=4.0)
        by_hand = copy.deepcopy(model)
        optimizer = Noting(model.parameters(), lr=0.5)
        max_norm = settings.get("max_norm", 1.0)

        work.train_step(model, optimizer, src, tgt, **settings)
        norm = _descend(by_hand, 0.5, src, tgt, max_norm=max_norm)
        after = optimizer.gradients()
        kept = not any(g.any() for g in after) or all(map(torch.equal, after, optimizer.applied))
        law = "clipping stands between backward() and step()"
        holds(kept, law, "the gradients were changed after step() had applied them")
        law = f"the gradient of all parameters together has norm {norm:.2g} and is scaled to"
        law += f" max_norm={max_norm}"
        same(optimizer.applied, _gradients(by_hand), law, 1e-5)
        same(_weights(model), _weights(by_hand), law, 1e-5)


@check("train_step", points=1)
def test_step_is_made_in_train_mode(work, draw):
    """A model left in eval mode is put in train mode: dropout is part of training."""
    model, src, tgt = _setting(draw)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    for start in (True, False):
        model.train(start)
        model.modes.clear()
        work.train_step(model, optimizer, src, tgt)
        seen = f"it was asked in eval mode (it came in {'train' if start else 'eval'} mode)"
        holds(model.modes and all(model.modes), "the model is asked in train mode", seen)


@check("train_step", points=1)
def test_step_passes_its_settings_on(work, draw):
    """pad_id and smoothing reach the loss."""
    law = "{} is passed on to the loss"
    for pad_id, smoothing, name in ((0, 0.7, "smoothing"), (PAD, 0.1, "pad_id")):
        model, src, tgt = _setting(draw, pad_id)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        wanted = _loss_of(model, src, tgt, pad_id, smoothing).item()
        by_hand = copy.deepcopy(model)
        _descend(by_hand, 0.5, src, tgt, pad_id, smoothing)

        found = work.train_step(model, optimizer, src, tgt, pad_id, 1e6, smoothing)
        if isinstance(found, float):
            same(found, wanted, law.format(name), 1e-5)
        same(_weights(model), _weights(by_hand), law.format(name), 1e-5)


class Reader(nn.Module):
    """A small model with a Transformer's manners; it notes the mode it is asked in."""

    def __init__(self, pad_id):
        super().__init__()
        self.pad_id = pad_id
        self.embedding = nn.Embedding(V, K)
        self.projection = nn.Linear(K, V)
        self.modes = []

    def encode(self, src):
        self.modes.append(self.training)
        return self.embedding(src)

    def decode(self, tgt, memory, src):
        self.modes.append(self.training)
        read = (src != self.pad_id).unsqueeze(-1)
        return self.projection(torch.tanh(self.embedding(tgt) + (memory * read).mean(1, True)))

    def forward(self, src, tgt):
        return self.decode(tgt, self.encode(src), src)


class Noting(torch.optim.SGD):
    """Plain gradient descent that notes the gradients it applies."""

    applied = ()

    def step(self, closure=None):
        self.applied = [gradient.clone() for gradient in self.gradients()]
        return super().step(closure)

    def gradients(self):
        of = [p for group in self.param_groups for p in group["params"]]
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in of]


def _setting(draw, pad_id=0, std=0.4):
    model = draw.fill(Reader(pad_id), std)
    src, tgt = (
        draw.keep(
            draw.ids(H, size).masked_fill(torch.arange(size) >= torch.tensor(ends)[:, None], pad_id)
        )
        for size, ends in ((S, (S, 3, 4)), (T, (4, T, 2)))
    )
    return model, src, tgt


def _loss_of(model, src, tgt, pad_id=0, smoothing=0.1):
    return _loss(model(src, tgt[:, :-1]), tgt[:, 1:], smoothing, pad_id)


def _descend(model, rate, src, tgt, pad_id=0, smoothing=0.1, max_norm=math.inf):
    """One step of gradient descent, written out; the norm before it was clipped."""
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(_loss_of(model, src, tgt, pad_id, smoothing), parameters)
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient * min(1.0, max_norm / norm)
            parameter -= rate * parameter.grad
    return norm


def _weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def _gradients(model):
    return [parameter.grad for parameter in model.parameters()]
