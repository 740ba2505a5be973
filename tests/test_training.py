"""Training can be stopped, killed, shared and repeated, and ends with the same weights."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from lab import cli, data, training
from lab.data import Corpus, Pair
from lab.model import Checkpoint, CheckpointError, Config, build, initialise
from lab.scores import score
from lab.tokens import BOS_ID, PAD_ID, Tokenizer
from lab.training import Progress, Recipe, TrainingError, learning_rate
from lab.translation import translate

CPU = torch.device("cpu")
PAIRS = list(islice(data.toy(), 120))
CORPUS = Corpus({"train": PAIRS[:110], "val": PAIRS[110:113], "test": PAIRS[113:]})
SIZES = dict(d_model=16, n_heads=2, n_layers=1, d_ff=24, max_len=48, dropout=0.1)
RECIPE = Recipe(
    steps=14, batch_tokens=300, learning_rate=5e-3, warmup=4, averaging=0.5, validate_every=4
)


def learn(folder: Path, recipe: Recipe = RECIPE, corpus: Corpus = CORPUS, report=None, **changes):
    """What `lab train` does, in small."""
    checkpoint = training.prepare(
        corpus, "en", "de", changes.pop("vocab_size", 400), folder, **SIZES | changes
    )
    return training.train(checkpoint, corpus, recipe, folder, CPU, report or (lambda _: None))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """The folder of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    learn(folder)
    return folder


# Stop and resume


class Stop(Exception):
    """Raised in the middle of a run."""


@pytest.mark.parametrize("moments", [[4], [10], [8, 10, 12]], ids=str)
def test_a_stopped_run_ends_as_one_that_never_stopped(unbroken, tmp_path, moments):
    """Stopped after a save or between two, once or often, the files end the same byte for byte."""
    for moment in moments:

        def stop(progress: Progress, moment=moment) -> None:
            if progress.step == moment:
                raise Stop

        with pytest.raises(Stop):
            learn(tmp_path, report=stop)
    learn(tmp_path)

    assert files(tmp_path) == files(unbroken)


def test_a_stopped_run_with_everything_drawn_anew_ends_the_same(tmp_path):
    """Dropped pieces, two dropouts of a sentence, narrow products: a resumed run ends the same."""
    recipe = replace(RECIPE, piece_dropout=0.2, consistency=2.0, precision="bfloat16")

    def stop(progress: Progress) -> None:
        if progress.step == 10:
            raise Stop

    learn(tmp_path / "unbroken", recipe)
    with pytest.raises(Stop):
        learn(tmp_path / "stopped", recipe, report=stop)
    learn(tmp_path / "stopped", recipe)

    assert files(tmp_path / "stopped") == files(tmp_path / "unbroken")


def test_a_run_can_begin_with_trained_weights(unbroken, tmp_path):
    """At a learning rate of 0 they end as they were; another run's dropout does not matter."""
    recipe = replace(RECIPE, steps=1, learning_rate=0.0, begin_with=str(unbroken))

    begun = learn(tmp_path, recipe, dropout=0.3)

    weights = begun.model.state_dict()
    for name, expected in Checkpoint.load(unbroken).model.state_dict().items():
        torch.testing.assert_close(weights[name], expected, rtol=0, atol=0)
    with pytest.raises(TrainingError, match=r"begin_with was .*, now \)"):
        learn(tmp_path, replace(recipe, begin_with=""), dropout=0.3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(d_ff=32, max_len=50), "has d_ff 24, not 32, max_len 48, not 50: give its sizes"),
        (dict(vocab_size=390), "has other pieces"),
    ],
    ids=["other sizes", "other pieces"],
)
def test_weights_of_another_model_are_refused(unbroken, tmp_path, changes, said):
    """Nothing is trained that is half this model and half that."""
    with pytest.raises(TrainingError, match=said):
        learn(tmp_path, replace(RECIPE, begin_with=str(unbroken)), **changes)


