"""The fused loss is the parts' loss: the same number and the same gradients, by another road."""

import pytest
import torch
from torch import nn

from lab import fused, parts, training
from lab.fused import FusedLoss, OutputLoss
from lab.model import Checkpoint, Config, build, initialise
from lab.training import PartsLoss, Recipe

CONFIG = Config(vocab_size=311, d_model=24, n_heads=3, n_layers=2, d_ff=40, dropout=0.0)


@pytest.fixture
def model() -> nn.Module:
    model = build(CONFIG)
    initialise(model, seed=0)
    return model


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """17 sentences: source, decoder input and expected output, the ends of some padded."""
    generator = torch.Generator().manual_seed(0)
    src = torch.randint(3, CONFIG.vocab_size, (17, 9), generator=generator)
    tgt = torch.randint(3, CONFIG.vocab_size, (17, 12), generator=generator)
    src[::3, -2:] = tgt[::4, -3:] = CONFIG.pad_id
    return src, tgt[:, :-1], tgt[:, 1:]


def gradients(loss: nn.Module, batch) -> tuple[float, dict[str, torch.Tensor]]:
    found = loss(*batch)
    named = dict(loss.named_parameters())
    return found.item(), dict(
        zip(named, torch.autograd.grad(found, [*named.values()]), strict=True)
    )


@pytest.mark.parametrize("rows", [10, 256], ids="slices of {}".format)
@pytest.mark.parametrize("consistency", [0.0, 3.0], ids="consistency {}".format)
@pytest.mark.parametrize("smoothing", [0.0, 0.2], ids="smoothing {}".format)
def test_it_is_the_loss_of_the_parts(model, batch, smoothing, consistency, rows, monkeypatch):
    """Without dropout, loss and gradients are those of the parts' own forward."""
    monkeypatch.setattr(fused, "ROWS", rows)

    fast, by_fast = gradients(FusedLoss(model, CONFIG, smoothing, consistency), batch)
    plain, by_plain = gradients(PartsLoss(model, CONFIG, smoothing, consistency), batch)

    assert fast == pytest.approx(plain, rel=1e-5)
    for name, gradient in by_plain.items():
        torch.testing.assert_close(by_fast[name], gradient, atol=2e-3, rtol=1e-4, msg=name)


def test_it_serves_explicit_parts_too(batch):
    """The weights of the reference solutions give the same loss as their own code."""
    with parts.using(parts.from_package("solutions")):
        model = build(CONFIG)
        initialise(model, seed=1)
        plain = PartsLoss(model, CONFIG, 0.1)(*batch)

    assert FusedLoss(model, CONFIG, 0.1)(*batch).item() == pytest.approx(plain.item(), rel=1e-5)


@pytest.mark.parametrize("consistency", [0.0, 1.5])
def test_its_gradient_is_that_of_small_differences(monkeypatch, consistency):
    """Finite differences agree, over several slices, some of them short."""
    monkeypatch.setattr(fused, "ROWS", 4)
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(size, 3, dtype=torch.float64, generator=generator, requires_grad=True)
        for size in (10, 7)
    )
    expected = torch.randint(0, 7, (5,), generator=generator).repeat(2)

    def loss(x, weight):
        return OutputLoss.apply(x, weight, expected, 0.1, consistency, torch.float64)

    assert torch.autograd.gradcheck(loss, (x, weight))


def test_consistency_is_the_divergence_of_two_dropouts(model, batch):
    """Two equal halves add nothing; as soon as features drop, the loss grows with the weight."""
    half = FusedLoss(model, CONFIG)(*batch).item()
    assert FusedLoss(model, CONFIG, consistency=5.0)(*batch).item() == pytest.approx(2 * half)

    def at(consistency: float) -> float:
        torch.manual_seed(0)
        config = Config(**{**vars(CONFIG), "dropout": 0.3})
        return FusedLoss(model, config, consistency=consistency)(*batch).item()

    apart = at(1.0) - at(1e-9)
    assert apart > 1
    assert at(4.0) - at(1e-9) == pytest.approx(4 * apart, rel=1e-3)


def test_bfloat16_is_close(model, batch):
    """Products of half the width move the loss by less than a hundredth."""
    narrow, by_narrow = gradients(FusedLoss(model, CONFIG, 0.1, 0.0, torch.bfloat16), batch)
    wide, by_wide = gradients(FusedLoss(model, CONFIG, 0.1), batch)

    assert narrow == pytest.approx(wide, rel=0.01) and narrow != wide
    for name, gradient in by_wide.items():
        assert (by_narrow[name] - gradient).norm() <= 0.1 * gradient.norm() + 0.02, name


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(model, rate):
    """A feature is 0 or scaled up; the share of zeros is the rate, the mean stays; any two
    neighbours fall independently."""
    loss = FusedLoss(model, Config(**{**vars(CONFIG), "dropout": rate}))
    torch.manual_seed(0)
    kept = loss.kept(torch.empty(1000, 333))

    zero = kept == 0
    assert len(kept.unique()) == 2
    assert zero.float().mean().item() == pytest.approx(rate, abs=1 / 512 + 0.003)
    assert kept.mean().item() == pytest.approx(1, abs=0.005)
    both = (zero[:, 1:] & zero[:, :-1]).float().mean().item()
    assert both == pytest.approx(zero.float().mean().item() ** 2, abs=0.004)


def test_nothing_drops_when_the_model_is_in_use(model, batch):
    config = Config(**{**vars(CONFIG), "dropout": 0.5})
    once, again = (FusedLoss(model, config).eval()(*batch).item() for _ in range(2))

    assert once == again == pytest.approx(FusedLoss(model, CONFIG)(*batch).item())


def test_a_part_of_ones_own_is_trained_by_its_own_code(model):
    """`lab train` takes the fused road only where all parts are stock."""

    class FeedForward(nn.Module):
        def __init__(self, d_model, d_ff):
            super().__init__()
            self.linear1, self.linear2 = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)

        def forward(self, x):
            return self.linear2(self.linear1(x).relu())

    def chosen(model: nn.Module) -> type:
        checkpoint = Checkpoint(model, None, CONFIG, "en", "de")  # type: ignore[arg-type]
        return type(training._loss(checkpoint, Recipe(), torch.device("cpu")))

    assert chosen(model) is FusedLoss
    with parts.using({"FeedForward": FeedForward}):
        assert chosen(build(CONFIG)) is PartsLoss
