# %% [markdown]
"""
# 10 Training by teacher forcing

The model of unit 09 has every wheel, and knows nothing. Ask it for a translation and it writes
noise. Its weights are random numbers.

**The question of this unit:** how do sentence pairs turn into good weights?

Think of a pupil who writes a dictation. A strict teacher covers the page, lets him guess the next
word, uncovers the true one, and goes on *from the true word*. One wrong guess does not spoil the
rest of the sentence. At the end the teacher says how surprised the pupil was by the true words.
That number is the loss, and the pupil changes a little so as to be less surprised next time.

You write that in four parts: `shift_target` (what is read, what is to be said),
`label_smoothing_loss` (how surprised), `noam_learning_rate` (how large a change), `train_step`
(one round of it all). Then you train a small Transformer, and it will translate.
"""

# %% given
import math
import os
import random
import sys

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lab import parts
from lab.data import batches, toy_corpus
from lab.decoding import inference
from lab.lesson import see, show
from lab.model import Config, build, initialise
from lab.plotting import bars, lines
from lab.tokens import BOS_ID, EOS_ID, PAD_ID, Tokenizer, pad


def toy_ids(size=4_000, vocab_size=500):
    """(tokenizer, train, val): pairs of ids of the toy grammar, each target from <s> to </s>."""
    corpus = toy_corpus(size)
    texts = [text for pair in corpus["train"] for text in (pair.source, pair.target)]
    tokenizer = Tokenizer.train(texts, vocab_size)
    encode = tokenizer.encode
    pairs = {
        split: [(encode(pair.source), [BOS_ID, *encode(pair.target)]) for pair in corpus[split]]
        for split in ("train", "val")
    }
    return tokenizer, pairs["train"], pairs["val"]


def toy_batches(pairs, steps, batch_tokens):
    """So many batches (src, tgt), in random order, pairs of like length together."""
    lengths, rng, rows = [(len(s), len(t)) for s, t in pairs], random.Random(0), []
    while len(rows) < steps:
        rows += batches(lengths, batch_tokens, rng)
    return [
        (pad([pairs[i][0] for i in each]), pad([pairs[i][1] for i in each]))
        for each in rows[:steps]
    ]


def small_model(vocab_size):
    """(model, optimizer): two layers of width 64, Adam as in the paper (§5.3)."""
    torch.manual_seed(0)  # dropout, too
    model = build(Config(vocab_size, d_model=64, n_heads=4, n_layers=2, d_ff=128, max_len=64))
    initialise(model, seed=0)
    return model, torch.optim.Adam(model.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-9)


def patient(many, few):
    """`many` steps in a notebook, `few` where nobody looks on: while it is graded or tested."""
    watched = "ipykernel" in sys.modules and not os.environ.get("NBGRADER_EXECUTION")
    return many if watched else few


def needs(results):
    """Nothing to show yet: the cell waits, as it does for a part that is not written."""
    if not results:
        raise NotImplementedError


# %% [markdown]
r"""
## The formula

The model gives the probability of every next word. The probability of a whole target
$y_1 \dots y_T$ is their product (the chain rule), and its negative logarithm is a sum:

$$-\ln P(y \mid x) = \sum_{t=1}^{T} -\ln P(y_t \mid y_{<t},\, x)$$

| symbol | meaning |
|---|---|
| $x$ | the source sentence |
| $y_t$ | word number $t$ of the target; $y_0$ is `<s>`, the last one is `</s>` |
| $y_{<t}$ | the *true* words before it: teacher forcing |
| $-\ln P$ | the surprise, in nats: 0 for a certain word, $\ln V$ for a blind guess |

**By head.** A model gives the three true words the chances 1/2, 1/4 and 1/2. Their product is 1/16.
The surprises are $\ln 2, 2\ln 2, \ln 2$; their sum is $4 \ln 2 = \ln 16$. The mean over the three
words is $\tfrac43 \ln 2 \approx 0.92$ nats.

Every word has its own term, and the causal mask of unit 02 keeps each from seeing its own answer.
So **one pass of the decoder trains all positions at once**. A recurrent network would have to go
through the sentence word by word.
"""

