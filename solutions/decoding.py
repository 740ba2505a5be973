# %% [markdown]
"""
# 11 Decoding turns probabilities into sentences

The model of unit 10 does not write. It reads a source and the words so far, and gives a probability
to every word that could come next: six thousand numbers that sum to 1. Somebody has to choose.

**The question of this unit:** which of all possible sentences do you write, if you are told the
probabilities one word at a time?

Think of a walker in a maze who sees only the next crossing, with a sign on every path: "0.6",
"0.4". *Greedy* takes the best sign at each crossing. *Beam search* sends a few walkers, and calls
back those who have fallen behind. *Sampling* rolls dice that are loaded as the signs say. You write
all three: `greedy_decode`, `beam_search`, `sample_decode`.
"""

# %% given
import math
from functools import partial
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lab import decoding
from lab.decoding import inference
from lab.lesson import SENTENCES, see, show, timed, trained, translate_with
from lab.plotting import bars, heat_map, lines
from lab.tokens import BOS_ID, EOS_ID, pad


def read(*sentences):
    """(model, tokenizer, src): the trained model, English to German, and these sentences as ids."""
    checkpoint = trained("en-de")
    return checkpoint.model, checkpoint.tokenizer, pad(checkpoint.tokenizer.encode_all(sentences))


def log_chances(model, src, ids):
    """log P of every word of one written sentence, by teacher forcing."""
    with inference(model):
        log_p = model(src, torch.tensor([ids[:-1]])).log_softmax(-1)[0]
    return log_p[range(len(ids) - 1), ids[1:]]


# %% [markdown]
r"""
## The formula

$$P(y \mid x) = \prod_{t=1}^{T} P(y_t \mid y_{<t},\, x)
\qquad\qquad
\ln P(y \mid x) = \sum_{t=1}^{T} \ln P(y_t \mid y_{<t},\, x)$$

| symbol | meaning |
|---|---|
| $x$ | the source |
| $y_t$ | word number $t$; $y_0$ is `<s>`, and the sentence is over with `</s>` |
| $y_{<t}$ | the words *we have written* before it |
| $P(y \mid x)$ | the probability of the whole sentence |

We would like the $y$ with the largest $P(y \mid x)$. With $V$ words and $T$ steps there are $V^T$
candidates: for 6,000 words and 12 steps that is $10^{45}$. Nobody looks at them all.

**By head.** A language of two words, and two steps:

| | then a | then b |
|---|---|---|
| first a: 0.6 | 0.55 | 0.45 |
| first b: 0.4 | 0.9 | 0.1 |

Greedy takes a (0.6), then a (0.55): $0.6 \cdot 0.55 = 0.33$. But "b a" has $0.4 \cdot 0.9 = 0.36$.
**The best first word is not the first word of the best sentence.** The next cell goes through all
four.
"""

# %% see=""
if __name__ == "__main__":
    first = {"a": 0.6, "b": 0.4}
    second = {"a": {"a": 0.55, "b": 0.45}, "b": {"a": 0.9, "b": 0.1}}
    chances = {f"{x} {y}": first[x] * second[x][y] for x, y in product("ab", repeat=2)}
    for sentence, chance in sorted(chances.items(), key=lambda each: -each[1]):
        print(f"{sentence}: {chance:.2f}   log P {math.log(chance):6.2f}")

