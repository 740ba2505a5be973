"""Masks and positions in a real Chromium: paint by pointer and by keys, break, shuffle."""

import re
from contextlib import contextmanager

import pytest

from lab.experiments import positions
from lab.model import Checkpoint, shipped
from lab.page.masks import LENGTH

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("page")]  # one server for all

VIEWS = {"masks": "Paint a mask", "faults": "Break a part", "positions": "Positions",
         "shuffle": "Shuffle the words"}  # fmt: skip


@pytest.fixture
def page(open_page, running_page):
    """A visitor at the tab."""
    page = open_page(running_page, locale="en")
    page.get_by_role("tab", name="Masks & positions").click()
    page.wait_for_selector("#masks [data-state=done]")
    return page


def see(page, view):
    """Open one of the tab's views, which asks for its picture by itself."""
    page.get_by_role("tab", name=VIEWS[view], exact=True).click()
    page.wait_for_selector(f"#{view} [data-state=done]")
    return page.locator(f"#{view}")


@contextmanager
def next_answer(page, view):
    """Wait until what is done in the block has brought a new answer to the view."""
    drawn = page.locator(f"#{view} [data-answers]")
    before = drawn.get_attribute("data-answers")
    yield
    page.wait_for_selector(f"#{view} [data-answers]:not([data-answers='{before}'])")


def closed(page):
    """Rows of the painted mask, True where a cell is closed."""
    return page.locator("#masks .cells").evaluate(
        """grid => [...grid.children].slice(1).map((row) => [...row.querySelectorAll(".cell")]
            .map((cell) => cell.getAttribute("aria-selected") === "false"))"""
    )


def causal(size):
    return [[column > row for column in range(size)] for row in range(size)]


def cell(page, row, column):
    return page.locator(f"#masks .cell[data-row='{row}'][data-column='{column}']")


def words(page, selector):
    return page.locator(selector).inner_text()


def test_a_stroke_paints_the_cells_on_its_way(page):
    """From cell to cell, however quick; the model's words follow, and stay where it began."""
    size = len(closed(page))
    assert closed(page) == causal(size)
    start, end = (cell(page, row, 0).bounding_box() for row in (3, 7))

    page.mouse.move(start["x"] + 9, start["y"] + 9)
    with next_answer(page, "masks"):
        page.mouse.down()
        page.mouse.move(end["x"] + 9, end["y"] + 9)  # in one leap
        page.mouse.up()

    expected = causal(size)
    for row in range(3, 8):
        expected[row][0] = True
    assert closed(page) == expected
    assert "Log-probability of the translation: −" in words(page, "#masks .verdict")
    assert re.search(r"Weight: [\d ]+ % before, 0 % after", words(page, "#masks .sentence"))
    assert "→" in words(page, "#masks .steps")


def test_keys_paint_and_each_cell_says_its_state(page):
    """Arrows walk, space closes and opens, Shift paints on; name and state are announced."""
    cell(page, 5, 1).click()  # closes it
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    here = cell(page, 6, 2)
    assert here.evaluate("cell => cell === document.activeElement")
    assert re.match(r"“\S+” may look at “\S+”\.", here.get_attribute("aria-label"))

    with next_answer(page, "masks"):
        page.keyboard.press(" ")
    assert here.get_attribute("aria-selected") == "false"
    assert "may not look at" in here.get_attribute("aria-label")
    assert words(page, "#masks .sentence").startswith(here.get_attribute("aria-label"))
    with next_answer(page, "masks"):
        page.keyboard.press("Shift+ArrowRight")

    assert [closed(page)[6][column] for column in range(5)] == [False, False, True, True, False]
    assert page.locator("#masks .cell[tabindex='0']").count() == 1
    assert page.locator("#masks .cells").get_attribute("role") == "grid"