# %% [markdown]
"""
## shift_target

A target `<s> der Hund schläft </s>` gives four questions and four answers:

| read so far | say next |
|---|---|
| `<s>` | der |
| `<s>` der | Hund |
| `<s>` der Hund | schläft |
| `<s>` der Hund schläft | `</s>` |

The last line of the left column holds the whole decoder input, the right column the expected words.
Both are the target, one step apart. Nothing follows `</s>`, so it is never read; nobody should ever
say `<s>`, so it is never expected. If input and answer were not shifted, the model would be asked
for the word it has just been given. Its loss would fall to zero, and it would have learned to copy.

**Given** `tgt` `[B, T]`, ids from `<s>` on, padded at the end.

**Write**

1. what the decoder reads, `[B, T-1]`;
2. what it should say, `[B, T-1]`. Return both, in this order, as they are in `tgt`.
"""


# %% solution="shift_target"
def shift_target(
    tgt: Int[Tensor, "B T"],
) -> tuple[Int[Tensor, "B T-1"], Int[Tensor, "B T-1"]]:
    """(decoder_input, expected): what the decoder reads, and what it should say next."""
    return tgt[:, :-1], tgt[:, 1:]


# %% check="shift_target"

# %% [markdown]
"""
**See it.** Two sentences of the toy grammar as the decoder meets them, in the pieces of their
tokenizer: a rare word may be cut in two. Look at the end of the shorter one: which pairs of *read*
and *say* should teach nothing?
"""

# %% see="shift_target"
if __name__ == "__main__":
    tokenizer, train, _ = toy_ids()
    two = [next(target for _, target in train if len(target) == length) for length in (9, 12)]
    decoder_input, expected = shift_target(pad(two))
    for read, say in zip(decoder_input.tolist(), expected.tolist(), strict=True):
        print("read", *(f"{piece.strip():>7}" for piece in tokenizer.pieces(read)))
        print("say ", *(f"{piece.strip():>7}" for piece in tokenizer.pieces(say)), "\n")

# %% [markdown]
r"""
Where `<pad>` is to be said there is nothing to learn. The loss has to leave those positions out.

## label_smoothing_loss

The plain loss asks for certainty: it is 0 only when the true word has probability 1. To get there a
logit must run off to infinity, and the model becomes sure of everything, its mistakes among them.
*Label smoothing* (§5.4) asks for a little less. Of the whole, $1 - \varepsilon$ goes to the true
word, and $\varepsilon$ is shared by **all** $V$ words alike, the true one among them:

$$\ell_t = (1-\varepsilon)\,\bigl(-\ln p_{t,\,y_t}\bigr)
\;+\; \varepsilon \cdot \frac1V \sum_{v=1}^{V} \bigl(-\ln p_{t,\,v}\bigr)
\qquad
\text{loss} = \frac{1}{N} \sum_{t:\; y_t \ne \text{pad}} \ell_t$$

| symbol | meaning |
|---|---|
| $p_{t,v}$ | the probability of word $v$ at position $t$: softmax of the logits |
| $\varepsilon$ | `smoothing`; the paper takes 0.1 |
| $V$ | the number of words in the vocabulary |
| $N$ | the number of positions that are not padding, in the whole batch |

**By head.** Four words with chances 1/2, 1/4, 1/8, 1/8; the first is the true one. The surprises,
in units of $\ln 2$, are 1, 2, 3, 3. With $\varepsilon = 0$ the loss is 1. With $\varepsilon = 0.4$
it is $0.6 \cdot 1 + 0.4 \cdot \tfrac94 = 1.5$.

Two traps. `log(softmax(x))` rounds small probabilities to 0 first, and $\ln 0$ is $-\infty$;
$-\ln p_v = \ln \sum_u e^{x_u} - x_v$ has no such step (`torch.logsumexp` is safe with large
numbers). And the *mean*: divide by the number of real words, not by the number of positions.

**Given** `logits` `[..., V]`, `expected` `[...]` (ids), `smoothing`, `pad_id`. The dots are any
leading axes, or none.

**Write**

1. the surprise at every word of the vocabulary, `[..., V]`;
2. the surprise at the expected word (look up `gather`), and the mean over all words, both `[...]`;
3. their mixture by `smoothing`;
4. the mean over the positions whose expected id is not `pad_id`: one number.
"""


# %% solution="label_smoothing_loss"
def label_smoothing_loss(
    logits: Float[Tensor, "*axes V"],
    expected: Int[Tensor, "*axes"],
    smoothing: float = 0.1,
    pad_id: int = 0,
) -> Float[Tensor, ""]:
    """Cross-entropy with smoothed targets: the mean over the positions that are not padding.

    The expected word's target is 1 - smoothing + smoothing / V, every other word's smoothing / V.
    """
    surprise = torch.logsumexp(logits, dim=-1, keepdim=True) - logits  # -log p of every word
    of_expected = surprise.gather(-1, expected.unsqueeze(-1)).squeeze(-1)
    of_all = surprise.mean(dim=-1)
    loss = (1 - smoothing) * of_expected + smoothing * of_all
    return loss[expected != pad_id].mean()


