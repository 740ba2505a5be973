"""What helps a visitor along: a way through the tabs, all of them on a phone, the same translation
from tab to tab and from link to page."""

import pytest

from lab.model import Checkpoint, shipped
from lab.page.inside import answerer
from lab.page.questions import Refused

QUESTION = {"pair": "en-de", "text": "A dog is running.", "kind": "cross"}
TABS = 8  # of the page as app.py starts it
in_a_browser = [pytest.mark.browser, pytest.mark.xdist_group("page")]


@pytest.fixture(scope="module")
def inside():
    return answerer({"en-de": Checkpoint.load(shipped()["en-de"])})


def test_look_inside_reads_what_translate_wrote(inside):
    """Of a translation whose beginning was forced, and not of the model's own."""
    own = inside(QUESTION)
    tokenizer = Checkpoint.load(shipped()["en-de"]).tokenizer
    other = tokenizer.encode("Eine Katze")

    forced = inside(QUESTION | {"ids": other})

    assert forced["written"] == tokenizer.pieces(other) != own["written"]
    assert inside(QUESTION | {"ids": []}) == own == inside(QUESTION)


@pytest.mark.parametrize("ids", ["1,2", [0], [-1], [1.5], [True], [10**9], [[1]], [5] * 500])
def test_look_inside_refuses_what_no_model_writes(inside, ids):
    with pytest.raises(Refused):
        inside(QUESTION | {"ids": ids})


@pytest.fixture
def visit(open_page, running_page):
    def come(address="/", **options):
        page = open_page(running_page + address, **options)
        page.wait_for_selector("#translate [data-state=done]", state="attached")
        return page

    return come


@pytest.mark.parametrize(
    ("locale", "start", "away"),
    [
        pytest.param("en", "New here?", "Got it", marks=in_a_browser),
        pytest.param("zh-CN", "第一次来？", "知道了", marks=in_a_browser),
    ],
)
def test_a_first_time_visitor_is_shown_a_way(visit, locale, start, away):
    """One sentence whose names open the tabs, by keyboard too; put away, it stays away."""
    page = visit(locale=locale)
    path = page.locator(".title .path")
    assert path.inner_text().startswith(start) and "{" not in path.inner_text()

    path.locator("button.to").nth(1).press("Enter")
    page.wait_for_selector("[role=tab][data-tab-id=inside][aria-selected=true]")
    path.get_by_role("button", name=away).press("Enter")

    assert path.is_hidden()
    page.reload()
    page.wait_for_selector("#inside [data-state=done]")
    assert path.is_hidden()


@pytest.mark.browser
@pytest.mark.xdist_group("page")
@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_a_phone_shows_every_tab(visit, locale):
    """On a second line where one is too short; none is in a menu, and nothing is cut off."""
    page = visit(locale=locale, viewport={"width": 390, "height": 800})
    bar = page.get_by_role("tablist").first

    tabs = bar.get_by_role("tab").all()
    boxes = [each.bounding_box() for each in tabs if each.is_visible()]

    assert len(boxes) == TABS
    assert all(0 <= box["x"] and box["x"] + box["width"] <= 390 for box in boxes)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
@pytest.mark.xdist_group("page")
def test_a_link_to_a_draw_shows_the_draw(visit):
    """The same sentence, drawn by the same temperature, top-k and top-p, and said to be drawn."""
    page = visit("/?s=A+dog+is+running.&p=en-de&m=sample&c=2.5%2C7%2C0.8")
    page.wait_for_function("document.querySelector('#translate select.method')?.value === 'sample'")
    drawn = page.locator("#translate .translation").inner_text()

    page.reload()
    page.wait_for_function("document.querySelector('#translate select.method')?.value === 'sample'")

    assert page.locator("#translate .translation").inner_text() == drawn
    values = page.locator("#chances input").evaluate_all("all => all.map((each) => each.value)")
    assert values == ["2.5", "7", "0.8"]
