"""The first screen in a real Chromium: type, click, read. Left out, and said so, without one."""

import csv
import io
import re
import struct
from contextlib import contextmanager

import pytest
import torch

from lab.model import Checkpoint, shipped
from lab.translation import translate

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("page")]  # one server for all


@pytest.fixture
def page(open_page, running_page):
    """A fresh visitor before the finished example."""
    page = open_page(running_page)
    page.wait_for_selector("#translate [data-state=done]")
    return page


def example():
    """What the first screen must show."""
    checkpoint = Checkpoint.load(shipped()["en-de"])
    return translate(checkpoint, [checkpoint.examples[0]], explain=True)[0]


@contextmanager
def next_answer(page):
    """Wait until what is done in the block has brought a new answer to the view."""
    before = page.locator("#translate [data-answers]").get_attribute("data-answers")
    yield
    page.wait_for_selector(f"#translate [data-answers]:not([data-answers='{before}'])")


def submit(page, text):
    """Type a sentence and press the button."""
    with next_answer(page):
        page.locator("#translate input.text").fill(text)
        page.locator("#translate .go").click()


def test_a_finished_example_is_there_at_once(page):
    """The first screen shows a translated sentence, its tokens and a sentence about them."""
    expected = example()

    assert page.locator("#translate .translation").inner_text() == expected.text
    assert page.locator("#translate .queries .token").count() == len(expected.target_pieces)
    assert page.locator("#translate .keys .token").count() == len(expected.source_pieces)
    assert "looked at" in page.locator("#translate .sentence").inner_text()
    assert page.locator("h1").inner_text() == "See a Transformer translate"


def test_typing_a_sentence_translates_it(page):
    """What the page shows is what the model says, with device and time per token."""
    text = "A woman is reading a book on the train."

    submit(page, text)

    expected = translate(Checkpoint.load(shipped()["en-de"]), [text])[0].text
    assert page.locator("#translate .translation").inner_text() == expected
    assert re.search(r"on CPU, [\d.]+ ms per token", page.locator("#translate .about").inner_text())


def test_enter_translates_too(page):
    """No mouse is needed to ask, and asking the same again is answered again."""
    box = page.locator("#translate input.text")
    box.fill("A dog is running.")
    for _ in range(2):
        with next_answer(page):
            box.press("Enter")

    expected = translate(Checkpoint.load(shipped()["en-de"]), ["A dog is running."])[0].text
    assert page.locator("#translate .translation").inner_text() == expected
    assert page.locator("#translate [data-answers]").get_attribute("data-state") == "done"


def test_chinese_is_one_choice_away(page):
    """English to Chinese shows Chinese, marked as such for fonts and screen readers."""
    with next_answer(page):
        page.get_by_role("button", name="Where is the nearest hospital?").click()

    assert re.search("[\u4e00-\u9fff]", page.locator("#translate .translation").inner_text())
    assert page.locator("#translate .queries").get_attribute("lang") == "zh-CN"
    assert page.locator("#translate input.text").input_value() == "Where is the nearest hospital?"
    assert page.locator("#translate select.pair").input_value() == "en-zh"


def test_choosing_a_token_shows_what_it_looked_at(page):
    """The chosen token, the shares, the sentence, the step and the slider agree."""
    tokens = page.locator("#translate .queries .token")

    tokens.nth(2).click()

    said = page.locator("#translate .sentence").inner_text()
    assert tokens.nth(2).get_attribute("aria-pressed") == "true"
    assert said.startswith(f"“{tokens.nth(2).inner_text()}” looked at")
    assert page.locator("#translate .step").inner_text().startswith("on show: token 3 of")
    assert page.locator("#translate .slider").input_value() == "3"
    shares = page.locator("#translate .keys small").all_inner_texts()
    numbers = [int(text.split()[-2]) for text in shares if not text.startswith("<")]
    assert abs(sum(numbers) - 100) <= len(shares) / 2  # each is rounded