# %% check="label_smoothing_loss"

# %% [markdown]
"""
**See it.** Ten words. The true one gets the probability on the x axis, the other nine share the
rest. At which probability is each curve lowest? And what happens to the plain loss, ε = 0, on the
far right?
"""

# %% see="label_smoothing_loss"
if __name__ == "__main__":
    chance = torch.linspace(0.05, 0.999, 200)
    others = ((1 - chance) / 9).unsqueeze(1).expand(-1, 9)
    logits = torch.cat([others[:, :1], chance.unsqueeze(1), others[:, 1:]], dim=1).log()
    curves = {}
    for smoothing in (0.0, 0.1, 0.3):
        losses = [label_smoothing_loss(row, torch.tensor(1), smoothing) for row in logits]
        curves[f"ε = {smoothing}"] = losses = torch.stack(losses)
        print(f"ε = {smoothing}: lowest at p = {chance[losses.argmin()]:.2f}, "
              f"where the loss is {losses.min():.2f}")  # fmt: skip
    show(lines(curves, chance, xlabel="probability of the true word", ylabel="loss in nats"))

# %% [markdown]
r"""
Without smoothing the curve falls to the very edge. With it there is a best confidence,
$1 - \varepsilon + \varepsilon / V$, and beyond that the model is punished for being too sure. The
price: the loss can no longer reach 0. Remember its floor when you read a learning curve.

## noam_learning_rate

How far to go along the gradient? Adam divides each step by the size of recent gradients. In the
first steps that estimate rests on a handful of batches, while layer norm after each residual
(unit 05) makes the first gradients large. Large steps on bad information ruin the weights for good.
So start small, rise in a straight line, and then fall slowly (§5.3, equation 3):

$$\text{rate} = d_{\text{model}}^{-0.5} \cdot
\min\bigl(\text{step}^{-0.5},\; \text{step} \cdot \text{warmup}^{-1.5}\bigr)$$

| symbol | meaning |
|---|---|
| step | the number of the update, from 1 |
| warmup | the number of steps over which the rate rises; the paper takes 4000 |
| $d_{\text{model}}$ | the width of the model: wider models take smaller steps |

**By head.** $d_{\text{model}} = 16$, warmup = 100. The factor in front is 1/4, and
$100^{-1.5} = 1/1000$. Step 1: $\tfrac14 \cdot \tfrac1{1000} = 0.00025$. Step 100: both terms are
1/10, so 0.025, the peak. Step 400: $\tfrac14 \cdot \tfrac1{20} = 0.0125$, half the peak.

The name comes from Noam Shazeer, one of the paper's authors.

**Given** `step`, `d_model`, `warmup`, plain numbers.

**Write**

1. a `step` of 0 counts as 1: schedulers ask for it, and $0^{-0.5}$ does not exist;
2. the formula. Return a Python float.
"""


# %% solution="noam_learning_rate"
def noam_learning_rate(step: int, d_model: int, warmup: int = 4000) -> float:
    """d_model^-0.5 · min(step^-0.5, step · warmup^-1.5); the first step is 1."""
    step = max(step, 1)
    return d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)


# %% check="noam_learning_rate"

# %% [markdown]
"""
**See it.** The rate over 1000 steps for three settings. What does a longer warm-up change besides
the place of the peak? What does a wider model change?
"""

# %% see="noam_learning_rate"
if __name__ == "__main__":
    steps = list(range(1, 1001))
    curves = {
        f"width {width}, warm-up {warmup}": [noam_learning_rate(n, width, warmup) for n in steps]
        for width, warmup in ((64, 100), (64, 400), (256, 100))
    }
    show(lines(curves, steps, xlabel="step", ylabel="learning rate"))