# %% [markdown]
"""
## greedy_decode

Write the most probable word, read it back, write the next. Six rules make a sentence of it:

- The source is **encoded once**. `memory` does not change while the target grows.
- The decoder reads **all** words so far; what follows the newest stands at the last position.
- A sentence is over when `eos_id` has been chosen. In a batch the others go on: the one that is
  over is filled with `model.pad_id`.
- It stops when *all* are over, or at `max_len` ids. `bos_id` counts.
- No gradients, no dropout; and afterwards the model is in the mode in which it came.
- A model is anything with `encode`, `decode` and `pad_id`. It need not be an `nn.Module`.

**Given** `inference(model)`, a context: inside it there are no gradients and no dropout, and
afterwards the model is as it was found. `model.encode(src)` gives `memory` `[B, S, D]`;
`model.decode(ids, memory, src)` gives logits `[B, T, V]`.

**Write** inside `with inference(model):`

1. `memory`, and `ids`, a column of `bos_id`, `[B, 1]`, on the device of `src`;
2. as long as it is not over: the logits at the last position, `[B, V]`, and the best word of each
   row;
3. `model.pad_id` instead, in rows that have ended;
4. the new column beside the others; note which rows have ended now. Return `ids`.
"""


# %% solution="greedy_decode"
def greedy_decode(
    model: Any, src: Int[Tensor, "B S"], bos_id: int, eos_id: int, max_len: int = 64
) -> Int[Tensor, "B T"]:
    """The most probable next token at every step, until every sentence has ended.

    Ids start with bos_id; eos_id stays, model.pad_id follows it; at most max_len ids, bos counted.
    """
    with inference(model):
        memory = model.encode(src)
        ids = src.new_full((src.size(0), 1), bos_id)
        ended = torch.zeros_like(ids, dtype=torch.bool)  # (B, 1)
        while ids.size(1) < max_len and not ended.all():
            logits = model.decode(ids, memory, src)[:, -1]
            chosen = logits.argmax(dim=-1, keepdim=True)
            chosen = chosen.masked_fill(ended, model.pad_id)
            ids = torch.cat([ids, chosen], dim=1)
            ended = ended | (chosen == eos_id)
    return ids


# %% check="greedy_decode"

# %% [markdown]
"""
**See it.** A translation by the trained model, and the probability that each of its words had when
it was chosen. Where does the model hesitate? Which word might it have had in mind instead?
"""

# %% see="greedy_decode"
if __name__ == "__main__":
    model, tokenizer, src = read("A man in a blue shirt is standing on a ladder.")
    ids = greedy_decode(model, src, BOS_ID, EOS_ID, 40)[0].tolist()
    chances = log_chances(model, src, ids).exp().tolist()
    print(tokenizer.decode(ids))
    show(bars(dict(zip(tokenizer.pieces(ids[1:]), chances, strict=True)), ylabel="probability"))
    with inference(model):
        after = model.decode(src.new_tensor([ids[:6]]), model.encode(src), src)[0, -1].softmax(-1)
    best = after.topk(4)
    words = zip(tokenizer.pieces(best.indices.tolist()), best.values, strict=True)
    candidates = ", ".join(f"{word.strip()} {chance:.2f}" for word, chance in words)
    print(f"after '{tokenizer.decode(ids[:6])}': {candidates}")

# %% [markdown]
"""
At the word for *shirt* it hesitates, and its other candidates are good German as well: a low
probability is not always a doubt about the meaning.

**Try it in the model.** Your function in the lab's translator, in place of its own.
"""

# %% see="greedy_decode"
if __name__ == "__main__":
    translate_with({"greedy_decode": greedy_decode})

