# %% [markdown]
"""
# 09 The whole model

Eight units, and every part passes its checks. In the trained model each did its work; by themselves
they translate nothing. An encoder wants vectors and has none, a decoder gives vectors and nobody
reads them.

**The question of this unit:** what is missing between *ids in* and *a score for every word out*?
And how many numbers does the whole model have?

Little is missing: a table that turns ids into vectors, and, at the end, the same table once more to
turn vectors into scores. You write `TokenEmbedding`, and then `Transformer`, which is wiring only.
At the end your own model translates, with weights that were trained for it.
"""

# %% given
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lab import parts
from lab.lesson import rebuilt, see, show, trained, translate_with
from lab.model import initialise
from lab.parts import Decoder, Encoder, PositionalEncoding, decoder_mask, padding_mask
from lab.plotting import bars, heat_map
from lab.tokens import BOS_ID, EOS_ID

# %% [markdown]
r"""
## The way of a sentence

```text
  src ids [B, S]                         tgt ids [B, T]
      |                                      |
  embedding · √D     (one table E)       embedding · √D
      |                                      |
  + positions                            + positions
      |                                      |
  encoder ————— memory [B, S, D] ————>   decoder [B, T, D]
                                             |
                                          · Eᵀ   (the same table)
                                             |
                                       logits [B, T, V]
```

$$\text{memory} = \operatorname{Encoder}\bigl(\sqrt{D}\,E_{\text{src}} + P\bigr) \qquad
\text{logits} = \operatorname{Decoder}\bigl(\sqrt{D}\,E_{\text{tgt}} + P,\;
\text{memory}\bigr)\, E^\top$$

| symbol | meaning | shape |
|---|---|---|
| $E$ | the table: a row for each of the $V$ tokens | `[V, D]` |
| $E_{\text{src}}$ | the rows of the source's ids | `[B, S, D]` |
| $E_{\text{tgt}}$ | the rows of the target's ids | `[B, T, D]` |
| $P$ | the sinusoids of unit 04, the same for both sides | `[S, D]`, `[T, D]` |
| logits | a score for every word, at every target position | `[B, T, V]` |

**One table, three tasks** (§3.4). It embeds the source, it embeds the target, and it *compares*:
the logit of word $v$ at position $t$ is the dot product of the decoder's vector there with row $v$.
To say *Hund*, the decoder turns its vector towards the row of *Hund*. Both languages share the
pieces of one tokenizer, so they can share the table.

**By head.** $D = 4$, and the row of a token is $(0.5, -1, 0, 1)$. Embedded it is twice that,
$(1, -2, 0, 2)$, for $\sqrt 4 = 2$. If the decoder ends in $(1, 0, 2, 1)$, the logit of this token
is $0.5 + 0 + 0 + 1 = 1.5$: the row itself is compared, not the scaled one.
"""

# %% [markdown]
r"""
## TokenEmbedding

A row of a table for each id, times $\sqrt{D}$.

Why the root? The rows have to be small, for the logits are products with them: numbers with
standard deviation $1/\sqrt D$ are usual, and then a row is about 1 long. The positions that are
added in the next step are not small: $D/2$ pairs of sine and cosine, each pair 1 long, make a
vector of length $\sqrt{D/2}$. Unscaled, the word would drown in its position.

Padding is no word. `padding_idx` tells `nn.Embedding` which row begins as zeros and never gets a
gradient.

**Given** `ids` `[B, T]`.

**Write** in `__init__`

1. `embedding`, an `nn.Embedding` with a row of width `d_model` for each of `vocab_size` tokens; it
   is told which token is the padding.

and in `forward`

2. the rows of the ids, times the root of the width.
"""


# %% solution="TokenEmbedding"
class TokenEmbedding(nn.Module):
    """embedding(ids) · √d_model; the padding token is the zero vector.

    The table is all that is trained or saved: the scale is a plain number.
    """

    def __init__(self, vocab_size: int, d_model: int, pad_id: int = 0):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model, padding_idx=pad_id)
        self.scale = math.sqrt(d_model)

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        return self.embedding(ids) * self.scale


# %% check="TokenEmbedding"

