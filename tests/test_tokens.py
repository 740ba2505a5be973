"""Any text becomes ids and comes back, and the same sentences always teach the same pieces."""

import hashlib
import random
import subprocess
import sys
import unicodedata

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab import data
from lab.tokens import BOS, BOS_ID, EOS, EOS_ID, PAD, PAD_ID, PieceDropout, Tokenizer, pad

TEXTS = [text for pair in data.toy_corpus(300)["train"] for text in pair[:2]]
TOKENIZER = Tokenizer.train(TEXTS, 400)


def plain(text: str) -> str:
    """What a round trip keeps: composed characters, single spaces, ▁ as _."""
    return " ".join(unicodedata.normalize("NFC", text).split()).replace("▁", "_")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("")
@example("  Der\talte\n Mann  ")
@example("我喜欢你。")
@example("👩‍👩‍👧 🇩🇪 😀")
@example("\x00\x01\x7f\u200b\ufeff")
@example("e\u0301 n\u0303 \u0301")
@example("<s> </s> <pad> <0x41> <0xE4><0xBD><0xA0> ▁ ▁A")
def test_every_text_comes_back(text):
    """Chinese, emoji, control characters and text that spells marks survive the round trip."""
    ids = TOKENIZER.encode(text)

    assert TOKENIZER.decode(ids) == plain(text)
    assert ids[-1] == EOS_ID
    assert not {PAD_ID, BOS_ID, EOS_ID} & set(ids[:-1]), "a mark was made from text"
    assert all(0 <= i < len(TOKENIZER) for i in ids)
    assert TOKENIZER.encode(TOKENIZER.decode(ids)) == ids


def test_half_a_surrogate_pair_becomes_a_question_mark():
    """A text that is no valid Unicode is read with ? in the broken place."""
    assert TOKENIZER.decode(TOKENIZER.encode("A \ud83d dog\udc00")) == "A ? dog?"


def test_marks_have_the_first_ids_and_bytes_the_next():
    """<pad>, <s>, </s> and the 256 bytes are the pieces 0 to 258, in that order."""
    pieces = TOKENIZER.pieces(range(259))

    assert pieces[:3] == [PAD, BOS, EOS]
    assert pieces[3:] == [f"<0x{byte:02X}>" for byte in range(256)]


def test_pieces_join_to_the_text():
    """A piece that begins a word begins with a space, so all of them together are the text."""
    ids = TOKENIZER.encode("The old man can see a dog.")

    pieces = TOKENIZER.pieces(ids)

    assert "".join(pieces[:-1]) == " The old man can see a dog."
    assert {" The", " old"} <= set(pieces)
    assert pieces[-1] == EOS


def test_any_ids_decode_to_one_line():
    """Whatever a model writes, line feeds and half characters included, is one line of text."""
    a, line_feed, first_of_three = (3 + byte for byte in (0x41, 0x0A, 0xE4))
    old = TOKENIZER.encode("old")[0]

    text = TOKENIZER.decode([BOS_ID, a, line_feed, a, old, first_of_three, EOS_ID, PAD_ID])

    assert text == "A A old�"


def test_a_batch_is_encoded_as_each_sentence_alone():
    """encode_all gives every sentence the ids that encode gives it."""
    texts = ["A dog.", "", "Ein Hund und eine Katze."]

    assert TOKENIZER.encode_all(texts) == [TOKENIZER.encode(text) for text in texts]


def test_vocab_size_is_never_exceeded():
    """There are as many pieces as asked for, even when that is too few for all characters."""
    sizes = [260, 265, 300, 400]

    assert [len(Tokenizer.train(TEXTS, size)) for size in sizes] == sizes
    assert len(Tokenizer.train(["ab"], 1000)) == 259 + len(["▁", "a", "b", "▁a", "▁ab"])


def test_vocab_too_small_for_the_bytes_is_refused():
    """A vocabulary without room for one character is an error that names both sizes."""
    with pytest.raises(ValueError, match="vocab_size=259: marks and bytes alone are 259"):
        Tokenizer.train(TEXTS, 259)