# %% [markdown]
r"""
## beam_search

Greed never looks back. A *beam* keeps the best few unfinished sentences (hypotheses) side by side.
At every step each is continued by every word, and of all these continuations the best `beam_size`
are kept.

How are hypotheses compared? By $\ln P$, which is a **sum** over the words. Every word adds a
negative number, so a longer sentence is always at a disadvantage, and the search likes to stop
early. The remedy is to divide by a penalty that grows with length (Wu et al. 2016, equation 14;
§6.1 of the paper takes $\alpha = 0.6$ and a beam of 4):

$$\text{score}(y) = \frac{\ln P(y \mid x)}{\left(\dfrac{5 + |y|}{6}\right)^{\alpha}}$$

| symbol | meaning |
|---|---|
| $\lvert y \rvert$ | the length: all ids but `<s>`; `</s>` counts |
| $\alpha$ | `length_penalty`: 0 compares bare log-probabilities, more favours longer sentences |

**By head.** $\alpha = 1$. One hypothesis has length 1 and $\ln P = -2$: the penalty is 6/6 = 1, the
score $-2$. Another has length 7 and $\ln P = -3$: the penalty is 12/6 = 2, the score $-1.5$. The
longer one wins, although it is less probable.

A hypothesis that ends with `</s>` is complete. It is not continued, but it **stays in the race**
with its score, until `beam_size` others are better. At `max_len` ids, unfinished ones count as they
are.

**Given** one sentence, `src` `[1, S]`. Plain Python lists are fine here: a hypothesis is a pair of
its ids and its $\ln P$ so far.

**Write** inside `with inference(model):`

1. `memory`, and a beam of one hypothesis, `[bos_id]` with $\ln P = 0$; nothing has ended yet;
2. at most `max_len - 1` times: collect candidates. First those that have ended, as they are. Then,
   for each unfinished one, its best `beam_size` continuations (there may be fewer words than that),
   each with its log-probability added. What has probability 0 is no candidate;
3. keep the best `beam_size` by score, and part them into ended and unfinished;
4. stop when none is unfinished. Return `[(ids, score), …]`, best first.
"""


# %% solution="beam_search"
def beam_search(
    model: Any,
    src: Int[Tensor, "1 S"],
    bos_id: int,
    eos_id: int,
    beam_size: int = 4,
    max_len: int = 64,
    length_penalty: float = 0.6,
) -> list[tuple[list[int], float]]:
    """The beam_size best sentences found, best first, each with its score.

    score = log-probability / ((5 + length) / 6)^length_penalty, bos not counted in length.
    """

    def score(hypothesis: tuple[list[int], float]) -> float:
        ids, log_probability = hypothesis
        length = len(ids) - 1
        return log_probability / ((5 + length) / 6) ** length_penalty

    with inference(model):
        memory = model.encode(src)
        beam = [([bos_id], 0.0)]
        ended = []
        for _ in range(max_len - 1):
            candidates = list(ended)  # an ended sentence stays in the race with its score
            for ids, log_probability in beam:
                logits = model.decode(src.new_tensor([ids]), memory, src)[0, -1]
                best = logits.log_softmax(dim=-1).topk(min(beam_size, logits.size(-1)))
                for gain, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                    if gain > float("-inf"):
                        candidates.append(([*ids, token], log_probability + gain))
            best_first = sorted(candidates, key=score, reverse=True)[:beam_size]
            ended = [hypothesis for hypothesis in best_first if hypothesis[0][-1] == eos_id]
            beam = [hypothesis for hypothesis in best_first if hypothesis[0][-1] != eos_id]
            if not beam:
                break
    return [
        (ids, score((ids, total))) for ids, total in sorted(ended + beam, key=score, reverse=True)
    ]


# %% check="beam_search"

# %% [markdown]
"""
**See it: wider beams.** Three sentences unlike those the model was trained on, so that it is
unsure. The curves are log-probabilities of what was found (no length penalty). A beam of 1 is
greedy. It takes some seconds. Does a wider beam always find something better?
"""

# %% see="beam_search"
if __name__ == "__main__":
    sentences = (
        "A street musician counts his coins under a lamp.",
        "My brother never eats breakfast before work.",
        "A tourist asks a policeman for the way to the museum.",
    )
    sizes, curves = [1, 2, 4, 8], {}
    for sentence in sentences:
        model, tokenizer, src = read(sentence)
        best = [beam_search(model, src, BOS_ID, EOS_ID, n, 26, 0.0)[0] for n in sizes]
        curves[" ".join(sentence.split()[:3]) + " …"] = [score for _, score in best]
        for n, (ids, _) in zip(sizes, best, strict=True):
            if (sentence, n) in ((sentences[0], 1), (sentences[0], 2), (sentences[2], 8)):
                print(f"beam of {n}: {tokenizer.decode(ids)}")
    show(lines(curves, sizes, xlabel="beam_size", ylabel="log P of the best found"))

