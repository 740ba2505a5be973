"""Checkpoints come back as they were saved, a broken one is named, files are whole or not there."""

import json
import shutil
import stat

import pytest
import torch
from safetensors.torch import save_file

from lab import data
from lab.files import replacing
from lab.model import (
    Checkpoint,
    CheckpointError,
    Config,
    build,
    describe,
    initialise,
    parameter_count,
    pick_device,
    shipped,
)
from lab.parts import from_package, using
from lab.tokens import PAD_ID, Tokenizer


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    texts = [text for pair in data.toy_corpus(100)["train"] for text in pair[:2]]
    tokenizer = Tokenizer.train(texts, 320)
    config = Config(len(tokenizer), d_model=16, n_heads=2, n_layers=1, d_ff=24, max_len=40)
    model = build(config)
    initialise(model, seed=1)
    return Checkpoint(model, tokenizer, config, "en", "de")


@pytest.fixture(scope="module")
def whole(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "new" / "folder"
    checkpoint.save(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A saved checkpoint, to be broken."""
    return shutil.copytree(whole, tmp_path / "checkpoint")


# Checkpoints


def test_a_loaded_checkpoint_is_the_one_saved(checkpoint, whole):
    """Weights, sizes, tokenizer and languages come back exactly, ready to translate."""
    loaded = Checkpoint.load(whole)

    weights = loaded.model.state_dict()
    assert weights.keys() == checkpoint.model.state_dict().keys()
    for name, tensor in checkpoint.model.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=0)
    assert loaded.config == checkpoint.config
    assert loaded.pair == "en-de"
    assert loaded.tokenizer.to_json() == checkpoint.tokenizer.to_json()
    assert not loaded.model.training


def test_saving_again_changes_no_byte(checkpoint, folder):
    """The same model makes the same files, and nothing else is left in the folder."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    Checkpoint.load(folder).save(folder)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert before.keys() == {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder, name):
    """A folder without one of the three files is no checkpoint, and the file is named."""
    (folder / name).unlink()

    with pytest.raises(CheckpointError, match=f"is no checkpoint: it has no {name}"):
        Checkpoint.load(folder)


def test_a_folder_that_is_not_there_is_no_checkpoint(tmp_path):
    """A wrong path is answered with all that it lacks."""
    with pytest.raises(CheckpointError, match="nowhere is no checkpoint.* config.json, tokenizer"):
        Checkpoint.load(tmp_path / "nowhere")


ABOUT = {"vocab_size": 320, "d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 24, "max_len": 40}


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{",
        "[]",
        '"text"',
        "null",
        "\x00\x01",
        json.dumps({"source": "en", "target": "de"}),
        json.dumps({"source": "en", "target": "de", "model": "large"}),
        json.dumps({"source": "en", "target": "de", "model": {}}),
        json.dumps({"source": "en", "target": "de", "model": ABOUT | {"n_heads": 0}}),
        json.dumps({"source": "en", "target": "de", "model": ABOUT | {"n_heads": 3}}),
        json.dumps({"source": "en", "target": "de", "model": ABOUT | {"d_model": 32}}),
        json.dumps({"source": "en", "target": "de", "model": ABOUT | {"n_layers": 2}}),
        json.dumps({"source": "en", "target": "de", "model": ABOUT | {"d_ff": "24"}}),
        json.dumps({"source": "en", "target": "de", "model": ABOUT | {"vocab_size": -1}}),
        json.dumps({"source": "en", "model": ABOUT}),
    ],
)
def test_a_config_that_does_not_fit_is_a_checkpoint_error(folder, config):
    """Garbage, sizes that cannot be and sizes of another model end in an error with the path."""
    (folder / "config.json").write_text(config, encoding="utf-8")

    with pytest.raises(CheckpointError, match=str(folder)):
        Checkpoint.load(folder)


@pytest.mark.parametrize("kept", [0, 7, 300, 0.5, -1])
def test_truncated_weights_are_a_checkpoint_error(folder, kept):
    """Weights cut off in the header or in the numbers are never half loaded."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])

    with pytest.raises(CheckpointError, match="does not load"):
        Checkpoint.load(folder)


def test_other_weights_are_a_checkpoint_error(checkpoint, folder):
    """Weights under other names are refused, and the names are said."""
    renamed = {f"old.{name}": tensor for name, tensor in checkpoint.model.state_dict().items()}
    save_file(renamed, folder / "model.safetensors")

    with pytest.raises(CheckpointError, match="does not load: .*(?s:.*)old.embedding"):
        Checkpoint.load(folder)


def test_a_broken_tokenizer_is_a_checkpoint_error(folder):
    """A tokenizer that does not load is named."""
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")

    with pytest.raises(CheckpointError, match="tokenizer.json is no tokenizer"):
        Checkpoint.load(folder)


def test_settings_of_a_later_version_do_not_hinder(checkpoint, folder):
    """A config.json with a size we do not know still loads."""
    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    about["model"]["colour"] = "blue"
    (folder / "config.json").write_text(json.dumps(about), encoding="utf-8")

    assert Checkpoint.load(folder).config == checkpoint.config


def test_every_shipped_folder_is_named_after_its_pair():
    """What `shipped` lists loads under its name."""
    for name, folder in shipped().items():
        assert Checkpoint.load(folder).pair == name


# Models


def test_starting_weights_follow_from_the_seed():
    """Stock and solutions start from the same weights; another seed gives others."""
    config = Config(11, d_model=6, n_heads=3, n_layers=2, d_ff=10, max_len=7)
    with using(from_package("solutions")):
        of_solutions = build(config)
    of_stock, other = build(config), build(config)
    for model, seed in ((of_solutions, 1), (of_stock, 1), (other, 2)):
        initialise(model, seed)

    weights, others = of_stock.state_dict(), other.state_dict()
    assert weights.keys() == of_solutions.state_dict().keys()
    for name, tensor in of_solutions.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=0)
    embedding = "embedding.embedding.weight"
    assert not torch.equal(weights[embedding], others[embedding])
    assert weights[embedding][PAD_ID].eq(0).all()


def test_parameters_are_counted_once():
    """The shared embedding counts once: V·D, then the layers' own, worked by hand."""
    model = build(Config(11, d_model=6, n_heads=3, n_layers=2, d_ff=10, max_len=7))
    attention = 4 * (6 * 6 + 6)
    feed_forward = 6 * 10 + 10 + 10 * 6 + 6
    norm = 2 * 6

    encoder_layer = attention + feed_forward + 2 * norm
    decoder_layer = 2 * attention + feed_forward + 3 * norm
    assert parameter_count(model) == 11 * 6 + 2 * (encoder_layer + decoder_layer)
    assert describe(model) == "0.00 M parameters on cpu"


@pytest.mark.parametrize(
    "name",
    ["gpu", "", "cpu:x"]
    + ([] if torch.cuda.is_available() else ["cuda", "cuda:1"])
    + ([] if torch.backends.mps.is_available() else ["mps"]),
)
def test_a_device_that_is_not_there_is_named(name):
    """An unknown or absent device is one error that names it."""
    with pytest.raises(ValueError, match=f"device '{name}' is not to be had here"):
        pick_device(name)


def test_auto_takes_the_best_device():
    """auto is CUDA, else MPS, else the CPU; a device by name is that device."""
    if torch.cuda.is_available():
        best = "cuda"
    else:
        best = "mps" if torch.backends.mps.is_available() else "cpu"

    assert pick_device().type == best
    assert pick_device("cpu") == torch.device("cpu")


# Files


def test_a_file_is_replaced_when_the_block_ends_well(tmp_path):
    """The old content stands until the block ends, then the new; nothing else remains."""
    path = tmp_path / "file"
    path.write_text("old")

    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent, "a move between disks would not be atomic"

    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("exists", [True, False])
def test_a_file_stays_as_it_was_when_the_block_fails(tmp_path, error, exists):
    """An error in the block leaves the old file, or none, and no temporary file."""
    path = tmp_path / "file"
    if exists:
        path.write_text("old")

    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise error

    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == (
        [("file", "old")] if exists else []
    )
