# %% [markdown]
"""
# 05 Add and norm keep depth trainable

One layer of attention lets a token fetch something once. To find out what *it* means, and then who
bit whom, takes several layers, one on top of the other. The paper stacks six, later models a
hundred.

But depth has a price. Gradients must come back through every layer, and each may shrink them a
little, or blow them up a little. A little, a hundred times.

**The question of this unit:** what has to stand between the layers, so that a deep stack still
learns?

The paper's answer is one line, after each sublayer (§3.1): *add* its input to its output, then
*norm* the sum. You write both halves: `LayerNorm` and `AddNorm`.
"""

# %% given
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.lesson import see, show, translate_with
from lab.plotting import heat_maps, lines

# %% [markdown]
"""
## What depth does

Here are stacks of 1, 2, 4, … 64 plain layers: a linear layer, a ReLU, and so on. Each gets random
numbers as input, and at its output a random gradient to send back (`push` in the code). Look at the
size of the gradient that arrives at the *first* layer: what happens to it when the stack doubles?
"""

# %% see=""
if __name__ == "__main__":

    def stack(depth, width=64):
        """The layers of a stack, always the same for one depth."""
        torch.manual_seed(0)
        return nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    depths = [1, 2, 4, 8, 16, 32, 64]
    sizes = []
    for depth in depths:
        layers, x = stack(depth), torch.randn(32, 64)
        push = torch.randn(32, 64)
        for layer in layers:
            x = torch.relu(layer(x))
        (x * push).sum().backward()
        sizes.append(float(layers[0].weight.grad.norm()))
        print(f"{depth:2} layers: gradient at the first {sizes[-1]:.0e}")

# %% [markdown]
r"""
At 64 layers next to nothing arrives. The first layers of such a stack stay as they were born, and
the layers after them work with whatever those happen to give.

## A margin to write in

Think of a text that passes from desk to desk. In the plain stack each desk *rewrites* the whole
text, and after ten desks nothing of the first remains. Better: each desk leaves the text alone and
writes its *remarks in the margin*. What a desk has nothing to say about passes unharmed.

That is the residual connection: a layer $f$ gives $x + f(x)$ instead of $f(x)$. The gradient is
$1 + f'(x)$ instead of $f'(x)$. However small $f'$ is, the 1 gets through.

One fault is left. Every desk adds, nobody takes away, and the numbers grow from layer to layer. So
after each sum the tokens are brought back to one scale. That is the norm.

## The formula of the norm

Each token alone, over its $D$ features (Ba et al. 2016):

$$\text{LayerNorm}(x)_d = \gamma_d\,\frac{x_d - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta_d
\qquad \mu = \frac1D \sum_{d=1}^{D} x_d \qquad \sigma^2 = \frac1D \sum_{d=1}^{D} (x_d - \mu)^2$$

| symbol | meaning | shape |
|---|---|---|
| $x$ | one token; $x_d$ is its feature number $d$ | `[D]` |
| $\mu$, $\sigma^2$ | its mean and its variance: *two numbers a token* | `[..., 1]` |
| $\varepsilon$ | a small number, so that a variance of 0 is no division by zero | a number |
| $\gamma$ | a learned scale, one for each feature; in PyTorch `weight`, ones at the start | `[D]` |
| $\beta$ | a learned shift, one for each feature; in PyTorch `bias`, zeros at the start | `[D]` |

**By head.** The token [1, 1, 5, 5]. Its mean is 3, the deviations are -2, -2, 2, 2, their squares
are all 4, so the variance is 4 and its root 2. The normed token is [-1, -1, 1, 1]. With
$\gamma = [1, 2, 1, 2]$ and $\beta = [0, 0, 10, 10]$ it becomes [-1, -2, 11, 12].

Why γ and β, after all the trouble of removing scale and shift? Because mean 0 and variance 1 is a
good place to start, not always the best place to be. Now scale and shift are learned, and no longer
depend on what came before.

## LayerNorm

**Given** `x` `[..., D]`, with any leading axes or none.

**Write** in `__init__`

1. the two parameters, `weight` and `bias`, each `[d_model]`; and keep `eps`;

and in `forward`

2. each token's deviations from its own mean. Which axis are the features, and must it stay?
3. the variance: the mean of the squared deviations, divided by D;
4. the formula: `eps` goes *under* the root.

Three traps. `x.var(-1)` and `x.std(-1)` divide by D - 1 unless told otherwise. Taking the variance
as $E[x^2] - E[x]^2$ is right on paper, and wrong in float32 when a token lies far from zero. And
whoever calls `.item()` or `.detach()` on the way gets right values and wrong gradients.
"""