# %% [markdown]
"""
A longer warm-up also lowers the peak, because the falling curve is the same for both. A model four
times as wide gets half the rate everywhere.

## train_step

One round, five moves: predict, measure, find who is to blame, hold back, change.

Two of them have traps of their own. `backward()` *adds* to the gradients that are there; whatever
an earlier batch left behind has to be cleared first. And now and then a batch gives a gradient many
times its usual size. One such step can undo hundreds. *Clipping* looks at all gradients together as
one long vector: if its norm is above `max_norm`, the whole vector is scaled down to that norm. The
direction stays.

**By head.** A gradient of (3, 4) has norm 5. Clipped to 1 it is (0.6, 0.8). Clipped to 10 it is
(3, 4): what is short enough stays as it is.

**Given** `model` (called as `model(src, decoder_input)`, it gives logits `[B, T-1, V]`),
`optimizer`, `src` `[B, S]`, `tgt` `[B, T]`, the settings, your `shift_target` and
`label_smoothing_loss`.

**Write**

1. train mode: dropout is part of training, whatever mode the model came in;
2. what is read and what is expected; the logits; the loss, with `smoothing` and `pad_id`;
3. old gradients cleared, new ones found;
4. their norm clipped: `nn.utils.clip_grad_norm_(parameters, max_norm)`;
5. the optimizer's step. Return the loss of step 2 as a Python float.
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


# %% check="train_step"

# %% [markdown]
"""
**See it: warm-up.** Two models with the same starting weights and the same batches. One warms up
for 50 steps, the other takes the peak rate from the first step on. It takes some seconds. When do
the two part?
"""

# %% see="shift_target, label_smoothing_loss, noam_learning_rate, train_step"
if __name__ == "__main__":
    tokenizer, train, _ = toy_ids()
    norms, curves = [], {}
    for name, first in (("warm-up", 1), ("peak from the start", 50)):
        model, optimizer = small_model(len(tokenizer))
        losses = []
        for step, (src, tgt) in enumerate(toy_batches(train, patient(60, 3), 250), 1):
            optimizer.param_groups[0]["lr"] = noam_learning_rate(max(step, first), 64, 50)
            losses.append(train_step(model, optimizer, src, tgt, max_norm=1e9))  # clips nothing
            if first == 1:
                gradients = [p.grad.flatten() for p in model.parameters()]
                norms.append(torch.cat(gradients).norm().item())
        curves[name] = losses
    show(lines(curves, range(1, len(losses) + 1), xlabel="step", ylabel="training loss"))

# %% [markdown]
"""
Without warm-up the loss falls faster at first: the model learns which words are frequent. Then it
stays there. The large first steps have taken its weights to a place that is hard to leave.

**See it: clipping.** During the run with warm-up the norm of the gradient was noted. Clipping was
off. Which steps would `max_norm=1` have held back?
"""

# %% see="shift_target, label_smoothing_loss, noam_learning_rate, train_step"
if __name__ == "__main__":
    needs(norms)
    curves = {"norm of the gradient": norms, "max_norm = 1": [1.0] * len(norms)}
    show(lines(curves, range(1, len(norms) + 1), xlabel="step", ylabel="norm"))
    print(f"the median norm is {sorted(norms)[len(norms) // 2]:.2f}, the largest {max(norms):.1f}")

# %% [markdown]
"""
The first steps, and here more than half of all: batches of 250 tokens give noisy gradients. Most of
them lie little above the line and would change little. The spikes, at twice the median and more,
are what clipping is for. They would be cut to length 1, and point where they pointed.

## Train a Transformer

Now all four together: a model of two layers, width 64, and 3,753 sentence pairs of a toy grammar of
English and German. Every part that you have passed in earlier units is yours; the others are
PyTorch's. 300 steps take half a minute or less.

Three numbers are watched:

- the **training loss**, on batches the model is being trained on, with dropout;
- the **validation loss**, on pairs it has never seen, without dropout;
- the share of words it gets right on them, given the true words before.

