"""What a browser asks, looked at before the model hears it: any field may hold anything."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lab.model import Checkpoint
from lab.page.words import WORDS, say
from lab.tokens import EOS_ID, PAD_ID
from lab.translation import MAX_LEN

MAX_CHARACTERS = 400
MAX_PIECES = 60  # of the source: a heat map beyond is not readable
SCRIPTS = {"en": "LATIN", "de": "LATIN", "fr": "LATIN", "zh": "CJK"}


class Refused(ValueError):
    """A question that gets no answer: what is wrong and what to do, as `lab.page.words.say`;
    `why` says it to a programmer."""

    def __init__(self, word: str, why: str | None = None, **values: Any):
        self.message = say(word, **values)
        super().__init__(why or self.message["text"])


def sentence(
    checkpoints: Mapping[str, Checkpoint], question: Mapping[str, Any]
) -> tuple[Checkpoint, str]:
    """The model for the question's "pair" and its "text", which this model can read."""
    checkpoint = checkpoints[one_of(question, "pair", list(checkpoints))]
    text, language = question.get("text"), language_name(checkpoint.source)
    if not isinstance(text, str) or not text.strip():
        raise Refused("refused.empty", language=language)
    if len(text) > MAX_CHARACTERS:
        raise Refused("refused.long_text", characters=len(text), limit=MAX_CHARACTERS)
    found = script(text)
    if found is None:
        raise Refused("refused.no_words", language=language)
    if found != SCRIPTS.get(checkpoint.source, found):
        letters = say("script.cjk") if found == "CJK" else say("script.other", name=found.title())
        read = {SCRIPTS.get(each.source, found) for each in checkpoints.values()}
        word = "refused.script" if found in read else "refused.script_unread"
        raise Refused(word, language=language, letters=letters)
    pieces = len(checkpoint.tokenizer.encode(text))
    limit = min(MAX_PIECES, checkpoint.config.max_len)
    if pieces > limit:
        raise Refused("refused.many_tokens", pieces=pieces, limit=limit)
    return checkpoint, text


def one_of(question: Mapping[str, Any], field: str, choices: Sequence[str]) -> str:
    """The field's value, one of these texts."""
    value = question.get(field)
    if not isinstance(value, str) or value not in choices:
        every = ", ".join(choices)
        word = "refused.pair" if field == "pair" else "refused.choice"
        why = f"{field} must be one of: {every}."
        raise Refused(word, why, field=field_name(field), choices=every)
    return value


def whole(question: Mapping[str, Any], field: str, below: int, least: int = 0) -> int:
    """The field's value, a whole number from `least` on and below `below`."""
    value = question.get(field)
    if type(value) is not int or not least <= value < below:
        why = f"{field} must be a whole number from {least} to {below - 1}."
        name = field_name(field)
        raise Refused("refused.number", why, field=name, least=least, most=below - 1)
    return value


def prefix(checkpoint: Checkpoint, ids: Any) -> tuple[int, ...]:
    """Ids the model could have written: </s> only at the end, and room for one more."""
    size, limit = checkpoint.config.vocab_size, min(MAX_LEN, checkpoint.config.max_len) - 1
    ids = ids or []
    if not isinstance(ids, list) or len(ids) > limit:
        raise Refused("translate.prefix")
    if not all(type(i) is int and 0 < i < size and i != PAD_ID for i in ids) or EOS_ID in ids[:-1]:
        raise Refused("translate.prefix")
    return tuple(ids)


def field_name(field: str) -> Any:
    """What the page calls a field, as a message; one that no control shows stays as it is."""
    word = f"refused.field.{field}"
    return say(word) if word in WORDS["en"] else field


def language_name(language: str) -> Any:
    """A language's name as a message; a code nobody translated stays as it is."""
    word = f"language.{language}"
    return say(word) if word in WORDS["en"] else language


def script(text: str) -> str | None:
    """The script most letters belong to, as Unicode names it: script("Привет") == "CYRILLIC"."""
    letters = Counter(
        unicodedata.name(character, "UNKNOWN").split()[0]
        for character in unicodedata.normalize("NFKC", text)
        if character.isalpha()
    )
    return letters.most_common(1)[0][0] if letters else None
