"""10 written otherwise."""

import math

import torch
import torch.nn.functional as F

from lab.parts import label_smoothing_loss, shift_target

# shift_target


def shift_by_narrow(tgt):
    """narrow, and a tuple out of a generator."""
    return tuple(tgt.narrow(1, start, tgt.size(1) - 1) for start in (0, 1))


def shift_by_index(tgt):
    """Columns by their numbers, counted out."""
    read = torch.arange(tgt.size(1) - 1, device=tgt.device)
    return tgt.index_select(1, read), tgt.index_select(1, read + 1)


def shift_in_list(tgt, *, copies=True):
    """Copies, in a list."""
    decoder_input, expected = tgt[..., :-1], tgt[..., 1:]
    return [decoder_input.clone(), expected.clone()] if copies else [decoder_input, expected]


# label_smoothing_loss


def loss_with_target(logits, expected, smoothing=0.1, pad_id=0):
    """The smoothed target written out, as in the paper."""
    words = logits.size(-1)
    target = torch.full_like(logits, smoothing / words)
    target = target + (1 - smoothing) * F.one_hot(expected, words).to(logits)
    per_position = -(target * F.log_softmax(logits, dim=-1)).sum(-1)
    counts = (expected != pad_id).to(logits)
    return (per_position * counts).sum() / counts.sum()


def loss_position_by_position(logits, expected, smoothing=0.1, pad_id=0):
    """A loop over the words of the batch."""
    losses = []
    rows = logits.reshape(-1, logits.shape[-1])
    for row, word in zip(rows, expected.reshape(-1).tolist(), strict=True):
        if word == pad_id:
            continue
        log_p = row - torch.logsumexp(row, 0)
        losses.append(-(1 - smoothing) * log_p[word] - smoothing * log_p.mean())
    return torch.stack(losses).mean()


def loss_by_selection(logits, expected, smoothing=0.1, pad_id=0, *, reduce=torch.mean):
    """Padding thrown out first, by numpy-style indexing; the peak by hand."""
    real = expected.ne(pad_id)
    kept, words = logits[real], expected[real]
    shifted = kept - kept.amax(-1, keepdim=True).detach()
    log_total = shifted.exp().sum(-1).log()
    right = shifted[torch.arange(len(words)), words]
    return reduce(log_total - (1 - smoothing) * right - smoothing * shifted.mean(-1))


def loss_by_einsum(logits, expected, smoothing=0.1, pad_id=0):
    """einsum, take_along_dim, and weights instead of a choice."""
    log_p = logits.log_softmax(-1)
    weight = (expected != pad_id).to(log_p.dtype)
    weight = weight / weight.sum()
    gold = torch.take_along_dim(log_p, expected[..., None], -1)[..., 0]
    mixed = torch.lerp(gold, log_p.mean(-1), smoothing)
    return -torch.einsum("i,i->", mixed.reshape(-1), weight.reshape(-1))


# noam_learning_rate


def rate_by_cases(step, d_model, warmup=4000):
    """Two cases in place of min."""
    if step < 1:
        step = 1
    if step < warmup:
        return step / (math.sqrt(d_model) * warmup * math.sqrt(warmup))
    return 1 / math.sqrt(d_model * step)


def rate_by_tensors(step, d_model, warmup=4000):
    """torch for arithmetic, a float at the end."""
    step = torch.tensor(step, dtype=torch.float64).clamp(min=1)
    both = torch.stack([step.rsqrt(), step * warmup**-1.5])
    return (both.min() / d_model**0.5).item()


def rate_by_peak(step, d_model, warmup=4000, *, factor=1.0):
    """The peak, times how far from it."""
    share = (step or 1) / warmup
    return factor * (d_model * warmup) ** -0.5 * min(share, share**-0.5)


# train_step


def step_in_torchs_words(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    """torch's own loss, the target cut in place."""
    model.train()
    optimizer.zero_grad(set_to_none=False)
    logits = model(src, tgt[:, :-1])
    loss = F.cross_entropy(
        logits.transpose(1, 2), tgt[:, 1:], ignore_index=pad_id, label_smoothing=smoothing
    )
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return float(loss.detach())


def step_clipped_by_hand(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    """The norm and the scaling written out; gradients cleared through the model."""
    model.train(True)
    model.zero_grad()
    read, said = shift_target(tgt)
    loss = label_smoothing_loss(model(src, read), said, smoothing=smoothing, pad_id=pad_id)
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = math.sqrt(sum(g.pow(2).sum().item() for g in gradients))
    if norm > max_norm:
        for gradient in gradients:
            gradient.mul_(max_norm / norm)
    optimizer.step()
    return loss.item()


def step_in_two_halves(model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1):
    """encode, then decode; gradients from autograd.grad, cleared before and after."""
    model.train()
    decoder_input, expected = shift_target(tgt)
    logits = model.decode(decoder_input, model.encode(src), src)
    loss = label_smoothing_loss(logits, expected, smoothing, pad_id)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters)
    norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
    share = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient * share
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


ALTERNATIVES = {
    "shift_target": [shift_by_narrow, shift_by_index, shift_in_list],
    "label_smoothing_loss": [
        loss_with_target,
        loss_position_by_position,
        loss_by_selection,
        loss_by_einsum,
    ],
    "noam_learning_rate": [rate_by_cases, rate_by_tensors, rate_by_peak],
    "train_step": [step_in_torchs_words, step_clipped_by_hand, step_in_two_halves],
}
