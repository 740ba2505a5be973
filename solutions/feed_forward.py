# %% [markdown]
"""
# 06 Feed-forward thinks per token

Attention brings a token what others know. But all it can do with it is to take *means*: the output
is a weighted sum of values, and for given weights that is linear. A mean of facts is not yet a
conclusion.

**The question of this unit:** where does a token work on what it has gathered?

Think of a day at work. Attention is the *meeting*: everybody hears from everybody. Then all go back
to their *desks* and think, each alone, and everybody by the same method. The desk is this unit's
`FeedForward`, and a Transformer layer is one meeting and one time at the desk.
"""

# %% given
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.lesson import see, show, trained, translate_with
from lab.plotting import bars, heat_map, lines

# %% [markdown]
r"""
## Wider, bend, narrower

$$\text{FFN}(x) = \max(0,\; x W_1 + b_1)\, W_2 + b_2 \qquad \text{(§3.3, equation 2)}$$

| symbol | meaning | shape |
|---|---|---|
| $x$ | one token | `[D]` |
| $W_1$, $b_1$ | ask `d_ff` questions about the token; `linear1` | from `D` to `d_ff` |
| $\max(0, \cdot)$ | the ReLU: what is negative becomes 0, the rest stays | `[d_ff]` |
| $W_2$, $b_2$ | turn the answers into a remark for the token; `linear2` | from `d_ff` to `D` |

In the paper `D` is 512 and `d_ff` is 2048, *four times* as wide. Each of the 2048 hidden units asks
one question of the token: "are you a verb in the past?" If the answer is no, the ReLU makes it 0
and the unit stays out of it. If it is yes, the unit adds its row of $W_2$, the more the clearer the
yes. (In truth no unit's question is as tidy as that. But ask, cut, add is what each of them does.)

**By head.** One feature, two hidden units. $W_1 = [1, -1]$, no biases, both weights of $W_2$ are 1.

| x | x W₁ | after the ReLU | result |
|---|---|---|---|
| 3 | 3, -3 | 3, 0 | 3 |
| -2 | -2, 2 | 0, 2 | 2 |
| 0 | 0, 0 | 0, 0 | 0 |

That is $|x|$. No linear layer can do it: over one feature it draws a straight line, and this line
has a corner. The bend at 0 is all the difference, and with more bends come more shapes.

## FeedForward

**Given** `x` `[..., D]`, with any leading axes or none.

**Write** in `__init__`

1. `linear1` from `d_model` to `d_ff` and `linear2` back, both with bias;

and in `forward`

2. the first layer, the ReLU, the second layer. Nothing after that: no ReLU, no dropout and no
   residual, those are AddNorm's work.

An `nn.Linear` works on the last axis and leaves all others alone. So the tokens need no loop, no
transpose and no reshape.
"""


# %% solution="FeedForward"
class FeedForward(nn.Module):
    """Two linear layers with a ReLU between, for each token alone: linear2(relu(linear1(x)))."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)

    def forward(self, x: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        return self.linear2(torch.relu(self.linear1(x)))


# %% check="FeedForward"

# %% [markdown]
"""
## Each token alone

**See it.** Five tokens, and the same five in another order. What comes out should be the same five
results, in that other order. The picture goes further: token by token one input is changed, and a
dark cell says that a result changed with it. Look for anything off the diagonal.
"""

# %% see="FeedForward"
if __name__ == "__main__":
    torch.manual_seed(0)
    layer, x = FeedForward(8, 32), torch.randn(5, 8)
    order = torch.tensor([2, 0, 4, 1, 3])
    apart = (layer(x[order]) - layer(x)[order]).detach().abs().max()
    print(f"shuffled before or after the layer: {apart:.7f} apart")

    rows = []
    for token in range(5):
        changed = x.clone()
        changed[token] += 1
        rows.append((layer(changed) - layer(x)).detach().abs().amax(-1))
    tokens = [f"token {token}" for token in range(5)]
    results = [f"result {token}" for token in range(5)]
    show(heat_map(torch.stack(rows), tokens, results, "row: the token changed"))

# %% [markdown]
"""
No result depends on another token. So all mixing between tokens is attention's, and this layer can
be computed for all tokens of all sentences at once.

## Without the ReLU, two layers are one

