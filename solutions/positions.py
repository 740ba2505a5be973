# %% [markdown]
"""
# 04 Positions tell the order

> "Tom hit Jerry." "Jerry hit Tom."

The same three words, and each time somebody else is hurt. You know who by the *order*. Attention as
you have written it does not: each token takes a weighted mean over all tokens, and a mean has no
first and no last.

**The question of this unit:** how do vectors that are looked at all at once learn where they stand?

The answer of the paper (§3.5): add to each token a vector that says its place. You write the table
of these vectors, `sinusoidal_positions`; the module that adds it, `PositionalEncoding`; and the
other choice, a table that is learned, `LearnedPositions`.
"""

# %% given
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.lesson import see, show, translate_with
from lab.parts import SelfAttention
from lab.plotting import heat_map, heat_maps, lines

# %% [markdown]
"""
## What attention sees of a sentence

Here is a self-attention layer (unit 01) with random weights, and three words with random vectors.
Both sentences go through it. Look at what each word gets: does it know whether it did the hitting?
"""

# %% see=""
if __name__ == "__main__":
    torch.manual_seed(0)
    layer = SelfAttention(8)
    vectors = {word: torch.randn(8) for word in ("Tom", "hit", "Jerry")}

    def outputs(sentence, positions=None):
        """What each word of a sentence gets from attention."""
        words = sentence.split()
        x = torch.stack([vectors[word] for word in words])[None]
        found, _ = layer(x if positions is None else positions(x))
        return dict(zip(words, found[0].detach(), strict=True))

    one, other = outputs("Tom hit Jerry"), outputs("Jerry hit Tom")
    for word in vectors:
        print(f"{word:6} largest difference {float((one[word] - other[word]).abs().max()):.7f}")

# %% [markdown]
"""
Zero, up to rounding. *Tom* gets the same vector whether he hits or is hit. No later layer can tell
the two sentences apart, for there is no longer anything to tell them by.

The trained model of the lab has positions. What happens when we take them out and leave all else as
it is? "With yours" below is the model *without* positions.
"""

# %% see=""
if __name__ == "__main__":

    class NoPositions(nn.Module):
        """Adds nothing: the order is lost."""

        def __init__(self, d_model, dropout=0.1, max_len=512):
            super().__init__()

        def forward(self, x):
            return x

    swapped = ["The dog bites the man.", "The man bites the dog."]
    german = translate_with({"PositionalEncoding": NoPositions}, swapped)
    print(f"\nOne German sentence for both: {german[0] == german[1]}")

# %% [markdown]
r"""
Both sentences become the same German one, and it is wrong for both.

## A clock with many hands

What could a vector for place $p$ be? The number $p$ itself grows without bound and drowns the
token. The share $p / T$ stays small, but then one step means something else in every sentence.

A *clock* does better. It tells many thousands of seconds apart with hands that never leave their
circles: a fast one for nearby moments, slow ones for distant moments. Each hand is a point on a
circle, and a point on a circle is a pair (sine, cosine). The paper's table is a clock with $D/2$
hands, read at the times 0, 1, 2, …

$$\text{table}[p, 2i] = \sin(p\,\omega_i) \qquad \text{table}[p, 2i+1] = \cos(p\,\omega_i)
\qquad \omega_i = \frac{1}{10000^{2i/D}}$$

| symbol | meaning |
|---|---|
| $p$ | the position, counted from 0: a row of the table |
| $D$ | the width of a token, `d_model`, even |
| $i$ | the number of the hand, from 0 to $D/2 - 1$; it owns columns $2i$ and $2i+1$ |
| $\omega_i$ | its speed, in radians a step: 1 for hand 0, slower and slower after it |
| $p\,\omega_i$ | the angle the hand has reached, one angle for both columns |

**By head.** $D = 4$: two hands. Their speeds are $\omega_0 = 1/10000^{0} = 1$ and
$\omega_1 = 1/10000^{2/4} = 1/100$.

| position | sin p | cos p | sin p/100 | cos p/100 |
|---|---|---|---|---|
| 0 | 0 | 1 | 0 | 1 |
| 1 | 0.84 | 0.54 | 0.01 | 1.00 |
| 2 | 0.91 | -0.42 | 0.02 | 1.00 |

The fast hand tells neighbours apart. The slow one hardly moves; it tells 0 from 100.

## sinusoidal_positions

**Given** the number of rows `max_len` and the width `d_model`.

**Write**

1. a `ValueError` when `d_model` is odd, for then one hand would lack its cosine;
2. the positions 0, 1, 2, … as a column, and the $D/2$ speeds as a row;
3. all angles at once, `[max_len, D/2]`;
4. their sines in columns 0, 2, 4, …, their cosines in columns 1, 3, 5, … of one float32 table.

The trap is in step 2: is your $i$ the number of the hand, or already the column $2i$?
"""


