"""05 Add and norm keep depth trainable."""

import torch
import torch.nn.functional as F

from autograder.checks import (
    B,
    D,
    K,
    S,
    T,
    check,
    gradients_of,
    holds,
    same,
    same_with_gradients,
)

WITHOUT_EPS = 1e-3  # wide enough that eps does not matter where the question is another one


# LayerNorm. The first checks leave γ at one and β at zero, and have variances near one.


@check("LayerNorm", points=2)
def test_each_token_has_mean_0_and_variance_1(work, draw):
    """Over its D features, each token gets mean 0 and variance 1, whatever the other axes are."""
    module = work.LayerNorm(D).double()

    for axes in ((B, T), (T,), (), (B, S, K), (1, 1)):
        x = _spread(draw, *axes) + 0.5
        law = "(x - mean) / √(mean of the squared deviations), over the last axis of "
        same(module(1 * x), F.layer_norm(x, (D,)), law + _axes(axes), WITHOUT_EPS)


@check("LayerNorm", points=1)
def test_gradients_pass_through_mean_and_variance(work, draw):
    """The gradient knows that mean and variance are made of x too."""
    module, x = work.LayerNorm(D).double(), draw(B, T, D)

    push = draw(B, T, D).detach()
    (found,) = gradients_of(module(1 * x), [x], [push])
    (expected,) = torch.autograd.grad(F.layer_norm(x, (D,)), x, push)
    same(found, expected, "mean and variance take part in the backward pass", WITHOUT_EPS)


@check("LayerNorm", points=1)
def test_gamma_and_beta_work_on_each_feature(work, draw):
    """γ scales and β shifts each feature, after the normalising; both get their gradients."""
    module, x = draw.fill(work.LayerNorm(D)), draw(B, T, D).detach()
    gamma, beta = module.get_parameter("weight"), module.get_parameter("bias")

    law = "γ · normalised + β, each feature with a γ and a β of its own"
    unit = work.LayerNorm(D).double()(1 * x).detach()
    same_with_gradients(module(1 * x), gamma * unit + beta, [gamma, beta], law)


@check("LayerNorm", points=1)
def test_layer_norm_has_the_contracts_names(work, draw):
    """Two parameters of shape [D]: `weight` (γ) starts at ones, `bias` (β) at zeros."""
    module = work.LayerNorm(d_model=D)

    sizes = sorted((name, list(x.shape)) for name, x in module.named_parameters())
    law = "the parameters are weight (γ) and bias (β), both [D]"
    same(sizes, [("bias", [D]), ("weight", [D])], law)
    same(sorted(module.state_dict()), ["bias", "weight"], "nothing else is saved")
    same(
        module.get_parameter("weight"), torch.ones(D), "γ starts at 1: an untrained norm only norms"
    )
    same(
        module.get_parameter("bias"), torch.zeros(D), "β starts at 0: an untrained norm only norms"
    )


@check("LayerNorm", points=1)
def test_eps_stands_under_the_root(work, draw):
    """eps is added to the variance, under the root, and is the one that was asked for."""
    x = _spread(draw, B, T) * 0.2

    for eps in (0.1, 1e-3):
        law = f"the denominator is √(variance + eps), here with eps={eps}"
        expected = F.layer_norm(x, (D,), eps=eps)
        same(work.LayerNorm(D, eps=eps).double()(1 * x), expected, law)
    law = "eps is 1e-5 unless told otherwise"
    tiny = x / 100
    same(work.LayerNorm(D).double()(1 * tiny), F.layer_norm(tiny, (D,)), law)


@check("LayerNorm", points=1)
def test_a_constant_token_becomes_zero(work, draw):
    """A token whose features are all alike gives zeros and a finite gradient, not NaN."""
    x = draw(B, T, D)
    level = torch.ones(B, T, D, dtype=torch.float64)
    level[0, 1] = 0.0  # this token becomes constant

    constant = x * level + 3 * (1 - level)
    found = work.LayerNorm(D).double()(constant)
    same(found[0, 1], torch.zeros(D).double(), "variance 0 is no division by zero: eps is for that")
    (gradient,) = gradients_of(found.square(), [x])
    law = "the gradient beside a constant token stays finite"
    holds(gradient.isfinite().all(), law, "a gradient is NaN or inf")


@check("LayerNorm", points=1)
def test_each_token_is_normed_alone(work, draw):
    """Another token or another sentence may change as it likes: this token's result stays."""
    module, x = work.LayerNorm(D).double(), draw(B, T, D).detach()
    before = module(1 * x)

    for what, where in (("sentence", (0,)), ("token of the sentence", (1, 2))):
        other = x.clone()
        other[where] = other[where] * 3 + 1
        after, mask = module(1 * other), torch.ones(B, T, dtype=torch.bool)
        mask[where] = False
        same(after[mask], before[mask], f"a change in another {what} changes nothing here")


@check("LayerNorm", points=1)
def test_layer_norm_is_exact_far_from_zero(work, draw):
    """An offset of 3,000 common to all features changes nothing, in float32 either."""
    x = _spread(draw, B, T).detach()
    law = "adding one number to all features of a token changes nothing: the mean is taken off"

    near = work.LayerNorm(D)(x.float())
    far = work.LayerNorm(D)((x + 3_000).float())
    same(far, near, f"{law}, before anything is squared", 5e-3)


