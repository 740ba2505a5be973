"""Sentence pairs are read as they stand, split without leaks and batched; bad files are named."""

import gzip
import random
import re
import tracemalloc
from collections import Counter
from itertools import chain, islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab import data
from lab.data import Corpus, DataError, Pair

# Moses and TSV

ENGLISH = "A dog.\nTwo cats.\nThree café chairs.\n"
GERMAN = "Ein Hund.\nZwei Katzen.\nDrei Caféstühle.\n"
PAIRS = [
    Pair("A dog.", "Ein Hund."),
    Pair("Two cats.", "Zwei Katzen."),
    Pair("Three café chairs.", "Drei Caféstühle."),
]


def write(path, content):
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "BOM"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_moses_pairs_are_read(tmp_path, ending, mark, newline):
    """Line n of both files is pair n: plain or .gz, with Windows line ends or a byte order mark."""
    source = write(tmp_path / f"train.en{ending}", mark + ENGLISH.replace("\n", newline))
    target = write(tmp_path / f"train.de{ending}", GERMAN.replace("\n", newline))

    assert data.read_moses(source, target) == PAIRS


def test_a_folder_gives_all_its_splits(tmp_path):
    """Each name before .en and .de is a split; one side may be .gz; other files do not matter."""
    for name in ("train", "val", "test_2016_flickr"):
        write(tmp_path / f"{name}.en.gz", f"{name} one.\n{name} two.\n")
        write(tmp_path / f"{name}.de", f"{name} eins.\n{name} zwei.\n")
    write(tmp_path / "train.fr", "un\n")
    write(tmp_path / "README.md", "about\n")

    corpus = data.load(tmp_path, "en", "de")

    assert sorted(corpus.splits) == ["test_2016_flickr", "train", "val"]
    assert corpus["val"] == [Pair("val one.", "val eins."), Pair("val two.", "val zwei.")]
    assert corpus.dropped == 0


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_tsv_keeps_the_attribution_apart(tmp_path, newline):
    """The third column is never part of a sentence, and a file may do without it."""
    lines = ["\ufeffHi.\t嗨。\tCC-BY 2.0 (France) Attribution: tatoeba.org #1 & #2", "Run!\t跑！"]
    path = write(tmp_path / "cmn-eng.tsv", newline.join(lines))

    pairs = data.read_tsv(path)

    assert pairs[0][:2] == ("Hi.", "嗨。")
    assert pairs[0].attribution == "CC-BY 2.0 (France) Attribution: tatoeba.org #1 & #2"
    assert pairs[1] == Pair("Run!", "跑！", "")


# Bad files

TEN_MB = b"x" * 10_000_000
BROKEN_GZIP = gzip.compress(b"".join(b"line %d\n" % i for i in range(999)))
GARBLED_GZIP = BROKEN_GZIP[:40] + b"\xff" * 60 + BROKEN_GZIP[100:]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train.en": ENGLISH}, "train.en has no other side: train.de is missing"),
        ({"train.de": GERMAN}, "train.de has no other side: train.en is missing"),
        ({"val.en": ENGLISH, "val.de": GERMAN}, "has no train.en and train.de"),
        ({}, "has no train.en and train.de"),
        ({"train.en": ENGLISH, "train.de": "Ein Hund.\n"}, "train.en has 3 lines and .*de has 1"),
        ({"train.en": "", "train.de": GERMAN}, "train.en is empty"),
        ({"train.en.gz": "", "train.de": GERMAN}, "train.en.gz is empty"),
        (
            {"train.en": ENGLISH, "train.de": "a\n \t\nc\n"},
            "train.de, line 2: the line is empty",
        ),
        (
            {"train.en": ENGLISH.encode("latin-1"), "train.de": GERMAN},
            "train.en, line 3: not UTF-8",
        ),
        (
            {"train.en": ENGLISH, "train.de": GERMAN.encode("utf-16")},
            "train.de, line 1: not UTF-8",
        ),
        (
            {"train.en": b"one\n" + TEN_MB, "train.de": GERMAN},
            "train.en, line 2: longer than 10,000 bytes",
        ),
        (
            {"train.en.gz": b"one\n" + TEN_MB, "train.de": GERMAN},
            "train.en.gz, line 2: longer than 10,000 bytes",
        ),
    ],
)
def test_a_bad_folder_is_one_clear_error(tmp_path, files, message):
    """What is wrong with a folder is said with the file, and with the line where there is one."""
    for name, content in files.items():
        write(tmp_path / name, content)

    with pytest.raises(DataError, match=message) as error:
        data.load(tmp_path, "en", "de")
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain text\n", r"train\.en\.gz, after line 0: Not a gzipped file"),
        (BROKEN_GZIP[:-30], r"train\.en\.gz, after line \d+: Compressed file ended"),
        (GARBLED_GZIP, r"train\.en\.gz, after line \d+: Error -3"),
        (BROKEN_GZIP[:-8] + b"12345678", r"train\.en\.gz, after line 999: CRC check failed"),
    ],
    ids=["no gzip", "cut off", "garbled", "wrong checksum"],
)
def test_a_broken_gzip_is_one_clear_error(tmp_path, content, message):
    """A damaged .gz is said with the file and how far it could be read."""
    (tmp_path / "train.en.gz").write_bytes(content)
    write(tmp_path / "train.de", GERMAN)

    with pytest.raises(DataError, match=message):
        data.load(tmp_path, "en", "de")


