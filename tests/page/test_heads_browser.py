"""The Heads and Compare tabs in a real Chromium: switch, measure, play, compare."""

import re

import pytest

from lab.heads import Head, heads_of, switch_off
from lab.model import Checkpoint, shipped
from lab.page.heads import SENTENCES
from lab.translation import translate

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("page")]  # one server for all


@pytest.fixture
def visit(open_page, running_page):
    """Opens one of the tabs, by its name, and waits for what is drawn in it."""

    def come(tab, drawing, **options):
        page = open_page(running_page, **options)
        page.get_by_role("tab", name=tab, exact=True).click()
        page.wait_for_selector(f"#{drawing} [data-state=done]")
        return page

    return come


@pytest.fixture
def heads(visit):
    return visit("Heads", "heads")


@pytest.fixture
def compare(visit):
    return visit("Compare", "compare")


def switch(page, name):
    return page.get_by_role("switch", name=name, exact=True)


def shows(page, n_off):
    """Wait until the answer on show is that to the switches as they stand."""
    page.wait_for_function(
        """n => document.querySelectorAll("#heads .head[aria-checked=false]").length === n
            && document.querySelector("#heads [data-state]").dataset.state === "done" """,
        arg=n_off,
    )


def expected(off):
    checkpoint = Checkpoint.load(shipped()["en-de"])
    return switch_off(checkpoint, SENTENCES["en-de"][0], off)


def shown(change: float) -> str:
    """With a minus sign, not a hyphen."""
    return f"{change:.2f}".replace("-", "−")


def test_a_head_is_switched_off_and_on_again(heads):
    """The new translation stands beside the old one, the change in words; then all is as before."""
    layer = heads_of(Checkpoint.load(shipped()["en-de"]), "cross", 2)
    found = expected(layer)
    assert "All 36 heads are on" in heads.locator("#heads .sentence").inner_text()

    switch(heads, "cross-attention, all of layer 3").click()
    shows(heads, 4)

    said = heads.locator("#heads .sentence").inner_text()
    assert heads.locator(".translation.before").inner_text() == found.before.translation.text
    assert heads.locator(".translation.after").inner_text() == found.after.translation.text
    assert heads.locator(".translation.after mark").count() > 0
    assert f"a change of {shown(found.change)}" in said and "all of layer 3" in said
    heads.get_by_role("button", name="Switch all on").click()
    shows(heads, 0)
    assert heads.locator(".translation.after mark").count() == 0


def test_what_is_off_stays_off_in_the_other_language(heads):
    """The page is loaded anew for it; the visitor's experiment goes on."""
    switch(heads, "cross-attention, layer 3, head 2").click()
    shows(heads, 1)

    heads.locator(".other").click()
    heads.wait_for_selector("html[lang=zh-CN]")
    shows(heads, 1)

    off = heads.locator("#heads .board [role=switch][aria-checked=false]")
    assert off.get_attribute("data-heads") == "cross 2 1"


def test_quick_hands_get_the_answer_to_their_last_click(heads):
    """Several switches before the first answer: what is shown belongs to all of them."""
    names = [f"cross-attention, layer 3, head {head}" for head in (1, 2, 4)]

    heads.evaluate(
        "all => all.forEach((each) => document.querySelector(`[aria-label='${each}']`).click())",
        names,
    )

    change = expected([Head("cross", 2, head) for head in (0, 1, 3)]).change
    heads.wait_for_function(
        "said => document.querySelector('#heads .sentence').textContent.includes(said)",
        arg=f"a change of {shown(change)}",
    )


def test_keyboard_alone_reaches_every_switch(heads):
    """One stop for Tab, arrows among the switches, the space bar switches."""
    assert heads.locator("[role=switch][tabindex='0']").count() == 1
    heads.locator("[role=switch][tabindex='0']").focus()

    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Space"):
        heads.keyboard.press(key)
    shows(heads, 1)

    off = heads.locator("[role=switch][aria-checked=false]")
    assert off.get_attribute("aria-label") == "cross-attention, layer 2, head 2"
    assert "off" in off.inner_text()  # not by colour alone