def test_presets_fill_the_mask(page):
    """Open, causal, upside down, padding, a column, a row, and back to the model's own."""
    size = len(closed(page))

    def press(name):
        with next_answer(page, "masks"):
            page.locator(f"#masks .preset.{name}").click()
        return closed(page)

    assert not any(map(any, press("open")))
    assert press("causal") == causal(size)
    assert press("upside_down") == [[not hidden for hidden in row] for row in causal(size)]
    press("open")
    assert press("padding") == [[s >= size - 2 for s in range(size)] for _ in range(size)]
    press("open")
    cell(page, 2, 1).focus()
    page.keyboard.press("ArrowRight")
    assert press("column") == [[s == 2 for s in range(size)] for _ in range(size)]
    press("open")
    assert page.locator("#masks .lost").is_hidden()
    assert press("row") == [[t == 2 for _ in range(size)] for t in range(size)]
    assert "a softmax over nothing" in words(page, "#masks .lost")
    assert press("own") == causal(size)
    assert words(page, "#masks .verdict").startswith("This is the model's own mask")


def test_the_last_stroke_wins(page):
    """Who paints on while an answer is on its way sees the answer for all that was painted."""
    page.locator("#masks .preset.open").click()
    page.locator("#masks .preset.upside_down").click()
    page.locator("#masks .preset.own").click()

    page.wait_for_function(
        "() => document.querySelector('#masks .verdict').textContent.startsWith('This is the')"
        " && document.querySelector('#masks [data-state]').dataset.state === 'done'"
    )
    assert closed(page) == causal(len(closed(page)))


def test_another_attention_brings_its_own_mask(page):
    """Cross-attention: the source's tokens are the columns, all open; the table has them too."""
    with next_answer(page, "masks"):
        page.locator("#masks select.kind").select_option("cross")

    assert not any(map(any, closed(page)))
    assert words(page, "#masks .axes") == "generated (query) ↓, source (key) →"
    assert page.locator("#masks .shift").is_hidden()  # only there a row's token is read one later
    keys = page.locator("#masks [role=columnheader]").all_inner_texts()
    page.locator("#masks summary").click()
    page.wait_for_selector("#masks table td")
    assert page.locator("#masks table th[scope=col]").all_inner_texts() == keys
    shares = page.locator("#masks table tr:nth-of-type(2) td").all_inner_texts()
    assert sum(int(re.sub(r"under 1|\D", "", each) or 0) for each in shares) == pytest.approx(
        100, abs=6
    )


def test_a_fault_breaks_the_translation(page):
    """The switch, the name of the mistake, its lesson, and what changed, marked in the text."""
    view = see(page, "faults")
    assert view.get_by_role("switch", name="Mask upside down").is_checked()
    told = view.locator(".told").inner_text()
    assert told.startswith("Mask upside down:") and "Lesson 01-attention" in told
    assert view.locator(".right del").count() and view.locator(".wrong ins").count()

    with next_answer(page, "faults"):
        view.get_by_role("switch", name="Masked after softmax").check()
    assert not view.get_by_role("switch", name="Mask upside down").is_checked()
    with next_answer(page, "faults"):
        view.get_by_role("switch", name="Forgot the causal mask").check()

    told = view.locator(".told p").all_inner_texts()
    assert [text.split(":")[0] for text in told] == [
        "Forgot the causal mask",
        "Masked after softmax",
    ]
    assert "Lesson 02-masks, part causal_mask" in told[0]


def test_what_layers_hand_on_breaks_without_the_norm(page):
    """Switches stand by what they break; two ways to break a part are never on together; the table
    of layers shows the numbers grow, and the encoder's attention is there too."""
    view = see(page, "faults")
    add_norm = view.get_by_role("group", name="Add & norm")
    with next_answer(page, "faults"):
        add_norm.get_by_role("switch", name="The residual is missing").check()
    with next_answer(page, "faults"):
        add_norm.get_by_role("switch", name="The norm is missing").check()
    with next_answer(page, "faults"):
        view.get_by_role("group", name="Masks").get_by_role("switch", checked=True).uncheck()

    assert view.get_by_role("switch", checked=True).count() == 1
    assert "Lesson 05-add-norm, part AddNorm" in view.locator(".told").inner_text()
    rows = view.locator("table.layers tr").all()[1:]
    sizes = [
        [float(each.replace(",", "")) for each in row.locator("td").all_inner_texts()]
        for row in rows[:2]
    ]
    assert max(sizes[0]) < 3 and sizes[1] == sorted(sizes[1]) and sizes[1][-1] > 300
    view.locator("select.kind").select_option("encoder")
    picture = view.locator("canvas.wrong").get_attribute("aria-label")
    assert picture.startswith("With the mistake: layer 1")


