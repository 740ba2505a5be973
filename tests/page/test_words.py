"""The page's words: the same in two languages, each of them used, and the right ones chosen."""

import re
from pathlib import Path
from string import Formatter

import pytest

from lab.page import server
from lab.page.words import WORDS, head, language, say, spelled

ROOT = Path(__file__).parents[2]
SOURCES = {
    path: path.read_text("utf-8")
    for folder in ("lab/page", "autograder")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".js", ".html")
}
NAME = r"[a-z_]+(?:\.[a-z_]+)+"
EN, ZH = WORDS["en"], WORDS["zh-CN"]
# What is the same to a Chinese reader: the other language's own name, symbols, code.
NOT_CHINESE = {"page.language"}
HAN = re.compile("[\u4e00-\u9fff]")
BROWSERS = {
    "zh": "zh-CN", "zh-CN": "zh-CN", "zh-HK": "zh-CN", "zh-Hans-CN": "zh-CN",
    "en": "en", "en-GB": "en", "de": "en",
}  # fmt: skip


def forms(text):
    """A text's forms: one, or those of its plural."""
    return text if isinstance(text, dict) else {"": text}


def every_text(language):
    return [(f"{w} {f}", t) for w, each in WORDS[language].items() for f, t in forms(each).items()]


def values_of(text):
    return {field for _, field, _, _ in Formatter().parse(text) if field is not None}


def test_both_languages_have_the_same_words():
    """What is said in one is said in the other."""
    assert set(EN) == set(ZH)


def test_the_same_values_stand_in_both():
    """No number or name is lost in translation, and each has a name."""
    for word in EN:
        found = {frozenset(values_of(t)) for each in (EN, ZH) for t in forms(each[word]).values()}
        whole = max(found, key=len)
        # "one" may leave out its number: Receipt, Receipts (3)
        assert all(each | {"n"} == whole | {"n"} for each in found), word
        assert "" not in whole, word


def test_plurals_have_the_forms_of_their_language():
    """English tells one from other; Chinese does not."""
    for word in EN:
        assert isinstance(EN[word], dict) == isinstance(ZH[word], dict), word
        if isinstance(EN[word], dict):
            assert (set(EN[word]), set(ZH[word])) == ({"one", "other"}, {"other"}), word
            assert "n" in values_of(EN[word]["other"]), f"{word}: which number decides?"


@pytest.mark.parametrize("language", WORDS)
def test_texts_are_texts(language):
    """No markup but the names of two tokens, no character reference, nothing empty."""
    for name, text in every_text(language):
        assert text.strip(), name
        assert not re.search(r"<(?!/?s>)[a-zA-Z/!]|&#?\w+;", text), f"{name}: {text}"


def test_chinese_is_chinese():
    """In simplified characters (all are in GB 2312), and no half-width point after any of them."""
    for name, text in every_text("zh-CN"):
        said, word = re.sub(r"\{\w+\}", "", text), name.split()[0]
        assert HAN.search(said) or not has_words(EN[word]) or word in NOT_CHINESE, f"{name}: {text}"
        "".join(HAN.findall(said)).encode("gb2312")
        assert not re.search("[\u4e00-\u9fff][,.!?;:](?!\\w)", said), f"{name}: {text}"


def has_words(text):
    """More than symbols, code and values."""
    return any(re.search("[A-Za-z]{3}", re.sub(r"\{\w+\}", "", t)) for t in forms(text).values())


def test_english_holds_no_chinese():
    """But for the other language's own name."""
    assert [name for name, text in every_text("en") if HAN.search(text)] == ["page.language "]


def spoken():
    """Every word that a source names outright, and where."""
    asks = re.compile(
        rf'(?:\b(?:say|label|message|Refused|labelled)\(\s*|data-(?:word|label)=)["\']({NAME})["\']'
    )
    return {word: path.name for path, text in SOURCES.items() for word in asks.findall(text)}


def test_every_word_that_is_used_is_there():
    """No template, script or module asks for a word that nobody wrote."""
    missing = {word: place for word, place in spoken().items() if word not in EN}

    assert len(spoken()) > 50
    assert missing == {}