def test_keyboard_alone_walks_the_tokens(page):
    """Tab reaches the tokens once; arrows, Home and End walk among them."""
    tokens = page.locator("#translate .queries .token")
    tokens.first.focus()

    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert tokens.nth(2).evaluate("token => token === document.activeElement")
    page.keyboard.press("End")
    assert tokens.last.evaluate("token => token === document.activeElement")
    assert page.locator("#translate .queries .token[tabindex='0']").count() == 1


@pytest.mark.parametrize(
    ("kind", "asks", "answers", "axes"),
    [
        ("cross", "target", "source", "generated (query) ↓, source (key) →"),
        ("decoder", "target", "<s>target", "generated (query) ↓, generated (key) →"),
        ("encoder", "source", "source", "source (query) ↓, source (key) →"),
    ],
)
def test_each_kind_shows_its_own_tokens(page, kind, asks, answers, axes):
    """Who asks and who answers follows from the kind of attention, and the axes say it."""
    found = example()
    target = [piece.strip() or "␣" for piece in found.target_pieces]
    source = [piece.strip() or "␣" for piece in found.source_pieces]
    rows = {"source": source, "target": target, "<s>target": ["<s>", *target[:-1]]}

    page.locator("#translate select.kind").select_option(kind)
    page.locator("#translate .numbers summary").click()
    page.wait_for_selector("#translate .numbers td")

    assert page.locator("#translate .queries .token").all_inner_texts() == rows[asks]
    assert page.locator("#translate .keys .token span").all_inner_texts() == rows[answers]
    assert axes in page.locator("#translate .numbers caption").inner_text()


def test_a_picture_of_the_grid_becomes_the_large_one(page):
    """Layer and head follow the click, and the table shows the weights of that head."""
    page.get_by_role("button", name="L2 H3").click()
    page.locator("#translate .numbers summary").click()
    page.wait_for_selector("#translate .numbers td")

    assert page.locator("#translate select.layer").input_value() == "1"
    assert page.locator("#translate select.head").input_value() == "2"
    assert "layer 2, head 3" in page.locator("#translate figcaption").inner_text()
    weights = example().attention["cross"][1, 2]
    cells = page.locator("#translate .numbers tr:nth-of-type(2) td").all_inner_texts()
    expected = [100 * weight for weight in weights[0].tolist()]
    assert [int(cell.split()[0]) for cell in cells] == pytest.approx(expected, abs=0.51)


def test_pixels_of_the_heat_map_follow_the_weights(page):
    """The brightest thumbnail pixel of a row is its largest weight, to the colours' precision."""
    weights = example().attention["cross"][-1].mean(0)

    brightest = page.locator("#translate .cell[aria-pressed=true] canvas").evaluate(
        """canvas => Array.from({length: canvas.height}, (_, t) => {
            const row = canvas.getContext('2d').getImageData(0, t, canvas.width, 1).data;
            const reds = Array.from({length: canvas.width}, (_, s) => row[4 * s] + row[4 * s + 1]);
            return reds.indexOf(Math.max(...reds));
        })"""
    )

    shown = weights[range(len(brightest)), brightest]
    torch.testing.assert_close(shown, weights.amax(-1), atol=0.02, rtol=0)


def test_numbers_are_saved_as_csv(page):
    """Every weight of the kind on show, in a file a spreadsheet opens."""
    with page.expect_download() as download:
        page.locator("#translate button.csv").click()
    text = download.value.path().read_text("utf-8-sig")

    rows = list(csv.DictReader(io.StringIO(text)))
    weights = example().attention["cross"]
    assert len(rows) == weights.numel()
    saved = [float(row["weight"]) for row in rows]
    assert saved == pytest.approx(weights.flatten().tolist(), abs=3e-5)


