# %% [markdown]
"""
# 08 The decoder writes the target

> A woman is looking **at** a book. → Eine Frau schaut sich ein Buch **an**.

The little word *an* at the end belongs to *schaut*, four words before it, and it is the *at* of the
source. To write it, a translator must know two things: what has been written so far, and what
stands in the source.

**The question of this unit:** how can each word of the target look at both, and not at what is
still to come?

With two attentions, one after the other. You write the layer as `DecoderLayer` and the stack as
`Decoder`. Only one thing in them is new: *cross-attention*.
"""

# %% given
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lab import parts
from lab.lesson import rebuilt, see, show, translate_with
from lab.parts import AddNorm, FeedForward, MultiHeadAttention, decoder_mask
from lab.plotting import heat_map, heat_maps
from lab.tokens import BOS_ID, PAD_ID
from lab.translation import translate

# %% [markdown]
"""
## Two sheets of paper

A translator has two sheets on the desk. On the left lies the source, all of it. On the right stands
what is written so far; below the pen the sheet is empty. For each new word the translator looks at
the right sheet (*where am I in my sentence?*), then at the left one (*what have I not said yet?*),
then thinks, and writes.

- **Self-attention: A asks A.** Target tokens ask target tokens. Queries, keys and values come from
  the same `T` tokens, and the weights are `[T, T]`.
- **Cross-attention: B asks A.** The `T` target tokens ask the `S` source tokens. Queries come from
  the target, keys and values from the source, and the weights are `[T, S]`.

The source comes as `memory`: what the encoder made of it, a vector for each source token in its
sentence. The result of cross-attention has a row for each token that *asked*. The target remains
`T` tokens long, however long the source is.
"""

# %% [markdown]
r"""
## The formula

One layer (§3.1 and Figure 1, right):

$$a = \operatorname{norm}_1\bigl(x + \operatorname{MultiHead}_{\text{self}}(x, x, x)\bigr)$$
$$b = \operatorname{norm}_2\bigl(a + \operatorname{MultiHead}_{\text{cross}}(a, m, m)\bigr)$$
$$y = \operatorname{norm}_3\bigl(b + \operatorname{FFN}(b)\bigr)$$

| symbol | meaning | shape |
|---|---|---|
| $x$ | the target tokens as they come into the layer | `[B, T, D]` |
| $m$ | the memory: the source as the encoder left it | `[B, S, D]` |
| $a$ | the target after it has looked at itself; it now asks the source | `[B, T, D]` |
| $b$ | the target after it has looked at the source | `[B, T, D]` |
| $y$ | what goes to the next layer | `[B, T, D]` |

`B` is the number of sentences, `D` the width of a token. MultiHead, norm and FFN are those of units
03, 05 and 06. The two attentions have weights of their own: looking back and looking across are two
different jobs.

**By head.** One target token, $a = (1, -1)$. Two source tokens with values $(4, 0)$ and $(0, 4)$.
The scores are $\ln 3$ and $\ln 1$, so the weights are 3/4 and 1/4, and cross-attention gives
$(3, 1)$. The sum with $a$ is $(4, 0)$; the norm takes off the mean 2 and divides by 2: $(1, -1)$.

**Which mask goes where?** One question for each attention: who is looked at, and may it be seen?

| attention | who is looked at | what is hidden | mask, made in unit 02 |
|---|---|---|---|
| self | the target | the future, and padding of the target | `self_mask` `[B, 1, T, T]` |
| cross | the source | padding of the source, nothing else | `cross_mask` `[B, 1, 1, S]` |

The source has no future. It was finished before the first target word, so a causal mask in
cross-attention would only make the decoder blind. The layer itself decides nothing of this: it
passes on the masks that it is given.
"""

# %% [markdown]
"""
## DecoderLayer

Self-attention, cross-attention, feed-forward, each with an add-and-norm of its own.

**Given** `MultiHeadAttention(d_model, n_heads)`, `AddNorm(d_model, dropout)` and
`FeedForward(d_model, d_ff)`, used as in unit 07: attention is called as `(query, key, value, mask)`
and gives `(output, weights)`. Further `x` `[B, T, D]`, `memory` `[B, S, D]`, and two masks, each of
which may be None.

**Write** in `__init__`

1. `self_attention` and `add_norm1`; `cross_attention` and `add_norm2`; `feed_forward` and
   `add_norm3`, in this order. `dropout` goes to all three add-and-norms.

and in `forward`

2. the target asks itself, under `self_mask`; add and norm;
3. what came of it asks the memory, under `cross_mask`; add and norm. Who is the query, who is key
   and value?
4. feed-forward; add and norm.
"""