# %% [markdown]
"""
Mostly it does, and in the first sentence that repairs the grammar: "einem Lampen" becomes "einer
Lampe". But it is no law. With 4 hypotheses the third sentence ends up with a *less* probable one
than with 2: what later turns out best can fall out of the beam on the way, pushed by others that
looked better for a moment.

And no search helps where the model knows too little. It was trained on captions of photographs; the
third sentence is far from them, and its German is nonsense with a beam of 8 as with a beam of 1.

**See it: the length penalty.** Two sentences, a beam of 8, and several α. What is missing in the
first translation, and what is wrong with the last? (*Zug* is the train, *Bahnhof* the station.)
"""

# %% see="beam_search"
if __name__ == "__main__":
    waiting = "Several people are waiting for a train at the station, and one of them is sleeping."
    for sentence, alphas in (
        (waiting, (0.0, 0.6, 2.0)),
        ("A man is waiting for a train at the station.", (0.6, 6.0)),
    ):
        model, tokenizer, src = read(sentence)
        for alpha in alphas:
            ids, score = beam_search(model, src, BOS_ID, EOS_ID, 8, 40, alpha)[0]
            log_p = log_chances(model, src, ids).sum()
            print(f"α = {alpha}: length {len(ids) - 1:2}, log P {log_p:6.2f}, score {score:5.2f}: "
                  f"{tokenizer.decode(ids)}")  # fmt: skip

# %% [markdown]
"""
Without a penalty the train is left out, and people wait for the station: shorter is more probable.
With enough of it the train is there. With too much the model repeats itself to get longer: a man
waits for the station of a station. 0.6 to 1 is usual, and it is chosen on validation data like any
other setting.

**Try it in the model.** The sentences of every unit, with your beam of 4.
"""

# %% see="beam_search"
if __name__ == "__main__":
    for sentence in SENTENCES:
        model, tokenizer, src = read(sentence)
        found = beam_search(model, src, BOS_ID, EOS_ID, 4, 40)
        print(sentence)
        for ids, score in found[:2]:
            print(f"    {score:6.2f}  {tokenizer.decode(ids)}")

# %% [markdown]
r"""
## sample_decode

For a translation the best sentence is wanted. For a story, or for ten different suggestions, the
best is dull: it is always the same. So *draw* each word, with the model's probabilities as the
weights of the dice. Three knobs say how bold to be.

**Temperature** divides the logits: $p_v \propto e^{x_v / \tau}$. That is $p_v^{1/\tau}$, made to
sum to 1 again. *By head:* chances 0.8 and 0.2. With $\tau = 0.5$ their squares, 0.64 and 0.04, give
16/17 and 1/17. With $\tau = 2$ their roots, in the ratio 2 to 1, give 2/3 and 1/3. Toward 0 only
the best is left: **temperature 0 means greedy**.

**top_k** keeps the $k$ most probable words.

**top_p** (the nucleus, Holtzman et al. 2020) keeps the fewest of the most probable words that reach
$p$ together. The word that crosses $p$ stays, so there is always one. *By head:* 0.42, 0.28, 0.20,
0.10 and $p = 0.6$. The first alone has 0.42, not enough; the second crosses 0.6 and stays; the
others go. Made to sum to 1: 0.6 and 0.4.

They apply in this order: temperature, then top_k, then top_p *of what is left*, then the draw.

**Given** what `greedy_decode` is given, and the three knobs (None: not used). `generator` is a
`torch.Generator`: the same seed draws the same sentence. The cell proposes a second function,
`next_token_probabilities`; write it as well, or delete it and do everything in one.

**Write**

1. for temperature 0: what greedy gives;
2. else the loop of `greedy_decode`, but with a word *drawn* for each row (look up
   `torch.multinomial`), from probabilities
3. of the logits divided by the temperature,
4. where all but the best `top_k` are out (more than there are: all stay in),
5. and where a word is out if the more probable ones *before* it reach `top_p` already. Sorting
   helps; remember to put the words back in their places.
"""