# %% solution="LayerNorm"
class LayerNorm(nn.Module):
    """As torch.nn.LayerNorm: variance divides by D, eps stands under the root.

    Parameters `weight` (γ, starts at ones) and `bias` (β, starts at zeros), both [d_model].
    """

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))  # γ
        self.bias = nn.Parameter(torch.zeros(d_model))  # β

    def forward(self, x: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        return self.weight * centred / torch.sqrt(variance + self.eps) + self.bias


# %% check="LayerNorm"

# %% [markdown]
"""
**See it.** Five tokens of different scale and offset, before and after your norm. Which differences
are gone, and which are still there?
"""

# %% see="LayerNorm"
if __name__ == "__main__":
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.2, 1.0, 3.0, 1.0, 1.0])[:, None]
    offset = torch.tensor([0.0, 0.0, 0.0, 4.0, -4.0])[:, None]
    tokens = scale * torch.randn(5, 12, generator=generator) + offset
    norm = LayerNorm(12)
    names = ["small", "usual", "large", "high", "low"]
    show(heat_maps({"before": tokens, "after": norm(tokens)}, rows=names))

# %% [markdown]
"""
Scale and offset are gone; the *pattern* of each token, which feature stands out, is left. That is
what the next layer reads.

**Each token alone.** The norm of one token never looks at another. Check it: change one token of
one sentence, and see which results change.
"""

# %% see="LayerNorm"
if __name__ == "__main__":
    norm, x = LayerNorm(12), torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(1))
    changed = x.clone()
    changed[0, 2] *= 5
    changed[0, 2, 0] += 3
    moved = (norm(changed) - norm(x)).abs().amax(-1)  # [B, T]
    show(heat_maps({"change of the result": moved}, ["sentence 0", "sentence 1"], list("0123")))

# %% [markdown]
r"""
That is why it suits sentences. A *batch* norm would take its mean over the sentences of the batch
and their padding: in training, what becomes of a sentence would then depend on its neighbours in
the batch.

**Two formulas that differ.** A well-known annotated version of the paper divides by D - 1 and puts
eps after the root. How far is it from yours? Watch the width. The last line is about the second
trap: one variance by two formulas, for tokens far from zero.
"""

# %% see="LayerNorm"
if __name__ == "__main__":
    for width in (4, 8, 64, 512):
        x = torch.randn(1000, width, generator=torch.Generator().manual_seed(0))
        other = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)
        apart = (LayerNorm(width)(x) - other).detach().abs().max()
        print(f"D = {width:3}: up to {apart:.3f} apart")

    far = torch.randn(1000, 64, generator=torch.Generator().manual_seed(0)) + 3_000
    exact = far.double().var(-1, correction=0).min()
    squares = (far.square().mean(-1) - far.mean(-1).square()).min()
    print(f"far from zero, smallest variance of 1000 tokens: {exact:.2f}; as E[x²] - E[x]² it is "
          f"{squares:.2f} in float32")  # fmt: skip

# %% [markdown]
"""
At D = 512 hardly anybody notices. In a small model you would search for the difference for a long
time. The last line shows why the mean is taken off before anything is squared: the root of a
negative variance is NaN.

**Try it in the model.** The trained model has fifteen norms; here all of them are yours.
"""

# %% see="LayerNorm"
if __name__ == "__main__":
    translate_with({"LayerNorm": LayerNorm})

# %% [markdown]
r"""
## AddNorm

$$\text{AddNorm}(x, y) = \operatorname{LayerNorm}(x + \operatorname{dropout}(y))
\qquad y = \text{Sublayer}(x)$$

$y$ is what a sublayer (attention, feed-forward) made of $x$. This order, first add and then norm,
is called *post-norm*; it is the paper's. Later models mostly use *pre-norm*,
$x + \text{Sublayer}(\text{LayerNorm}(x))$, in which nothing but sums stands on the way of $x$.
This course keeps to post-norm throughout.

Dropout falls on $y$ alone, before the sum (§5.4): the remarks may be lost, the text may not.

**Given** `x` and `sublayer_output`, two *tensors* of the same shape `[..., D]`, and your
`LayerNorm`. The sublayer has run already; nothing is called here but dropout and norm.

**Write** in `__init__`

1. a norm called `norm`, and the dropout;

and in `forward`

2. dropout on the sublayer's output;
3. the sum with `x`, in a new tensor;
4. the norm of the sum.
"""


# %% solution="AddNorm"
class AddNorm(nn.Module):
    """Adds a sublayer's output to its input, then normalises: norm(x + dropout(output)).

    The norm is the submodule `norm`, a LayerNorm of d_model.
    """

    def __init__(self, d_model: int, dropout: float = 0.1):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.norm = LayerNorm(d_model)

    def forward(
        self,
        x: Float[Tensor, "*axes D"],
        sublayer_output: Float[Tensor, "*axes D"],
    ) -> Float[Tensor, "*axes D"]:
        return self.norm(x + self.dropout(sublayer_output))


# %% check="AddNorm"

