# %% [markdown]
"""
# 10 Training by teacher forcing

At every position the decoder is given the true words so far and asked for the next one.
"""

# %%
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# %% [markdown]
"""
## shift_target

The same sentence twice, one step apart.
"""


# %% solution="shift_target"
def shift_target(
    tgt: Int[Tensor, "B T"],
) -> tuple[Int[Tensor, "B T-1"], Int[Tensor, "B T-1"]]:
    """What the decoder reads, and what it should say next."""
    return tgt[:, :-1], tgt[:, 1:]


# %% [markdown]
"""
## label_smoothing_loss

The right word gets 1 - ε, and ε is shared by all words alike (§5.4): a model that is never quite
sure learns better.
"""


# %% solution="label_smoothing_loss"
def label_smoothing_loss(
    logits: Float[Tensor, "*axes V"],
    expected: Int[Tensor, "*axes"],
    smoothing: float = 0.1,
    pad_id: int = 0,
) -> Float[Tensor, ""]:
    """Cross-entropy with smoothed targets: the mean over the positions that are not padding."""
    surprise = torch.logsumexp(logits, dim=-1, keepdim=True) - logits  # -log p of every word
    of_expected = surprise.gather(-1, expected.unsqueeze(-1)).squeeze(-1)
    of_all = surprise.mean(dim=-1)
    loss = (1 - smoothing) * of_expected + smoothing * of_all
    return loss[expected != pad_id].mean()


# %% [markdown]
"""
## noam_learning_rate

Small steps first, while the weights still know nothing; then ever smaller ones (§5.3).
"""


# %% solution="noam_learning_rate"
def noam_learning_rate(step: int, d_model: int, warmup: int = 4000) -> float:
    """d_model^-0.5 · min(step^-0.5, step · warmup^-1.5); the first step is 1."""
    step = max(step, 1)
    return d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


# %% [markdown]
"""
## train_step

Predict, measure, find who is to blame, change a little.
"""


# %% solution="train_step"
def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    src: Int[Tensor, "B S"],
    tgt: Int[Tensor, "B T"],
    pad_id: int = 0,
    max_norm: float = 1.0,
    smoothing: float = 0.1,
) -> float:
    """One update with the gradient's norm clipped to max_norm; returns the loss before it."""
    model.train()
    decoder_input, expected = shift_target(tgt)
    logits = model(src, decoder_input)
    loss = label_smoothing_loss(logits, expected, smoothing, pad_id)

    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.item()
