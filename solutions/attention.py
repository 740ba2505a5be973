# %% [markdown]
"""
# 01 Attention is a soft look-up

> "The animal did not cross the street because **it** was too tired."

Who was tired? You looked back at *animal* without noticing. The sentence
"… because **it** was too wide" sends you to *street* instead. The word *it* takes its meaning from
other words, and which ones depends on all of them.

**The question of this unit:** how can a vector for *it* fetch what it needs from the vectors of the
other words, in a way that can be learned by gradient descent?

The answer is a look-up in a table, made soft. You write it in four parts, from the bottom up:
`softmax`, `soft_lookup`, `scaled_dot_product_attention`, `SelfAttention`.

*The paper* is Vaswani et al., *Attention Is All You Need*, 2017 (arXiv:1706.03762). Every § in this
course is a section of it.
"""

# %% given
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lab.lesson import see, show, translate_with
from lab.plotting import heat_map, heat_maps, lines

# %% [markdown]
"""
## A table that is asked three times

A dictionary of names and ages answers a query only if the key is exactly there. Ask it for
something that is almost a key, and nothing comes back. Ask for all keys that share the family name,
and you get several values; you can take their mean, each with the same weight. Ask with a
*vector*, and every key matches a little: the mean is taken over all values, weighted by how well
each key matches. The first two are its extremes: all the weight on one key, or the same weight on
several. The cell below asks in all three ways.
"""

# %% see=""
if __name__ == "__main__":
    ages = {"Ann Lee": 20, "Bob Lee": 40, "Cai Wu": 31}
    print("exact key:      ", ages.get("Ann Lee"), "   almost a key:", ages.get("Ann"))

    lees = [age for name, age in ages.items() if name.endswith("Lee")]
    print("by family name: ", lees, "→ mean", sum(lees) / len(lees))

    keys = torch.tensor([[1.0, 0.9], [1.0, 0.1], [0.0, 0.5]])  # a Lee? young?
    query = torch.tensor([2.0, 3.0])  # preferably a Lee, preferably young
    exponentials = torch.exp(keys @ query)  # each key's match, made positive
    weights = exponentials / exponentials.sum()
    print("by vector:      ", [round(w, 2) for w in weights.tolist()], "→ mean",
          round(float(weights @ torch.tensor([20.0, 40, 31])), 1))  # fmt: skip

# %% [markdown]
r"""
## The formula

$$\text{result} = \sum_{s=1}^{S} w_s\, v_s \qquad
w_s = \frac{e^{q \cdot k_s}}{\sum_{r=1}^{S} e^{q \cdot k_r}}$$

| symbol | meaning | shape |
|---|---|---|
| $S$ | how many keys there are, and as many values | a number |
| $d_k$, $d_v$ | the width of a key, the width of a value | numbers |
| $q$ | the query: what is looked for | `[d_k]` |
| $k_s$ | key number $s$: what that entry offers itself as | `[d_k]` |
| $v_s$ | value number $s$: what that entry gives | `[d_v]` |
| $q \cdot k_s$ | the score: the larger, the better the match | a number |
| $w_s$ | the weight: the score after softmax, all weights sum to 1 | a number |

**By head.** Scores $\ln 1, \ln 2, \ln 5$. Their exponentials are 1, 2 and 5; the sum is 8; the
weights are 1/8, 2/8 and 5/8. With values 8, 0 and 16 the result is 1 + 0 + 10 = 11.
"""

# %% [markdown]
r"""
## softmax

Softmax turns scores $x$ into weights: positive, with sum one.

$$\operatorname{softmax}(x)_s = \frac{e^{x_s}}{\sum_r e^{x_r}}$$

There is a trap. $e^{89}$ is more than float32 can hold: it becomes `inf`, and `inf / inf` is NaN.
But only *differences* between scores count, for
$\frac{e^{x_s}}{\sum_r e^{x_r}} = \frac{e^{x_s - m}}{\sum_r e^{x_r - m}}$ with any $m$.
A *slice* is one run of scores along the axis `dim`: with `dim=-1`, a row. Take for $m$ the largest
score of the slice, and no exponent is ever above 0.

A second trap waits in unit 02, where hidden scores are set to $-\infty$. A slice that is *all*
$-\infty$ has the maximum $-\infty$, and $-\infty - (-\infty)$ is NaN. The rule of this course:
such a slice gives zeros.

A stub says which shapes go in and come out: `Float[Tensor, "S K"]` is a tensor of `S` rows and `K`
columns, `*axes` is any number of axes, `#T` is `T` or 1. `K` is $d_k$ and `Dv` is $d_v$.

**Given** `scores` of any shape, and the axis `dim` over which the weights sum to 1.

**Write**

1. the largest score of each slice along `dim` (`amax`), the axis kept so that shapes line up;
2. the exponentials of the scores with it taken off;
3. the exponentials divided by their sum along `dim`;
4. the case of a slice that is all `-inf`: zeros, and no NaN on the way back either.
"""


