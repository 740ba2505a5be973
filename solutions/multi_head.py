# %% [markdown]
"""
# 03 Several heads look for several things

> "The **animal** did not cross the street because **it** was too tired."

What should *it* fetch? The noun it stands for, several words back. The verb of its clause, next to
it. Whether the clause gives a reason. These are different questions, and the answers stand in
different places.

Attention as you have it takes **one** mean per token. One softmax has one weight of 1 to share out:
who wants a little of everything gets a blur.

**The question of this unit:** how can a token look at several places at once, and keep the answers
apart?

Picture a newspaper with one reporter, who is to be at the court and at the stadium. He stands
half-way between and sees neither. Send two, each with half the notebook, and let an editor put the
halves together. The reporters are the *heads*, the halves are slices of the features, the editor is
the last projection.
"""

# %% given
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lab import parts
from lab.lesson import SENTENCES, rebuilt, see, show, timed, translate_with
from lab.parts import causal_mask, scaled_dot_product_attention
from lab.plotting import heat_map, heat_maps, lines
from lab.recording import record
from lab.tokens import BOS_ID

# %% [markdown]
r"""
## The formula

Each head attends by itself, with queries, keys and values of its own. Their outputs are put side by
side and mixed once more (§3.2.2, Figure 2 right):

$$\text{head}_h = \operatorname{Attention}(Q W^Q_h,\; K W^K_h,\; V W^V_h) \qquad
\text{output} = [\text{head}_0, \dots, \text{head}_{H-1}]\, W^O$$

| symbol | meaning | shape |
|---|---|---|
| $D$ | width of a token, `d_model` | 512 in the paper, 128 in our model |
| $H$ | number of heads, `n_heads` | 8 in the paper, 4 in our model |
| $d_k$ | width of a head, `d_model // n_heads` | 512 / 8 = 64 in the paper |
| $W^Q_h, W^K_h, W^V_h$ | the projections of head $h$ | `[D, d_k]` |
| $W^O$ | mixes what the heads found | `[D, D]` |

Three small matrices for each head are never made. The $H$ matrices $W^Q_h$ stand side by side in
**one** matrix `[D, D]`: project once, then cut the result into $H$ slices of $d_k$ features. So
several heads cost no more than one wide head. There are as many weights, and as many products.

**By head.** A token with $D = 6$ features and $H = 2$ heads, so $d_k = 3$:

```text
token   [ 1  2  3 | 4  5  6 ]
head 0  [ 1  2  3 ]
head 1              [ 4  5  6 ]
```

Head $h$ holds the features $h \cdot d_k$ to $(h+1) \cdot d_k - 1$ of *every* token.
"""

# %% [markdown]
"""
## split_heads

Attention works on the last two axes, tokens and features. So the heads must become an axis of their
own, *in front of* the tokens: then each head is a small sentence by itself, and attention treats it
like one more sentence of a batch.

```text
[B, T, D]    one row of D features per token
[B, T, H, K] the row cut into H pieces of K = d_k features
[B, H, T, K] heads in front: each holds all tokens
```

Why two steps? Could one `reshape` not go from the first shape straight to the last? The numbers
would fit. They would not be the right ones: `reshape` never moves a number, it only counts them off
in a new way. The picture after the check shows what comes of it.

**Given** `x` `[B, T, D]` and `n_heads`, which divides `D`.

**Write**

1. the last axis cut into heads and features of a head, in this order;
2. the axes of tokens and heads swapped.
"""


