# %% [markdown]
"""
# 02 Masks say who may look at whom

> "Ein Mann in einem blauen …"

Cover the rest of the line with a card and guess the next word. To check yourself, move the card by
one word. That is how the *decoder* learns, the half of the Transformer that writes: it reads the
whole translation at once, and at every word a card lies over all that comes after. Without the card
there is nothing to guess.

There is a second thing to hide. A batch is a rectangle of numbers, and sentences have different
lengths. The short ones are filled up with a token that means nothing: padding.

**The question of this unit:** how do we tell attention, which looks everywhere, where it may not
look?

The answer is a table of booleans for each sentence. You write three: `padding_mask`,
`causal_mask`, and `decoder_mask`, which is both.

From here on each lesson starts with `yours()`: parts of earlier units that have passed their checks
are used as you wrote them. For all others *stock*, PyTorch's own layers, stands in.
"""

# %% given
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from lab.lesson import see, show, translate_with
from lab.parts import scaled_dot_product_attention
from lab.plotting import heat_map, heat_maps, lines

# %% [markdown]
r"""
## The formula

A mask $M$ has a row for every query and a column for every key. Only what it allows reaches the
softmax:

$$a_{ts} = \begin{cases}
q_t \cdot k_s / \sqrt{d_k} & \text{where } M_{ts} \text{ is True} \\
-\infty & \text{where } M_{ts} \text{ is False}
\end{cases}
\qquad w_t = \operatorname{softmax}(a_t)$$

| symbol | meaning | shape |
|---|---|---|
| $M_{ts}$ | may query $t$ look at key $s$? | what broadcasts to `[B, H, T, S]` |
| $a_{ts}$ | the score of key $s$ for query $t$ | `[B, H, T, S]` |
| $w_t$ | the weights of query $t$ over all keys, sum 1 | `[B, H, T, S]` |

The axes are `B` sentences of a batch, `H` heads (unit 03; until then think of one), `T` queries and
`S` keys.

**True means "may look".** The opposite reading exists, and it bites; see the end of this lesson.

Why $-\infty$ and not 0? Because $e^0 = 1$: a score of 0 is a score like any other.
$e^{-\infty} = 0$ is the only way to get no weight at all.

**By head.** Three keys have the scores $\ln 1$, $\ln 3$ and $\ln 4$. Their exponentials are 1, 3
and 4; the weights are 1/8, 3/8 and 4/8. Hide the last key: its exponential is 0, the sum is 4, and
the weights are 1/4, 3/4 and 0. The others share what it had, in the same proportion. Hide it with a
score of 0 instead, and its exponential is 1: the weights are 1/5, 3/5 and 1/5. The hidden key now
weighs as much as the first.
"""

# %% [markdown]
"""
## padding_mask

Two sentences of different lengths make one batch. Each ends in the token `</s>`. The shorter one is
filled up with `<pad>`, whose number is `pad_id`, here 0:

```text
 57  312  260    2      Two dogs . </s>          ■ ■ ■ ■
 91    2    0    0      Snow </s> <pad> <pad>    ■ ■ □ □      ■ may look   □ may not
```

It does not matter *who* asks: padding says nothing to anybody. So the mask has one entry per key,
and an axis of length 1 where the queries are, and another where the heads are. Broadcasting
stretches both, to any number of queries and heads. Lined up from the right:

```text
scores   [B, H, T, S]
mask     [B, 1, 1, S]
```

A mask `[B, S]` would be lined up as well, from the right: `B` under `T`. If the two happen to be
equal, nothing complains.

**Given** `ids` `[B, S]`, and `pad_id`. Do not count on it being 0, nor on padding standing at the
end.

**Write**

1. for every id, whether it is anything other than padding;
2. the result as `[B, 1, 1, S]`: the sentences first, the keys last.
"""


# %% solution="padding_mask"
def padding_mask(ids: Int[Tensor, "B S"], pad_id: int) -> Bool[Tensor, "B 1 1 S"]:
    """Every head and every query of a sentence may look at its real tokens.

    True where an id is not pad_id, dtype bool, on the device of `ids`.
    """
    not_padding = ids != pad_id
    return not_padding[:, None, None, :]


# %% check="padding_mask"

# %% [markdown]
"""
**See it.** One sentence of four words, in batches that grow: more and more padding behind it. The
lines show how far its outputs are from those it has alone. One of the two should stay at 0.
"""

