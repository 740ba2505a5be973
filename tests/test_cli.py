"""The `lab` command does what it says, and what the caller can mend is one line."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from itertools import islice
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from lab import cli, data, translation
from lab.model import Checkpoint
from lab.translation import Search, translate

SMALL = (
    "--steps 3 --warmup 1 --validate-every 2 --batch-tokens 200 --d-model 16 --n-heads 2 "
    "--n-layers 1 --d-ff 24 --max-len 64 --vocab-size 400 --device cpu --threads 1"
).split()
SENTENCES = ["The dog can see a cat.", "Today a king must find the apple."]


@pytest.fixture
def lab(monkeypatch, capsys):
    """The command as in a terminal, without the seconds that a new process takes."""

    def run(*arguments: object, stdin: str | bytes = "") -> SimpleNamespace:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), newline="\n"))
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return SimpleNamespace(code=end.value.code, out=said.out, err=said.err)

    return run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A TSV of 200 sentence pairs."""
    path = tmp_path_factory.mktemp("data") / "pairs.tsv"
    pairs = islice(data.toy(), 200)
    path.write_text("".join(f"{pair.source}\t{pair.target}\n" for pair in pairs), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """A real training run in a process of its own, in a terminal 80 columns wide."""
    folder = tmp_path_factory.mktemp("trained")
    done = subprocess.run(
        [sys.executable, "-m", "lab", "train", "--data", corpus, "--out", folder, *SMALL],
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": "80"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(folder=folder, out=done.stdout, err=done.stderr)


# train


def test_training_shows_loss_speed_and_time_left(trained):
    """In a terminal a bar shows the step, the loss, tokens a second and the time left."""
    assert "step 3/3" in trained.err
    assert any(
        "loss " in line and "tokens/s" in line and "0:00:0" in line and "validation" not in line
        for line in trained.err.replace("\r", "\n").splitlines()
    )


def test_training_leaves_checkpoint_history_and_curve(trained):
    """The folder holds what translating, resuming and looking back need; the curve is a PNG."""
    names = {path.name for path in trained.folder.iterdir()}

    assert names == {
        "config.json", "curve.png", "history.json", "model.safetensors", "resume.safetensors",
        "tokenizer.json",
    }  # fmt: skip
    picture = (trained.folder / "curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) > 5_000
    assert [
        entry["step"] for entry in json.loads((trained.folder / "history.json").read_text())
    ] == [2, 3]
    assert str(trained.folder) in trained.err


def test_lines_are_not_wrapped_outside_a_terminal(lab, corpus, tmp_path, monkeypatch):
    """Each validation and each path stays on its line, so that a log can be searched."""
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / ("long-" * 20) / "[bold]"

    done = lab("train", "--data", corpus, "--out", out, *SMALL)

    lines = done.err.splitlines()
    assert done.code == 0
    assert done.out == ""
    assert len(lines) == 4
    assert lines[0].endswith("pairs; 0.01 M parameters on cpu")
    for line, step in zip(lines[1:3], (2, 3), strict=True):
        assert line.startswith(f"step {step:>6}  training loss ")
        assert line.endswith(" tokens/s")
        assert " validation loss " in line and " BLEU " in line and " exact " in line
    assert lines[3].startswith(f"kept in {out}: ")


def test_training_with_other_sizes_changes_the_model(lab, corpus, tmp_path):
    """An option given on the command line reaches the model."""
    done = lab("train", "--data", corpus, "--out", tmp_path, *SMALL, "--d-ff", 40, "--dropout", 0.3)

    config = Checkpoint.load(tmp_path).config
    assert done.code == 0
    assert (config.d_model, config.n_heads, config.n_layers) == (16, 2, 1)
    assert (config.d_ff, config.dropout, config.max_len) == (40, 0.3, 64)
    assert load_file(tmp_path / "model.safetensors")[
        "encoder.layers.0.feed_forward.linear1.weight"
    ].shape == (40, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("--n-heads 3", "d_model=16 .*n_heads=3"),
        ("--d-model 15 --n-heads 3", "d_model=15"),
        ("--data nowhere", "nowhere is neither a folder, nor a file, nor 'toy'"),
        ("--data toy --target zh", "toy is English to German"),
        ("--device gpu", "device 'gpu' is not to be had here"),
        ("--max-len 2", "no sentence is shorter than max_len=2"),
        ("--learning-rate 1e30 --steps 9", "is not a finite number at step .*--learning-rate"),
    ],
)
def test_training_with_bad_arguments_is_one_line(lab, corpus, tmp_path, changes, message):
    """What does not go together is said in one line, with exit status 1."""
    done = lab("train", "--data", corpus, "--out", tmp_path, *SMALL, *changes.split())

    said = done.err.splitlines()[-1]
    assert done.code == 1
    assert said.startswith("error: ")
    assert re.search(message, said)
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "changes", ["--steps 0", "--d-model x", "--dropout 1", "--beam 2", "--batch-tokens 0"]
)
def test_training_with_impossible_numbers_shows_the_usage(lab, corpus, tmp_path, changes):
    """Numbers out of range and unknown options are refused by name before anything is read."""
    done = lab("train", "--data", corpus, "--out", tmp_path / "out", *SMALL, *changes.split())

    assert done.code == 2
    assert changes.split()[0] in done.err
    assert not (tmp_path / "out").exists()


def test_other_settings_in_a_used_folder_are_one_line(lab, corpus, trained):
    """Going on with other settings names them."""
    done = lab("train", "--data", corpus, "--out", trained.folder, *SMALL, "--seed", 1)

    assert done.code == 1
    assert "seed was 0, now 1" in done.err
    assert "another --out" in done.err


def test_ctrl_c_says_how_to_go_on(corpus, tmp_path):
    """A run stopped by hand ends with status 130 and one line that says how to go on."""
    run = subprocess.Popen(
        [sys.executable, "-m", "lab", "train", "--data", corpus, "--out", tmp_path, *SMALL,
         "--steps", "5000", "--validate-every", "1"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(3):
        run.stderr.readline()
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)

    assert run.returncode == 130
    assert said.splitlines()[-1] == "stopped; the same command goes on from the last save"
    assert Checkpoint.load(tmp_path).pair == "en-de"


# translate


def test_a_reader_that_has_enough_ends_it_quietly(trained):
    """`lab translate … | head -1`: no trace of the pipe that closed."""
    with subprocess.Popen(
        [sys.executable, "-m", "lab", "translate", "--checkpoint", trained.folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        run.stdout.close()
        _, said = run.communicate("\n".join(SENTENCES), timeout=120)

    assert said == ""


def test_arguments_are_translated(lab, trained):
    """Each argument becomes one line, as the library translates it."""
    expected = translate(Checkpoint.load(trained.folder), SENTENCES)

    done = lab("translate", *SENTENCES, "--checkpoint", trained.folder)

    assert done.code == 0
    assert done.out == "".join(f"{translation.text}\n" for translation in expected)


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("beam", [1, 3])
def test_lines_from_stdin_are_translated(lab, trained, newline, beam):
    """Line n of the output translates line n of the input; an empty line stays empty."""
    lines = [SENTENCES[0], "", "   ", SENTENCES[1]]
    expected = translate(Checkpoint.load(trained.folder), SENTENCES, Search.with_beam(beam))

    done = lab(
        "translate", "--checkpoint", trained.folder, "--beam", beam,
        stdin="".join(line + newline for line in lines),
    )  # fmt: skip

    assert done.code == 0
    assert done.out == f"{expected[0].text}\n\n\n{expected[1].text}\n"


def test_json_has_an_object_a_line(lab, trained):
    """--json gives text, pieces and log-probability of each line, the empty one included."""
    text = f"{SENTENCES[0]}\n\n你好 😀 <s>\n"

    done = lab("translate", "--json", "--checkpoint", trained.folder, stdin=text)

    one, empty, other = map(json.loads, done.out.splitlines())
    assert one["source"] == SENTENCES[0]
    assert "".join(one["source_pieces"]) == f" {SENTENCES[0]}</s>"
    assert one["log_probability"] < 0
    assert (empty["source"], empty["text"], empty["target_pieces"]) == ("", "", [])
    assert empty.keys() == one.keys()
    assert other["source"] == "你好 😀 <s>"
    assert "attention" not in one


def test_nothing_to_translate_is_no_output(lab, trained):
    """Empty standard input ends well, with nothing said."""
    done = lab("translate", "--checkpoint", trained.folder)

    assert (done.code, done.out, done.err) == (0, "", "")


def test_input_that_is_no_text_is_still_read(lab, trained):
    """Bytes that are not UTF-8 are replaced, not a crash."""
    done = lab("translate", "--checkpoint", trained.folder, stdin=b"caf\xe9 \x00\n")

    assert done.code == 0
    assert done.out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pair", "en-xx"], "error: no model for 'en-xx' is shipped: choose from "),
        (["--pair", "[/red]"], "error: no model for '[/red]' is shipped: choose from "),
        (["--checkpoint", "no/[/where]"], "error: no/[/where] is no checkpoint: it has no config"),
        (["--device", "gpu"], "error: device 'gpu' is not to be had here: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_found_is_one_line(lab, trained, arguments, message):
    """An unknown pair, folder or device is one line on standard error, with exit status 1."""
    if arguments[0] == "--device":
        arguments = [*arguments, "--checkpoint", trained.folder]

    done = lab("translate", "A dog.", *arguments)

    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith(message)
    assert done.err.count("\n") == 1


def test_a_broken_checkpoint_is_one_line(lab, trained, tmp_path):
    """The many lines that torch says about wrong sizes become one."""
    Checkpoint.load(trained.folder).save(tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    about["model"]["d_model"] = 32
    (tmp_path / "config.json").write_text(json.dumps(about))

    done = lab("translate", "A dog.", "--checkpoint", tmp_path)

    assert done.code == 1
    assert done.err.startswith(f"error: {tmp_path} does not load: ")
    assert done.err.count("\n") == 1


def test_ten_thousand_words_are_one_line(trained):
    """A text longer than the model can read names its length and the limit, in a real process."""
    done = subprocess.run(
        [sys.executable, "-m", "lab", "translate", "--checkpoint", trained.folder],
        input=f"A dog.\n{'dog ' * 10_000}\n", capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: a sentence of ")
    assert "tokens is too long, the model reads at most 64: split it" in done.stderr
    assert "(it begins with 'dog dog dog " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_sentence_at_the_limit_is_translated(trained):
    """max_len tokens, </s> counted, are read; one more is refused."""
    checkpoint = Checkpoint.load(trained.folder)
    word = checkpoint.tokenizer.encode("the")[:-1]
    assert len(word) == 1

    (longest,) = translate(checkpoint, ["the " * 63])

    assert len(longest.source_pieces) == checkpoint.config.max_len == 64
    with pytest.raises(ValueError, match="a sentence of 65 tokens is too long"):
        translate(checkpoint, ["A dog.", "the " * 64])


# evaluate


def test_evaluate_prints_scores_with_signatures(lab, corpus, trained):
    """BLEU and chrF stand with what makes them repeatable, exact beside them."""
    done = lab("evaluate", "--data", corpus, "--split", "val", "--checkpoint", trained.folder)

    head, bleu, chrf, exact = done.out.splitlines()
    pairs = data.load(corpus)["val"]
    sentences = len({pair.source for pair in pairs})
    assert done.code == 0
    assert head == (
        f"en-de on val, beam 1: {sentences} sentences, {len(pairs)} accepted translations"
    )
    assert bleu.startswith("BLEU  ") and "|tok:13a|" in bleu
    assert chrf.startswith("chrF  ") and "|nc:6|" in chrf
    assert exact.startswith("exact ") and exact.endswith("%")


def test_evaluate_as_json(lab, corpus, trained):
    """--json gives the same scores unrounded."""
    done = lab(
        "evaluate", "--data", corpus, "--split", "val", "--checkpoint", trained.folder,
        "--beam", 2, "--json",
    )  # fmt: skip

    scores = json.loads(done.out)
    assert scores.keys() == {"bleu", "chrf", "exact", "bleu_signature", "chrf_signature"}
    assert 0 <= scores["chrf"] <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--data toy --split nowhere", "there is no split 'nowhere': choose from train, val, test"),
        ("--data nowhere", "nowhere is neither a folder, nor a file, nor 'toy'"),
    ],
)
def test_evaluate_with_bad_arguments_is_one_line(lab, trained, arguments, message):
    """An unknown split or path is one line with exit status 1."""
    done = lab("evaluate", "--checkpoint", trained.folder, *arguments.split())

    assert done.code == 1
    assert done.err == f"error: {message}\n"


def test_help_lists_the_commands(lab):
    """`lab --help` names everything the lab can do."""
    done = lab("--help")

    assert done.code == 0
    assert all(command in done.out for command in ("train", "translate", "evaluate", "app"))


def test_the_command_cuts_off_where_the_library_does():
    """The one number that stands twice, so that `lab --help` need not load torch, is one number."""
    assert cli.MAX_LEN == translation.MAX_LEN