def test_a_finished_run_is_left_as_it_is(unbroken):
    """The same call once more trains nothing and returns the same model."""
    before, steps = files(unbroken), []

    checkpoint = learn(unbroken, report=lambda progress: steps.append(progress.step))

    assert files(unbroken) == before
    assert steps == []
    assert checkpoint.pair == "en-de"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(recipe=replace(RECIPE, seed=1)), "seed was 0, now 1"),
        (
            dict(recipe=replace(RECIPE, steps=20, warmup=5)),
            "steps was 14, now 20; warmup was 4, now 5",
        ),
        (dict(d_ff=32, dropout=0.2), "d_ff was 24, now 32; dropout was 0.1, now 0.2"),
        (dict(vocab_size=350), "other sentences or with another vocab_size"),
        (
            dict(corpus=Corpus({**CORPUS.splits, "train": PAIRS[:50]})),
            "other sentences or with another vocab_size",
        ),
    ],
)
def test_other_settings_are_refused(unbroken, changes, said):
    """A folder never mixes two runs: what differs is named, and the folder stays as it was."""
    before = files(unbroken)

    with pytest.raises(TrainingError) as error:
        learn(unbroken, **changes)

    assert files(unbroken) == before
    for part in said.split("; "):
        assert part in str(error.value)
    assert "another --out" in str(error.value)