def test_every_word_that_is_there_is_used():
    """By its name, or by the beginning of one that is put together: `language.${code}`."""
    quoted = re.compile(rf"""["'`]({NAME})["'`]""")
    named = {word for text in SOURCES.values() for word in quoted.findall(text)}
    begun = {
        start
        for text in SOURCES.values()
        for start in re.findall(r'[`"]([a-z_]+(?:\.[a-z_]+)*\.)\$?\{', text)
    }

    named |= {f"{tab}.tab" for tab in server.TABS}

    unused = [w for w in EN if w not in named and not any(w.startswith(start) for start in begun)]

    assert "language." in begun
    assert unused == []


def test_a_message_may_hold_another():
    """The server says it in English, and in any language where it writes a page whole."""
    message = say("refused.empty", language=say("language.de"))

    assert message["text"] == "There is nothing to translate yet: type a sentence in German."
    said = spelled("zh-CN", "refused.empty", **message["values"])
    assert "德语" in said and "German" not in said


@pytest.mark.parametrize(("wanted", "found"), BROWSERS.items())
def test_the_server_chooses_as_the_browser_does(wanted, found):
    """For what it writes whole; nonsense gets English."""
    assert language(wanted) == found
    assert language(f" {wanted.lower()};q=0.9, fr") == found
    assert language("zhx") == language("") == language("<script>") == "en"


def test_no_text_ends_the_script_it_stands_in():
    """Whatever a translator writes, the page's head holds one script."""
    assert head().count("<") == 2


# In a browser


@pytest.fixture
def visit(open_page, running_page):
    """A visitor whose browser speaks a language; a script may run before the page's."""

    def come(locale, address="/", before=""):
        page = open_page(running_page + address, before, locale=locale)
        page.wait_for_selector("[data-state=done]")
        return page

    return come


def spoken_by(page):
    """The language of the title, the tabs and <html>: they must agree."""
    title = page.locator("h1").inner_text()
    tab = page.get_by_role("tab").first.inner_text()
    told = page.locator("html").get_attribute("lang")
    (found,) = [each for each in WORDS if WORDS[each]["page.title"] == title]
    assert (tab, told) == (WORDS[found]["translate.tab"], found)
    return found


in_a_browser = [pytest.mark.browser, pytest.mark.xdist_group("page")]


@pytest.mark.parametrize(
    ("locale", "found"),
    [pytest.param(*each, marks=in_a_browser) for each in BROWSERS.items() if each[0] != "en-GB"],
)
def test_the_browser_s_language_is_the_page_s(visit, locale, found):
    """Every Chinese gets Chinese, everybody else English."""
    assert spoken_by(visit(locale)) == found


@pytest.mark.browser
@pytest.mark.xdist_group("page")
def test_the_switch_keeps_what_was_chosen(visit):
    """One click turns the language over, for the next visit too; what else stands in the address
    stays, and an address that names a language comes first."""
    page = visit("en", "/?s=A+dog.&view=masks#here")
    other = page.get_by_role("button", name="中文")
    assert other.get_attribute("lang") == "zh-CN"
    other.click()
    page.wait_for_selector("html[lang=zh-CN] [data-state=done]")

    assert spoken_by(page) == "zh-CN"
    assert {"s=A+dog.", "view=masks", "lang=zh-CN"} <= set(
        re.split("[?&#]", page.url)
    ) and page.url.endswith("#here")
    root = page.url.split("?")[0]
    for address, found in ((root, "zh-CN"), (f"{root}?lang=en", "en"), (root, "zh-CN")):
        page.goto(address)
        page.wait_for_selector("[data-state=done]")
        assert spoken_by(page) == found


@pytest.mark.browser
@pytest.mark.xdist_group("page")
@pytest.mark.parametrize(
    "broken",
    [
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no') }});",
        "Storage.prototype.setItem = () => { throw new DOMException('full') };",
    ],
)
def test_a_browser_that_keeps_nothing_can_switch(visit, broken):
    """Storage may be off or full: the address carries the language."""
    page = visit("en", before=broken)
    page.get_by_role("button", name="中文").click()
    page.wait_for_selector("html[lang=zh-CN] [data-state=done]")

    assert spoken_by(page) == "zh-CN"
    page.reload()
    page.wait_for_selector("[data-state=done]")
    assert spoken_by(page) == "zh-CN"