def test_the_picture_is_saved_as_png(page):
    """A picture large enough for a report."""
    with page.expect_download() as download:
        page.locator("#translate button.png").click()
    data = download.value.path().read_bytes()

    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert width > 900 and height > 900
    assert download.value.suggested_filename == "attention-cross-layer3-mean.png"


def test_markup_is_text(page):
    """A hostile sentence is shown letter by letter and runs nothing."""
    page.evaluate("window.hacked = false")

    submit(page, "<img src=x onerror=hacked=true><b>dog</b>")
    page.locator("#translate select.kind").select_option("encoder")

    assert page.evaluate("window.hacked") is False
    assert page.locator("#translate img, #translate b").count() == 0
    assert "<" in page.locator("#translate .queries").inner_text()


@pytest.mark.parametrize(("text", "said"), [
    ("   ", "nothing to translate"),
    ("两个男人在街上走", "Chinese characters"),
    ("xq " * 130, "at most 60"),
])  # fmt: skip
def test_unusable_input_is_answered_in_words(page, text, said):
    """A message stands above the last translation, whose examples stay at hand, also twice; and the
    next sentence works again."""
    before = page.locator("#translate .translation").inner_text()
    for _ in range(2):
        submit(page, text)
        assert said in page.locator("#translate .message").inner_text()
        assert page.locator("#translate .translation").inner_text() == before
        assert page.locator("#translate .example").first.is_visible()

    submit(page, "A man is walking.")
    assert page.locator("#translate .message").is_hidden()


def test_the_translation_is_replayed_token_by_token(open_page, running_page):
    """Who has not asked for less motion sees the tokens come one after another, and can pause."""
    page = open_page(running_page, reduced_motion="no-preference")
    page.wait_for_selector("#translate [data-state=done]")
    play = page.locator("#translate button.play")

    play.click()  # whichever it did: now it is the other
    if play.inner_text() != "Pause":
        play.click()
    written = "() => document.querySelectorAll('.queries .token:not(:disabled)').length"
    first = page.evaluate(written)
    page.wait_for_function(f"first => ({written})() > first + 1", arg=first)
    play.click()

    paused = page.evaluate(written)
    assert first < paused < page.locator("#translate .queries .token").count()
    assert play.inner_text() == "Go on"
    assert page.locator("#translate .translation").inner_text().endswith("…")
    play.click()
    page.wait_for_function(f"paused => ({written})() > paused", arg=paused)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_spills_over(open_page, running_page, width, theme):
    """No sideways scrolling on a phone or a desk; a phone shows sentence, button and translation
    first; text stands out from its ground."""
    page = open_page(
        f"{running_page}/?__theme={theme}",
        viewport={"width": width, "height": 844}, color_scheme=theme,
    )  # fmt: skip
    page.wait_for_selector("#translate [data-state=done]")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tops = [
        page.locator(f"#translate {each}").bounding_box()["y"]
        for each in ("input.text", ".go", ".translation")
    ]
    assert tops == sorted(tops) and tops[-1] < 600
    if width > 1000:  # a phone scrolls the map inside its box
        assert page.locator("#translate figure .scroll").evaluate(
            "box => box.scrollWidth <= box.clientWidth"
        )
    for selector in (".translation", ".about", ".sentence", ".queries .token", ".keys small",
                     ".candidates small", ".cell small", "figcaption", ".go"):  # fmt: skip
        assert contrast(page, f"#translate {selector}") >= 4.5, selector


def contrast(page, selector):
    """WCAG 2 contrast of an element's text against the first painted ground behind it."""
    ink, ground = page.locator(selector).first.evaluate(
        """element => {
            let ground = element;
            const paint = () => getComputedStyle(ground).backgroundColor;
            while (paint().match(/, 0\\)$/)) ground = ground.parentElement;
            return [getComputedStyle(element).color, paint()];
        }"""
    )

    def luminance(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(ink), luminance(ground)])
    return (high + 0.05) / (low + 0.05)