# %% solution="DecoderLayer"
class DecoderLayer(nn.Module):
    """Every target token gathers from earlier ones and from the source, then thinks alone.

    Post-norm. self_mask says who may look at whom in the target, cross_mask what of the memory may
    be looked at. The result has the shape of x.
    """

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.add_norm1 = AddNorm(d_model, dropout)
        self.cross_attention = MultiHeadAttention(d_model, n_heads)
        self.add_norm2 = AddNorm(d_model, dropout)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.add_norm3 = AddNorm(d_model, dropout)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S D"],
        self_mask: Bool[Tensor, "... #T #T"] | None = None,
        cross_mask: Bool[Tensor, "... #T #S"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        attended, _ = self.self_attention(x, x, x, self_mask)
        x = self.add_norm1(x, attended)
        attended, _ = self.cross_attention(x, memory, memory, cross_mask)
        x = self.add_norm2(x, attended)
        return self.add_norm3(x, self.feed_forward(x))


# %% check="DecoderLayer"

# %% [markdown]
"""
**See it.** Five target tokens under a causal mask, seven source tokens. We change one token and
mark which target tokens of the result move at all. A row for each token that is changed, a column
for each token of the result; dark means it moved. First a token of the target is changed, then one
of the source. Which of the two pictures is a triangle, and why is the other one not?
"""

# %% see="DecoderLayer"
if __name__ == "__main__":
    torch.manual_seed(0)
    layer = DecoderLayer(32, 4, 128).eval()
    target, source = torch.randn(1, 5, 32), torch.randn(1, 7, 32)
    causal = decoder_mask(torch.ones(1, 5, dtype=torch.long), pad_id=0)

    def moved(which):
        """A row for each token that is changed, a column for each target token of the result."""
        inputs, rows = {"x": target, "memory": source}, []
        before = layer(target, source, causal)
        for place in range(inputs[which].size(1)):
            other = inputs[which].clone()
            other[:, place] += torch.randn(32)
            after = layer(**{**inputs, which: other}, self_mask=causal)
            rows.append((after - before)[0].norm(dim=-1).detach() > 1e-6)
        return torch.stack(rows)

    columns = [f"target {t}" for t in range(5)]
    for which, name in (("x", "target"), ("memory", "source")):
        found = moved(which)
        rows = [f"{name} {place}" for place in range(len(found))]
        show(heat_map(found, rows, columns, f"a {name} token is changed"))

# %% [markdown]
"""
A changed target token moves itself and what comes after it. A changed source token moves everything
that is written. So in training all `T` positions can be worked out at once, although later one word
is written after the other: no position has seen the next word, which it should predict.

**Try it in the model.** Three decoder layers, each of them yours.
"""

# %% see="DecoderLayer"
if __name__ == "__main__":
    sentences = ["A woman is looking at a book.", "A man in a blue shirt is standing on a ladder."]
    translate_with({"DecoderLayer": DecoderLayer}, sentences)

# %% [markdown]
"""
## Decoder

Layers in a stack, as in the encoder. The target goes from layer to layer and changes on its way.
The memory does not: **every layer looks at the same memory**, the encoder's last word. Nor do the
masks change.

**Given** your `DecoderLayer`.

**Write** in `__init__`

1. `layers`, an `nn.ModuleList` of `n_layers` layers, each made anew.

and in `forward`

2. `x` through the layers, each with the memory and both masks. What the last one gives is the
   result.
"""


# %% solution="Decoder"
class Decoder(nn.Module):
    """A stack of decoder layers; every one gets the same memory and the same masks."""

    def __init__(self, n_layers: int, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(d_model, n_heads, d_ff, dropout) for _ in range(n_layers)
        )

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S D"],
        self_mask: Bool[Tensor, "... #T #T"] | None = None,
        cross_mask: Bool[Tensor, "... #T #S"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        for layer in self.layers:
            x = layer(x, memory, self_mask, cross_mask)
        return x


# %% check="Decoder"

# %% [markdown]
"""
**See it: A asks A.** The sentence from the top, translated by the trained model through *your*
layers. Rows are the words that were chosen, columns what had been written by then, beginning with
the start mark. The weights are the mean of the four heads. What does the upper right corner say?
"""

# %% see="Decoder"
if __name__ == "__main__":
    layers = ["layer 1", "layer 2", "layer 3"]

    def translated(sentence):
        """The trained model with your parts, and what it makes of a sentence."""
        with parts.using({"DecoderLayer": DecoderLayer, "Decoder": Decoder}):
            yours = rebuilt()
            return yours, translate(yours, [sentence], explain=True)[0]

    _, found = translated("A woman is looking at a book.")
    print(found.text)
    written = found.target_pieces
    own = found.attention["decoder"].mean(1)  # [layers, T, T]
    show(heat_maps(dict(zip(layers, own, strict=True)), written, ["<s>", *written[:-1]]))

# %% [markdown]
"""
**See it: B asks A.** The same translation; rows are the same words, columns now the source. In the
last layer, follow *schaut* and *an*. The two stand far apart in German. Where do they look?
"""

# %% see="Decoder"
if __name__ == "__main__":
    _, found = translated("A woman is looking at a book.")
    written, read = found.target_pieces, found.source_pieces
    across = found.attention["cross"].mean(1)  # [layers, T, S]
    show(heat_maps(dict(zip(layers, across, strict=True)), written, read))

# %% [markdown]
"""
The last layer is nearly a dictionary: *Frau* looks at *woman*, *Buch* at *book*, and *schaut* at
*looking*, and at *at* besides. For *an* all is said by then: half of its weight rests on the end,
the rest goes back to *looking at*. The layers before it look for other things. Nobody gave the
model such pairs of words; they fell out of learning to predict the next word.

A weight says where a layer *looked*. Did the word also *matter*? That can be measured: hide one
source token from cross-attention, and see how much log-probability each written word loses. Rows
and columns as above; red is lost, blue is gained. Which of the words that were looked at could have
been done without?
"""

# %% see="Decoder"
if __name__ == "__main__":
    yours, found = translated("A woman is looking at a book.")
    written, read = found.target_pieces, found.source_pieces
    model, tokenizer = yours.model, yours.tokenizer
    src = torch.tensor([tokenizer.encode(found.source)])
    expected = tokenizer.encode(found.text)
    tgt = torch.tensor([[BOS_ID, *expected[:-1]]])
    hiding = src.repeat(src.size(1), 1).fill_diagonal_(PAD_ID)  # row s hides source token s
    with torch.no_grad():
        memory = model.encode(src)
        usual = model.decode(tgt, memory, src).log_softmax(-1)
        without = torch.cat([model.decode(tgt, memory, row[None]) for row in hiding])
    lost = (usual - without.log_softmax(-1))[:, range(len(expected)), expected]
    show(heat_map(lost.T, written, read, "log-probability lost without a source token"))

# %% [markdown]
"""
Often looking and needing agree: *schaut* and *looking*, *Buch* and *book*. Not always. *Eine* looks
at *A* and at *woman*, and needs only *woman*: a German article has a gender, and the English one
does not know it. The full stop looks hard and needs nothing. So read heat maps with care: they show
where information *may* have come from.

**Try it in the model.** Layer and stack, both yours.
"""

# %% see="Decoder"
if __name__ == "__main__":
    sentences = ["A woman is looking at a book.", "In the park, a man is playing the guitar."]
    translate_with({"DecoderLayer": DecoderLayer, "Decoder": Decoder}, sentences)

# %% quiz

# %% [markdown]
"""
## For those who want more

When the model writes, word `t` is computed again at every later step, and comes out the same each
time: nothing after it can change it. So its keys and values need not be computed twice. Write
`forward_one(x_new, kept)` for your `DecoderLayer`: it takes the newest token only, and the keys and
values of all earlier ones (a *KV cache*). Which mask does self-attention need then? And what of
cross-attention can be computed once for the whole sentence? Compare word for word with the plain
way, and measure the time for 64 words.
"""