Leave the ReLU out and $W_1$ and $W_2$ melt into one matrix, their product. However wide the middle
is, nothing is gained. The next cell melts the weights of your layer into a single linear map. Look
which of the two lines is zero up to rounding.
"""

# %% see="FeedForward"
if __name__ == "__main__":
    torch.manual_seed(0)
    layer, x = FeedForward(8, 32), torch.randn(100, 8)
    with torch.no_grad():
        first, second = layer.linear1, layer.linear2
        one = nn.Linear(8, 8)
        one.weight.copy_(second.weight @ first.weight)
        one.bias.copy_(second.weight @ first.bias + second.bias)
        without = (second(first(x)) - one(x)).abs().max()
        bent = (layer(x) - one(x)).abs().max()
    print(f"linear2(linear1(x)) and one linear layer: {without:.7f} apart")
    print(f"your FeedForward and one linear layer:    {bent:.7f} apart")

# %% [markdown]
"""
## What the width buys

One feature in, one feature out, and a wave to learn. The curves are your layer after 400 steps,
with 4, 16 and 64 hidden units, and, for comparison, the 64 without the ReLU. Count the bends of
each curve.
"""

# %% see="FeedForward"
if __name__ == "__main__":

    class Straight(FeedForward):
        """Without the ReLU."""

        def forward(self, x):
            return self.linear2(self.linear1(x))

    x = torch.linspace(-3, 3, 121)[:, None]
    wave = torch.sin(2 * x)
    curves = {"to learn": wave[:, 0]}
    for name, make, d_ff in (
        ("64, no ReLU", Straight, 64),
        ("4", FeedForward, 4),
        ("16", FeedForward, 16),
        ("64", FeedForward, 64),
    ):
        torch.manual_seed(0)
        layer = make(1, d_ff)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
        for _ in range(400):
            loss = (layer(x) - wave).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        curves[name] = layer(x)[:, 0]
        print(f"d_ff = {name:12} mean squared error {loss.detach():.3f}")
    show(lines(curves, x[:, 0], xlabel="x", ylabel="result"))

# %% [markdown]
r"""
Each hidden unit gives the curve at most one bend. Without the ReLU 64 units give none: a straight
line. That is what the width is for: more bends, more cases that can be told apart.

## Where the parameters are

Attention has four matrices of $D \times D$ in a layer. This unit has two of $D \times 4D$, which
makes $8D^2$ against $4D^2$. Two thirds of a layer's weights sit at the desks. The next cell counts
them in the lab's trained model (its decoder layers have two attentions each, so there the shares
are closer), and asks how many hidden units are at work on a sentence.
"""

# %% see=""
if __name__ == "__main__":
    model, tokenizer = trained().model, trained().tokenizer
    counts = dict.fromkeys(("attention", "feed_forward", "norm", "embedding"), 0)
    for name, parameter in model.named_parameters():
        kind = next(kind for kind in counts if kind in name.replace("add_norm", "norm"))
        counts[kind] += parameter.numel()
    millions = {kind.replace("_", "\n"): count / 1e6 for kind, count in counts.items()}
    show(bars(millions, ylabel="million parameters"))

    hidden = []
    hooks = [
        layer.feed_forward.linear1.register_forward_hook(
            lambda module, inputs, output: hidden.append(output.relu())
        )
        for layer in model.encoder.layers
    ]
    with torch.no_grad():
        ids = tokenizer.encode_all(["Two dogs are playing in the snow."])
        model.encode(torch.tensor(ids))
    for hook in hooks:
        hook.remove()
    for number, units in enumerate(hidden):
        share = float((units > 0).float().mean())
        print(
            f"encoder layer {number}: {share:.0%} of its {units.size(-1)} hidden units are at work"
        )

# %% [markdown]
"""
For each token most units say no. Which ones say yes differs from token to token: that is how the
same two matrices do different things for different words.

**Try it in the model.** Your layer in all six places. Below it the same trained weights *without
the ReLU*: the layer that is only one matrix.
"""

# %% see="FeedForward"
if __name__ == "__main__":
    translate_with({"FeedForward": FeedForward})

    print("\nWithout the ReLU:")
    translate_with({"FeedForward": Straight}, ["Two dogs are playing in the snow."])

# %% quiz

# %% [markdown]
r"""
## For those who want more

Later models put other bends in this place. *GELU* lets a little through below 0. *SwiGLU* (Shazeer
2020) takes three matrices, $(\operatorname{silu}(x W_1) \odot x W_3)\, W_2$: one half asks, the
other answers, and the product decides. To keep the number of parameters, its hidden width is
$\tfrac23 \cdot 4D$. Work out why two thirds. Then fit the wave with it and with your layer at equal
numbers of parameters. Which has the smaller error, and how much does that depend on the seed?
"""