# %% [markdown]
"""
**See it.** The stack from the top of this page again, 32 layers deep, in four versions: plain, with
your norm alone, with the residual alone, with your AddNorm. The curves show the size of the
gradient at every layer, from the first (left) to the last. Mind the scale: each tick is a factor of
100. Look for the curve that stays level.
"""

# %% see="AddNorm"
if __name__ == "__main__":

    def run(layers, between, x):
        """A stack with something between its layers: between[i](input, output) of layer i."""
        for layer, join in zip(layers, between, strict=True):
            x = join(x, torch.relu(layer(x)))
        return x

    class Norm(LayerNorm):
        """Without the residual."""

        def forward(self, x, output):
            return super().forward(output)

    class Plain(nn.Module):
        def forward(self, x, output):
            return output

    class Residual(nn.Module):
        def forward(self, x, output):
            return x + output

    joins = {
        "plain": Plain,
        "norm alone": lambda: Norm(64),
        "residual alone": Residual,
        "add and norm": lambda: AddNorm(64, dropout=0.0),
    }
    gradients = {}
    for name, join in joins.items():
        layers, between = stack(32), nn.ModuleList(join() for _ in range(32))
        x, push = torch.randn(32, 64), torch.randn(32, 64)
        output = run(layers, between, x)
        (output * push).sum().backward()
        gradients[name] = torch.stack([layer.weight.grad.norm() for layer in layers])
        first, last = gradients[name][[0, -1]].tolist()
        print(f"{name:15} first layer {first:7.1e}, last {last:7.1e}; output up to "
              f"{output.detach().abs().max():7.1f}")  # fmt: skip
    labels = dict(xlabel="layer", ylabel="size of the gradient", logy=True)
    show(lines(gradients, title="32 layers", **labels))

# %% [markdown]
"""
*Plain*: the gradient dies on its way back. *Norm alone*: it grows on its way back, for every norm
stretches what its layer has shrunk, and a little more. *Residual alone*: it survives, but the
numbers grow with every layer ("output up to"), and with them all gradients. *Add and norm*: nearly
the same size everywhere. It takes both.

Does it matter for learning? Stacks of the same four kinds, 24 layers deep, learn a small task: to
do what another, fixed network does. Which curve ends lowest?
"""

# %% see="AddNorm"
if __name__ == "__main__":

    def learn(join, depth=24, steps=60):
        """The loss at each step."""
        layers, between = stack(depth), nn.ModuleList(join() for _ in range(depth))
        head = nn.Linear(64, 64)
        x = torch.randn(128, 64)
        wanted = torch.tanh(x @ torch.randn(64, 64) / 8)
        trained = nn.ModuleList([layers, between, head])
        optimizer = torch.optim.Adam(trained.parameters(), lr=1e-3)
        losses = []
        for _ in range(steps):
            loss = (head(run(layers, between, x)) - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    curves = {name: learn(join) for name, join in joins.items()}
    for name, losses in curves.items():
        print(f"{name:15} loss {losses[0]:8.2f} → {losses[-1]:.3f}")
    show(lines(curves, xlabel="step", ylabel="loss", logy=True))

# %% [markdown]
"""
*Plain* learns next to nothing in these steps, *norm alone* a little, and *residual alone* spends
them on getting its huge numbers down. *Add and norm* is the lowest from early on. It is one small
task and one start, so try others: `depth=12` and `depth=48`, another seed in `stack`. In the
fifteen runs we tried (three depths, five seeds) the order at the end was always this one, and only
*add and norm* ended lower with 48 layers than with 12.

**Try it in the model.** First with your `LayerNorm` and your `AddNorm` in all fifteen places. Then
the same trained weights with the residual taken out, and nothing else changed.
"""

# %% see="AddNorm"
if __name__ == "__main__":
    translate_with({"LayerNorm": LayerNorm, "AddNorm": AddNorm})

    class WithoutResidual(AddNorm):
        """What the sublayer gives, normed; x is lost."""

        def forward(self, x, sublayer_output):
            return self.norm(sublayer_output)

    print("\nWithout the residual:")
    translate_with({"AddNorm": WithoutResidual}, ["Two dogs are playing in the snow."])

# %% [markdown]
"""
Every sublayer was trained to give *remarks*. Take the text away, and the remarks alone mean
nothing.
"""

# %% quiz

# %% [markdown]
r"""
## For those who want more

Write `PreNorm(d_model, dropout)` whose forward takes `x` and the sublayer itself, a function, and
gives `x + dropout(sublayer(norm(x)))`. Draw its gradients over depth beside the four curves above,
at 32 and at 128 layers. Xiong et al. (2020) say that pre-norm can be trained without warm-up (unit
10) and post-norm cannot. Where in your picture do you see why? And why does a stack of pre-norm
layers need one more norm at its very end?
"""