# %% solution="softmax"
def softmax(scores: Float[Tensor, "*axes"], dim: int = -1) -> Float[Tensor, "*axes"]:
    """Positive weights that sum to 1 over `dim`; a slice that is all -inf gives zeros."""
    peak = scores.detach().amax(dim, keepdim=True)
    peak = peak.masked_fill(peak == -math.inf, 0)  # -inf - -inf would be NaN
    exponentials = torch.exp(scores - peak)
    total = exponentials.sum(dim, keepdim=True)
    return exponentials / total.masked_fill(total == 0, 1)


# %% check="softmax"

# %% [markdown]
"""
**See it.** Five scores, multiplied by a growing number. What happens to the weights when the
differences between scores grow? And when they all but vanish?
"""

# %% see="softmax"
if __name__ == "__main__":
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0])
    factors = torch.tensor([0.0, 0.25, 0.5, 1, 2, 4])
    weights = softmax(factors.unsqueeze(1) * scores)
    rows = [f"× {factor:g}" for factor in factors]
    columns = [f"{score:g}" for score in scores]
    show(heat_map(weights, rows, columns, "weights of five scores", numbers=True))

# %% [markdown]
"""
With factor 0 every score is the same and softmax is a plain mean. With factor 4 it is almost a
maximum. The *scale* of the scores decides between the two. Keep that in mind: a root further down
is there for nothing else.
"""

# %% [markdown]
r"""
## soft_lookup

The table with names and ages again, now as one function: one query, `S` keys, `S` values.

**Given** `query` `[d_k]`, `keys` `[S, d_k]`, `values` `[S, d_v]`, and your `softmax`.

**Write**

1. the score of every key: its dot product with the query, nothing divided;
2. the weights;
3. the mean of the values with these weights. Return it together with the weights.
"""


# %% solution="soft_lookup"
def soft_lookup(
    query: Float[Tensor, " K"],
    keys: Float[Tensor, "S K"],
    values: Float[Tensor, "S Dv"],
) -> tuple[Float[Tensor, " Dv"], Float[Tensor, " S"]]:
    """(result, weights): the mean of the values, weighted by how well their keys match."""
    weights = softmax(keys @ query)
    return weights @ values, weights


# %% check="soft_lookup"

# %% [markdown]
"""
**See it.** The three people from above. We ask for young Lees, and turn the wish for *young* up.
At which strength does the answer leave the mean age of all Lees and approach 20?
"""

# %% see="soft_lookup"
if __name__ == "__main__":
    keys = torch.tensor([[1.0, 0.9], [1.0, 0.1], [0.0, 0.5]])
    values = torch.tensor([[20.0], [40.0], [31.0]])
    wish = torch.linspace(0, 8, 33)
    answers = [soft_lookup(torch.tensor([4.0, float(w)]), keys, values)[0] for w in wish]
    show(lines({"age": torch.cat(answers)}, wish, xlabel="wish for young", ylabel="age found"))

# %% [markdown]
r"""
## Tokens ask tokens

Now let every word of a sentence ask all words, itself included. The simplest idea: each token's
vector $x_t$ is query, key and value at once. (A *token* is a word, or a piece of one.) The score of
two tokens is $x_t \cdot x_s$. That has three faults:

1. **It is symmetric.** $x_t \cdot x_s = x_s \cdot x_t$: *it* looks at *animal* as *animal* looks
   at *it*.
2. **Nothing is learned.** There is no parameter that training could move.
3. **One vector plays every role.** What a word *seeks*, what it can be *found by* and what it
   *gives* are three different things. And since $x_t \cdot x_t$ is large, each token mostly finds
   itself.

The cure is three learned projections: $q_t = x_t W_Q$, $k_t = x_t W_K$, $v_t = x_t W_V$ (biases
left out). First *keys*, so that a token can be found by something other than what it is. Then
*queries*, so that seeking differs from being found. Then *values*, so that what is handed over is
not what was matched.

The next cell measures faults 1 and 3, first on raw vectors, then with projections. These are still
random; it is training that gives them a meaning. On the left two rows have two equal squares
instead of one: which, and why?
"""

# %% see="softmax"
if __name__ == "__main__":
    words = "the animal did not cross the street because it was too tired".split()
    generator = torch.Generator().manual_seed(0)
    vectors = {word: torch.randn(16, generator=generator) for word in sorted(set(words))}
    x = torch.stack([vectors[word] for word in words])
    to_query, to_key = torch.randn(2, 16, 16, generator=generator) / 4
    scores = {"raw": x @ x.T, "projected": (x @ to_query) @ (x @ to_key).T / 4}
    weights = {name: softmax(each) for name, each in scores.items()}
    for name, each in scores.items():
        print(f"{name:<9}  symmetric: {torch.allclose(each, each.T)!s:<5} ",
              f"weight a token gives itself: {weights[name].diagonal().mean():.2f}")  # fmt: skip
    show(heat_maps(weights, words, words))

