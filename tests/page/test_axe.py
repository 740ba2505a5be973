"""Everybody can use the page: axe-core on every tab, light and dark, in both languages; and a walk
by keyboard alone."""

import json
import re
from pathlib import Path

import pytest

from lab.page import server
from lab.page.words import WORDS

axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
AXE = (Path(axe.__file__).parent / "axe.min.js").read_text("utf-8")
SERIOUS = ("serious", "critical")
pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("page")]


@pytest.fixture
def visit(open_page, running_page):
    """A visitor by language and light."""

    def come(language="en", theme="light", width=1280):
        page = open_page(
            f"{running_page}/?__theme={theme}", locale=language, color_scheme=theme,
            viewport={"width": width, "height": 1000}, bypass_csp=True,
        )  # fmt: skip
        page.wait_for_selector("#translate [data-state=done]", timeout=60_000)
        return page

    return come


def open_tab(page, tab):
    """Its panel, once each drawing in it has an answer or says what is missing."""
    page.get_by_role("tab").nth(tab).click()
    page.wait_for_function(
        """() => [...document.querySelectorAll("[role=tabpanel]")].some((panel) =>
            panel.offsetParent && panel.querySelectorAll("[data-state]").length &&
            [...panel.querySelectorAll("[data-state]")].every((each) =>
                !each.offsetParent || each.dataset.state !== "asking"))""",
        timeout=60_000,
    )


def faults(page):
    """What axe-core calls serious or critical, each with the first places of it."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert found["passes"], "axe-core looked at nothing"
    return {
        f"{each['id']} ({each['impact']})": [
            f"{' '.join(map(str, node['target']))}: "
            + re.sub(r"\s+", " ", (node["any"] or node["all"] or node["none"])[0]["message"])
            for node in each["nodes"][:3]
        ]
        for each in found["violations"]
        if each["impact"] in SERIOUS
    }


@pytest.mark.parametrize("language", ["en", "zh-CN"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_keeps_anybody_out(visit, theme, language):
    """No serious and no critical fault on any tab."""
    page = visit(language, theme)
    names = page.get_by_role("tab").all_inner_texts()
    assert len(names) >= len(server.TABS)

    found = {}
    for tab, name in enumerate(names):
        open_tab(page, tab)
        if each := faults(page):
            found[name] = each

    assert found == {}, json.dumps(found, indent=1, ensure_ascii=False)


def test_nothing_keeps_anybody_out_on_a_phone(visit):
    """The first screen at 390 pixels, with its tabs behind three points."""
    page = visit(width=390)

    assert faults(page) == {}


def focused(page):
    """What has the keyboard: a name for it, and whether it is seen that it has."""
    return page.evaluate(
        """() => {
            const at = document.activeElement;
            const style = getComputedStyle(at);
            const box = at.getBoundingClientRect();
            return {
                tag: at.tagName, role: at.getAttribute("role"), tab: at.dataset.tabId ?? "",
                panel: at.closest("[role=tabpanel]") !== null,
                seen: at.matches(":focus-visible") && box.width > 0 && (
                    style.outlineStyle !== "none" || style.boxShadow !== "none" ||
                    at.parentElement.matches(":focus-within")),
            };
        }"""
    )


def test_the_keyboard_alone_reaches_every_tab_and_what_is_in_it(visit):
    """Tab walks to each tab, Enter opens it, Tab goes into it and out again; what has the keyboard
    is always seen."""
    page = visit()
    names = page.get_by_role("tab").all_inner_texts()
    reached = {}
    for tab, name in enumerate(names):
        page.evaluate("document.activeElement.blur()")
        for _ in range(300):  # a long tab lies behind the last stop
            page.keyboard.press("Tab")
            if focused(page)["role"] == "tab" and (
                page.evaluate("document.activeElement.textContent.trim()") == name
            ):
                break
        else:
            raise AssertionError(f"{name}: the keyboard does not get there")
        page.keyboard.press("Enter")
        page.wait_for_function(
            "tab => document.querySelectorAll('[role=tab]')[tab].ariaSelected === 'true'", arg=tab
        )
        inside = []
        for _ in range(len(names) + 12):
            page.keyboard.press("Tab")
            at = focused(page)
            if at["panel"]:
                inside.append(at)
        waiting = page.locator(
            "[role=tabpanel] :is(button, input, select, summary):visible"
        ).count()
        reached[name] = len(inside) if waiting else "nothing to reach"
        assert all(each["seen"] for each in inside), (name, inside)

    assert all(reached.values()), reached
    assert names[0] == WORDS["en"]["translate.tab"]