# %% solution="sinusoidal_positions"
def sinusoidal_positions(max_len: int, d_model: int) -> Float[Tensor, "max_len D"]:
    """Column 2i is sin(position / 10000^(2i/D)), column 2i+1 the cosine of the same angle.

    Float32, positions counted from 0. An odd d_model is a ValueError.
    """
    if d_model % 2 != 0:
        raise ValueError(f"d_model={d_model} is odd: each frequency takes a sine and a cosine")
    position = torch.arange(max_len, dtype=torch.float64)
    frequency = 10_000 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angle = position[:, None] * frequency  # (max_len, D/2), in radians
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(start_dim=1).float()


# %% check="sinusoidal_positions"

# %% [markdown]
"""
**See it.** Four sine columns of your table, as waves over the positions. Look for the two
things a clock needs: a wave that changes at every step, and one that changes over the whole text.
"""

# %% see="sinusoidal_positions"
if __name__ == "__main__":
    table = sinusoidal_positions(64, 32)
    waves = {f"column {column}": table[:, column] for column in (0, 6, 12, 18)}
    show(lines(waves, xlabel="position", title="sines, from fast to slow"))

# %% [markdown]
"""
Now the whole table: a row is a position, a column a feature. Red is above 0, blue below, white is
0, and the darkest are 1 and -1. Look from left to right: where do the waves end, and why is every
second column on the right dark red?
"""

# %% see="sinusoidal_positions"
if __name__ == "__main__":
    show(heat_map(sinusoidal_positions(24, 24), title="rows: positions, columns: features"))

# %% [markdown]
r"""
On the right the hands hardly move in 24 steps: their sines stay near 0, their cosines near 1.

## A shift is a rotation

Why pairs of sine and cosine, and not sines alone? When the clock runs on for $k$ steps, hand $i$
turns by the angle $k\,\omega_i$, *wherever it stood before*. As a formula:

$$\begin{pmatrix} \sin\,(p+k)\omega_i \\ \cos\,(p+k)\omega_i \end{pmatrix}
= \begin{pmatrix} \cos k\omega_i & \sin k\omega_i \\ -\sin k\omega_i & \cos k\omega_i \end{pmatrix}
\begin{pmatrix} \sin p\,\omega_i \\ \cos p\,\omega_i \end{pmatrix}$$

The matrix depends on the distance $k$, not on the place $p$. So "three words to the left" is the
same linear map everywhere in the sentence, and a projection such as $W_Q$ can learn it (§3.5 hopes
for just that). The next cell builds one rotation, for $k = 3$, and turns rows 0, 10 and 50 with it.
Then it does the same to a table of random numbers of size 1, with the best matrix that least
squares can find: is there a matrix for "three words on" in that table too?
"""

# %% see="sinusoidal_positions"
if __name__ == "__main__":
    table, k = sinusoidal_positions(64, 8), 3
    speed = 10_000 ** (-torch.arange(0, 8, 2) / 8)
    sine, cosine = torch.sin(k * speed), torch.cos(k * speed)
    turn = torch.block_diag(
        *[torch.tensor([[c, s], [-s, c]]) for s, c in zip(sine, cosine, strict=True)]
    )
    for p in (0, 10, 50):
        error = float((turn @ table[p] - table[p + k]).abs().max())
        print(f"row {p:2}, turned by {k} steps, and row {p + k:2}: {error:.7f} apart")

    random = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    best = torch.linalg.lstsq(random[:-k], random[k:]).solution
    error = float((random[:-k] @ best - random[k:]).square().mean().sqrt())
    print(f"random table, turned by the best matrix: {error:.2f} apart on average")

# %% [markdown]
"""
One rotation fits every row of the clock. In the random table even the best matrix is off by nearly
as much as the numbers are large.

A rotation changes no lengths and no angles between vectors. So the dot product of two rows depends
on their distance alone. The picture shows all dot products of 24 rows, dark is large: what stays
the same along a diagonal, and what happens away from the main one?
"""