# %% see="padding_mask"
if __name__ == "__main__":
    generator = torch.Generator().manual_seed(0)
    words, filling = torch.randn(5, 16, generator=generator).split([4, 1])
    alone, _ = scaled_dot_product_attention(words, words, words)
    moved = {"without a mask": [], "with padding_mask": []}
    for count in range(13):
        x = torch.cat([words, filling.expand(count, 16)])
        ids = torch.tensor([[5] * 4 + [0] * count])
        for name, mask in (("without a mask", None), ("with padding_mask", padding_mask(ids, 0))):
            output, _ = scaled_dot_product_attention(
                x[None, None], x[None, None], x[None, None], mask
            )
            moved[name].append((output[0, 0, :4] - alone).norm() / alone.norm())
    show(lines(moved, xlabel="tokens of padding", ylabel="distance, relative"))

# %% [markdown]
"""
Without a mask a sentence means something else in each batch. Nobody would see an error message.

**Try it in the model.** The short sentences below are filled up to the length of the long one.
First yours; then a mask that hides nothing. Before you run it: which of the sentences will suffer,
and which cannot?
"""

# %% see="padding_mask"
if __name__ == "__main__":
    three = (
        "A woman sleeps.",
        "Two dogs are playing in the snow.",
        "A man in a blue shirt is standing on a ladder and two young girls are playing.",
    )
    translate_with({"padding_mask": padding_mask}, three)
    print("\nHere 'yours' is a mask that is True everywhere:")
    translate_with({"padding_mask": lambda ids, pad_id: ids[:, None, None, :] > -1}, three)

# %% [markdown]
r"""
The longest sentence has no padding and stays as it is. The others go on talking.

## causal_mask

The card over the rest of the line, for every position at once (§3.1, "Masked"; §3.2.3). Position
$t$ may look at $s$ where $s \le t$:

```text
              Ein  Mann geht  .
        Ein    ■    □    □    □
        Mann   ■    ■    □    □
        geht   ■    ■    ■    □
        .      ■    ■    ■    ■
```

Rows ask, columns answer. The diagonal is part of it: a position sees itself. This is not cheating,
because position $t$ reads word $t$ and has to predict word $t+1$. Without the diagonal the first
row would be empty.

**Given** the `length` $T$, and a `device` or None.

**Write**

1. a square `[T, T]` of booleans on that device;
2. True on the diagonal and below it, False above. No axes for batch and heads: broadcasting adds
   them.
"""


# %% solution="causal_mask"
def causal_mask(length: int, device: torch.device | str | None = None) -> Bool[Tensor, "T T"]:
    """A position may look at itself and at what came before it.

    Lower triangle and diagonal True, dtype bool, on `device` (None: where torch puts it).
    """
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


# %% check="causal_mask"

# %% [markdown]
"""
**See it.** What does a mask *do*? Change one token and watch which outputs move. Row t of each
picture: token t was changed. Dark columns: outputs that moved. What shape do you expect on the
right?
"""

# %% see="causal_mask"
if __name__ == "__main__":
    x = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    pictures = {}
    for name, mask in (("no mask", None), ("causal_mask", causal_mask(6))):
        before, _ = scaled_dot_product_attention(x, x, x, mask)
        rows = []
        for t in range(6):
            changed = x.clone()
            changed[t] += 1
            after, _ = scaled_dot_product_attention(changed, changed, changed, mask)
            rows.append((after - before).abs().amax(-1) > 1e-6)
        pictures[name] = torch.stack(rows)
    tokens = [f"{t}" for t in range(6)]
    show(heat_maps(pictures, [f"change {t}" for t in tokens], [f"output {t}" for t in tokens]))

# %% [markdown]
"""
It is the mask with rows and columns swapped: who may look at token t is who moves when t changes.
Such a *probe* finds a wrong mask without a look at the code, and the checks of this course use it
again and again.

**Try it in the model.** Yours first. Then a triangle one step too low, without the diagonal. What
does a writer do who cannot see the last word it wrote?
"""

# %% see="causal_mask"
if __name__ == "__main__":
    translate_with({"causal_mask": causal_mask})
    print("\nHere 'yours' has no diagonal:")
    translate_with(
        {"causal_mask": lambda length, device=None: causal_mask(length, device).tril(-1)}
    )

