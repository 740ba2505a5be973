"""Every word of the page, in English and in Simplified Chinese: en.toml and zh-CN.toml.

A text is named by its table and key: "translate.go". `{name}` in it stands for a value. Where a
number decides, the text has the forms of its language: `tokens = {one = …, other = …}`.

The browser chooses the language (`head`), so what the server says travels as a name with values
(`say`) and is put into words there. Gradio's own components are told by `label`.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import gradio as gr

from lab.page import resource

LANGUAGES = ("en", "zh-CN")
FORMS = {"zero", "one", "two", "few", "many", "other"}  # a table of these is one text (CLDR)

Text = str | dict[str, str]  # as it is, or by the forms of a plural


def _flat(table: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Text]]:
    for key, text in table.items():
        if isinstance(text, dict) and not set(text) <= FORMS:
            yield from _flat(text, (*path, key))
        else:
            yield ".".join((*path, key)), text


WORDS: dict[str, dict[str, Text]] = {
    language: dict(_flat(tomllib.loads(resource(f"words/{language}.toml"))))
    for language in LANGUAGES
}


def say(word: str, /, **values: Any) -> dict[str, Any]:
    """A message for the browser, which puts it into words; "text" has it in English.

    A value may itself be a message: `say("refused.empty", language=say("language.en"))`.
    """
    return {"word": word, "values": values, "text": spelled("en", word, **values)}


def spelled(language: str, word: str, /, **values: Any) -> str:
    """The text in a language: for pages that the server writes whole."""
    text = WORDS[language][word]
    if not isinstance(text, str):  # Chinese has one form
        text = text["one" if values["n"] == 1 and "one" in text else "other"]
    in_words = {
        name: spelled(language, value["word"], **value["values"])
        if isinstance(value, dict)
        else value
        for name, value in values.items()
    }
    return text.format(**in_words)


def language(wanted: str) -> str:
    """The page's language for a browser's (its Accept-Language), as words/head.js chooses it."""
    return "zh-CN" if re.match(r"\s*zh\b", wanted, re.IGNORECASE) else "en"


def _key(word: str) -> str:
    return word.replace(".", "_")  # to Gradio a point leads into a nested table


# For `launch(i18n=…)`: all texts that stand alone.
LABELS = gr.I18n(
    **{
        language: {_key(word): text for word, text in texts.items() if isinstance(text, str)}
        for language, texts in WORDS.items()
    }
)


def label(word: str) -> Any:
    """The name of a text for a Gradio component, which the browser replaces by the text."""
    if word not in WORDS["en"]:
        raise KeyError(f"{word!r} is not in en.toml")
    return LABELS(_key(word))


def head() -> str:
    """First in the page's <head>: all words, and the language before Gradio asks for it.

    Gradio knows zh-CN and would show English to zh, zh-Hans or zh-HK; a language chosen on the
    page (`?lang=`, or kept from an earlier visit) comes before the browser's.
    """
    # "<" could end the script; as \u003c it is the same text to JSON
    words = json.dumps(WORDS, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"<script>{resource('words/head.js')}\nlab.words = {words};</script>"