def test_positions_are_seen_wave_by_wave(page):
    """The slider, or a click on the table, chooses a wave; its length and numbers are right."""
    view = see(page, "positions")
    found = positions(LENGTH, Checkpoint.load(shipped()["en-de"]).config.d_model)

    view.locator(".wave").focus()
    page.keyboard.press("ArrowRight")

    assert "Feature 10 is the sine" in view.locator(".sentence").inner_text()
    length = re.search(r"every ([\d.]+) positions", view.locator(".sentence").inner_text())[1]
    assert float(length) == pytest.approx(found.wavelengths[10], rel=1e-3)
    view.locator("summary").click()
    page.wait_for_selector("#positions table.waves td")
    cells = view.locator("table.waves td:nth-of-type(1)").all_inner_texts()[-LENGTH:]
    assert [float(each.replace("−", "-")) for each in cells] == pytest.approx(
        found.table[:, 10].tolist(), abs=1e-3
    )
    view.locator("canvas.table").click(position={"x": 300, "y": 200})
    assert "Feature 10 " not in view.locator(".sentence").inner_text()
    view.locator(".apart").focus()
    page.keyboard.press("ArrowRight")
    assert view.locator(".verdict").inner_text().startswith("2 positions apart: the product is")


def test_shuffled_the_attention_is_the_same(page):
    """With positions more than rounding, and what is said of the translations is true of them;
    without, only rounding, and why the translation makes no sense."""
    view = see(page, "shuffle")
    said = view.locator(".verdict").inner_text()
    assert float(re.search(r"attention differs by up to (0\.\d+)", said)[1]) > 0.01
    before, after = (
        view.locator(f".read.{when} b").all_inner_texts() for when in ("before", "after")
    )
    assert before != after and sorted(before) == sorted(after)
    translations = view.locator(".translation").all_inner_texts()
    assert ("the translation is the same" in said) == (translations[0] == translations[1])
    assert ("gives another translation" in said) == (translations[0] != translations[1])

    view.get_by_role("switch", name="Positions on").uncheck()
    said = view.locator(".verdict").inner_text()
    assert said.startswith("The model learned with positions")
    assert re.search(r"Without positions the largest difference .* is \d · 10⁻[⁶⁷]", said)
    without = view.locator(".translation").all_inner_texts()
    assert without[0] == without[1]
    assert ("by the words alone" in said) == (without[0] == translations[0])
    assert view.locator("h2.after").inner_text().endswith("without positions")
    with next_answer(page, "shuffle"):
        view.locator(".reversed").click()
    after = view.locator(".read.after b").all_inner_texts()
    assert after == [*before[:-1][::-1], "</s>"]


def test_the_tab_speaks_chinese_on_a_phone(open_page, running_page):
    """No English word is left in the static text, and nothing spills over."""
    page = open_page(running_page, viewport={"width": 390, "height": 844}, locale="zh-CN")
    page.get_by_role("tab", name="掩码与位置").click()
    page.wait_for_selector("#masks [data-state=done]")

    for index, view in enumerate(VIEWS):
        if index:
            page.get_by_role(
                "tab", name=["弄坏一个部件", "位置", "打乱词序"][index - 1], exact=True
            ).click()
            page.wait_for_selector(f"#{view} [data-state=done]")
        for text in page.locator(f"#{view} :is(h2, figcaption, button, summary)").all_inner_texts():
            assert re.search("[\u4e00-\u9fff]", text) or not text.strip(), text
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
