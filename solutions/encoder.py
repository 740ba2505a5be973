# %% [markdown]
"""
# 07 The encoder reads the source

> "A man sleeps in a **hammock**."

The tokenizer does not know the word *hammock*. It hands the model three pieces: *h*, *amm*,
*ock*. Nothing in the piece *ock* says that one can lie in it. Somebody has to put the three
together, and then the bed and the sleep.

**The question of this unit:** how does a row of separate pieces become a sentence that is
understood?

The answer has no new idea in it. It takes what you have, attention, add-and-norm and feed-forward,
and puts them in a rhythm: look at the others, think alone, look again. You write one round as
`EncoderLayer`, and several rounds as `Encoder`.
"""

# %% given
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lab import parts
from lab.lesson import rebuilt, see, show, translate_with
from lab.parts import AddNorm, FeedForward, MultiHeadAttention
from lab.plotting import heat_maps, lines

# %% [markdown]
"""
## A meeting in rounds

Think of a meeting. Each person at the table is a token with a notebook, its vector. A round has two
halves. First everybody looks around and notes down what the others have: that is self-attention.
Then all bend over their own notebooks and think about it: that is feed-forward. Nobody tears out
old pages; new notes are *added*, and then the page is brought back to a normal size. That is
add-and-norm, after each half.

In the second round the others' notebooks hold more than in the first. Whoever looks at *an* now
also sees what *an* has noted down about *trash*. So two rounds reach further than one: not to more
tokens, for every token sees all of them at once, but to *combinations* of tokens.
"""

# %% [markdown]
r"""
## The formula

One round, one layer (§3.1 and Figure 1, left):

$$h = \operatorname{norm}_1\bigl(x + \operatorname{MultiHead}(x, x, x)\bigr) \qquad
y = \operatorname{norm}_2\bigl(h + \operatorname{FFN}(h)\bigr)$$

| symbol | meaning | shape |
|---|---|---|
| $x$ | the tokens as they come into the layer: B sentences of S tokens | `[B, S, D]` |
| $\operatorname{MultiHead}(x, x, x)$ | the tokens ask each other | `[B, S, D]` |
| $h$ | what each token is after it has looked | `[B, S, D]` |
| $\operatorname{FFN}$ | the same two Linears for each token alone | `[B, S, D]` |
| $y$ | what goes to the next layer | `[B, S, D]` |

The shape never changes. That is what lets layers be stacked like bricks, and what makes $x + \dots$
possible at all.

**By head.** Two tokens of width 2, $(3, 1)$ and $(1, 3)$. Say attention looks at both alike and
copies: it gives each token the mean, $(2, 2)$. The sums are $(5, 3)$ and $(3, 5)$. The norm takes
off the mean 4 and divides by the standard deviation 1: $(1, -1)$ and $(-1, 1)$. Say feed-forward
has nothing to add: $(0, 0)$. The second norm finds mean 0 and deviation 1 and leaves all as it is.

Without the residual, both tokens would have come out of attention as $(2, 2)$, and no layer could
ever have told them apart again.

**Who may look at whom?** In the encoder, everybody at everybody, to the left and to the right: the
source is there as a whole before a word is translated. Only padding is hidden. The mask comes from
outside, `padding_mask` from unit 02, and each layer passes it on.
"""

# %% [markdown]
"""
## EncoderLayer

Self-attention, then feed-forward, each with an add-and-norm of its own.

**Given** `MultiHeadAttention(d_model, n_heads)`, `AddNorm(d_model, dropout)` and
`FeedForward(d_model, d_ff)`: yours where they have passed, else the lab's. Remember: attention
gives two things, `(output, weights)`; `AddNorm` takes two things, `x` and what the sublayer made of
it, drops from the second, adds and norms.

**Write** in `__init__`

1. `self_attention` and `add_norm1`; `feed_forward` and `add_norm2`, by these names. Pass `dropout`
   on to both add-and-norms; the layer needs no dropout of its own;

and in `forward`

2. the tokens ask each other, under the mask;
3. add and norm; from here on `x` is the result;
4. feed-forward on that, add and norm again.
"""


# %% solution="EncoderLayer"
class EncoderLayer(nn.Module):
    """Every token gathers from all tokens it may look at, then thinks alone.

    Post-norm: each sublayer is followed by its add-and-norm. The result has the shape of x.
    """

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.add_norm1 = AddNorm(d_model, dropout)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.add_norm2 = AddNorm(d_model, dropout)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        mask: Bool[Tensor, "... #S #S"] | None = None,
    ) -> Float[Tensor, "B S D"]:
        attended, _ = self.self_attention(x, x, x, mask)
        x = self.add_norm1(x, attended)
        return self.add_norm2(x, self.feed_forward(x))


# %% check="EncoderLayer"

# %% [markdown]
"""
**See it.** Which half of the layer carries news from token to token? We change one token of six and
measure how far each token of the result moves. Rows: the token that was changed. Columns: the token
that moved. On the right the same layer with its attention silenced. What do you expect off the
diagonal?
"""

# %% see="EncoderLayer"
if __name__ == "__main__":
    torch.manual_seed(0)
    layer = EncoderLayer(32, 4, 128).eval()
    x, other = torch.randn(1, 6, 32), torch.randn(6, 32)

    def moved(layer):
        changed = x.repeat(6, 1, 1)
        changed[range(6), range(6)] = other  # row s has another token at place s
        return (layer(changed) - layer(x)).norm(dim=-1).detach()

    whole = moved(layer)
    nn.init.zeros_(layer.self_attention.out_proj.weight)
    names = [f"token {s}" for s in range(6)]
    pictures = {"the whole layer": whole, "attention silenced": moved(layer)}
    show(heat_maps(pictures, names, names, numbers=True))

