"""Your code and Progress in a real Chromium: a learner mends a part, and the page follows."""

import os
import sys

import a_folder_of_work as a
import pytest
from a_server import free_ports, served

from lab.course import PARTS, unit_named

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("page")]

ATTENTION = "scaled_dot_product_attention"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    wrong = a.wrong(ATTENTION)
    return a.a_folder(tmp_path_factory.mktemp("learner") / "exercises", **{ATTENTION: wrong})


@pytest.fixture(scope="module")
def address(folder, tmp_path_factory):
    """The page for this folder, started as a learner starts it."""
    (port,) = free_ports()
    address = f"http://127.0.0.1:{port}"
    kept = tmp_path_factory.mktemp("kept")
    said = kept / "said.txt"
    command = [sys.executable, "app.py", "--port", str(port), "--device", "cpu", "--work", folder]
    environment = os.environ | {"LAB_PROGRESS": str(kept)}
    with served(command, address, said, cwd=a.ROOT, env=environment):
        yield address
    assert "Traceback" not in said.read_text()


@pytest.fixture
def visit(open_page):
    """Opens a tab."""

    def come(address, tab, width=1280, theme="light", locale="en"):
        size = {"width": width, "height": 1000}
        page = open_page(
            f"{address}/?__theme={theme}", viewport=size, color_scheme=theme, locale=locale
        )
        page.wait_for_selector("[data-state=done]")
        found = page.get_by_role("tab", name=tab)
        if not found.count():  # on a phone the last tabs are behind three points
            page.get_by_role("button", name="More tabs").click()
            found = page.locator(".overflow-dropdown button", has_text=tab)
        found.click()
        return page

    return come


def shown(page):
    """Wait for the comparison."""
    page.wait_for_selector("#your-code [data-state=done], #your-code[data-state=done]")
    return page.locator(".your-code")


def test_the_mistake_is_named_and_goes_when_it_is_mended(visit, address, folder):
    """Part, tensor, heat map, name and lesson of the mistake; after a save all of them are gone."""
    page = visit(address, "Your code")
    tab = shown(page)

    assert tab.locator(".which").inner_text() == f"First to differ: {ATTENTION}"
    assert "scores of softmax inside it" in tab.locator(".tensor").inner_text()
    assert "01-attention/attention.ipynb" in tab.locator(".lesson").inner_text()
    assert tab.locator(".difference canvas").evaluate("canvas => canvas.width") > 100
    cell = tab.locator(".cell").inner_text()
    tab.locator(".difference summary").click()
    tab.locator(".difference table td").first.wait_for()
    largest = tab.locator(".difference table td").evaluate_all(
        "cells => Math.max(...cells.map(cell => Number(cell.textContent)).filter(Number.isFinite))"
    )
    yours, stock = (float(part.split()[-1]) for part in cell.split(", PyTorch's"))
    assert abs(yours - stock) == pytest.approx(largest, rel=0.01)
    page.wait_for_selector(".mistake[data-state=done]", timeout=120_000)
    assert tab.locator(".named").inner_text() == "Not divided by √d_k"
    stocks, yours = tab.locator(".translation + .small").all_inner_texts()
    assert stocks != yours

    a.write(folder, unit_named("01"))
    page.wait_for_selector(".your-code .first[hidden]", state="attached")

    assert "20 parts of yours do here what PyTorch's do" in tab.locator(".sentence").inner_text()
    assert "attention.ipynb: saved" in tab.locator(".watching").inner_text()
    stocks, yours = tab.locator(".translation + .small").all_inner_texts()
    assert stocks == yours


def test_a_switch_takes_a_part_out(visit, address):
    """The keyboard alone switches, and stays where it was."""
    page = visit(address, "Your code")
    tab = shown(page)
    switch = tab.get_by_role("switch", name="FeedForward is yours")
    before = page.locator("#your-code [data-answers], #your-code[data-answers]").first
    count = before.get_attribute("data-answers")

    switch.focus()
    page.keyboard.press("Space")
    page.wait_for_function(
        "n => [...document.querySelectorAll('[data-answers]')]"
        ".some(each => each.querySelector('.your-code') && each.dataset.answers !== n)",
        arg=count,
    )

    assert "19 of the 20" in tab.locator(".sum").inner_text()
    assert not switch.is_checked()
    assert switch.evaluate("box => box === document.activeElement")


def test_checks_run_from_the_page(visit, address, folder):
    """Points and attempts come while the bar moves; the next step is the part that failed."""
    a.write(folder, unit_named("02"), causal_mask=a.wrong("causal_mask"))
    page = visit(address, "Progress")
    page.wait_for_selector(".progress tbody")

    page.get_by_role("button", name="Check all of Masks say who may look at whom").click()
    page.wait_for_selector(".progress .cancel:not([hidden])")
    page.wait_for_selector(".progress .cancel[hidden]", state="attached", timeout=120_000)
    row = page.locator(".progress tr", has_text="causal_mask").first
    page.wait_for_function(
        "row => row.querySelector('.chip.partial, .chip.failed')", arg=row.element_handle()
    )

    assert "Triangle flipped" in row.inner_text()
    assert row.locator(".attempts").inner_text() == "1"
    passed = page.locator(".progress tr", has_text="padding_mask").first
    assert passed.locator(".chip").inner_text() == "passed"
    assert "4 of 4" in passed.inner_text()


def test_without_a_folder_it_says_how_to_start(visit, running_page):
    """Both tabs are one friendly sentence with the command in it."""
    page = visit(running_page, "Your code")
    for tab, name in (("your-code", "Your code"), ("progress", "Progress")):
        page.get_by_role("tab", name=name).click()
        said = page.locator(f".lab.{tab} .message")
        said.wait_for()
        assert "lab app --work exercises" in said.inner_text()
        assert page.locator(f".lab.{tab} .result").is_hidden()


@pytest.mark.parametrize(("theme", "locale"), [("light", "en"), ("dark", "zh-CN")])
def test_nothing_spills_over_on_a_phone(visit, address, theme, locale):
    """No sideways scrolling at 390 pixels, in either tab, and every part is there to switch."""
    names = {"en": ("Your code", "Progress"), "zh-CN": ("你的代码", "进度")}[locale]
    page = visit(address, names[0], 390, theme, locale)
    tab = shown(page)

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.get_by_role("switch").count() == len(PARTS)
    page = visit(address, names[1], 390, theme, locale)
    page.wait_for_selector(".lab.progress tbody")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