@check("LayerNorm", points=1)
def test_layer_norm_keeps_its_input(work, draw):
    """The input is not changed, float16 gives float16, and training mode changes nothing."""
    module, x = work.LayerNorm(D).double(), _spread(draw, B, T).detach()
    before = x.clone()

    first = module.train()(x)
    same(x, before, "x is left as it was: x - mean makes a new tensor, x -= mean does not")
    same(module.eval()(before), first, "train and eval mode give the same")
    half = module.half()(before.half())
    same(half, F.layer_norm(before, (D,)).half(), "float16 in, float16 out")


def _spread(draw, *axes):
    """Random tokens with a variance of about one, none of them nearly constant."""
    return 0.3 * draw(*axes, D) + torch.linspace(-1.5, 1.5, D, dtype=torch.float64)


def _axes(axes):
    return f"[{', '.join(map(str, (*axes, D)))}]"


# AddNorm. The tolerance leaves the norm its own eps.


@check("AddNorm", points=2)
def test_add_then_norm(work, draw):
    """norm(x + sublayer's output): first the sum, then the norm, with its γ and β."""
    module = draw.fill(work.AddNorm(D, dropout=0.0))

    for axes in ((B, T), (), (1, 1)):
        x, y = draw(*axes, D), draw(*axes, D)
        law = f"AddNorm gives norm(x + sublayer_output), here for {_axes(axes)}"
        gamma, beta = module.get_parameter("norm.weight"), module.get_parameter("norm.bias")
        expected = F.layer_norm(x + y, (D,), gamma, beta)
        found = module(1 * x, 1 * y)
        same_with_gradients(found, expected, [x, y, gamma, beta], law, WITHOUT_EPS)


@check("AddNorm", points=1)
def test_the_residual_gets_through(work, draw):
    """A sublayer that gives zeros leaves norm(x): the residual gets through."""
    module, x = work.AddNorm(D, dropout=0.0).double().eval(), draw(B, T, D).detach()

    nothing = torch.zeros_like(x)
    same(module(1 * x, nothing), F.layer_norm(x, (D,)), "norm(x + 0) is norm(x)", WITHOUT_EPS)


@check("AddNorm", points=1)
def test_add_norm_has_the_contracts_names(work, draw):
    """The norm is a submodule `norm` with γ and β, and nothing else is trained or saved."""
    module = work.AddNorm(d_model=D, dropout=0.3)

    sizes = sorted((name, list(x.shape)) for name, x in module.named_parameters())
    law = "the parameters are norm.weight and norm.bias, both [D]"
    same(sizes, [("norm.bias", [D]), ("norm.weight", [D])], law)
    same(sorted(module.state_dict()), ["norm.bias", "norm.weight"], "nothing else is saved")


@check("AddNorm", points=1)
def test_dropout_falls_on_the_sublayer(work, draw):
    """In training, dropout falls on the sublayer's output before the sum; none in eval mode."""
    x, y = draw(S, 40, D).detach().clone(), 1 + draw(S, 40, D).detach().abs()
    x[..., 0], x[..., 1], y[..., :2] = -3, 3, 0  # two features that dropout of y cannot change

    found = work.AddNorm(D, dropout=0.5).double().eval()(1 * x, 1 * y)
    same(found, F.layer_norm(x + y, (D,)), "in eval mode there is no dropout", WITHOUT_EPS)
    module = draw.fill(work.AddNorm(D, dropout=1.0)).train()
    gamma, beta = module.get_parameter("norm.weight"), module.get_parameter("norm.bias")
    law = "dropout=1 in training drops all of the sublayer's output, and norm(x) is left"
    same(module(1 * x, 1 * y), F.layer_norm(x, (D,), gamma, beta), law, WITHOUT_EPS)
    law = "dropout={} drops that share of the sublayer's output, and scales up the rest"
    for p, module in ((0.5, work.AddNorm(D, dropout=0.5)), (0.1, work.AddNorm(D))):
        added = _before_the_norm(module.double().train()(1 * x, 1 * y), x)[..., 2:] - x[..., 2:]
        kept = added.abs() > 1e-3
        share = 1 - kept.double().mean().item()
        holds(abs(share - p) < 0.04, law.format(p), f"{share:.0%} of it is gone")
        scaled = torch.isclose(added, y[..., 2:] / (1 - p) * kept, 1e-3, 1e-3).all()
        holds(scaled, law.format(p), f"what is left is not {1 / (1 - p):.3g} times as large")


@check("AddNorm", points=1)
def test_add_norm_keeps_its_inputs(work, draw):
    """Neither input is changed, float16 gives float16, and half a batch gives half the result."""
    module = work.AddNorm(D, dropout=0.0).double().eval()
    x, y = _spread(draw, B, T).detach(), draw(B, T, D).detach()
    before = x.clone(), y.clone()

    whole = module(x, y)
    same((x, y), before, "x and sublayer_output are left as they were")
    x, y = before
    same(module(x[1:], y[1:]), whole[1:], "a sentence does not depend on its batch")
    half = module.half()(x.half(), y.half())
    same(half, F.layer_norm(x + y, (D,)).half(), "float16 in, float16 out")


def _before_the_norm(normed, x):
    """What a norm with γ = 1 and β = 0 was given, whose features 0 and 1 are those of x.

    A norm shifts and stretches; how much, two known features tell.
    """
    stretch = (x[..., 1:2] - x[..., :1]) / (normed[..., 1:2] - normed[..., :1])
    return x[..., :1] + (normed - normed[..., :1]) * stretch