def test_a_folder_in_place_of_a_file_is_one_clear_error(tmp_path):
    """A folder called train.en is named."""
    (tmp_path / "train.en").mkdir()
    write(tmp_path / "train.de", GERMAN)

    with pytest.raises(DataError, match=r"train\.en, after line 0: .*directory"):
        data.load(tmp_path, "en", "de")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tb\nno tab here\n", "line 2: expected source, a tab and target"),
        ("a\tb\n\nc\td\n", "line 2: expected source, a tab and target"),
        ("\tb\n", "line 1: expected source, a tab and target"),
        ("a\t\tattribution\n", "line 1: expected source, a tab and target"),
        ("", "is empty"),
        ("a\tb\ncafé\tc\n".encode("latin-1"), "line 2: not UTF-8"),
        (b"a\tb\n" + TEN_MB, "line 2: longer than 10,000 bytes"),
    ],
    ids=["no tab", "empty line", "no source", "no target", "empty", "encoding", "10 MB"],
)
def test_a_bad_tsv_is_one_clear_error(tmp_path, content, message):
    """What is wrong with a TSV is said with file and line."""
    path = write(tmp_path / "pairs.tsv", content)

    with pytest.raises(DataError, match=f"pairs.tsv.*{message}"):
        data.load(path, "en", "de")


def test_an_unknown_path_is_one_clear_error(tmp_path):
    """A path that is not there is said with what may stand there."""
    with pytest.raises(DataError, match="nowhere is neither a folder, nor a file, nor 'toy'"):
        data.load(tmp_path / "nowhere", "en", "de")