LEARN = """
import hashlib, random
from lab.tokens import Tokenizer

chance = random.Random(0)
texts = [
    "".join(chr(0x4E00 + chance.randrange(2000)) for _ in range(9))
    + "".join(" " + "".join(chance.choices("abcdefgh", k=3)) for _ in range(4))
    for _ in range(2000)
]
sizes = [600, 1500, 3500]  # characters to choose from: 2000 and some; room for 300, 750, 1750
print(*(hashlib.sha256(Tokenizer.train(texts, n).to_json().encode()).hexdigest() for n in sizes))
"""


def test_training_is_the_same_in_every_process():
    """Equally frequent characters and pairs are chosen alike in another process, every time."""
    runs = [
        subprocess.Popen([sys.executable, "-c", LEARN], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]

    first, second = (run.communicate(timeout=120)[0] for run in runs)

    assert len(first.split()) == 3
    assert first == second


def test_the_order_of_equal_characters_in_the_text_does_not_matter():
    """Which of equally frequent characters get a piece does not hang on who comes first."""
    texts = [chr(0x4E00 + i) for i in range(100)]
    shuffled = random.Random(1).sample(texts, len(texts))

    one, other = (Tokenizer.train(order, 300) for order in (texts, shuffled))

    assert one.to_json() == other.to_json()


def test_a_saved_tokenizer_is_the_same_when_loaded(tmp_path):
    """Loading gives the same ids, and saving again the same file."""
    TOKENIZER.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    loaded.save(tmp_path / "again.json")

    text = "Ein Hund, 42 <s> 你好 😀"
    assert loaded.encode(text) == TOKENIZER.encode(text)
    assert len(loaded) == len(TOKENIZER)
    digests = {hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.iterdir()}
    assert len(digests) == 1


@pytest.mark.parametrize("content", [b"", b"{}", b"no json", b"\xff\xfe"])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, content):
    """A broken tokenizer file ends in an error with its path."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)

    with pytest.raises(ValueError, match="tokenizer.json is no tokenizer"):
        Tokenizer.load(path)


def test_pad_fills_up_with_pad():
    """Rows of ids become one tensor as wide as the longest."""
    padded = pad([[5, 2], [7, 8, 2], [2]])

    torch.testing.assert_close(padded, torch.tensor([[5, 2, 0], [7, 8, 2], [2, 0, 0]]))


# BPE-dropout

ODD = ["", "Der Bär", "我喜欢你。", "👩‍👩‍👧 🇩🇪", "e\u0301 x", "a<s>b", "The old man's 37 dogs!"]


def test_with_every_merge_the_pieces_are_the_tokenizers():
    """At rate 0 it cuts as byte pair encoding does, the odd texts too."""
    texts = TEXTS[:80] + ODD

    assert PieceDropout(TOKENIZER, 0.0).encode_all(texts) == TOKENIZER.encode_all(texts)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.99])
def test_whatever_is_left_out_the_text_stays(rate):
    """Other pieces, the same text; the more is left out, the more pieces."""
    texts = TEXTS[:80] + ODD

    found = PieceDropout(TOKENIZER, rate).encode_all(texts)

    assert [TOKENIZER.decode(ids) for ids in found] == [plain(text) for text in texts]
    whole, fewer, cut = (
        sum(map(len, PieceDropout(TOKENIZER, r).encode_all(texts))) for r in (0, rate / 2, rate)
    )
    assert whole < fewer < cut


def test_each_draw_is_another_and_each_comes_again():
    """Two draws differ, the same draw and seed give the same, from whatever text one begins."""
    pieces, texts = PieceDropout(TOKENIZER, 0.3, seed=1), TEXTS[:40]
    first, second = pieces.encode_all(texts, "1"), pieces.encode_all(texts, "2")

    assert first != second
    again = PieceDropout(TOKENIZER, 0.3, seed=1)
    again.encode_all(TEXTS[40:])
    assert again.encode_all(texts, "1") == first
    assert PieceDropout(TOKENIZER, 0.3, seed=2).encode_all(texts, "1") != first