# %% [markdown]
"""
Attention is the only road between tokens; feed-forward, residuals and norms stay within one. The
diagonal is dark in both pictures: through the residual a token remains mostly itself.

**Try it in the model.** Three encoder layers of the trained model, each of them yours.
"""

# %% see="EncoderLayer"
if __name__ == "__main__":
    translate_with({"EncoderLayer": EncoderLayer})

# %% [markdown]
"""
## Encoder

The same kind of layer again and again. The *kind* is the same; the weights are not. The first round
may learn to put pieces together, the second to find out what an adjective belongs to. Layers that
shared one set of weights would do the same thing three times.

Two traps. `[layer] * 3` makes a list of three names for **one** layer. And a plain Python list
hides its layers from PyTorch: no optimizer finds them, and no checkpoint. `nn.ModuleList` shows
them.

**Given** your `EncoderLayer`.

**Write** in `__init__`

1. `layers`, an `nn.ModuleList` of `n_layers` layers, each made anew;

and in `forward`

2. `x` through the layers, one after the other, each with the mask. What the last one gives is the
   result. Nothing follows: each layer ends in a norm already.
"""


# %% solution="Encoder"
class Encoder(nn.Module):
    """A stack of encoder layers, each with weights of its own; every one gets the mask."""

    def __init__(self, n_layers: int, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, n_heads, d_ff, dropout) for _ in range(n_layers)
        )

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        mask: Bool[Tensor, "... #S #S"] | None = None,
    ) -> Float[Tensor, "B S D"]:
        for layer in self.layers:
            x = layer(x, mask)
        return x


# %% check="Encoder"

# %% [markdown]
"""
**See it.** The trained model reads the sentence from the top through *your* layers. After each one
we compare all pairs of tokens: the cosine of their vectors, 1 for the same direction, 0 for nothing
in common (red is above 0, blue below, the darkest red is 1). Follow the three pieces of *hammock*,
and the last two tokens.
"""

# %% see="Encoder"
if __name__ == "__main__":

    def readings(sentence):
        """The pieces of a sentence, and their vectors before the first layer and after each."""
        with parts.using({"EncoderLayer": EncoderLayer, "Encoder": Encoder}):
            trained = rebuilt()
        ids = trained.tokenizer.encode_all([sentence])
        x = trained.model.positions(trained.model.embedding(torch.tensor(ids)))
        found = [x[0]]
        for layer in trained.model.encoder.layers:
            x = layer(x)
            found.append(x[0])
        return trained.tokenizer.pieces(ids[0]), torch.stack(found).detach()

    pieces, vectors = readings("A man sleeps in a hammock.")
    unit = vectors / vectors.norm(dim=-1, keepdim=True)
    alike = unit @ unit.transpose(-2, -1)
    titles = ["before layer 1", "after layer 1", "after layer 2", "after layer 3"]
    show(heat_maps(dict(zip(titles, alike, strict=True)), pieces, pieces))

    for a, b in ((" h", "amm"), (" h", "ock"), (".", "</s>")):
        curve = alike[:, pieces.index(a), pieces.index(b)].tolist()
        print(f"{a.strip():>5} and {b.strip():4}", "  ".join(f"{cosine:5.2f}" for cosine in curve))

# %% [markdown]
"""
Before the first layer *h* and *ock* have little in common. Layer by layer the three pieces
become a block: the model has found its word. Nobody told it which pieces belong together; it helped
to translate. The full stop and the end mark end up the same, for to this model they say the same.

Now the other way round: one word, two meanings. A *rock* to sit on and a *rock* band stand at the
same place in their sentences, so before the first layer they are the same vector. Where do they
part?
"""

# %% see="Encoder"
if __name__ == "__main__":
    pairs = {
        "rock": ("A boy sits on a rock.", "A man plays in a rock band."),
        "light": ("A man holds a light.", "A girl in a light blue dress."),
        "orange": ("A girl eats an orange.", "A man in an orange shirt."),
        "guitar": ("A man plays a guitar.", "A girl holds a guitar."),
    }
    curves = {}
    for word, sentences in pairs.items():
        two = []
        for sentence in sentences:
            pieces, vectors = readings(sentence)
            two.append(vectors[:, pieces.index(f" {word}")])
        curves[word] = nn.functional.cosine_similarity(*two, dim=-1)
    show(lines(curves, xlabel="layers passed", ylabel="cosine of the two"))

# %% [markdown]
"""
The three words with two meanings drift apart, most of all in the last layer; *guitar*, with one
meaning, hardly moves. That is what an encoder is for: it takes in a vector per *word* and gives a
vector per *word in this sentence*. They remain alike even so: the residual path keeps what the word
was.

**Try it in the model.** Layer and stack, both yours.
"""

# %% see="Encoder"
if __name__ == "__main__":
    sentences = ["A boy sits on a rock.", "A man plays in a rock band."]
    translate_with({"EncoderLayer": EncoderLayer, "Encoder": Encoder}, sentences)

# %% quiz

# %% [markdown]
r"""
## For those who want more

Which of the three layers is missed most? `checkpoint = rebuilt()` is a trained model of your own,
`del checkpoint.model.encoder.layers[n]` takes layer $n$ out, and `translate(checkpoint, sentences)`
from `lab.translation` translates; each thing it gives has a `text`. Guess first. Then leave out
each layer in turn, with ten sentences short and long; then all three; then let two layers change
places. In unit 05 the model spoke nonsense without its residuals. What do the residuals have to do
with how little one layer is missed?
"""
