"""The Training tab in a real Chromium: a reference typed, smoothing moved, a model trained."""

import re

import pytest

from lab.learning import taught
from lab.lesson import SENTENCES
from lab.model import Checkpoint, shipped
from lab.page.training import REFERENCES, WARM_UPS
from lab.stock import noam_learning_rate

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("page")]

TEXT, REFERENCE = next(iter(REFERENCES["en-de"].items()))


@pytest.fixture
def page(open_page, running_page):
    """A visitor at the tab."""
    page = open_page(f"{running_page}/?tab=training", locale="en")
    page.wait_for_selector("#teacher [data-state=done]", timeout=60_000)
    return page


def words(page, selector):
    return page.locator(selector).inner_text()


def number(pattern, text):
    return float(re.search(pattern, text)[1].replace(",", ""))


def test_a_reference_is_taught(page):
    """Place by place what lab.learning says; another reference is asked for by Enter, and the loss
    follows ε to the end, where it is the mean over all tokens."""
    places = taught(Checkpoint.load(shipped()["en-de"]), TEXT, REFERENCE)
    assert page.locator("#teacher .reference-text").input_value() == REFERENCE
    rows = page.locator("#teacher .places tr").all()[1:]
    assert [row.locator("th").inner_text() for row in rows] == [
        each.piece.strip() for each in places
    ]
    said = words(page, "#teacher .sentence")
    mean = sum(0.9 * each.surprise + 0.1 * each.of_all for each in places) / len(places)
    assert number(r"a loss of ([\d.]+)", said) == pytest.approx(mean, abs=0.01)
    assert "90 %" in said

    page.locator("#teacher .smoothing").press("End")
    said = words(page, "#teacher .sentence")
    mean = sum(each.of_all for each in places) / len(places)
    assert number(r"a loss of ([\d.]+)", said) == pytest.approx(mean, abs=0.01)
    assert "says nothing of the right token" in said

    field = page.locator("#teacher .reference-text")
    field.fill("")
    field.press("Enter")  # an empty one is the model's own
    page.locator("#teacher .verdict", has_text="The reference is what the model writes").wait_for()
    assert SENTENCES[0] == TEXT and field.input_value().startswith("Ein Mann")


def test_a_small_model_learns_and_breaks(page):
    """By the keyboard: its rate is the lesson's formula, and a warm-up of one step wrecks it."""
    page.get_by_role("tab", name="Warm-up: a small model learns").click()
    page.wait_for_selector("#learner [data-state=done]", timeout=60_000)
    caption = words(page, "#learner .rate")
    assert number(r"peak, ([\d.]+),", caption) == pytest.approx(noam_learning_rate(100, 16, 100))
    assert number(r"from ([\d.]+) at", caption) == pytest.approx(noam_learning_rate(1, 16, 100))
    learnt = words(page, "#learner .sentence")
    assert number(r"it says (\d+) %", learnt) > 90
    assert page.locator("#learner .warning").is_hidden()

    page.locator("#learner .warmup").press("Home")
    page.wait_for_selector("#learner .warning:visible", timeout=60_000)

    assert WARM_UPS[0] == 1 and words(page, "#learner .rate").startswith(
        "Learning rate: the peak, 0.25"
    )
    assert number(r"it says (\d+) %", words(page, "#learner .sentence")) < 30
    page.get_by_role("switch", name="Forget to shift the target").check()
    page.locator("#learner .warning", has_text="The decoder reads the very digit").wait_for()


def test_the_tab_speaks_chinese_on_a_phone(open_page, running_page):
    """No English word is left in the static text, and nothing spills over."""
    page = open_page(
        f"{running_page}/?tab=training", viewport={"width": 390, "height": 844}, locale="zh-CN"
    )
    for view, name in (("teacher", "教师强制、标签平滑"), ("learner", "预热：看一个小模型学习")):
        page.get_by_role("tab", name=name).click()
        page.wait_for_selector(f"#{view} [data-state=done]", timeout=60_000)
        for text in page.locator(f"#{view} :is(h2, figcaption, label, p.small)").all_inner_texts():
            assert re.search("[\u4e00-\u9fff]", text) or len(text.strip()) < 2, text
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