def test_the_table_measures_sorts_and_switches(heads):
    """All heads, the one that matters most first, each label with its rule; a row switches."""
    rows = heads.locator("#importance tbody tr")
    heads.wait_for_function(
        "() => document.querySelectorAll('#importance tbody tr').length === 36", timeout=60_000
    )

    numbers = heads.locator("#importance td .number").all_inner_texts()
    losses = [float(text.replace("−", "-")) for text in numbers]
    assert losses == sorted(losses, reverse=True)
    assert "alignment" in rows.first.inner_text() and "≥ 0.80" in rows.first.inner_text()
    heads.get_by_role("button", name="Head", exact=True).click()
    assert rows.first.locator("th").inner_text() == "encoder, layer 1, head 1"
    rows.first.get_by_role("button").click()
    shows(heads, 1)
    assert "encoder, layer 1, head 1" in heads.locator("#heads .sentence").inner_text()


def test_measuring_can_be_stopped_and_goes_on(heads):
    """Stop keeps the rows so far; Go on ends with all of them."""
    rows = heads.locator("#importance tbody tr")
    heads.wait_for_function(
        "() => document.querySelectorAll('#importance tbody tr').length === 36", timeout=60_000
    )
    box = heads.locator("#importance textarea")

    box.fill("\n".join(f"A man is holding {n} red balls on the street." for n in range(2, 20)))
    heads.get_by_role("button", name="Measure").click()
    heads.get_by_role("button", name="Stop").click()
    heads.get_by_role("status").get_by_text("Stopped after").wait_for()
    heads.wait_for_selector("#importance [data-state=done]")
    assert rows.count() < 36
    heads.get_by_role("button", name="Go on").click()
    heads.get_by_text("All 36 heads, on 18 sentences.").wait_for(timeout=60_000)

    assert rows.count() == 36


def test_a_run_is_walked_moment_by_moment(compare):
    """Slider, arrows and table agree; the picture changes with the moment, its rows do not."""
    picture = "() => document.querySelector('#compare .map').toDataURL()"
    tokens = compare.locator("#compare .panel:not([hidden]) .queries .token")
    pieces, last = tokens.all_inner_texts(), compare.evaluate(picture)
    assert "after 8,000 of 8,000 steps" in compare.locator(".when").inner_text()  # no motion asked

    compare.get_by_role("button", name="The moment before").click()
    assert compare.locator(".when").inner_text() == "after 4,000 of 8,000 steps"
    compare.locator("input.at").press("Home")
    assert compare.locator(".moments tr[aria-current=true] button").inner_text() == "0"
    assert "BLEU 0.0" in compare.locator("#compare .facts").first.inner_text()
    assert compare.evaluate(picture) != last
    compare.get_by_role("button", name="8,000", exact=True).click()

    assert tokens.all_inner_texts() == pieces
    assert compare.evaluate(picture) == last
    assert re.search(r"[\d.]+ ms per token on CPU", compare.locator(".facts").first.inner_text())


def test_the_run_plays_unless_less_motion_is_asked(visit):
    """It plays by itself, can be paused, and goes on from there."""
    page = visit("Compare", "compare", reduced_motion="no-preference")
    at = "() => Number(document.querySelector('#compare input.at').value)"
    page.wait_for_function(f"() => ({at})() === 1")

    page.get_by_role("button", name="Pause").click()
    paused = page.evaluate(at)
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(f"paused => ({at})() === paused + 1", arg=paused)

    assert 1 <= paused < 7


def test_two_models_stand_side_by_side(compare):
    """Each with its own translation, tokens and heads; a token of one is chosen by the keyboard."""
    compare.get_by_role("button", name="Two models").click()
    compare.get_by_role("heading", name="A: shipped model (en-de), CPU").wait_for()

    panels = compare.locator("#compare .panel")
    text = compare.locator("#compare .text").input_value()
    written = translate(Checkpoint.load(shipped()["en-de"]), [text])[0].text
    assert panels.first.locator(".translation").inner_text() == written
    assert [panels.nth(i).locator(".cell").count() for i in (0, 1)] == [15, 10]
    panels.nth(1).locator(".token[tabindex='0']").press("End")
    assert panels.nth(1).locator(".token").last.get_attribute("aria-pressed") == "true"
    assert "B: “</s>” looks most" in compare.locator("#compare .sentence").inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_tabs_fit_a_phone_in_chinese(visit, theme):
    """390 px without sideways scrolling, in Chinese, every word of it there."""
    for tab, name in (("比较", "compare"), ("注意力头", "heads")):
        page = visit(tab, name, locale="zh-CN", color_scheme=theme)
        page.set_viewport_size({"width": 390, "height": 844})  # a phone has tabs in a menu
        page.wait_for_selector(f"#{name} [data-state=done]")

        page.wait_for_function("document.documentElement.scrollWidth <= 390")
        assert not re.search(rf"\b{name}\.\w", page.locator(f"#{name}").inner_text())