When both losses fall, go on. When the validation loss rises while the training loss falls, the
model learns its pairs by heart: stop, or use more dropout, or more data. When neither falls, the
rate is too high or too low, or something is broken. Here the validation loss will lie *below* the
training loss. Why? (Think of what is switched off when it is measured.)
"""

# %% see="shift_target, label_smoothing_loss, noam_learning_rate, train_step"
if __name__ == "__main__":
    tokenizer, train, val = toy_ids()
    model, optimizer = small_model(len(tokenizer))
    held_out = [pad(side) for side in zip(*val[:100], strict=True)]
    steps = patient(300, 3)
    losses, checks = [], {}  # checks: step -> (validation loss, share of words right)
    for step, (src, tgt) in enumerate(toy_batches(train, steps, 1_000), 1):
        optimizer.param_groups[0]["lr"] = noam_learning_rate(step, 64, warmup=150)
        losses.append(train_step(model, optimizer, src, tgt, PAD_ID))
        if step % max(steps // 10, 1) == 0:
            with inference(model):
                decoder_input, expected = shift_target(held_out[1])
                logits = model(held_out[0], decoder_input)
                loss = label_smoothing_loss(logits, expected, pad_id=PAD_ID).item()
                real = expected != PAD_ID
                right = (logits.argmax(-1) == expected)[real].double().mean().item()
            checks[step] = loss, right
            print(f"step {step:3}: training loss {losses[-1]:.2f}, "
                  f"validation loss {loss:.2f}, words right {right:.0%}")  # fmt: skip

# %% [markdown]
r"""
The curves. The flat line is the floor that label smoothing sets: with $V = 500$ and
$\varepsilon = 0.1$ no model can get below the entropy of the smoothed target, about 0.94 nats. How
far above it does the validation loss end?
"""

# %% see="shift_target, label_smoothing_loss, noam_learning_rate, train_step"
if __name__ == "__main__":
    needs(losses)
    target = torch.full((len(tokenizer),), 0.1 / len(tokenizer))
    target[0] += 0.9
    floor = torch.special.entr(target).sum().item()
    every = len(losses) // len(checks)
    curves = {
        "training, mean since the last": torch.tensor(losses).unflatten(0, (-1, every)).mean(1),
        "validation": [loss for loss, _ in checks.values()],
        "floor": [floor] * len(checks),
    }
    show(lines(curves, list(checks), xlabel="step", ylabel="loss in nats per word"))
    print(f"floor {floor:.2f}, validation loss at the end {curves['validation'][-1]:.2f}")

# %% [markdown]
"""
**Try it in the model.** This time it is *your* model. Sentences from the validation part, which it
has never seen. It writes them with the lab's `greedy_decode`; yours comes in the next unit. Look
for the articles and the endings: German has them by gender and case, and nobody told the model a
rule. A sentence may also get stuck and say one word again and again; why is the next question.
"""

# %% see="shift_target, label_smoothing_loss, noam_learning_rate, train_step"
if __name__ == "__main__":
    needs(losses)
    some = val[:5]
    written = parts.greedy_decode(model, pad([source for source, _ in some]), BOS_ID, EOS_ID, 40)
    for (source, target), ids in zip(some, written.tolist(), strict=True):
        print(tokenizer.decode(source))
        print("    model:", tokenizer.decode(ids))
        print("    true: ", tokenizer.decode(target))

# %% [markdown]
"""
A longer run, with averaged weights and scores, is one command in a shell. It takes some minutes on
a laptop and draws its curves into `runs/toy/curve.png`:

    lab train --data toy --out runs/toy

**What teacher forcing leaves out.** In training the model reads true words only. When it translates
it reads its own, and a slip takes it where it has never been (this is called *exposure bias*).
Measure it on the 100 held-out sentences. *Guided* means: the true words before are given. *Alone*:
the model reads what it wrote. How much lower is the second bar than the first?
"""

# %% see="shift_target, label_smoothing_loss, noam_learning_rate, train_step"
if __name__ == "__main__":
    needs(losses)
    source, target = held_out
    decoder_input, expected = shift_target(target)
    with inference(model):
        guided = model(source, decoder_input).argmax(-1)
    alone = parts.greedy_decode(model, source, BOS_ID, EOS_ID, target.size(1))[:, 1:]
    alone = nn.functional.pad(alone, (0, expected.size(1) - alone.size(1)), value=PAD_ID)
    real = expected != PAD_ID
    shares = {}
    for name, said in (("guided", guided), ("alone", alone)):
        right = said == expected
        shares[f"words,\n{name}"] = right[real].double().mean().item()
        shares[f"whole,\n{name}"] = (right | ~real).all(1).double().mean().item()
    show(bars(dict(sorted(shares.items(), reverse=True)), ylabel="share that is right"))
    print({name.replace("\n", " "): round(share, 2) for name, share in shares.items()})

# %% [markdown]
"""
One slip shifts or changes what follows, so alone more words are wrong. A model that is stuck on a
word reads a beginning it has never seen, and finds no way out. Whole sentences tell another story:
guided or alone, exactly the same ones are right. Until the first slip both have read the same
words.
"""

# %% quiz

# %% [markdown]
"""
## For those who want more

The whole sentence in one pass is possible because the true words are known. Suppose you trained on
the model's own words instead, drawing each before the next is predicted. How many decoder passes
would a target of T words take? Could you still call `backward()` through all of them, the drawing
included? Try *scheduled sampling*: with probability 0.25 replace a word of `decoder_input` by the
model's own guess from a first pass (two passes, no loop). Do the bars of guided and alone come
nearer to each other?
"""