# %% [markdown]
"""
**See it.** Two hundred tokens, embedded and with positions added. How like are two sums that stand
for *one word* at two places, ten apart? And how like are *two words* at the same place? The first
should be high and the second low. On the right the same with the root taken out again.
"""

# %% see="TokenEmbedding"
if __name__ == "__main__":
    torch.manual_seed(0)
    width = 128
    embed = TokenEmbedding(200, width)
    nn.init.normal_(embed.embedding.weight, std=width**-0.5)
    table = PositionalEncoding(width).table
    likeness = {}
    for name, scale in (("× √D", 1.0), ("× 1", width**-0.5)):
        words = embed(torch.arange(1, 200)[None])[0].detach() * scale
        here, there = words + table[5], words + table[15]
        cosine = nn.functional.cosine_similarity
        likeness[f"{name}\none\nword"] = cosine(here, there, dim=-1).mean()
        likeness[f"{name}\none\nplace"] = cosine(here, here.roll(1, 0), dim=-1).mean()
    show(bars(likeness, ylabel="cosine"))

# %% [markdown]
r"""
Unscaled, two different words at one place are almost the same vector, and a word is less like
itself ten places on than like another word beside it. Scaled, the word has the say and the place
still shows.

## Transformer

Nothing is computed here that another part does not do. It is a matter of who gets what: which ids
are embedded, which mask goes where, what is compared with what.

| who looks at whom | mask |
|---|---|
| source at source, in the encoder | `padding_mask(src, pad_id)` |
| target at target, in the decoder | `decoder_mask(tgt, pad_id)` |
| target at source, in the decoder | `padding_mask(src, pad_id)` |

Two methods instead of one long `forward`, because they run at different times. `encode` runs once
for a sentence. `decode` runs again for every word that is written, on the memory that was kept.

**Given** `TokenEmbedding(vocab_size, d_model, pad_id)`, `PositionalEncoding(d_model, dropout,
max_len)`, `Encoder(n_layers, d_model, n_heads, d_ff, dropout)`, `Decoder` with the same arguments,
and the two functions that make masks; yours where they pass, else the lab's.

**Write** in `__init__`

1. `pad_id`, kept under that name; `embedding`, one for both sides; `positions`; `encoder`;
   `decoder`. Hand on `dropout`, `max_len` and `pad_id` to those that take them. No layer for the
   output: the table is there already.

in `encode`

2. ids to scaled vectors, positions added, through the encoder, padding hidden;

in `decode`

3. the same for the target, through the decoder, with the memory and both masks. `src` is needed
   only to know which of the memory is padding;
4. the scores: each vector's products with all rows of the table;

and in `forward`

5. one after the other.
"""


# %% solution="Transformer"
class Transformer(nn.Module):
    """From source and target ids to the logits of each next target token.

    Parts: embedding (one, for both sides), positions, encoder, decoder. The output projection is
    the embedding's table, transposed, without bias. Masks are made here, from pad_id.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int = 256,
        n_heads: int = 4,
        n_layers: int = 3,
        d_ff: int = 1024,
        dropout: float = 0.1,
        max_len: int = 512,
        pad_id: int = 0,
    ):
        super().__init__()
        self.pad_id = pad_id
        self.embedding = TokenEmbedding(vocab_size, d_model, pad_id)
        self.positions = PositionalEncoding(d_model, dropout, max_len)
        self.encoder = Encoder(n_layers, d_model, n_heads, d_ff, dropout)
        self.decoder = Decoder(n_layers, d_model, n_heads, d_ff, dropout)

    def encode(self, src: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        """The memory: what the decoder may look at."""
        x = self.positions(self.embedding(src))
        return self.encoder(x, padding_mask(src, self.pad_id))

    def decode(
        self,
        tgt: Int[Tensor, "B T"],
        memory: Float[Tensor, "B S D"],
        src: Int[Tensor, "B S"],
    ) -> Float[Tensor, "B T V"]:
        """Logits of the token after each target position; src tells which memory is padding."""
        x = self.positions(self.embedding(tgt))
        x = self.decoder(x, memory, decoder_mask(tgt, self.pad_id), padding_mask(src, self.pad_id))
        return x @ self.embedding.embedding.weight.T

    def forward(self, src: Int[Tensor, "B S"], tgt: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """The logits of tgt, with src read first."""
        return self.decode(tgt, self.encode(src), src)


# %% check="Transformer"

# %% [markdown]
r"""
## Counting by hand