# %% solution="sample_decode"
def sample_decode(
    model: Any,
    src: Int[Tensor, "B S"],
    bos_id: int,
    eos_id: int,
    max_len: int = 64,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "B T"]:
    """As greedy_decode, each token drawn by its probability; temperature 0 is greedy.

    Temperature, then top_k (more than V means all), then top_p on what is left, then the draw.
    """
    if temperature == 0:
        return greedy_decode(model, src, bos_id, eos_id, max_len)
    with inference(model):
        memory = model.encode(src)
        ids = src.new_full((src.size(0), 1), bos_id)
        ended = torch.zeros_like(ids, dtype=torch.bool)
        while ids.size(1) < max_len and not ended.all():
            logits = model.decode(ids, memory, src)[:, -1]
            probabilities = next_token_probabilities(logits, temperature, top_k, top_p)
            drawn = torch.multinomial(probabilities, 1, generator=generator)
            drawn = drawn.masked_fill(ended, model.pad_id)
            ids = torch.cat([ids, drawn], dim=1)
            ended = ended | (drawn == eos_id)
    return ids


def next_token_probabilities(
    logits: Float[Tensor, "B V"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "B V"]:
    """Temperature, then top_k, then top_p on what is left; the token that crosses top_p stays."""
    ordered, order = (logits / temperature).sort(dim=-1, descending=True)
    if top_k is not None:
        ordered[:, top_k:] = -torch.inf
    probabilities = ordered.softmax(dim=-1)
    if top_p is not None:
        before = probabilities.cumsum(dim=-1) - probabilities  # mass of the more probable tokens
        probabilities = probabilities.masked_fill(before >= top_p, 0)
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probabilities).scatter(-1, order, probabilities)


# %% check="sample_decode"

# %% [markdown]
"""
**See it.** The first word of "People are waiting for a train." drawn 400 times with different
knobs. Each row shows how often each word came. In which rows do words of the column *others*
appear?
"""

# %% see="sample_decode"
if __name__ == "__main__":
    model, tokenizer, src = read("People are waiting for a train.")
    knobs = {
        "τ = 0.5": {"temperature": 0.5},
        "τ = 1": {},
        "τ = 1.5": {"temperature": 1.5},
        "top_k = 2": {"top_k": 2},
        "top_p = 0.9": {"top_p": 0.9},
    }
    many = src.expand(400, -1)
    drawn = [
        sample_decode(
            model, many, BOS_ID, EOS_ID, 2, generator=torch.Generator().manual_seed(0), **settings
        )[:, 1]
        for settings in knobs.values()
    ]
    usual = drawn[1].bincount(minlength=len(tokenizer)).topk(4).indices.tolist()
    shares = torch.stack(
        [torch.stack([(words == each).float().mean() for each in usual]) for words in drawn]
    )
    shares = torch.cat([shares, 1 - shares.sum(1, keepdim=True)], dim=1)
    columns = [*(piece.strip() for piece in tokenizer.pieces(usual)), "others"]
    show(heat_map(shares, list(knobs), columns, "share of 400 draws", numbers=True))

# %% [markdown]
r"""
The knobs that cut keep *others* out. How bad are they? Look at whole sentences. Each is drawn
three times.
"""