# %% solution="split_heads"
def split_heads(x: Float[Tensor, "B T D"], n_heads: int) -> Float[Tensor, "B H T K"]:
    """Head h takes features h*K to (h+1)*K - 1 of every token; K is D // n_heads."""
    batch, length, d_model = x.shape
    return x.reshape(batch, length, n_heads, d_model // n_heads).transpose(1, 2)


# %% check="split_heads"

# %% [markdown]
"""
**See it.** Four tokens of six features, two heads. The number 3.01 is feature 1 of token 3. First
your two heads, then the two that one `reshape` without the transpose makes. In which of the two
pairs does every head hold every token?
"""

# %% see="split_heads"
if __name__ == "__main__":
    x = torch.arange(4).unsqueeze(1) + torch.arange(6) / 100  # [T, D]
    right, wrong = split_heads(x[None], 2)[0], x.reshape(2, 4, 3)
    pictures = {
        "head 0": right[0],
        "head 1": right[1],
        "reshape: head 0": wrong[0],
        "reshape: head 1": wrong[1],
    }
    show(heat_maps(pictures, [f"row {t}" for t in range(4)], numbers=True))

# %% [markdown]
"""
Without the transpose head 0 has tokens 0 and 1, each cut in two, and head 1 the others. Head 0 will
never hear of token 3. And row 1, which the mask takes for token 1, is the second half of token 0.
No error tells you.

## merge_heads

The way back: each head has found something for every token, and a token wants its findings in one
row again, head 0 first.

```text
[B, H, T, K]    →    [B, T, H, K]    →    [B, T, D]
```

The same warning holds: a `reshape` alone would put pieces of *different tokens* into one row. And a
trap of torch's: after a transpose the numbers no longer lie in memory in the order of their axes.
`view` then refuses, `reshape` and `flatten` copy them first.

**Given** `x` `[B, H, T, d_k]`.

**Write**

1. tokens and heads swapped back;
2. the last two axes joined to one.
"""


# %% solution="merge_heads"
def merge_heads(x: Float[Tensor, "B H T K"]) -> Float[Tensor, "B T D"]:
    """The inverse of split_heads: head by head side by side, D is H*K."""
    return x.transpose(1, 2).flatten(start_dim=2)


# %% check="merge_heads"

# %% [markdown]
"""
**See it.** The probe of unit 02: two heads, six tokens; change one token in head 1 and mark which
rows of the result move. Which picture should a merge give, and what does the other one do to your
sentence?
"""

# %% see="merge_heads"
if __name__ == "__main__":
    heads = torch.randn(1, 2, 6, 3, generator=torch.Generator().manual_seed(0))
    merges = {"merge_heads": merge_heads, "no transpose": lambda x: x.reshape(1, 6, 6)}
    pictures = {}
    for name, merge in merges.items():
        rows = []
        for t in range(6):
            changed = heads.clone()
            changed[0, 1, t] += 1
            rows.append((merge(changed) != merge(heads)).any(-1)[0])
        pictures[name] = torch.stack(rows)
    changes, moves = [f"change {t}" for t in range(6)], [f"row {t}" for t in range(6)]
    show(heat_maps(pictures, changes, moves))

# %% [markdown]
r"""
On the right all of head 1 has landed in the last three rows: token 0 speaks through row 3.

## MultiHeadAttention

Now the whole: project, split, attend, merge, project (§3.2.2).

$$x \xrightarrow{\;W^Q, W^K, W^V\;} [B, T, D] \xrightarrow{\text{split}} [B, H, T, d_k]
\xrightarrow{\text{attend}} [B, H, T, d_k] \xrightarrow{\text{merge}} [B, T, D]
\xrightarrow{\;W^O\;} [B, T, D]$$

Three inputs come in, not one. In self-attention all three are the same `x`. In cross-attention the
*query* is the target, `T` tokens long, and *key* and *value* are the source, `S` tokens long. The
projections of keys and values must be fed by *key* and *value*, or else the source is never read.

The scale needs no thought: the attention of unit 01 takes the root of the width it is given, and
that is $d_k$, the width of a head. Masks need none either: `[T, S]`, `[B, 1, 1, S]` and
`[B, 1, T, S]` all spread over `[B, H, T, S]`.

Why the last projection? Side by side, the heads' findings do not touch: features 0 to $d_k - 1$ of
the output would know of head 0 alone. $W^O$ lets every feature draw on every head.

**Given** your `split_heads` and `merge_heads`, and the `scaled_dot_product_attention` of unit 01.

**Write** in `__init__`

1. a `ValueError` for a `d_model` that is not a multiple of `n_heads` (say both
   numbers in it);
2. `q_proj`, `k_proj`, `v_proj` and `out_proj`, each an `nn.Linear` from `d_model` to `d_model`
   with bias. The names are fixed: trained weights find their places by them;

and in `forward`

3. the three projections, each of its own input, split into heads;
4. attention with the mask;
5. the heads merged and projected once more. Return output `[B, T, D]` and weights
   `[B, H, T, S]`, one matrix per head.
"""


# %% solution="MultiHeadAttention"
class MultiHeadAttention(nn.Module):
    """Attention in n_heads slices at once; d_model must be a multiple of n_heads.

    forward(query, key, value, mask=None) gives (output, weights). A mask is True where a query may
    look, and broadcasts to [B, H, T, S].
    """

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        if n_heads < 1 or d_model % n_heads != 0:
            divisors = [n for n in range(1, d_model + 1) if d_model % n == 0]
            raise ValueError(
                f"d_model={d_model} does not split into n_heads={n_heads} equal heads: "
                f"choose n_heads from {divisors}"
            )
        self.n_heads = n_heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(
        self,
        query: Float[Tensor, "B T D"],
        key: Float[Tensor, "B S D"],
        value: Float[Tensor, "B S D"],
        mask: Bool[Tensor, "... #T #S"] | None = None,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"]]:
        output, weights = scaled_dot_product_attention(
            split_heads(self.q_proj(query), self.n_heads),
            split_heads(self.k_proj(key), self.n_heads),
            split_heads(self.v_proj(value), self.n_heads),
            mask,
        )
        return self.out_proj(merge_heads(output)), weights


# %% check="MultiHeadAttention"

# %% [markdown]
r"""
**See it: what a second head buys.** A task for two reporters. Every token carries eight random
numbers of variance 1. Its output shall be the first four numbers of the token *before* it, and the
last four of the token *after* it. The layer below is trained on this with one head of 16 features,
then with two heads of 8. Both have the same number of weights.

One head has one distribution. If it looks back, the second half of the answer is missing; if it
looks both ways with weight ½, each half is mixed with noise of the same size. Either way half of
the variance, 0.5, stays unexplained. Will the curve with one head go below that line? Will two?
"""

# %% see="MultiHeadAttention"
if __name__ == "__main__":
    losses = {}
    for n_heads in (1, 2):
        torch.manual_seed(0)
        layer = MultiHeadAttention(16, n_heads)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
        losses[f"{n_heads} head" + "s" * (n_heads > 1)] = curve = []
        for _ in range(120):
            content = torch.randn(32, 8, 8)  # [B, T, 8]
            x = torch.cat([content, 3 * torch.eye(8).expand(32, 8, 8)], -1)  # and who is where
            before, after = content.roll(1, dims=1), content.roll(-1, dims=1)
            wanted = torch.cat([before[..., :4], after[..., 4:]], -1)
            loss = (layer(x, x, x)[0][..., :8] - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
    losses["half of the variance"] = [0.5] * 120
    show(lines(losses, xlabel="step", ylabel="mean squared error"))

# %% [markdown]
"""
One head stops at the line and wobbles about it from batch to batch. Two heads solve the task.
Neither width nor number of weights makes the difference: it is the second softmax.

**See it: why transpose.** The probe once more, on the whole layer under a causal mask: change token
t and mark which outputs move. There are two laws. Below the diagonal nothing may move: that is the
past. On it and above it *everything* must move: each token may look at all before it. First your
layer, then the transpose left out in merging, then in splitting *and* merging. Which law does each
of the last two break?
"""

# %% see="MultiHeadAttention"
if __name__ == "__main__":

    def outputs(layer, x, split, merge):
        """A layer's outputs under a causal mask, with this splitting and merging."""
        heads = [split(project(x)) for project in (layer.q_proj, layer.k_proj, layer.v_proj)]
        found, _ = scaled_dot_product_attention(*heads, causal_mask(6))
        return layer.out_proj(merge(found))

    torch.manual_seed(0)
    layer, x = MultiHeadAttention(16, 4), torch.randn(1, 6, 16)
    ways = {
        "split, merge": (lambda x: split_heads(x, 4), merge_heads),
        "split, reshape": (lambda x: split_heads(x, 4), lambda x: x.reshape(1, 6, 16)),
        "reshape, reshape": (lambda x: x.reshape(1, 4, 6, 4), lambda x: x.reshape(1, 6, 16)),
    }
    pictures = {}
    for name, way in ways.items():
        rows = []
        for t in range(6):
            changed = x.clone()
            changed[0, t] += 1
            moved = outputs(layer, changed, *way) - outputs(layer, x, *way)
            rows.append(moved[0].abs().amax(-1) > 1e-6)
        pictures[name] = torch.stack(rows)
    changes, moves = [f"change {t}" for t in range(6)], [f"output {t}" for t in range(6)]
    show(heat_maps(pictures, changes, moves))

# %% [markdown]
"""
In the middle later tokens reach earlier outputs, although the mask is right: the decoder reads what
it should guess. On the right nothing leaks, for the two `reshape`s undo each other. But a change
reaches the next token at most: each head holds a token and a half, and the words of a sentence no
longer meet. Neither raises an error.

**Try it in the model.** Nine attention layers of four heads, all of them yours.
"""

# %% see="MultiHeadAttention"
if __name__ == "__main__":
    mine = {
        "split_heads": split_heads,
        "merge_heads": merge_heads,
        "MultiHeadAttention": MultiHeadAttention,
    }
    translate_with(mine)

# %% [markdown]
"""
## What each head looks at

Your layer returns its weights, so you can look inside. The trained model is built anew with *your*
`MultiHeadAttention`, reads one sentence, and every weight is recorded. Here are the four heads of
the last encoder layer. Two of them have a plain habit. Look for a dark diagonal: on which side of
the middle does it lie?
"""

# %% see="MultiHeadAttention"
if __name__ == "__main__":
    with parts.using({"MultiHeadAttention": MultiHeadAttention}):
        checkpoint = rebuilt()
    ids = checkpoint.tokenizer.encode(SENTENCES[1])
    pieces = [piece.strip() for piece in checkpoint.tokenizer.pieces(ids)]
    with record(checkpoint.model) as recorded, torch.no_grad():
        checkpoint.model.encode(torch.tensor([ids]))
    last = recorded["encoder"][-1, 0]  # [H, S, S]
    for pair in ((0, 1), (2, 3)):
        show(heat_maps({f"head {h}": last[h] for h in pair}, pieces, pieces))

# %% [markdown]
"""
One sentence may be chance. So measure: over several sentences, how much of its weight does a head
give to the word before, to the word itself, and to the word after? A row per head. Which heads
have specialised, and in which layer?
"""

# %% see="MultiHeadAttention"
if __name__ == "__main__":
    with parts.using({"MultiHeadAttention": MultiHeadAttention}):
        checkpoint = rebuilt()
    means = []
    for sentence in (*SENTENCES, *checkpoint.examples[1:]):
        ids = checkpoint.tokenizer.encode(sentence)
        with record(checkpoint.model) as recorded, torch.no_grad():
            checkpoint.model.encode(torch.tensor([ids]))
        weights = recorded["encoder"][:, 0]  # [L, H, S, S]
        along = [weights.diagonal(step, -2, -1).mean(-1).flatten() for step in (-1, 0, 1)]
        means.append(torch.stack(along, -1))
    habits = torch.stack(means).mean(0)  # [L * H, 3]
    names = [f"layer {n // 4 + 1}, head {n % 4}" for n in range(len(habits))]
    columns = ["before", "itself", "after"]
    show(heat_map(habits, names, columns, "mean weight", numbers=True))

# %% [markdown]
"""
Nobody asked for this division of labour. In the last layer head 0 gives more than a third of its
weight to the word before, and head 2 to the word after; in the second layer head 0 gives nearly
half to the word before, and in the first one head 3 half to the word itself. It is the task of the
two reporters, found by training on nothing but translations. In the paper's Figures 3 to 5 heads
follow the sentence: *making* finds *more difficult*, *its* finds what it stands for.

In cross-attention the habit is another one. The German sentence asks the English one: row t is what
the decoder looks at when it has read German word t and must write the *next*. Which English word is
dark in the row *Hunde*, and what is written next?
"""

# %% see="MultiHeadAttention"
if __name__ == "__main__":
    with parts.using({"MultiHeadAttention": MultiHeadAttention}):
        checkpoint = rebuilt()
    tokenizer = checkpoint.tokenizer
    src = tokenizer.encode(SENTENCES[1])
    tgt = [BOS_ID, *tokenizer.encode("Zwei Hunde spielen im Schnee.")[:-1]]  # without </s>
    rows, columns = ([piece.strip() for piece in tokenizer.pieces(ids)] for ids in (tgt, src))
    with record(checkpoint.model) as recorded, torch.no_grad():
        checkpoint.model(torch.tensor([src]), torch.tensor([tgt]))
    last = recorded["cross"][-1, 0]  # [H, T, S]
    for pair in ((0, 1), (2, 3)):
        show(heat_maps({f"head {h}": last[h] for h in pair}, rows, columns))

# %% [markdown]
r"""
## What length costs

Every token asks every token: $H$ matrices of $T \times T$ scores. Width costs what any layer's
width costs; length costs its square. At 16 tokens nobody notices. At 4,096 one layer of four heads
makes 67 million scores, 268 MB, and keeps them for the gradient.

A formula need not be computed as it is written. *Fused* attention (FlashAttention, Dao et al. 2022)
takes a few keys at a time, keeps a running maximum and sum for the softmax, and throws each score
away as soon as it is used. Same result, as many products, but the matrix of scores never exists.

**See it.** Seconds of one call. Both axes count in factors: there a power is a straight line, the
steeper the higher. The formula as you wrote it, torch's fused function, and a line that takes four
times as long for twice the tokens. From which length on is the formula parallel to it?
Is the fused one less steep, or only lower?
"""

# %% see=""
if __name__ == "__main__":

    def written_out(query, key, value):
        return (query @ key.transpose(-2, -1) / 8).softmax(-1) @ value

    lengths = [64, 128, 256, 512, 1024]
    heads = [torch.randn(3, 1, 4, length, 64) for length in lengths]  # width 64: its root is 8
    plain = [timed(written_out, *each) for each in heads]
    curves = {
        "written out": plain,
        "fused": [timed(F.scaled_dot_product_attention, *each) for each in heads],
        "four times for twice": [plain[-1] * (length / lengths[-1]) ** 2 for length in lengths],
    }
    show(lines(curves, lengths, xlabel="tokens", ylabel="seconds", logx=True, logy=True))

# %% [markdown]
"""
Both do $T^2$ products, so both climb like that line in the end: fused attention is not less work.
It is lower, several times at a thousand tokens, because what it needs stays in the processor's
cache. And its memory grows with $T$, not $T^2$: that is what made long contexts affordable.
"""

# %% quiz

# %% [markdown]
r"""
## For those who want more

How many heads does a finished model need? Silence one: set the columns of `out_proj.weight` that
read head $h$ to zero (which columns are they?), and translate. Do it for each of the 36 heads of
our model, one at a time, and count the changed translations. Michel et al. (2019, "Are Sixteen
Heads Really Better than One?") found that most heads of a trained model can go, one at a time, and
almost nothing is lost. Is it so here? And are the heads with a habit the ones that matter?
"""
