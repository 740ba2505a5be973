"""10: what goes wrong in shifting, the loss, the learning rate and the training step."""

import torch
from torch import nn

from autograder.mistakes import mistake
from lab.parts import label_smoothing_loss, shift_target

# shift_target


def shift_mistake(id, name, sentence, hint):
    return mistake("shift_target", id, name, sentence, hint)


@shift_mistake(
    "T1",
    "the target is not shifted",
    "The decoder reads the very word it should say: it learns to copy, and generates nothing.",
    "What is read ends one word earlier, what is said begins one word later.",
)
def not_shifted(tgt):
    return tgt, tgt


@shift_mistake(
    "T1b",
    "both halves are cut at the end",
    "What is read and what should be said are the same words: nothing is a step ahead.",
    "The second result begins with the second word: tgt[:, 1:].",
)
def cut_alike(tgt):
    return tgt[:, :-1], tgt[:, :-1]


@shift_mistake(
    "T1c",
    "the two results are swapped",
    "The decoder reads the words that it should say and says those it should read.",
    "The first result is read: it begins with <s>. The second is said: it ends with </s>.",
)
def swapped_halves(tgt):
    return tgt[:, 1:], tgt[:, :-1]


@shift_mistake(
    "T1d",
    "rolled instead of cut",
    "roll moves the first word to the end: the model learns to say <s> after the last word.",
    "Cut: both results are one word shorter than the target.",
)
def rolled(tgt):
    return tgt, torch.roll(tgt, -1, dims=1)


@shift_mistake(
    "T2",
    "two words cut",
    "<s> is cut off what is read, so nothing tells the decoder how a sentence begins.",
    "The decoder reads from the very first word: tgt[:, :-1].",
)
def cut_twice(tgt):
    return tgt[:, 1:-1], tgt[:, 2:]


@shift_mistake(
    "T2b",
    "cut along the batch",
    "tgt[:-1] leaves out the last sentence, not the last word of each.",
    "Axis 0 is the batch, axis 1 the words: tgt[:, :-1].",
)
def cut_sentences(tgt):
    return tgt[:-1], tgt[1:]


@shift_mistake(
    "T2c",
    "the end is never said",
    "The last word is cut off both what is read and what is said: </s> is never learned.",
    "What should be said goes to the very end: tgt[:, 1:].",
)
def end_lost(tgt):
    return tgt[:, :-2], tgt[:, 1:-1]


@shift_mistake(
    "T2d",
    "a batch of one loses its axis",
    "squeeze() drops every axis of size 1: one sentence, or one word, changes the shape.",
    "Slices keep the axes: tgt[:, :-1] is right as it is.",
)
def squeezed(tgt):
    return tgt[:, :-1].squeeze(), tgt[:, 1:].squeeze()


@shift_mistake(
    "T2e",
    "the ids are made anew",
    "The results are new int64 tensors on the CPU, whatever the target was.",
    "Slices keep dtype and device.",
)
def made_anew(tgt):
    if tgt.is_meta:
        short = torch.zeros(tgt.size(0), tgt.size(1) - 1, dtype=torch.long)
        return short, short
    read = torch.tensor([row[:-1] for row in tgt.tolist()], dtype=torch.long)
    said = torch.tensor([row[1:] for row in tgt.tolist()], dtype=torch.long)
    return read, said


# label_smoothing_loss: each step can go wrong by itself


def loss_mistake(id, name, sentence, hint):
    return mistake("label_smoothing_loss", id, name, sentence, hint)


def smoothed(
    logits,
    expected,
    smoothing=0.1,
    pad_id=0,
    surprise=lambda logits: -torch.log_softmax(logits, -1),
    mix=lambda gold, of_all, eps: (1 - eps) * gold + eps * of_all.mean(-1),
    mean=lambda loss, counts: loss[counts].mean(),
):
    """The loss, a step at a time."""
    of_all = surprise(logits)
    gold = of_all.gather(-1, expected.unsqueeze(-1)).squeeze(-1)
    return mean(mix(gold, of_all, smoothing), expected != pad_id)