def test_a_broken_run_is_named(unbroken, tmp_path):
    """A resume file that was cut off is one error with its path."""
    training.prepare(CORPUS, "en", "de", 400, tmp_path, **SIZES)
    content = (unbroken / "resume.safetensors").read_bytes()
    (tmp_path / "resume.safetensors").write_bytes(content[: len(content) // 2])

    with pytest.raises(TrainingError, match="resume.safetensors does not load"):
        learn(tmp_path)


def test_what_a_run_leaves(unbroken):
    """History has an entry a validation, and the kept weights are those of the best chrF."""
    history = json.loads((unbroken / "history.json").read_text())
    best = max(history, key=lambda entry: (entry["chrf"], entry["step"]))

    kept = Checkpoint.load(unbroken)

    assert [entry["step"] for entry in history] == [4, 8, 12, 14]
    assert best["validation_loss"] == pytest.approx(
        training.validation_loss(kept, CORPUS["val"]), rel=1e-6
    )
    assert files(unbroken).keys() == {
        "config.json", "history.json", "model.safetensors", "resume.safetensors", "tokenizer.json",
    }  # fmt: skip


# A kill at any moment


COMMAND = (
    "train --source en --target de --steps 30 --warmup 4 --validate-every 1 --batch-tokens 200 "
    "--d-model 16 --n-heads 2 --n-layers 1 --d-ff 24 --max-len 24 --vocab-size 400 --device cpu "
    "--threads 1"
).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A training text of few sentences, in files."""
    folder = tmp_path_factory.mktemp("data")
    for name, pairs in (("train", PAIRS[:60]), ("val", PAIRS[60:62])):
        for language, side in (("en", 0), ("de", 1)):
            lines = "".join(f"{pair[side]}\n" for pair in pairs)
            (folder / f"{name}.{language}").write_text(lines, encoding="utf-8")
    return folder


def test_a_killed_run_goes_on_to_the_same_weights(folder, tmp_path):
    """After each of three kills the folder holds nothing or a whole checkpoint, and the run that
    is at last let through ends as one that never was disturbed."""
    disturbed, calm = tmp_path / "disturbed", tmp_path / "calm"
    arguments = [*COMMAND, "--data", str(folder), "--out"]
    chance = random.Random(0)

    for saves in (0, 2, 4):
        run = subprocess.Popen(
            [sys.executable, "-m", "lab", *arguments, disturbed], stderr=subprocess.PIPE
        )
        for _ in range(1 + saves):  # a line as training begins, one before each save
            run.stderr.readline()
        time.sleep(chance.uniform(0, 0.1))  # so that the kill falls anywhere in a step or a save
        run.send_signal(signal.SIGKILL)
        run.communicate()
        assert run.returncode == -signal.SIGKILL, "it ended before the kill: give it more steps"
        if (disturbed / "model.safetensors").exists():
            assert Checkpoint.load(disturbed).pair == "en-de"
        else:
            with pytest.raises(CheckpointError, match="it has no .*model.safetensors"):
                Checkpoint.load(disturbed)
    reached = json.loads((disturbed / "history.json").read_text())[-1]["step"]
    for out in (disturbed, calm):
        assert CliRunner().invoke(cli.app, [*arguments, str(out)]).exit_code == 0

    assert 0 < reached < 30
    for name in ("model.safetensors", "resume.safetensors", "history.json", "config.json"):
        assert (disturbed / name).read_bytes() == (calm / name).read_bytes(), name


def test_a_finished_model_is_not_overwritten(tmp_path):
    """A folder with weights and no run to go on with is left as it is."""
    learn(tmp_path)
    (tmp_path / "resume.safetensors").unlink()
    before = (tmp_path / "model.safetensors").read_bytes()

    with pytest.raises(TrainingError, match="choose another --out"):
        learn(tmp_path)

    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_run_killed_before_its_first_save_begins_anew(tmp_path):
    """What stands in the folder from the first moment is enough to go on."""
    learn(tmp_path / "calm")
    checkpoint = training.prepare(CORPUS, "en", "de", 400, tmp_path / "killed", **SIZES)

    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(checkpoint, CORPUS, RECIPE, tmp_path / "killed", CPU, stop)
    learn(tmp_path / "killed")

    calm, killed = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("calm", "killed")
    )
    assert calm == killed


# A loss that is no number


@pytest.mark.parametrize("rate", [1e7, 1e30])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, rate):
    """A learning rate far too large ends in the reason, step and remedy, no broken weights."""
    with pytest.raises(
        TrainingError, match=r"is not a finite number at step \d+, learning rate .*--learning-rate"
    ):
        learn(tmp_path, replace(RECIPE, learning_rate=rate))

    assert not (tmp_path / "model.safetensors").exists()


def test_poisoned_weights_do_not_reach_the_disk(tmp_path):
    """When a weight turns NaN, the last good save stays and a new run goes on from there."""
    checkpoint = training.prepare(CORPUS, "en", "de", 400, tmp_path, **SIZES)

    def poison(progress: Progress) -> None:
        if progress.step == 10:
            next(checkpoint.model.parameters()).data[5] = math.nan

    with pytest.raises(
        TrainingError, match="is not a finite number at step 11.* best weights before are in"
    ):
        training.train(checkpoint, CORPUS, RECIPE, tmp_path, CPU, poison)
    best = Checkpoint.load(tmp_path)
    assert all(tensor.isfinite().all() for tensor in best.model.state_dict().values())
    assert len(json.loads((tmp_path / "history.json").read_text())) == 2

    learn(tmp_path)

    assert json.loads((tmp_path / "history.json").read_text())[-1]["step"] == RECIPE.steps


# Several processes


def test_two_processes_learn_what_one_learns(folder, tmp_path):
    """torchrun with two processes has the losses of one process, step by step."""
    arguments = [*COMMAND, "--data", str(folder), "--dropout", "0", "--steps", "6", "--out"]
    one, two = tmp_path / "one", tmp_path / "two"

    assert CliRunner().invoke(cli.app, [*arguments, str(one)]).exit_code == 0
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "lab", *arguments, two],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    alone, shared = (json.loads((out / "history.json").read_text()) for out in (one, two))
    assert [entry["step"] for entry in shared] == [1, 2, 3, 4, 5, 6]
    for mine, theirs in zip(alone, shared, strict=True):
        assert theirs["training_loss"] == pytest.approx(mine["training_loss"], rel=1e-5)
        assert theirs["validation_loss"] == pytest.approx(mine["validation_loss"], rel=1e-4)
    assert done.stderr.count("60 train, 2 val pairs") == 1, "only the first process speaks"


# The recipe


def test_the_learning_rate_rises_then_falls():
    """Straight up to the peak at `warmup`, straight down to zero after the last step."""
    recipe = Recipe(steps=10, warmup=4, learning_rate=2.0)

    rates = [learning_rate(step, recipe) for step in range(1, 12)]

    assert rates == pytest.approx([0.5, 1, 1.5, 2, 12 / 7, 10 / 7, 8 / 7, 6 / 7, 4 / 7, 2 / 7, 0])


@pytest.mark.parametrize("warmup", [0, 3, 50])
def test_the_learning_rate_is_never_above_its_peak(warmup):
    """Without warm-up, and with more of it than there are steps, it stays within its bounds."""
    recipe = Recipe(steps=3, warmup=warmup, learning_rate=2.0)

    assert all(0 < learning_rate(step, recipe) <= 2 for step in (1, 2, 3))


def test_the_run_learns(tmp_path):
    """Forty steps over few sentences bring the training loss well below that of a guess."""
    learn(tmp_path, replace(RECIPE, steps=40, validate_every=20), dropout=0.0)

    first, last = json.loads((tmp_path / "history.json").read_text())
    assert last["training_loss"] < first["training_loss"] - 0.3
    assert last["training_loss"] < math.log(400) - 0.5


@pytest.mark.parametrize(
    ("device", "asked", "taken"),
    [("cpu", "float32", torch.float32), ("cpu", "bfloat16", torch.bfloat16),
     ("cuda", "float32", torch.bfloat16)],
)  # fmt: skip
def test_products_are_as_wide_as_asked(tmp_path, device, asked, taken):
    """On the CPU nothing is rounded to bfloat16 unasked; a GPU always takes it."""
    checkpoint = training.prepare(CORPUS, "en", "de", 400, tmp_path, **SIZES)

    loss = training._loss(checkpoint, replace(RECIPE, precision=asked), torch.device(device))

    assert loss.precision == taken


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_half_precision_on_cuda(tmp_path):
    """On CUDA matrices are multiplied in bfloat16, and a run ends with finite weights."""
    device = torch.device("cuda")
    checkpoint = training.prepare(CORPUS, "en", "de", 400, tmp_path, **SIZES)

    trained = training.train(checkpoint, CORPUS, RECIPE, tmp_path, device)

    assert all(tensor.isfinite().all() for tensor in trained.model.state_dict().values())


def test_sentences_beyond_max_len_are_left_out(tmp_path):
    """A sentence too long for the model, in train or val, neither trains nor stops the run."""
    long = Pair("dog " * 60, "Hund " * 60)
    corpus = Corpus({"train": [long, *PAIRS[:30]], "val": [long, *PAIRS[30:32]]})

    learn(tmp_path, replace(RECIPE, steps=2), corpus)

    (entry,) = json.loads((tmp_path / "history.json").read_text())
    assert math.isfinite(entry["validation_loss"])


def test_a_corpus_of_sentences_beyond_max_len_is_refused(tmp_path):
    """When no sentence fits, the limit is named."""
    with pytest.raises(TrainingError, match="no sentence is shorter than max_len=3"):
        learn(tmp_path, max_len=3)


# Scores


@pytest.fixture(scope="module")
def untrained() -> Checkpoint:
    tokenizer = Tokenizer.train((text for pair in PAIRS for text in pair[:2]), 400)
    config = Config(len(tokenizer), **SIZES)
    model = build(config)
    initialise(model, seed=3)
    return Checkpoint(model, tokenizer, config, "en", "de")


def test_validation_loss_is_torchs_cross_entropy(untrained):
    """The loss is the mean over target tokens of what torch computes sentence by sentence."""
    losses = []
    untrained.model.eval()
    for pair in CORPUS["test"]:
        source = torch.tensor([untrained.tokenizer.encode(pair.source)])
        target = torch.tensor([[BOS_ID, *untrained.tokenizer.encode(pair.target)]])
        with torch.no_grad():
            logits = untrained.model(source, target[:, :-1])
        losses.append(F.cross_entropy(logits[0], target[0, 1:], reduction="none"))

    loss = training.validation_loss(untrained, CORPUS["test"], batch_tokens=50)

    assert loss == pytest.approx(torch.cat(losses).mean().item(), rel=1e-5)
    assert PAD_ID not in target


def test_a_source_with_several_targets_counts_once(untrained):
    """A translation that agrees with any target of its source is exactly right."""
    (translation,) = translate(untrained, ["A dog."])
    pairs = [Pair("A dog.", "Ein Hund."), Pair("A dog.", translation.text)]

    scores = training.evaluate(untrained, pairs)

    assert scores.exact == 1.0
    assert "nrefs:2" in scores.bleu_signature


HYPOTHESES = ["The dog, it barks at the cat today.", "A 3.5 m tree stands there!", 'He said: "no".']
FIRST = ["The dog barks at the cat today.", "A 3.5 m tree is standing there!", 'He said: "No".']
SECOND = ["Today, the dog barks at a cat.", "There stands a 3.5 m tree!", '"No", he said.']
CHINESE = ["狗今天对着猫叫。", "那里有一棵3.5米高的树！", "他说：“不”。"]
CHINESE_REFERENCE = ["今天那只狗对着猫叫。", "那儿有一棵3.5米高的树！", "他说“不”。"]


@pytest.mark.parametrize(
    ("language", "hypotheses", "references"),
    [
        ("de", HYPOTHESES, [FIRST]),
        ("en", HYPOTHESES, [FIRST, SECOND]),
        ("en", HYPOTHESES, [FIRST, ["", SECOND[1], ""]]),
        ("zh", CHINESE, [CHINESE_REFERENCE]),
    ],
    ids=["one reference", "two references", "one or two", "Chinese"],
)
def test_scores_are_sacrebleus(tmp_path, language, hypotheses, references):
    """BLEU, chrF and both signatures are what the command `sacrebleu` prints."""
    paths = []
    for number, lines in enumerate([hypotheses, *references]):
        paths.append(tmp_path / f"{number}.txt")
        paths[-1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    said = subprocess.run(
        [sys.executable, "-m", "sacrebleu", *paths[1:], "-i", paths[0], "-m", "bleu", "chrf",
         "-w", "6", *(["-tok", "zh"] if language == "zh" else [])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    bleu, chrf = json.loads(said.stdout)

    found = score(
        hypotheses,
        [[text for text in accepted if text] for accepted in zip(*references, strict=True)],
        language,
    )

    assert found.bleu == pytest.approx(bleu["score"], abs=1e-6)
    assert found.chrf == pytest.approx(chrf["score"], abs=1e-6)
    counted = f"nrefs:{len(references)}"  # sacrebleu counts the files, we the references
    assert found.bleu_signature.replace("nrefs:var", counted) == bleu["signature"]
    assert found.chrf_signature.replace("nrefs:var", counted) == chrf["signature"]
    assert 0 < found.bleu < 100


def test_exact_is_the_share_equal_to_a_reference():
    """One of three translations agrees with its second reference, none of the others does."""
    found = score(["a b", "c d", "e f"], [["x", "a b"], ["c  d"], ["E f"]], "de")

    assert found.exact == pytest.approx(1 / 3)


# The promise


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_toy_is_learned_from_nothing(tmp_path, record_property):
    """`lab train --data toy` translates at least 95 % of held-out sentences exactly right."""
    begun = time.process_time()
    done = CliRunner().invoke(
        cli.app, ["train", "--data", "toy", "--out", str(tmp_path), "--threads", "1"]
    )
    seconds = time.process_time() - begun

    assert done.exit_code == 0, done.output
    held_out = data.load("toy")["test"]
    exact = training.evaluate(Checkpoint.load(tmp_path), held_out).exact
    record_property("cpu_seconds", round(seconds))
    print(f"toy: {exact:.1%} of {len(held_out)} exactly right after {seconds:.0f} CPU seconds")
    assert exact >= 0.95