# %% see="sinusoidal_positions"
if __name__ == "__main__":
    table = sinusoidal_positions(24, 32)
    show(heat_map(table @ table.T, title="dot products of positions"))

# %% [markdown]
r"""
Every diagonal has one colour: only the distance counts. The nearest positions are the most alike;
farther off the dot product falls, in small waves. All that before any training.

## PositionalEncoding

$$\text{PositionalEncoding}(x) = \operatorname{dropout}(x + \text{table}[0 \ldots T-1])$$

Here $T$ is the number of tokens in the text: its tokens get the first $T$ rows.

Why *add*, and not put the row beside the token? Call the row $r$. A linear layer on the pair
$[x; r]$ computes $x W_1 + r W_2$. On the sum it computes $x W + r W$: one matrix in place of two,
and the width stays $D$. In a wide space training finds room for both.

The table is fixed, so it is no *parameter*: the optimizer must leave it alone. But it has to go
along when the model moves to a GPU or to half precision. For this PyTorch has the *buffer*:
`self.register_buffer("name", tensor)` makes one, and from then on it is `self.name`. With
`persistent=False` it is left out of checkpoints (`state_dict()`) too: it can be worked out again.

| | trained | moves with the module | in `state_dict()` |
|---|---|---|---|
| `nn.Parameter` | yes | yes | yes |
| buffer, persistent | no | yes | yes |
| **buffer, not persistent** | **no** | **yes** | **no** |
| plain attribute, `self.name = tensor` | no | no | no |

**Given** `x` `[B, T, d_model]` and your `sinusoidal_positions`.

**Write** in `__init__`

1. the table of `max_len` rows as a non-persistent buffer called `table`, and the dropout;

and in `forward`

2. a `ValueError` when there are more tokens than rows. A text of exactly `max_len` tokens fits;
3. the sum of the tokens and the first `T` rows, in a new tensor. Which axis of `x` is `T`?
4. dropout on the sum (§5.4).
"""


# %% solution="PositionalEncoding"
class PositionalEncoding(nn.Module):
    """dropout(x + table), for at most max_len tokens; a longer text is a ValueError.

    `table` is a buffer [max_len, D] that is neither trained nor saved.
    """

    table: Float[Tensor, "max_len D"]

    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 512):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("table", sinusoidal_positions(max_len, d_model), persistent=False)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        length, max_len = x.size(1), self.table.size(0)
        if length > max_len:
            raise ValueError(
                f"{length} tokens do not fit into max_len={max_len} positions: "
                "shorten the text or build the model with a larger max_len"
            )
        return self.dropout(x + self.table[:length].to(x.dtype))


# %% check="PositionalEncoding"

# %% [markdown]
"""
**See it.** Tom and Jerry again, this time with your positions. Compare with the zeros from the top
of this page.
"""

# %% see="PositionalEncoding"
if __name__ == "__main__":
    positions = PositionalEncoding(8).eval()
    one = outputs("Tom hit Jerry", positions)
    other = outputs("Jerry hit Tom", positions)
    for word in vectors:
        print(f"{word:6} largest difference {float((one[word] - other[word]).abs().max()):.3f}")

# %% [markdown]
"""
Now each word gets something else when the two names trade places. Even *hit* does, and it stands in
the middle both times: it can see that *Tom* comes from another side.

**Try it in the model.** Source and target both go through your table here. Do the dog and the man
find their places again?
"""

# %% see="PositionalEncoding"
if __name__ == "__main__":
    mine = {"sinusoidal_positions": sinusoidal_positions, "PositionalEncoding": PositionalEncoding}
    translate_with(mine, ["The dog bites the man.", "The man bites the dog."])

# %% [markdown]
r"""
## LearnedPositions

The other choice: let training find the table. An `nn.Embedding(rows, width)` is just that, a
learned table: called with a tensor of row numbers, the *ids*, it gives those rows. BERT and GPT-2
do it so. The paper tried both and found the results nearly the same (§3.5, Table 3 row E).

The price shows at the end of the table. The sinusoids can be worked out for any position. A learned
row that no training text ever reached is still what it was at the start: noise.

**Given** `x` `[B, T, d_model]`.

**Write** in `__init__`

1. an `nn.Embedding` called `embedding` with `max_len` rows, and the dropout;

and in `forward`

2. the `ValueError` as above;
3. the positions 0 … T-1 as ids, on the device of `x`;
4. dropout on the sum of the tokens and their rows.
"""