How many numbers does the model have? Every Linear from $m$ to $n$ has $mn + n$ of them.

| module | formula | with $D = 128$, $F = 512$ |
|---|---|---|
| attention: four Linears $D \to D$ | $4(D^2 + D)$ | 66,048 |
| feed-forward: $D \to F \to D$ | $2DF + F + D$ | 131,712 |
| a norm: γ and β | $2D$ | 256 |
| **encoder layer**: 1 attention, 1 feed-forward, 2 norms | | 198,272 |
| **decoder layer**: 2 attentions, 1 feed-forward, 3 norms | | 264,576 |
| **table**, $V = 6{,}000$ | $VD$ | 768,000 |

Heads do not occur: splitting costs nothing. Neither do positions nor the output. With three layers
on each side, what should the sum be? Work it out before you run the cell.
"""

# %% see="Transformer"
if __name__ == "__main__":
    V, D, H, L, F = 6000, 128, 4, 3, 512
    attention, feed_forward, norm = 4 * (D * D + D), 2 * D * F + F + D, 2 * D
    formula = {
        "table": V * D,
        "encoder": L * (attention + feed_forward + 2 * norm),
        "decoder": L * (2 * attention + feed_forward + 3 * norm),
    }
    model = Transformer(V, D, H, L, F)
    for name, module in (
        ("table", model.embedding),
        ("encoder", model.encoder),
        ("decoder", model.decoder),
    ):
        actual = sum(parameter.numel() for parameter in module.parameters())
        print(f"{name:8} by hand {formula[name]:>9,}   in yours {actual:>9,}")
    shipped = sum(parameter.numel() for parameter in trained().model.parameters())
    print(f"together by hand {sum(formula.values()):>9,}   in the trained model {shipped:>9,}")
    three_tables = sum(formula.values()) + 2 * V * D
    print(f"with a table for each of the three tasks: {three_tables:,}")
    show(bars(formula, ylabel="parameters"))

# %% [markdown]
"""
A third of the model is its table, and it would be six tenths if source, target and output had one
each. Small models are mostly words.

**See it: the trained weights move in.** The names of your attributes are those of the checkpoint,
so its weights find their places in *your* model. We ask your model for the next word twice: with
fresh weights and with trained ones. Source: *Two dogs are playing in the snow.* Written so far:
*Zwei Hunde*.
"""

# %% see="TokenEmbedding, Transformer"
if __name__ == "__main__":

    def yours():
        """The trained weights in a model of your parts."""
        with parts.using({"TokenEmbedding": TokenEmbedding, "Transformer": Transformer}):
            return rebuilt()

    mine, fresh = yours(), yours()
    initialise(fresh.model, seed=0)  # other weights: random ones
    tokenizer = mine.tokenizer
    src = torch.tensor([tokenizer.encode("Two dogs are playing in the snow.")])
    tgt = torch.tensor([[BOS_ID, *tokenizer.encode("Zwei Hunde")[:-1]]])
    for name, checkpoint in (("fresh", fresh), ("trained", mine)):
        probabilities = checkpoint.model(src, tgt)[0, -1].softmax(-1)
        top = probabilities.topk(6)
        words = [piece.strip() for piece in tokenizer.pieces(top.indices.tolist())]
        best = dict(zip(words, top.values.tolist(), strict=True))
        show(bars(best, ylabel="probability", title=name))

# %% [markdown]
"""
With fresh weights the six best are chance, and none gets more than some hundredths. The wiring is
the same in both pictures; all that lies between them is training, the next unit.