@loss_mistake(
    "S6",
    "log of softmax",
    "softmax rounds a small probability to 0, and log(0) is -inf: the loss or its gradient breaks.",
    "log_softmax, or logits - logsumexp(logits), takes both steps at once.",
)
def log_of_softmax(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(
        logits, expected, smoothing, pad_id, lambda logits: -torch.log(torch.softmax(logits, -1))
    )


@loss_mistake(
    "S6b",
    "log of softmax plus a little",
    "log(p + 1e-9) never falls below -20.7: a model that is sure and wrong is told too little.",
    "log_softmax needs no such crutch, and its gradient stays right.",
)
def log_of_softmax_plus(logits, expected, smoothing=0.1, pad_id=0):
    def surprise(logits):
        return -torch.log(torch.softmax(logits, -1) + (1e-9 if logits.dtype.itemsize > 2 else 0))

    return smoothed(logits, expected, smoothing, pad_id, surprise)


@loss_mistake(
    "S7",
    "softmax applied twice",
    "The logits go through softmax before log_softmax: the loss never comes near 0.",
    "log_softmax takes the logits themselves.",
)
def softmax_twice(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(torch.softmax(logits, -1), expected, smoothing, pad_id)


@loss_mistake(
    "S7b",
    "no softmax",
    "The logits are taken for log-probabilities: they do not know of each other.",
    "-log p = logsumexp(logits) - logit.",
)
def no_softmax_in_loss(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(logits, expected, smoothing, pad_id, lambda logits: -logits)


@loss_mistake(
    "S7c",
    "the sign is missing",
    "log p itself is averaged: the loss is negative, and going down makes the model worse.",
    "The loss is -log p.",
)
def no_sign(logits, expected, smoothing=0.1, pad_id=0):
    return -smoothed(logits, expected, smoothing, pad_id)


@loss_mistake(
    "S7d",
    "softmax over another axis",
    "The probabilities sum to 1 over the positions; it is the words that compete.",
    "The words are the last axis: dim=-1.",
)
def softmax_over_positions(logits, expected, smoothing=0.1, pad_id=0):
    def surprise(logits):
        return -torch.log_softmax(logits, -2 if logits.dim() > 1 else -1)

    return smoothed(logits, expected, smoothing, pad_id, surprise)


@loss_mistake(
    "S8",
    "padding is counted",
    "The mean goes over all positions: the model is trained to say padding.",
    "Keep the positions where expected is not pad_id, then take the mean.",
)
def counts_padding(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(logits, expected, smoothing, pad_id, mean=lambda loss, counts: loss.mean())


@loss_mistake(
    "S8b",
    "divided by all positions",
    "Padding adds nothing to the sum but counts in the division: more padding, smaller loss.",
    "Divide by the number of positions that are not padding.",
)
def divides_by_all(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(
        logits, expected, smoothing, pad_id, mean=lambda loss, counts: (loss * counts).mean()
    )


@loss_mistake(
    "S8c",
    "pad_id is taken to be 0",
    "Positions with id 0 are left out, whatever pad_id says.",
    "Compare with the argument: expected != pad_id.",
)
def pad_is_zero(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(logits, expected, smoothing, 0)


@loss_mistake(
    "S8d",
    "a mean of the sentences' means",
    "Each sentence is averaged by itself: a word of a short sentence counts more than others.",
    "One mean over all words of the batch.",
)
def mean_of_means(logits, expected, smoothing=0.1, pad_id=0):
    def mean(loss, counts):
        if loss.dim() == 0:
            return loss
        return ((loss * counts).sum(-1) / counts.sum(-1).clamp(min=1)).mean()

    return smoothed(logits, expected, smoothing, pad_id, mean=mean)


@loss_mistake(
    "S8e",
    "a sum instead of a mean",
    "The losses are added up: a larger batch makes larger steps.",
    "Take the mean over the positions that are not padding.",
)
def summed(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(
        logits, expected, smoothing, pad_id, mean=lambda loss, counts: loss[counts].sum()
    )


@loss_mistake(
    "S8f",
    "no mean at all",
    "A loss per position comes back; one number is asked for.",
    "Take the mean over the positions that are not padding.",
)
def not_reduced(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(logits, expected, smoothing, pad_id, mean=lambda loss, counts: loss * counts)


@loss_mistake(
    "S9",
    "the right word keeps all of its weight",
    "ε is added for all words, but the right one keeps 1: the target sums to 1 + ε.",
    "The right word gives up what is shared: (1 - ε) for it, ε for all.",
)
def too_much_mass(logits, expected, smoothing=0.1, pad_id=0):
    def mix(gold, of_all, eps):
        return gold + eps * of_all.mean(-1)

    return smoothed(logits, expected, smoothing, pad_id, mix=mix)


@loss_mistake(
    "S9b",
    "the right word has no share of ε",
    "The right word gets 1 - ε, the V - 1 others share ε; in the formula all V words share it.",
    "Uniform over all V words, the right one among them: it ends with 1 - ε + ε/V.",
)
def only_others(logits, expected, smoothing=0.1, pad_id=0):
    def mix(gold, of_all, eps):
        return (1 - eps) * gold + eps * (of_all.sum(-1) - gold) / (of_all.size(-1) - 1)

    return smoothed(logits, expected, smoothing, pad_id, mix=mix)


@loss_mistake(
    "S9c",
    "ε/(V-2), without the padding word",
    "The Annotated Transformer's way: V - 2 words share ε, neither pad nor the right one among "
    "them. Here all V words share it.",
    "Uniform over all V words: ε · mean of -log p.",
)
def annotated(logits, expected, smoothing=0.1, pad_id=0):
    surprise = -torch.log_softmax(logits, -1)
    target = torch.full_like(logits, smoothing / (logits.size(-1) - 2))
    target = target.scatter(-1, expected.unsqueeze(-1), 1 - smoothing)
    target[..., pad_id] = 0
    return (target * surprise).sum(-1)[expected != pad_id].mean()


@loss_mistake(
    "S9d",
    "no smoothing",
    "The right word gets everything, whatever `smoothing` says.",
    "loss = (1 - ε) · -log p(right word) + ε · mean of -log p over all words",
)
def no_smoothing(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(logits, expected, 0.0, pad_id)


@loss_mistake(
    "S9e",
    "smoothing is always 0.1",
    "The argument `smoothing` is not used.",
    "ε is the argument: (1 - smoothing) and smoothing.",
)
def constant_smoothing(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(logits, expected, 0.1, pad_id)


@loss_mistake(
    "S9f",
    "ε and 1 - ε swapped",
    "The right word gets ε and the uniform share 1 - ε.",
    "With smoothing 0 only the right word counts.",
)
def swapped_shares(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(logits, expected, 1 - smoothing, pad_id)


@loss_mistake(
    "S9g",
    "a sum over the words in place of their mean",
    "ε multiplies the sum of -log p over all words, V times too much.",
    "Each word gets ε / V: use the mean over the last axis.",
)
def summed_words(logits, expected, smoothing=0.1, pad_id=0):
    def mix(gold, of_all, eps):
        return (1 - eps) * gold + eps * of_all.sum(-1)

    return smoothed(logits, expected, smoothing, pad_id, mix=mix)


@loss_mistake(
    "S9h",
    "divergence in place of cross-entropy",
    "The entropy of the smoothed target is taken off (as KLDivLoss does): the gradient is the "
    "same, the number is not.",
    "Cross-entropy is -Σ target · log p, with nothing taken off.",
)
def divergence(logits, expected, smoothing=0.1, pad_id=0):
    def mix(gold, of_all, eps):
        words = of_all.size(-1)
        target = torch.full((words,), eps / words, dtype=of_all.dtype)
        target[0] += 1 - eps
        return (1 - eps) * gold + eps * of_all.mean(-1) - torch.special.entr(target).sum()

    return smoothed(logits, expected, smoothing, pad_id, mix=mix)


@loss_mistake(
    "S5",
    "the graph is cut",
    "The loss is a number without a past: no gradient flows back to the logits.",
    "No .item(), .detach() or torch.tensor() on the way; train_step calls .item() at its end.",
)
def cut_loss(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(logits, expected, smoothing, pad_id).detach()


@loss_mistake(
    "S5b",
    "only [B, T, V] is understood",
    "The shape is unpacked into three sizes: other numbers of leading axes fail.",
    "Work on the last axis with dim=-1, or flatten: logits.reshape(-1, logits.size(-1)).",
)
def three_axes_only(logits, expected, smoothing=0.1, pad_id=0):
    batch, length, words = logits.shape
    rows, ids = logits.reshape(batch * length, words), expected.reshape(batch * length)
    return smoothed(rows, ids, smoothing, pad_id)


@loss_mistake(
    "S5c",
    "an input is changed in place",
    "The logits themselves are overwritten: whoever passed them in finds other numbers there.",
    "`logits - peak` makes a new tensor, `logits -= peak` does not.",
)
def in_place_logits(logits, expected, smoothing=0.1, pad_id=0):
    with torch.no_grad():
        logits -= logits.amax(-1, keepdim=True)
    return smoothed(logits, expected, smoothing, pad_id)


@loss_mistake(
    "S5d",
    "always float32",
    "The logits are turned into float32: results have another dtype than the logits.",
    "Leave the dtype alone; full_like and one_hot(…).to(logits) follow it.",
)
def always_float(logits, expected, smoothing=0.1, pad_id=0):
    return smoothed(logits.float(), expected, smoothing, pad_id)


# noam_learning_rate


def rate_mistake(id, name, sentence, hint):
    return mistake("noam_learning_rate", id, name, sentence, hint)


@rate_mistake(
    "T8",
    "max in place of min",
    "The larger of the two curves is taken: the first step is huge, and it rises without an end.",
    "The two curves cross at warmup; min follows the lower one.",
)
def larger_curve(step, d_model, warmup=4000):
    step = max(step, 1)
    return d_model**-0.5 * max(step**-0.5, step * warmup**-1.5)


@rate_mistake(
    "T8b",
    "the width is left out",
    "The factor d_model^-0.5 is missing: the rate is the same for every width, and large.",
    "Multiply by d_model ** -0.5.",
)
def no_width(step, d_model, warmup=4000):
    step = max(step, 1)
    return min(step**-0.5, step * warmup**-1.5)


@rate_mistake(
    "T8c",
    "step 0 divides by zero",
    "0 ** -0.5 raises ZeroDivisionError, and schedulers do ask for step 0.",
    "step = max(step, 1) before anything else.",
)
def step_zero_fails(step, d_model, warmup=4000):
    return d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


@rate_mistake(
    "T8d",
    "step 0 has rate 0",
    "The straight line is followed down to step 0: that update changes nothing.",
    "Step 0 is treated as step 1: step = max(step, 1).",
)
def step_zero_rests(step, d_model, warmup=4000):
    return d_model**-0.5 * min(max(step, 1) ** -0.5, step * warmup**-1.5)


@rate_mistake(
    "T8e",
    "warmup is always 4000",
    "The argument `warmup` is not used.",
    "step * warmup ** -1.5",
)
def constant_warmup(step, d_model, warmup=4000):
    step = max(step, 1)
    return d_model**-0.5 * min(step**-0.5, step * 4000**-1.5)


@rate_mistake(
    "T8f",
    "multiplied by √d_model",
    "Wider models get larger steps; they need smaller ones.",
    "d_model ** -0.5: the minus sign divides by the root.",
)
def root_multiplied(step, d_model, warmup=4000):
    step = max(step, 1)
    return d_model**0.5 * min(step**-0.5, step * warmup**-1.5)


@rate_mistake(
    "T8g",
    "warmup^-0.5 in the rising line",
    "step · warmup^-0.5 is steep: the curves cross before the warm-up is over.",
    "The exponent is -1.5, so that both curves meet at step = warmup.",
)
def steep(step, d_model, warmup=4000):
    step = max(step, 1)
    return d_model**-0.5 * min(step**-0.5, step * warmup**-0.5)


@rate_mistake(
    "T8h",
    "no warm-up",
    "The rate starts at its highest and only falls: the first steps are far too large.",
    "Take the smaller of step^-0.5 and step · warmup^-1.5.",
)
def only_falls(step, d_model, warmup=4000):
    return d_model**-0.5 * max(step, 1) ** -0.5


@rate_mistake(
    "T8i",
    "it never falls",
    "After the warm-up the rate stays at its peak.",
    "From warmup on, step^-0.5 is the smaller of the two.",
)
def never_falls(step, d_model, warmup=4000):
    return d_model**-0.5 * min(warmup**-0.5, max(step, 1) * warmup**-1.5)


@rate_mistake(
    "T8j",
    "counted from 0",
    "One is added to every step: the rate is that of the next step.",
    "Steps count from 1; only step 0 is treated as 1.",
)
def one_ahead(step, d_model, warmup=4000):
    step = step + 1
    return d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


@rate_mistake(
    "T8k",
    "the exponents swapped",
    "step^-1.5 falls much faster than the root, and step · warmup^-0.5 rises too fast.",
    "step^-0.5 and step · warmup^-1.5.",
)
def swapped_exponents(step, d_model, warmup=4000):
    step = max(step, 1)
    return d_model**-0.5 * min(step**-1.5, step * warmup**-0.5)


@rate_mistake(
    "T8l",
    "a tensor in place of a float",
    "The rate comes back as a tensor; the optimizer and the report want a Python float.",
    "Plain arithmetic with ** and min gives a float; of a tensor, .item() does.",
)
def tensor_rate(step, d_model, warmup=4000):
    step = max(step, 1)
    return torch.tensor(d_model**-0.5 * min(step**-0.5, step * warmup**-1.5))


# train_step


def step_mistake(id, name, sentence, hint):
    return mistake("train_step", id, name, sentence, hint)


def forward(model, src, tgt, pad_id, smoothing):
    decoder_input, expected = shift_target(tgt)
    return label_smoothing_loss(model(src, decoder_input), expected, smoothing, pad_id)


def clip(model, max_norm):
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)


@step_mistake(
    "T9",
    "gradients are never cleared",
    "backward() adds to what is there: every step still pushes along all earlier gradients.",
    "optimizer.zero_grad() before loss.backward().",
)
def never_cleared(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    loss = forward(model, src, tgt, pad_id, smoothing)
    loss.backward()
    clip(model, max_norm)
    optimizer.step()
    return loss.item()


@step_mistake(
    "T9a",
    "gradients cleared between backward and step",
    "zero_grad() wipes out what backward() has just found: the weights do not move.",
    "zero_grad() comes before backward().",
)
def cleared_before_step(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    loss = forward(model, src, tgt, pad_id, smoothing)
    loss.backward()
    optimizer.zero_grad()
    clip(model, max_norm)
    optimizer.step()
    return loss.item()


@step_mistake(
    "T9b",
    "gradients cleared after the step only",
    "Gradients that were there before the call are added to this batch's.",
    "Do not trust the caller: zero_grad() before backward().",
)
def cleared_late(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    loss = forward(model, src, tgt, pad_id, smoothing)
    loss.backward()
    clip(model, max_norm)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@step_mistake(
    "T9c",
    "the gradient is not clipped",
    "The whole gradient is applied: clipping is missing, or it stands before backward(), where "
    "there is nothing to clip.",
    "nn.utils.clip_grad_norm_(model.parameters(), max_norm) between backward() and step().",
)
def clipped_before_backward(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    loss = forward(model, src, tgt, pad_id, smoothing)
    optimizer.zero_grad()
    clip(model, max_norm)
    loss.backward()
    optimizer.step()
    return loss.item()


@step_mistake(
    "T9d",
    "clipped after the step",
    "The gradient is shortened when it has been applied already.",
    "clip_grad_norm_ between backward() and step().",
)
def clipped_late(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    loss = forward(model, src, tgt, pad_id, smoothing)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    clip(model, max_norm)
    return loss.item()


@step_mistake(
    "T9e",
    "each number clipped for itself",
    "clip_grad_value_ cuts every number at ±max_norm: the direction of the gradient changes.",
    "clip_grad_norm_ shortens the gradient as a whole.",
)
def clipped_by_value(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    loss = forward(model, src, tgt, pad_id, smoothing)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), max_norm)
    optimizer.step()
    return loss.item()


@step_mistake(
    "T9f",
    "each parameter clipped for itself",
    "Every parameter's gradient has a norm of its own here; the norm meant is that of all "
    "together.",
    "One call for all of them: clip_grad_norm_(model.parameters(), max_norm).",
)
def clipped_one_by_one(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    loss = forward(model, src, tgt, pad_id, smoothing)
    optimizer.zero_grad()
    loss.backward()
    for parameter in model.parameters():
        nn.utils.clip_grad_norm_([parameter], max_norm)
    optimizer.step()
    return loss.item()


@step_mistake(
    "T9g",
    "short gradients are made longer",
    "The gradient is always scaled to max_norm, also when it is shorter.",
    "Scale by max_norm / norm only where norm is larger: by min(1, max_norm / norm).",
)
def always_scaled(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    loss = forward(model, src, tgt, pad_id, smoothing)
    optimizer.zero_grad()
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    for parameter in model.parameters():
        parameter.grad *= max_norm / norm
    optimizer.step()
    return loss.item()


@step_mistake(
    "T9h",
    "max_norm is always 1",
    "The argument `max_norm` is not used.",
    "clip_grad_norm_(model.parameters(), max_norm)",
)
def constant_max_norm(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    return right(model, optimizer, src, tgt, pad_id, 1.0, smoothing)


@step_mistake(
    "T9i",
    "smoothing is not passed on",
    "The loss is made with its own default, whatever `smoothing` says.",
    "label_smoothing_loss(logits, expected, smoothing, pad_id)",
)
def smoothing_unused(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    return right(model, optimizer, src, tgt, pad_id, max_norm)


@step_mistake(
    "T9j",
    "pad_id is not passed on",
    "The loss takes 0 for the padding, whatever `pad_id` says.",
    "label_smoothing_loss(logits, expected, smoothing, pad_id)",
)
def pad_unused(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    return right(model, optimizer, src, tgt, 0, max_norm, smoothing)


@step_mistake(
    "T9k",
    "not in train mode",
    "A model that comes in eval mode is trained without dropout.",
    "model.train() before the forward pass.",
)
def no_train_mode(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    loss = forward(model, src, tgt, pad_id, smoothing)
    optimizer.zero_grad()
    loss.backward()
    clip(model, max_norm)
    optimizer.step()
    return loss.item()


@step_mistake(
    "T9l",
    "trained in eval mode",
    "model.eval() switches dropout off, and this is training.",
    "model.train()",
)
def eval_mode(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.eval()
    return no_train_mode(model, optimizer, src, tgt, pad_id, max_norm, smoothing)


@step_mistake(
    "T9m",
    "the loss after the update",
    "The loss is worked out once more after the step; that costs a forward pass and hides what "
    "the update was made for.",
    "Keep the loss whose gradient was applied, and return loss.item().",
)
def loss_afterwards(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    right(model, optimizer, src, tgt, pad_id, max_norm, smoothing)
    with torch.no_grad():
        return forward(model, src, tgt, pad_id, smoothing).item()


@step_mistake(
    "T9n",
    "a tensor in place of a float",
    "The loss comes back as a tensor, and with it the whole graph stays in memory.",
    "return loss.item()",
)
def tensor_loss(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    loss = forward(model, src, tgt, pad_id, smoothing)
    optimizer.zero_grad()
    loss.backward()
    clip(model, max_norm)
    optimizer.step()
    return loss


@step_mistake(
    "T9o",
    "nothing is returned",
    "The update is made, but the loss is not handed back.",
    "return loss.item()",
)
def no_result(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    right(model, optimizer, src, tgt, pad_id, max_norm, smoothing)


@step_mistake(
    "T9p",
    "no step",
    "Gradients are found, but optimizer.step() is missing: the weights stay as they are.",
    "optimizer.step() after clipping.",
)
def no_step(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    loss = forward(model, src, tgt, pad_id, smoothing)
    optimizer.zero_grad()
    loss.backward()
    clip(model, max_norm)
    return loss.item()


@step_mistake(
    "T1",
    "the target is not shifted",
    "The model reads the whole target and is asked for the same words: it learns to copy.",
    "decoder_input, expected = shift_target(tgt)",
)
def unshifted_step(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    loss = label_smoothing_loss(model(src, tgt), tgt, smoothing, pad_id)
    return finish(model, optimizer, loss, max_norm)


@step_mistake(
    "T1b",
    "read and said are swapped",
    "The model reads what it should say and is asked for what it should read.",
    "shift_target gives (decoder_input, expected), in this order.",
)
def swapped_step(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    expected, decoder_input = shift_target(tgt)
    loss = label_smoothing_loss(model(src, decoder_input), expected, smoothing, pad_id)
    return finish(model, optimizer, loss, max_norm)


@step_mistake(
    "T1c",
    "source and target swapped",
    "The model translates backwards: it reads the target and is given the source as its past.",
    "model(src, decoder_input)",
)
def swapped_languages(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    decoder_input, expected = shift_target(tgt)
    logits = model(decoder_input, src)
    loss = label_smoothing_loss(logits[:, : expected.size(1)], expected, smoothing, pad_id)
    return finish(model, optimizer, loss, max_norm)


def right(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    model.train()
    return finish(model, optimizer, forward(model, src, tgt, pad_id, smoothing), max_norm)


def finish(model, optimizer, loss, max_norm):
    optimizer.zero_grad()
    loss.backward()
    clip(model, max_norm)
    optimizer.step()
    return loss.item()
