"""Moments of a run: which they are, that keeping them changes nothing, and those that ship."""

import json
from itertools import islice, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_training import CORPUS, CPU, PAIRS, RECIPE, SIZES, Stop, files
from torch.testing import assert_close
from typer.testing import CliRunner

from lab import cli, data, training
from lab.heads import habits, heads_of
from lab.model import Checkpoint, CheckpointError, build, initialise, shipped
from lab.snapshots import SHIPPED, moments, snapshots
from lab.translation import translate

N = 3
KEPT = ["step-000000.safetensors", "step-000007.safetensors", "step-000014.safetensors"]


def learn(folder, n_snapshots=N, report=lambda _: None):
    """The small run of test_training, with moments."""
    checkpoint = training.prepare(CORPUS, "en", "de", 400, folder, **SIZES)
    training.train(checkpoint, CORPUS, RECIPE, folder, CPU, report, n_snapshots=n_snapshots)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that kept moments and was never stopped."""
    return learn(tmp_path_factory.mktemp("run"))


@given(st.integers(1, 100_000), st.integers(2, 30))
def test_each_moment_is_twice_the_one_before(steps, n):
    """From before the first update to the last, at most n; whoever asks for more has these too."""
    found = moments(steps, n)

    assert found[0] == 0 and found[-1] == steps and len(found) <= n
    assert all(later // 2 == earlier for earlier, later in pairwise(found[1:]))
    assert set(found) <= set(moments(steps, n + 1))


def test_none_are_kept_unless_asked_for():
    """A run without the option writes no moments."""
    assert moments(100, 0) == []
    assert moments(8000, 5) == [0, 1000, 2000, 4000, 8000]


def test_keeping_moments_changes_nothing_else(run, tmp_path):
    """Weights, history and what a run resumes from are the same byte for byte."""
    with_moments, without = files(run), files(learn(tmp_path, n_snapshots=0))

    assert sorted(set(with_moments) - set(without)) == KEPT
    assert {name: with_moments[name] for name in without} == without


@pytest.mark.parametrize("step", [4, 8, 10])
def test_a_stopped_run_keeps_the_same_moments(run, tmp_path, step):
    """Stopped before a moment or after it, the files end the same byte for byte."""

    def stop(progress):
        if progress.step == step:
            raise Stop

    with pytest.raises(Stop):
        learn(tmp_path, report=stop)

    assert files(learn(tmp_path)) == files(run)


def test_a_moment_that_the_run_did_not_save_after_is_kept_anew(run, tmp_path, monkeypatch):
    """Killed right after a moment, the run goes on from its last save and meets it again."""
    keep = training.Run.keep

    def killed(self, pairs):
        keep(self, pairs)
        if self.step == 7:
            raise Stop

    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(training.Run, "keep", killed)
        learn(tmp_path)

    assert files(learn(tmp_path)) == files(run)


def test_the_first_moment_has_learned_nothing(run):
    """Step 0 holds the starting weights, in half precision."""
    first = snapshots(run)[0].load()
    model = build(first.config)
    initialise(model, RECIPE.seed)

    for name, tensor in model.state_dict().items():
        assert_close(first.model.state_dict()[name], tensor, atol=1e-4, rtol=1e-3)


def test_a_moment_knows_its_scores_and_pair(run):
    """What the last one scored is what the run's history says of its last step."""
    *_, last = snapshots(run)
    history = json.loads((run / "history.json").read_text("utf-8"))[-1]

    assert [each.step for each in snapshots(run)] == [0, 7, 14]
    assert last.pair == "en-de"
    assert last.scores == {name: history[name] for name in last.scores}
    assert last.load().examples == tuple(dict.fromkeys(pair.source for pair in PAIRS[110:113]))


def test_a_moment_takes_half_the_space(run):
    """Half precision: two bytes a parameter."""
    whole, moment = (run / name for name in ("model.safetensors", KEPT[-1]))

    assert moment.stat().st_size < 0.6 * whole.stat().st_size


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x02\0\0\0\0\0\0\0{}"])
def test_what_is_no_snapshot_is_named(tmp_path, content):
    """A broken or foreign file ends in one line with its name."""
    (tmp_path / "step-000001.safetensors").write_bytes(content)

    with pytest.raises(CheckpointError, match="step-000001"):
        snapshots(tmp_path)


def test_a_moment_without_its_tokenizer_is_named(run, tmp_path):
    """Half a folder says what is wrong with it."""
    (tmp_path / KEPT[0]).write_bytes((run / KEPT[0]).read_bytes())

    with pytest.raises(CheckpointError, match="tokenizer.json"):
        snapshots(tmp_path)[0].load()


def test_the_command_keeps_them(tmp_path):
    """lab train --snapshots N."""
    source = tmp_path / "pairs.tsv"
    source.write_text("".join(f"{p.source}\t{p.target}\n" for p in islice(data.toy(), 150)))
    sizes = "--vocab-size 320 --d-model 8 --n-heads 2 --n-layers 1 --d-ff 8 --steps 6 --warmup 2"
    out = tmp_path / "run"

    done = CliRunner().invoke(
        cli.app,
        ["train", "--data", str(source), "--out", str(out), *sizes.split(), "--snapshots", "3"],
    )

    assert done.exit_code == 0, done.output
    assert [each.step for each in snapshots(out)] == [0, 3, 6]


# Those that ship


def test_shipped_moments_are_complete_and_small():
    """At most 3 MB with card and tokenizer, no pickle, and no model among the shipped ones."""
    found = [path for path in SHIPPED.iterdir() if not path.name.startswith("step-")]
    card = (SHIPPED / "card.md").read_text("utf-8")

    assert {path.name for path in found} == {
        "card.md", "curve.png", "history.json", "tokenizer.json"
    }  # fmt: skip
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 3_000_000
    assert SHIPPED.name not in shipped()
    for heading in ("Data", "Licence", "How it was trained", "Scores", "Limits"):
        assert f"## {heading}" in card


def test_shipped_moments_get_better():
    """Each scores better than the one before, as its card says."""
    kept = snapshots(SHIPPED)
    card = (SHIPPED / "card.md").read_text("utf-8")

    assert [each.step for each in kept] == moments(kept[-1].step, len(kept))
    for earlier, later in pairwise(kept):
        assert later.scores["bleu"] > earlier.scores["bleu"]
        assert later.scores["validation_loss"] < earlier.scores["validation_loss"]
    for each in kept:
        scores = each.scores
        assert (
            f"| {each.step:,} | {scores['validation_loss']:.2f} | {scores['bleu']:.1f} "
            f"| {scores['chrf']:.1f} |" in card
        )


def test_alignment_emerges_in_the_shipped_moments():
    """No head aligns before the first update; at the end several do."""
    sentences = Checkpoint.load(shipped()["en-de"]).examples
    first, *_, last = (each.load() for each in snapshots(SHIPPED))

    def best(checkpoint):
        found = translate(checkpoint, sentences, explain=True, max_len=30)
        weights = [translation.attention for translation in found]
        heads = heads_of(checkpoint, "cross")
        return sorted((habits(head, weights).alignment or 0 for head in heads), reverse=True)

    assert best(first)[0] < 0.5
    assert best(last)[2] > 0.7


def test_shipped_moments_run_in_single_precision():
    """What is kept in half precision computes as any other model."""
    model = snapshots(SHIPPED)[-1].load().model

    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