# %% solution="LearnedPositions"
class LearnedPositions(nn.Module):
    """dropout(x + embedding of 0, 1, 2, ...), for at most max_len tokens.

    A longer text is a ValueError. All rows are trained and saved.
    """

    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 512):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(max_len, d_model)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        length, max_len = x.size(1), self.embedding.num_embeddings
        if length > max_len:
            raise ValueError(
                f"{length} tokens do not fit into max_len={max_len} positions: "
                "shorten the text or build the model with a larger max_len"
            )
        positions = torch.arange(length, device=x.device)
        return self.dropout(x + self.embedding(positions))


# %% check="LearnedPositions"

# %% [markdown]
"""
**See it.** A task that is about order and nothing else: *say the token before you.* There are eight
kinds of token, so blind guessing is right once in eight. One self-attention layer learns it on
texts of 12 tokens: without positions, with your sinusoids, with your learned table. Then it gets
texts of 20, and the last number printed counts only the tokens beyond the 12th. (The training loop
in this cell is the usual one; you can skip it.) In the pictures, a row is a token that asks, a
column one that it looks at: which pictures have a dark line?
"""

# %% see="LearnedPositions"
if __name__ == "__main__":

    def train(positions, steps=120, length=12, width=32):
        """Where the trained layer looks; its share of right answers within length and beyond."""
        embedding, attention = nn.Embedding(8, width), SelfAttention(width)
        says = nn.Linear(width, 8)
        layers = nn.ModuleList([embedding, positions, attention, says])
        optimizer = torch.optim.Adam(layers.parameters(), lr=0.01)
        for _ in range(steps):
            ids = torch.randint(8, (16, length))
            logits = says(attention(positions(embedding(ids)))[0])[:, 1:]
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, :-1].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        ids = torch.randint(8, (200, 20))
        output, weights = attention(positions(embedding(ids)))
        beyond = (says(output)[:, length:].argmax(-1) == ids[:, length - 1 : -1]).float().mean()
        ids = ids[:, :length]
        output, weights = attention(positions(embedding(ids)))
        within = (says(output)[:, 1:].argmax(-1) == ids[:, :-1]).float().mean()
        return weights.mean(0), float(within), float(beyond)

    ways = {
        "no positions": nn.Identity,
        "sinusoids": lambda: PositionalEncoding(32, dropout=0.0, max_len=20),
        "learned": lambda: LearnedPositions(32, dropout=0.0, max_len=20),
    }
    pictures = {}
    for name, make in ways.items():
        shares = []
        for seed in range(3):
            torch.manual_seed(seed)
            pictures[name], *share = train(make())
            shares.append(share)
        within, beyond = torch.tensor(shares).mean(0)
        print(f"{name:13} right within 12: {within:4.0%}   beyond 12: {beyond:4.0%}")
    show(heat_maps(pictures))

# %% [markdown]
"""
The pictures show whom each token (row) looks at, on average. With positions, the weight lies just
below the diagonal: on the token before. (Token 0 has none before it and is not asked.) Without them
there is no such line. All the layer can do is look at the others rather than at itself (the faint,
light diagonal), and the few right answers above one in eight come from knowing which kinds of token
stand in the text at all.

Beyond the 12th place the learned table is back to guessing: those rows never got a gradient. The
sinusoids keep something, but not much more than the layer that has no positions. "One back" is the
same rotation out there, and yet the layer was only ever asked to be right for 12 places. That a
table *can* be worked out for any place does not mean that the layers behind it know what to do
there. (The shares are means of three runs; from run to run the one for the sinusoids varies a good
deal.)

The trained model of the lab uses sinusoids, so your `LearnedPositions` has no trained table to try
there. It has to be trained with the model, as in unit 10.
"""

# %% quiz

# %% [markdown]
r"""
## For those who want more

If a shift is a rotation, why add the position at all? *Rotary* embeddings (Su et al. 2021) turn the
queries and keys themselves: pair $i$ of the query at place $p$ is turned by $p\,\omega_i$, pair $i$
of the key at place $s$ by $s\,\omega_i$. Show on paper that the score then depends on $p - s$
alone. Then write `rotate(x)` for `x` `[..., T, d_k]` and check it on numbers: the score of places
(2, 0) must equal that of (5, 3), and must differ from that of (4, 0), for the same two vectors. Why
are the values left as they are?
"""