**See it: one table.** Rows that point the same way are words the model treats alike. Cosines of a
few rows of the trained table, English and German mixed. Which words are near each other, and does
the table know that *dog* is *Hund*?
"""

# %% see=""
if __name__ == "__main__":
    words = [" boy", " man", " dog", " dogs", " red", " blue", " street", " road",
             " Junge", " Mann", " Hund", " Hunde", " roten", " blauen"]  # fmt: skip
    pieces = trained().tokenizer.pieces(range(6000))
    table = trained().model.embedding.embedding.weight.detach()
    rows = table[[pieces.index(word) for word in words]]
    rows = rows / rows.norm(dim=-1, keepdim=True)
    show(heat_map(rows @ rows.T, words, words, "cosines of rows"))

# %% [markdown]
"""
Within a language, words that can stand in for each other have like rows: *street* and *road*, *red*
and *blue*. Across the languages there is little: the table need not be a dictionary, for
cross-attention is one.

**Try it in the model.** Your model with the trained weights, and greedy decoding in five lines, so
that you see the loop once before unit 11: encode once, then decode, take the best word, append it,
and again. Then two more sentences, against the model of PyTorch's own layers.
"""

# %% see="TokenEmbedding, Transformer"
if __name__ == "__main__":
    model, tokenizer = yours().model, trained().tokenizer
    src = torch.tensor([tokenizer.encode("Two dogs are playing in the snow.")])
    memory, written = model.encode(src), [BOS_ID]
    while written[-1] != EOS_ID and len(written) < 20:
        logits = model.decode(torch.tensor([written]), memory, src)
        written.append(int(logits[0, -1].argmax()))
        print(tokenizer.decode(written))
    print()
    translate_with({"TokenEmbedding": TokenEmbedding, "Transformer": Transformer})

# %% [markdown]
r"""
## What it does without

*Attention is all you need*, says the title of the paper. Two other ways to carry information from
token to token were usual in 2017, and this model has neither.

- **Recurrence.** A recurrent network reads from left to right. At each token it computes a *state*
  from the token and the state before. What the first of $n$ tokens says takes $n - 1$ such steps to
  the last, and no state can be computed before the one to its left.
- **Convolution.** A layer of width $k$ computes each new vector from the $k$ tokens around its
  place, with the same weights at every place. All places are computed at once. But a layer reaches
  only $(k - 1)/2$ tokens to either side; what stands further away needs more layers.

Attention has no window and no queue: one layer takes information from any token to any other. The
price is a weight for every pair (Table 1 of the paper):

| a layer over $n$ tokens | tokens computed | from the first to the last | work grows with |
|---|---|---|---|
| recurrence | one after the other | $n - 1$ steps | $n D^2$ |
| convolution of width $k$ | all at once | $2(n-1)/(k-1)$ layers | $k n D^2$ |
| self-attention | all at once | 1 layer | $n^2 D$ |

The other two know the order by the way they are built. Attention does not; that is why positions
are added. And feed-forward is a convolution of width 1 (§3.3): it sees no neighbour.

**By head.** 13 tokens. Recurrence: 12 steps from the first to the last. Convolution of width 5:
$2 \cdot 12 / 4 = 6$ layers. Attention: 1.

**See it.** Thirteen random tokens; the first one is changed. Dark: the token of the result moves.
How many tokens does each convolution add?
"""

# %% see=""
if __name__ == "__main__":
    torch.manual_seed(0)
    window = [nn.Conv1d(32, 32, kernel_size=5, padding=2) for _ in range(6)]
    attending = Encoder(1, 32, 4, 64).eval()

    def convolved(x, layers):
        for layer in window[:layers]:
            x = layer(x.mT).mT.tanh()
        return x

    one = torch.randn(1, 13, 32)
    other = one.clone()
    other[:, 0] += 1.0
    moved = {}
    with torch.no_grad():
        for n in range(1, 7):
            moved[f"{n} × convolution"] = convolved(other, n) - convolved(one, n)
        moved["1 × attention"] = attending(other) - attending(one)
    reached = torch.cat([change.norm(dim=-1) > 1e-6 for change in moved.values()])
    show(heat_map(reached, list(moved), [str(t) for t in range(13)], "token 0 is changed"))

# %% quiz

# %% [markdown]
r"""
## For those who want more

The paper's base model has $D = 512$, $F = 2048$, six layers on each side and a shared table of
about 37,000 tokens. Table 3 gives it 65 million parameters. Count by hand. How near do you come,
and what part of the model is the table now? Then double $D$ and $F$ (the *big* model, 213 million):
which terms of your formula grow twofold, and which fourfold?
"""