# %% [markdown]
r"""
Without the diagonal it stammers.

## decoder_mask

The decoder looks at its own words: neither at the future nor at padding. A key must be allowed by
*both* masks.

```text
causal       padding (last two)      both

■ □ □ □      ■ ■ □ □                 ■ □ □ □
■ ■ □ □      ■ ■ □ □                 ■ ■ □ □
■ ■ ■ □      ■ ■ □ □                 ■ ■ □ □
■ ■ ■ ■      ■ ■ □ □                 ■ ■ □ □
```

Look at the last two rows. There the *query* is padding, and it still sees the two words. Leave it
so: nobody ever looks at what padding has gathered, and the loss skips it. Padding is hidden as a
key, not as a query.

**Given** `ids` `[B, T]`, `pad_id`, and your two masks.

**Write**

1. both masks, the causal one on the device of the ids;
2. what both allow. Check the shape on paper: `[T, T]` and `[B, 1, 1, T]` broadcast to what?
"""


# %% solution="decoder_mask"
def decoder_mask(ids: Int[Tensor, "B T"], pad_id: int) -> Bool[Tensor, "B 1 T T"]:
    """A position may look where both masks agree: not at the future, not at padding.

    Padding is hidden as a key only; the row of a query that is padding is not blanked.
    """
    return causal_mask(ids.size(1), ids.device) & padding_mask(ids, pad_id)


# %% check="decoder_mask"

# %% [markdown]
"""
**See it.** Two sentences of one batch, the second with two tokens of padding. Where do the two
masks differ, and why does the first sentence show the plain triangle?
"""

# %% see="decoder_mask"
if __name__ == "__main__":
    ids = torch.tensor([[1, 7, 8, 9, 4, 2], [1, 5, 6, 2, 0, 0]])
    full, short = decoder_mask(ids, pad_id=0)[:, 0]
    show(heat_maps({"6 words": full, "4 words, 2 padding": short}))

# %% [markdown]
"""
## Who may look at whom

The Transformer has three places where attention happens (§3.2.3), each under a mask:

| where | who asks | who answers | mask |
|---|---|---|---|
| encoder, self-attention | source | source | `padding_mask(src)` |
| decoder, self-attention | target | target | `decoder_mask(tgt)` |
| decoder, cross-attention | target | source | `padding_mask(src)` |

The source is known from its first word to its last, so nothing of it is the future: the first word
of the translation may look at the last of the source. A causal mask in cross-attention is a
mistake that still runs: *spielen*, the third word of "Zwei Hunde spielen", could not look at
*playing*, the fourth of "Two dogs are playing".

The next cell draws all three for one pair. In the third picture rows and columns are different
sentences, of different lengths. Look for the dark part of each: a block, a triangle, a block.
"""

# %% see="decoder_mask"
if __name__ == "__main__":
    source, target = "Two dogs play . </s> <pad>".split(), "<s> Zwei Hunde spielen <pad>".split()
    src, tgt = torch.tensor([[5, 6, 7, 4, 2, 0]]), torch.tensor([[1, 8, 9, 7, 0]])
    encoder = padding_mask(src, 0)[0, 0].expand(6, 6)  # drawn as broadcasting stretches it
    show(heat_map(encoder, source, source, "encoder"))
    show(heat_map(decoder_mask(tgt, 0)[0, 0], target, target, "decoder"))
    show(heat_map(padding_mask(src, 0)[0, 0].expand(5, 6), target, source, "cross"))

# %% [markdown]
"""
Three families of models differ in little more than this. Write source and target one behind the
other, as one sequence of 4 + 4 tokens, and draw who may look at whom:

- *encoder only* (BERT): everybody at everybody. It understands, and cannot write.
- *decoder only* (GPT): everybody at the past. One triangle for everything.
- *encoder-decoder* (the paper): the source sees the whole source; the target sees the whole source,
  which is cross-attention, and its own past. The source never sees the target.
"""

# %% see="causal_mask"
if __name__ == "__main__":
    both = causal_mask(8)
    both[:4, :4] = True  # the source sees all of the source
    names = [f"s{i}" for i in range(4)] + [f"t{i}" for i in range(4)]
    families = {
        "encoder only": torch.ones(8, 8),
        "decoder only": causal_mask(8),
        "encoder-decoder": both,
    }
    show(heat_maps(families, names, names))