@pytest.mark.parametrize("ending", ["tsv", "tsv.gz"])
def test_a_line_of_10_mb_is_not_read_whole(tmp_path, ending):
    """A file of another kind costs about the memory of the longest line allowed."""
    path = write(tmp_path / f"long.{ending}", TEN_MB)

    tracemalloc.start()
    with pytest.raises(DataError, match="longer than"):
        data.read_tsv(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1_000_000


# Splits

VARIANTS = ["A dog, a cat!", "a DOG a cat", "A dog -- a cat...", "Ａ dog, a cat", " a dog  a cat "]


@pytest.mark.parametrize("share", [0.03, 0.5])
def test_variants_of_a_sentence_stay_on_one_side(share):
    """Sentences that differ only in case, points or spaces never stand in train and held out."""
    pairs = [
        Pair(f"{variant} {n}", f"{variant} {n} {i}")
        for n in range(200)
        for i, variant in enumerate(VARIANTS)
    ]

    corpus = data.split(pairs, {"val": share, "test": share})

    numbers = [{pair.source.split()[-1] for pair in split} for split in corpus.splits.values()]
    assert Counter(chain.from_iterable(corpus.splits.values())) == Counter(pairs)
    assert sum(map(len, numbers)) == 200, "a sentence stands in two splits"
    assert all(numbers[1:])


def test_a_held_out_translation_is_not_trained_on():
    """A training pair is dropped when its target, in whatever case, is that of a held-out one."""
    pairs = [Pair(f"sentence {n}", f"Satz {n}") for n in range(300)]
    held_out = data.split(pairs)["test"][0]
    again = Pair("another that means the same", held_out.target.upper() + "!")
    assert again in data.split([again])["train"], "by itself it is one to train on"

    corpus = data.split([*pairs, again])

    assert corpus.dropped == 1 and held_out in corpus["test"]
    assert all(again not in split for split in corpus.splits.values())


def test_a_large_corpus_holds_out_no_more_than_a_thousand(monkeypatch):
    """A split stops at MOST sentences, with all their translations; the rest is trained on."""
    monkeypatch.setattr(data, "MOST", 10)
    pairs = [Pair(f"sentence {n}", f"Satz {n} {i}") for n in range(300) for i in range(2)]

    corpus = data.split(pairs, {"val": 0.2, "test": 0.03})

    sizes = {name: len(split) for name, split in corpus.splits.items()}
    assert sizes["val"] == 20 and 0 < sizes["test"] < 40 and sum(sizes.values()) == 600
    assert not corpus.dropped


def test_splits_do_not_hang_on_the_order():
    """Where a pair goes follows from its source alone: same on every machine, in any order."""
    pairs = list(islice(data.toy(1), 1000))

    one, other = data.split(pairs), data.split(random.Random(0).sample(pairs, 1000))

    assert {name: set(split) for name, split in one.splits.items()} == {
        name: set(split) for name, split in other.splits.items()
    }
    assert {name: len(split) for name, split in one.splits.items()} == {
        "train": pytest.approx(935, abs=25),
        "val": pytest.approx(30, abs=16),  # three standard deviations
        "test": pytest.approx(35, abs=17),
    }


def test_given_splits_are_cleaned_of_leaks(tmp_path):
    """A training pair whose source is held out, in whatever case, is dropped and counted."""
    sources = {
        "train": "A dog\nTwo cats!\nA tree.\nOne pig\n",
        "val": "a DOG.\n",
        "test": "A tree\n",
    }
    for name, text in sources.items():
        write(tmp_path / f"{name}.en", text)
        write(tmp_path / f"{name}.de", "x\n" * text.count("\n"))

    corpus = data.load(tmp_path, "en", "de")

    assert [pair.source for pair in corpus["train"]] == ["Two cats!", "One pig"]
    assert [pair.source for pair in corpus["val"]] == ["a DOG."]
    assert corpus.dropped == 2


def test_a_folder_without_val_gets_one(tmp_path):
    """Validation sentences are taken out of train when the folder brings none."""
    pairs = list(islice(data.toy(), 500))
    write(tmp_path / "train.en", "".join(f"{pair.source}\n" for pair in pairs))
    write(tmp_path / "train.de", "".join(f"{pair.target}\n" for pair in pairs))

    corpus = data.load(tmp_path, "en", "de")

    assert len(corpus["val"]) == pytest.approx(15, abs=12)
    assert len(corpus["val"]) + len(corpus["train"]) == 500


@pytest.mark.parametrize(
    ("split", "message"),
    [("test", "no split 'test': choose from train, val"), ("val", "'val' is empty: it takes more")],
)
def test_a_split_that_is_not_there_is_one_clear_error(split, message):
    """An unknown split is answered with the names there are, an empty one with what it lacks."""
    corpus = Corpus({"train": [Pair("a", "b")], "val": []})

    with pytest.raises(DataError, match=message):
        corpus[split]


# toy: sentences are taken apart by their order of words, phrases compared with a hand's work

ENGLISH_ORDER = re.compile(
    r"(?:(?P<adverb>today|tomorrow|now|often) )?(?P<subject>(?:the|an?) .+?) "
    r"(?P<modal>can|must|will|wants to) (?P<verb>see|find|hear|paint|seek|carry) "
    r"(?P<object>(?:the|an?) .+)\."
)
GERMAN_ORDER = re.compile(  # the finite verb is second, whatever comes first; the infinitive last
    r"(?:(?P<adverb>heute|morgen|jetzt|oft) (?P<modal>kann|muss|wird|will) )?"
    r"(?P<subject>(?:der|die|das|eine?) .+?) (?(modal)|(?P<second>kann|muss|wird|will) )"
    r"(?P<object>(?:den|die|das|einen|eine?) .+) (?P<verb>\w+)\."
)


def taken_apart(order: re.Pattern, sentence: str) -> dict[str, str]:
    found = order.fullmatch(sentence[0].lower() + sentence[1:])
    assert found, f"{sentence!r} is in no order of the grammar"
    return {name: words for name, words in found.groupdict().items() if words}


@pytest.fixture(scope="module")
def phrases() -> dict[str, dict[str, set[str]]]:
    """By role, what each English phrase became in 30,000 sentences."""
    found: dict[str, dict[str, set[str]]] = {}
    for pair in islice(data.toy(seed=3), 30_000):
        english = taken_apart(ENGLISH_ORDER, pair.source)
        german = taken_apart(GERMAN_ORDER, pair.target)
        german["modal"] = german.pop("second", None) or german["modal"]
        assert english.keys() == german.keys()
        for role, words in english.items():
            found.setdefault(role, {}).setdefault(words, set()).add(german[role])
    return found


@pytest.mark.parametrize(
    ("english", "as_subject", "as_object"),
    [
        ("the dog", "der Hund", "den Hund"),
        ("the cat", "die Katze", "die Katze"),
        ("the child", "das Kind", "das Kind"),
        ("a tree", "ein Baum", "einen Baum"),
        ("a queen", "eine Königin", "eine Königin"),
        ("a girl", "ein Mädchen", "ein Mädchen"),
        ("an apple", "ein Apfel", "einen Apfel"),
        ("the old man", "der alte Mann", "den alten Mann"),
        ("the young woman", "die junge Frau", "die junge Frau"),
        ("the big pig", "das große Schwein", "das große Schwein"),
        ("a red bird", "ein roter Vogel", "einen roten Vogel"),
        ("a small flower", "eine kleine Blume", "eine kleine Blume"),
        ("a green book", "ein grünes Buch", "ein grünes Buch"),
        ("an old cow", "eine alte Kuh", "eine alte Kuh"),
        ("an old white dog", "ein alter weißer Hund", "einen alten weißen Hund"),
        ("the big red house", "das große rote Haus", "das große rote Haus"),
    ],
)
def test_toy_agrees_in_case_and_gender(phrases, english, as_subject, as_object):
    """Article and adjectives take the endings that a hand worked out."""
    assert phrases["subject"].get(english) == {as_subject}
    assert phrases["object"].get(english) == {as_object}


def test_toy_translates_each_word_in_one_way(phrases):
    """Adverbs, modal verbs and infinitives have the one translation of the dictionary."""
    assert phrases["adverb"] == {
        "today": {"heute"},
        "tomorrow": {"morgen"},
        "now": {"jetzt"},
        "often": {"oft"},
    }
    assert phrases["modal"] == {
        "can": {"kann"},
        "must": {"muss"},
        "will": {"wird"},
        "wants to": {"will"},
    }
    assert phrases["verb"] == {
        "see": {"sehen"},
        "find": {"finden"},
        "hear": {"hören"},
        "paint": {"malen"},
        "seek": {"suchen"},
        "carry": {"tragen"},
    }
    assert all(len(german) == 1 for role in phrases.values() for german in role.values())


def test_toy_reorders_after_an_adverb():
    """An adverb at the front moves the German verb before its subject."""
    pairs = {pair.source: pair.target for pair in islice(data.toy(), 20_000)}
    with_adverb = [source for source in pairs if source.startswith("Today the man must see ")]

    assert with_adverb
    for source in with_adverb:
        assert pairs[source].startswith("Heute muss der Mann ")
        assert pairs[source].endswith(" sehen.")


def test_toy_is_seeded_and_endless():
    """A seed always gives the same sentences, another seed others, and there is no last one."""
    one, again, other = (list(islice(data.toy(seed), 500)) for seed in (5, 5, 6))

    assert one == again
    assert one != other
    assert len(set(islice(data.toy(), 50_000))) > 49_000


def test_toy_is_english_to_german():
    """Another pair of languages is refused rather than mislabelled."""
    with pytest.raises(DataError, match="toy is English to German, en-de, not en-zh"):
        data.load("toy", "en", "zh")


# Batches

LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(2, 40)), min_size=1, max_size=80)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(LENGTHS, st.integers(1, 200), st.integers(0, 9))
@example([(3, 2)], 1, 0)
def test_batches_hold_every_pair_once_and_fit(lengths, batch_tokens, seed):
    """No pair is lost or doubled, and only a pair too long by itself exceeds the limit."""
    found = data.batches(lengths, batch_tokens, random.Random(seed))

    assert sorted(chain.from_iterable(found)) == list(range(len(lengths)))
    for rows in found:
        widest = max(max(lengths[i]) for i in rows)
        assert len(rows) * widest <= batch_tokens or len(rows) == 1
    assert found == data.batches(lengths, batch_tokens, random.Random(seed))


def test_batches_come_in_another_order_each_epoch():
    """Another seed mixes batches and their pairs anew, and little of a batch is padding."""
    chance = random.Random(0)
    lengths = [
        (length, length + chance.randint(-1, 2)) for length in chance.choices(range(5, 30), k=900)
    ]

    one, other = (data.batches(lengths, 300, random.Random(seed)) for seed in (1, 2))

    padded = sum(len(rows) * max(lengths[i][1] for i in rows) for rows in one)
    assert one != other
    assert {tuple(sorted(rows)) for rows in one} != {tuple(sorted(rows)) for rows in other}
    assert sum(length for _, length in lengths) > 0.9 * padded


def test_a_tsv_row_without_a_source_is_refused(tmp_path):
    """Its target does not slip into the source's place."""
    path = tmp_path / "pairs.tsv"
    path.write_text("Hello\tHallo\tme\n\tWelt\tme\n", encoding="utf-8")

    with pytest.raises(data.DataError, match="line 2: expected source"):
        data.read_tsv(path)