# %% see="sample_decode"
if __name__ == "__main__":
    model, tokenizer, src = read("A man in a blue shirt is standing on a ladder.")
    for name, settings in {
        "τ = 1": {},
        "τ = 0.5": {"temperature": 0.5},
        "τ = 1, top_p = 0.9": {"top_p": 0.9},
        "τ = 2, top_k = 3": {"temperature": 2.0, "top_k": 3},
    }.items():
        generator = torch.Generator().manual_seed(0)
        three = src.expand(3, -1)
        ids = sample_decode(model, three, BOS_ID, EOS_ID, 24, generator=generator, **settings)
        print(name, *(f"    {tokenizer.decode(row)}" for row in ids.tolist()), sep="\n")

# %% [markdown]
"""
At temperature 1 the model says what it believes, and its sentences go wrong. The reason is in unit
10. Label smoothing taught it to keep a few per cent for *all* words together, sense or nonsense. At
one step that is little. Over twelve steps it is a chance of one in two that at least one word comes
from that heap, and what follows a nonsense word is nonsense. The best few words hardly suffer from
it; so cut the tail (top_p), or sharpen (a lower temperature). The last setting cuts the tail too,
but τ = 2 gives its second and third best many times the chance they had, and often they are wrong.

**Measure it:** the probability that lies outside the ten best words, at each step of the greedy
translation.
"""

# %% see="greedy_decode"
if __name__ == "__main__":
    model, tokenizer, src = read("A man in a blue shirt is standing on a ladder.")
    ids = greedy_decode(model, src, BOS_ID, EOS_ID, 40)
    with inference(model):
        probabilities = model(src, ids[:, :-1]).softmax(-1)[0]
    tail = 1 - probabilities.topk(10).values.sum(-1)
    clean = (1 - tail).cumprod(0)
    show(lines({"in the tail, at this step": tail, "no tail word so far": clean},
               range(1, len(tail) + 1),
               xlabel="step", ylabel="probability"))  # fmt: skip
    print(f"a sentence drawn without a word from the tail: {clean[-1]:.0%}")

# %% [markdown]
r"""
## What a step costs

Each step of your `greedy_decode` runs the decoder over all words so far, although all but the
newest were there at the step before. For a sentence of $T$ words that is $1 + 2 + \dots + T$, about
$T^2 / 2$ runs of a word through the decoder. Yet the old ones give what they gave before: the
causal mask keeps every word from seeing later ones. So keep the keys and values of each layer, and
run the newest word alone: $T$ runs. That is the *KV cache*, and without it no chat would be
affordable.

**See it.** The trained model writes on and on (an `eos_id` of -1 is never written), without a cache
and with one. Both axes count in factors, so a power is a straight line. Where does the curve
without a cache climb like the line that takes four times as long for twice the words? And the other
one?
"""

# %% see=""
if __name__ == "__main__":
    model, _, src = read("A man in a blue shirt is standing on a ladder.")
    lengths = [10, 20, 40, 80, 160]
    curves = {
        name: [
            timed(partial(decoding.greedy_decode, model, src, BOS_ID, -1, n, cache=cache), rounds=2)
            for n in lengths
        ]
        for name, cache in (("without cache", False), ("with cache", True))
    }
    longest = curves["without cache"][-1]
    curves["four times for twice"] = [longest * (n / lengths[-1]) ** 2 for n in lengths]
    show(lines(curves, lengths, xlabel="words", ylabel="seconds", logx=True, logy=True))

# %% [markdown]
"""
With the cache twice the words take twice the time. Without it the line begins as flat as the other:
most of the time goes into calling the decoder's many small functions, once for each step, and
whether one word or ten go through them hardly matters. Then it bends towards four times for twice.
Ten words hardly need a cache; a page does.
"""

# %% quiz

# %% [markdown]
"""
## For those who want more

Write the cache yourself: for each layer the keys and values of the words so far, to which every
step adds one row, and those of the source, computed once. `CachedSteps` in `lab/decoding.py` is a
plain one to compare with, token for token; `lab/fast.py` shows how far one can drive it. Which
positions must the newest word be given? And what must happen to the cache when beam search drops a
hypothesis and goes on with another one twice?
"""