# %% [markdown]
r"""
Raw, every word finds itself. *the* stands there twice, with the same vector, and finds both.

## Why √d_k

A score is a sum of $d_k$ products. If the numbers in $q$ and $k$ have mean 0 and variance 1, each
product has variance 1, and the sum has variance $d_k$. So with wider vectors scores grow, like
$\sqrt{d_k}$, and softmax turns into a maximum: one weight near 1, the others near 0. There its
slope is near 0 too, and hardly any gradient comes back (§3.2.1). Measure it: the variance of the
scores, and the *entropy* of the weights, $-\sum_s w_s \ln w_s$, which is $\ln S$ when all are equal
and 0 when one has everything.
"""

# %% see="softmax"
if __name__ == "__main__":
    generator = torch.Generator().manual_seed(0)
    widths = [4, 16, 64, 256, 1024]
    entropies = {"plain": [], "divided by √d_k": []}
    for width in widths:
        query = torch.randn(200, width, generator=generator)
        key = torch.randn(32, width, generator=generator)
        scores = query @ key.T
        print(f"d_k = {width:5}: variance of the scores {scores.var():7.1f}")
        for name, scale in (("plain", 1.0), ("divided by √d_k", math.sqrt(width))):
            weights = softmax(scores / scale)
            entropies[name].append(-(weights * weights.clamp(min=1e-30).log()).sum(-1).mean())
    entropies["all equal: ln 32"] = [math.log(32)] * len(widths)
    show(lines(entropies, widths, xlabel="d_k", ylabel="entropy in nats", logx=True))

# %% [markdown]
r"""
Divided by $\sqrt{d_k}$, the entropy hardly depends on the width. That is the whole reason for the
root.

## scaled_dot_product_attention

All queries at once, as matrices: $T$ queries are the rows of $Q$, the keys the rows of $K$, the
values the rows of $V$ (§3.2.1, equation 1):

$$\operatorname{Attention}(Q, K, V)
= \operatorname{softmax}\!\left(\frac{QK^\top}{\sqrt{d_k}}\right) V$$

Row $t$ of $QK^\top$ holds the scores of query $t$ for every key. A *mask* says who may look at
whom: it is boolean, **True means "may look"**, and a score that may not be looked at becomes
$-\infty$ before the softmax. Masks are the subject of unit 02; here they only have to work.

**Given** `query` `[..., T, d_k]`, `key` `[..., S, d_k]`, `value` `[..., S, d_v]`, a `mask` that
broadcasts to `[..., T, S]` or None, and your `softmax`. The dots stand for any leading axes (batch,
heads), or none: count axes from the end.

**Write**

1. the scores `[..., T, S]`, divided by the root of the width of a key;
2. `-inf` wherever the mask is False (`masked_fill` broadcasts a mask; `scores[mask]` does not);
3. the weights: each query's weights sum to 1 over the *keys*;
4. output and weights, in this order. A query that may look at nothing gets zeros in both.
"""


# %% solution="scaled_dot_product_attention"
def scaled_dot_product_attention(
    query: Float[Tensor, "*heads T K"],
    key: Float[Tensor, "*heads S K"],
    value: Float[Tensor, "*heads S Dv"],
    mask: Bool[Tensor, "..."] | None = None,  # broadcasts to (..., T, S), True = may look
) -> tuple[Float[Tensor, "*heads T Dv"], Float[Tensor, "*heads T S"]]:
    """(output, weights): each query takes a weighted mean of the values whose keys match it."""
    query = query / math.sqrt(query.size(-1))  # before the product: half precision overflows late
    scores = query @ key.transpose(-2, -1)  # (..., T, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


# %% check="scaled_dot_product_attention"

# %% [markdown]
"""
**See it.** Four queries, six keys: rows ask, columns answer. Query 2 points along key 4, and twice
as far. The mask on the right hides the last two keys. Where does query 2 look when its favourite is
hidden?
"""

# %% see="scaled_dot_product_attention"
if __name__ == "__main__":
    generator = torch.Generator().manual_seed(9)
    key = torch.randn(6, 8, generator=generator)
    query = torch.randn(4, 8, generator=generator)
    query[2] = 2 * key[4]
    visible = torch.arange(6) < 4  # broadcasts over the queries
    _, free = scaled_dot_product_attention(query, key, key)
    _, masked = scaled_dot_product_attention(query, key, key, visible)
    rows, columns = [f"query {t}" for t in range(4)], [f"key {s}" for s in range(6)]
    pictures = {"all keys": free, "keys 4 and 5 hidden": masked}
    show(heat_maps(pictures, rows, columns, numbers=True))

