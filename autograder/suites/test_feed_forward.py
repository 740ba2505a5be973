"""06 Feed-forward thinks per token."""

import torch

from autograder.checks import D_FF, B, D, H, S, T, check, holds, same, same_with_gradients


@check("FeedForward", points=2)
def test_feed_forward_is_the_papers(work, draw):
    """Each token becomes max(0, xW₁ + b₁)W₂ + b₂, and the gradients are those of the formula."""
    module = draw.fill(work.FeedForward(D, D_FF))

    for axes in ((B, T), (), (T,), (1, 1), (B, H, S)):
        x = draw(*axes, D)
        law = f"linear2(relu(linear1(x))), here for x of {len(axes) + 1} axes"
        parameters = _parameters(module)
        expected = _feed_forward(x, *parameters)
        same_with_gradients(module(1 * x), expected, [x, *parameters], law)


@check("FeedForward", points=1)
def test_feed_forward_has_the_contracts_names(work, draw):
    """linear1 goes from D to d_ff, linear2 back to D, both with bias; nothing else is trained."""
    module = work.FeedForward(d_model=D, d_ff=D_FF)

    found = sorted((name, list(x.shape)) for name, x in module.named_parameters())
    expected = [
        ("linear1.bias", [D_FF]),
        ("linear1.weight", [D_FF, D]),
        ("linear2.bias", [D]),
        ("linear2.weight", [D, D_FF]),
    ]
    same(found, expected, "linear1 is Linear(D, d_ff), linear2 is Linear(d_ff, D)")
    names = [name for name, _ in expected]
    same(sorted(module.state_dict()), names, "nothing else is saved")


@check("FeedForward", points=1)
def test_each_token_is_worked_on_alone(work, draw):
    """Tokens in another order give the same results in that order; no token sees another."""
    module, x = draw.fill(work.FeedForward(D, D_FF)), draw(B, T, D).detach()
    order = torch.tensor([2, 0, 4, 1, 3])
    straight = module(1 * x)

    same(module(x[:, order]), straight[:, order], "tokens in another order, results in that order")
    same(module(x[:, 1:2]), straight[:, 1:2], "a token alone gives what it gives in its sentence")
    same(module(x[1:]), straight[1:], "a sentence alone gives what it gives in its batch")


@check("FeedForward", points=1)
def test_relu_stands_between_the_layers(work, draw):
    """What linear1 makes negative is cut to 0, and nothing cuts what linear2 gives."""
    module, x = draw.fill(work.FeedForward(D, D_FF)), draw(B, T, D).detach()
    first, second = module.get_parameter("linear1.bias"), module.get_parameter("linear2.bias")

    first.data.fill_(-1_000.0)
    law = "where all of linear1's result is negative, only the bias of linear2 is left"
    same(module(1 * x), second.expand(B, T, D), law)
    first.data.fill_(1_000.0)
    law = "where all of linear1's result is positive, relu changes nothing and the layer is linear"
    w1, b1, w2, b2 = (p.detach() for p in _parameters(module))
    same(module(1 * x), (x @ w1.T + b1) @ w2.T + b2, law)


@check("FeedForward", points=1)
def test_feed_forward_keeps_its_input(work, draw):
    """No dropout inside, the input is not changed, and float16 gives float16."""
    module, x = draw.fill(work.FeedForward(D, D_FF)), draw(B, T, D).detach()
    before = x.clone()

    first = module.eval()(x)
    holds(torch.equal(x, before), "x is left as it was", "the caller's tensor has other numbers")
    law = (
        "train and eval mode give the same: the paper's dropout comes after this layer, in AddNorm"
    )
    same(module.train()(1 * before), first, law)
    half = module.half()(before.half())
    same(half, first.half(), "float16 in, float16 out")


def _parameters(module):
    names = ("linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias")
    return [module.get_parameter(name) for name in names]


def _feed_forward(x, w1, b1, w2, b2):
    """The formula of §3.3."""
    hidden = torch.einsum("...d,fd->...f", x, w1) + b1
    return torch.einsum("...f,df->...d", hidden.clamp(min=0), w2) + b2