# %% [markdown]
r"""
## A row that is all False

Some query may look at nothing: padding stands at the front of a sentence and a causal mask hides
the rest, or a sentence of the batch is empty. All its scores are $-\infty$. Torch's softmax
computes $-\infty - (-\infty)$ and gives NaN. One NaN is enough: the next layer, the loss and the
gradient of *every* weight become NaN.

The rule of this course: **who may look at nothing gets zeros**, weights and output. That was the
last step of `softmax` in unit 01. It is not a nicety: multiply the row by 0 *afterwards*, and
0 · NaN is still NaN, also on the way back.

The next cell sends one sentence with padding in front through attention, twice.
"""

# %% see="decoder_mask"
if __name__ == "__main__":
    ids = torch.tensor([[0, 5, 6, 7]])  # padding in front
    mask = decoder_mask(ids, pad_id=0)
    project = torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    x = torch.randn(1, 1, 4, 8, generator=torch.Generator().manual_seed(1))
    ours, _ = scaled_dot_product_attention(x, x, x @ project, mask)
    theirs = torch.softmax((x @ x.mT).masked_fill(~mask, -torch.inf), -1) @ (x @ project)
    print("what the first query may see: ", mask[0, 0, 0].tolist())
    for name, output in (("the rule of this course", ours), ("torch.softmax", theirs)):
        loss = output[:, :, 1:].square().sum()  # the padded position is not even in the loss
        (gradient,) = torch.autograd.grad(loss, project)
        lost = int(gradient.isnan().sum())
        print(f"{name:<24} first output {output[0, 0, 0, 0].item():.1f},",
              f"{lost} of {gradient.numel()} numbers of the gradient are NaN")  # fmt: skip

# %% [markdown]
"""
The padded position was not part of the loss, and still it took the whole gradient with it.

## The polarity trap

Torch reads masks in two opposite ways:

| function | True means |
|---|---|
| `F.scaled_dot_product_attention(attn_mask=…)`, and this course | may look |
| `nn.MultiheadAttention(attn_mask=…, key_padding_mask=…)` | may **not** look |

Both take either mask without a word. The next cell gives *your* padding mask to
`nn.MultiheadAttention`, as it is and turned over: four words, then two tokens of padding. Find the
picture in which attention reads nothing but padding.
"""

# %% see="padding_mask"
if __name__ == "__main__":
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(16, num_heads=1, batch_first=True)
    x = torch.randn(1, 6, 16)
    seen = padding_mask(torch.tensor([[5, 6, 7, 2, 0, 0]]), pad_id=0)[:, 0, 0]  # [B, S]
    _, as_it_is = layer(x, x, x, key_padding_mask=seen)
    _, turned = layer(x, x, x, key_padding_mask=~seen)
    names = "Two dogs play </s> <pad> <pad>".split()
    pictures = {"key_padding_mask=seen": as_it_is[0], "key_padding_mask=~seen": turned[0]}
    show(heat_maps(pictures, names, names, numbers=True))

# %% [markdown]
"""
On the left the mask is upside down, and the weights still sum to 1. So write `~` at the border to
`nn.MultiheadAttention`, and at no other place. Whoever names a mask for what it *allows*
(`seen`, `not_padding`) notices it when reading; a variable called `mask` says nothing.

You will also meet masks of floats, 0 and `-inf`, to be *added* to the scores. They say the same in
another language; here masks are boolean.

**Try it in the model.** All three masks at once, in every layer.
"""

# %% see="decoder_mask"
if __name__ == "__main__":
    mine = {
        "padding_mask": padding_mask,
        "causal_mask": causal_mask,
        "decoder_mask": decoder_mask,
    }
    translate_with(mine)

# %% quiz

# %% [markdown]
r"""
## For those who want more

A *window* mask lets a position see only the last $w$ tokens, itself included: $t - w < s \le t$
(Longformer, Beltagy et al. 2020). Write `window_mask(length, w)` from two
`causal_mask`s, or from one `torch.arange`. Count the True entries of a row: there must be $w$, not
$w + 1$. Then stack layers: with the window of $w = 3$, how far back does position 20 see through
four layers? Guess first; then let the probe from above, *change a token and see what moves*, tell
you.
"""