# %% [markdown]
"""
**Try it in the model.** The trained model that comes with the lab has nine attention layers, and
each attends in four *heads* at once, which unit 03 explains. Here all of them call *your* function
in place of PyTorch's, which is called *stock*. The translations should not change by a word.
"""

# %% see="scaled_dot_product_attention"
if __name__ == "__main__":
    translate_with(
        {"softmax": softmax, "scaled_dot_product_attention": scaled_dot_product_attention}
    )

# %% [markdown]
r"""
## SelfAttention

The three projections and the attention, as one module: the tokens ask each other.

$$\text{output}, \text{weights} =
\operatorname{Attention}(x W_Q + b_Q,\; x W_K + b_K,\; x W_V + b_V)$$

**Given** `x` `[B, T, d_model]`, a `mask` that broadcasts to `[B, T, T]` or None, and your
`scaled_dot_product_attention`.

**Write** in `__init__`

1. `q_proj` and `k_proj`, `nn.Linear` from `d_model` to `d_k`; `v_proj` from `d_model` to `d_v`, all
   with bias. Where `d_k` or `d_v` is None it is `d_model`. The names are fixed: trained weights
   find their places by them.

and in `forward`

2. queries, keys and values from the same `x`;
3. attention over them, with the mask passed on. Return output and weights.
"""


# %% solution="SelfAttention"
class SelfAttention(nn.Module):
    """One head whose queries, keys and values come from the same tokens."""

    def __init__(self, d_model: int, d_k: int | None = None, d_v: int | None = None):
        super().__init__()
        self.q_proj = nn.Linear(d_model, d_k or d_model)
        self.k_proj = nn.Linear(d_model, d_k or d_model)
        self.v_proj = nn.Linear(d_model, d_v or d_model)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "... #T #T"] | None = None,
    ) -> tuple[Float[Tensor, "B T Dv"], Float[Tensor, "B T T"]]:
        query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return scaled_dot_product_attention(query, key, value, mask)


# %% check="SelfAttention"

# %% [markdown]
"""
**See it.** Can three small matrices learn that *it* should look at *animal* when the sentence ends
in *tired*, and at *street* when it ends in *wide*? We ask for just that: two sentences, and a loss
that is small when the weight falls on the right word. Two hundred steps of gradient descent, first
with one layer, then with two, where the second reads what the first has found. Will one do?
"""

# %% see="SelfAttention"
if __name__ == "__main__":
    torch.manual_seed(0)
    words = "the animal did not cross the street because it was too tired wide".split()
    vectors = torch.randn(len(words), 16)
    tired, wide = vectors[:12], torch.cat([vectors[:11], vectors[12:]])
    pictures = {}
    for name, depth in (("one layer", 1), ("two layers", 2)):
        layers = nn.ModuleList([SelfAttention(16) for _ in range(depth)])
        optimizer = torch.optim.Adam(layers.parameters(), lr=0.01)
        for _ in range(200):
            x = torch.stack([tired, wide])
            for layer in layers[:-1]:
                x = x + layer(x)[0]
            weights = layers[-1](x)[1]
            right = weights[0, 8, 1], weights[1, 8, 6]  # it → animal, it → street
            loss = -right[0].log() - right[1].log()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"{name}: weight on the right word {right[0]:.2f} and {right[1]:.2f}")
        pictures[f"where 'it' looks, {name}"] = weights[:, 8]
    show(heat_maps(pictures, ["… too tired", "… too wide"], [*words[:11], "tired/wide"]))

# %% [markdown]
"""
One layer cannot. The query of *it* is made from *it* alone, so it is the same in both sentences,
and so are its scores for *animal* and *street*. Of two layers, the first tells *it* how the
sentence ends, and the second looks for the word. Nobody told the layers what an animal is. The
three faults are gone: the scores need not be symmetric, there is something to learn, and each token
has three roles.

Compare with a recurrent network. There, *it* hears of *animal* through seven steps, one after the
other, and each can lose a little. Here the path between any two tokens is one step long, and all
steps are taken at the same time (§4, Table 1). The price: every token looks at every token, so the
work grows with the square of the length.
"""

# %% quiz

# %% [markdown]
r"""
## For those who want more

Softmax weights are never exactly 0. *Sparsemax* (Martins and Astudillo 2016) projects the scores
onto the simplex instead and gives true zeros: sort the scores $z_{(1)} \ge z_{(2)} \ge \dots$, find
the largest $k$ with $1 + k z_{(k)} > \sum_{j \le k} z_{(j)}$, set
$\tau = (\sum_{j \le k} z_{(j)} - 1) / k$, and take $\max(z - \tau, 0)$. Write it under the name
`softmax`, run the cells below it again, and look at the weights of the five scores and at the ages.
What does the model translate with it?
"""
