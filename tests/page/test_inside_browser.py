"""The Look inside tab in a real Chromium: stepped by keys and buttons, to the layer's end."""

import re
from contextlib import contextmanager

import gradio as gr
import pytest
from test_browser import contrast

from lab import stock
from lab.lesson import rebuilt
from lab.model import shipped
from lab.page import inside, server, words
from lab.page.inside import answerer
from lab.parts import using
from lab.recording import KINDS

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("page")]  # one server for all

VIEW = "[data-answers]:has(> .inside)"


@pytest.fixture(scope="module")
def answer():
    """What the server says."""
    return answerer({pair: rebuilt(pair) for pair in shipped()})


@pytest.fixture
def visit(open_page, running_page):
    """Opens the tab for a new visitor."""

    def come(address=running_page, **options):
        page = open_page(address, **options)
        page.get_by_role("tab", name=re.compile("Look inside|^内部")).click()
        page.wait_for_selector("[data-state=done]:has(> .inside)")
        return page

    return come


@pytest.fixture
def page(visit):
    return visit()


@contextmanager
def next_answer(page):
    """Wait until what is done in the block has brought a new answer."""
    before = page.locator(VIEW).get_attribute("data-answers")
    yield
    page.wait_for_selector(f"{VIEW}:not([data-answers='{before}'])")


def step(page):
    """The number of the step on show."""
    return int(re.search(r"\d+", page.locator(".inside .count").inner_text())[0])


def go_to(page, name, block):
    """Jump by the list."""
    group = page.locator(".inside .steps > div").filter(has=page.get_by_role("heading", name=block))
    group.first.get_by_role("button", name=name, exact=True).click()


def sentence(page):
    return page.locator(".inside .sentence").inner_text()


def test_space_bar_goes_on(page):
    """Whoever opens the tab by a click has the space bar in hand at once; Shift and ← go back."""
    assert step(page) == 1

    for _ in range(3):
        page.keyboard.press("Space")
    assert step(page) == 4
    page.keyboard.press("Shift+Space")
    page.keyboard.press("ArrowLeft")
    assert step(page) == 2
    page.keyboard.press("ArrowRight")
    assert step(page) == 3


def test_space_bar_in_a_text_field_is_a_space(page):
    """Typing is typing; so are the arrows in it."""
    field = page.locator(".inside input.text")
    field.fill("A")

    field.press("Space")
    field.press("ArrowLeft")

    assert field.input_value() == "A "
    assert step(page) == 1


def test_space_bar_on_a_button_only_presses_it(page):
    """By keyboard: Next steps once, Back goes back, a token is chosen and no step is made."""
    page.locator(".inside .next").focus()
    page.keyboard.press("Space")
    assert step(page) == 2
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert step(page) == 1

    tokens = page.locator(".inside .keys .token")
    chosen = tokens.and_(page.locator("[aria-pressed=true]"))
    before = chosen.inner_text()
    chosen.focus()
    page.keyboard.press("ArrowRight")
    assert (step(page), chosen.inner_text()) == (1, before)  # only the focus has moved
    with next_answer(page):
        page.keyboard.press("Space")
    assert (step(page), chosen.inner_text()) != (1, before)
    assert chosen.evaluate("token => token === document.activeElement")


def test_after_a_click_the_space_bar_steps(page):
    """Who clicks a token goes on with the space bar, and the token is not pressed again."""
    with next_answer(page):
        page.locator(".inside .keys .token").nth(1).click()
    answers = page.locator(VIEW).get_attribute("data-answers")

    page.keyboard.press("Space")

    assert step(page) == 2
    assert page.locator(VIEW).get_attribute("data-answers") == answers


def test_a_choice_asks_the_server_once(page):
    """And stepping never does."""
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "join" in request.url else None)

    with next_answer(page):
        page.locator(".inside select.head").select_option("3")
    assert len(asked) == 1
    for _ in range(37):
        page.keyboard.press("Space")

    assert len(asked) == 1
    assert step(page) == 37
    assert page.locator(".inside .next").get_attribute("aria-disabled") == "true"


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_says_what_happened(page, answer, kind):
    """Name, sentence, formula, shape and picture of each; no hole is left in any text."""
    if kind != "cross":
        with next_answer(page):
            page.locator(".inside select.kind").select_option(kind)
            page.locator(".inside .stage").focus()
    text = page.locator(".inside input.text").input_value()
    expected = answer({"pair": "en-de", "text": text, "kind": kind})["steps"]

    seen = page.evaluate(
        """async () => {
            const text = (selector) => document.querySelector(`.inside ${selector}`).innerText;
            const seen = [];
            const count = document.querySelectorAll(".inside .step").length;
            for (let i = 0; i < count; i++) {
                document.querySelectorAll(".inside .step")[i].click();
                const math = document.querySelector(".inside math");
                seen.push({
                    latex: math.getAttribute("alttext"),
                    high: math.getBoundingClientRect().height,
                    pictures: document.querySelectorAll(".inside figure").length,
                    shown: [".name", ".sentence", ".shape", ".pictures", ".origin"].map(text),
                });
            }
            return seen;
        }"""
    )

    assert [each["latex"] for each in seen] == [each["formula"] for each in expected]
    for each, wanted in zip(seen, expected, strict=True):
        assert each["high"] > 10 and each["pictures"] >= 1
        assert not re.search(r"undefined|NaN|null|\{|inside\.", " ".join(each["shown"])), each
        sizes = ", ".join(map(str, wanted["size"]))
        assert f"= [{sizes}]" in each["shown"][2] if sizes else "one number" in each["shown"][2]
        assert wanted["part"] in each["shown"][2]
    assert len({each["shown"][1] for each in seen}) == len(seen)  # each says something else


def test_the_numbers_are_the_model_s(page, answer):
    """A product, their sum, and the share after softmax, as Python computes them."""
    text = page.locator(".inside input.text").input_value()
    with next_answer(page):
        page.locator(".inside .queries .token").nth(3).click()
    with next_answer(page):
        page.locator(".inside .keys .token").nth(4).click()

    value = answer({"pair": "en-de", "text": text, "query": 3, "key": 4})
    of = {each["key"]: each["value"] for each in value["steps"] if "cross" in each["block"]}
    plain = {"−": "-", "\u00a0": " "}

    def said(name):
        go_to(page, name, "Cross-attention")
        return "".join(plain.get(character, character) for character in sentence(page))

    most = max(of["products"], key=abs)
    assert said("Products").endswith(f"= {most:#.3g}.")
    assert f"q·k = {of['score']:#.3g}:" in said("Sum")
    assert f"is {of['scaled'][4]:#.3g} for “blue”" in said("Divide by √d_k")
    assert f"is {100 * of['weights'][4]:.0f} % for “blue”" in said("Softmax")
    page.locator(".inside .numbers summary").click()
    page.wait_for_selector(".inside .numbers td")
    cells = page.locator(".inside .numbers td").all_inner_texts()
    assert [float(cell.replace("−", "-")) for cell in cells] == pytest.approx(
        of["weights"], rel=0.01
    )


def test_the_drawing_shows_where_keys_and_values_come_from(page):
    """Cross-attention lights up the memory and its way to K and V, self-attention its tokens."""

    def lit():
        return page.locator(".inside svg text.here").all_text_contents()

    go_to(page, "Memory", "Cross-attention")
    assert lit() == ["encoder:memory"]
    assert "keys and values from the encoder's memory" in page.locator(".inside svg").get_attribute(
        "aria-label"
    )
    assert page.locator(".inside svg path.here").count() == 2  # to K and to V
    for name, letter in (("Query", "Q"), ("Keys", "K"), ("Values", "V")):
        go_to(page, name, "Cross-attention")
        assert lit() == [letter]
    go_to(page, "Same tokens", "Masked self-attention")
    assert lit() == ["sametokens"]
    page.locator(".inside svg").get_by_text("Feed-forward").click()
    assert lit() == ["Feed-forward"]


def test_hidden_tokens_are_crossed_out(page):
    """In the decoder, what comes after the token: in the mask, and with −∞ in the scores."""
    with next_answer(page):
        page.locator(".inside select.kind").select_option("decoder")
    with next_answer(page):
        page.locator(".inside .queries .token").nth(2).click()
    count = page.locator(".inside .queries .token").count()

    go_to(page, "Causal mask", "Masked self-attention")
    tiles = page.locator(".inside .tile").all_inner_texts()
    assert ["hidden" in tile for tile in tiles] == [False] * 3 + [True] * (count - 3)
    go_to(page, "Mask the scores", "Masked self-attention")
    last = page.locator(".inside .result-of-step .tile").all_inner_texts()
    assert ["−∞" in tile for tile in last] == [False] * 3 + [True] * (count - 3)


def test_the_step_stays_when_the_kind_changes(page):
    """Softmax of cross-attention, then softmax of the encoder, for another sentence too."""
    go_to(page, "Softmax", "Cross-attention")
    with next_answer(page):
        page.locator(".inside select.kind").select_option("encoder")
    assert page.locator(".inside .name").inner_text() == "Self-attention: Softmax"

    with next_answer(page):
        page.locator(".inside input.text").fill("<b>A dog</b> & a <i>cat</i>")
        page.locator(".inside input.text").press("Enter")
    assert page.locator(".inside .name").inner_text() == "Self-attention: Softmax"
    assert "<" in page.locator(".inside .keys").inner_text()
    assert page.locator(".inside b i, .inside .keys b").count() == 0


def test_a_message_stands_in_place_of_the_steps(page):
    """What cannot be shown is said, and the next sentence works again."""
    field = page.locator(".inside input.text")
    with next_answer(page):
        field.fill("xq " * 130)
        field.press("Enter")
    assert "at most 60" in page.locator(".inside .message").inner_text()
    assert page.locator(".inside .result").is_hidden()

    with next_answer(page):
        field.fill("A dog.")
        field.press("Enter")
    assert page.locator(".inside .result").is_visible()


class WithoutResidual(stock.AddNorm):
    """A mistake: what arrived is forgotten."""

    def forward(self, x, sublayer_output):
        return self.norm(sublayer_output)


def test_where_the_model_differs_is_shown(visit):
    """A part that does otherwise than the formula: the page says so, and leads there."""
    with using({"AddNorm": WithoutResidual}):
        wrong = rebuilt()
    with gr.Blocks() as blocks, gr.Tabs():
        with gr.Tab("Other"):
            gr.Markdown("…")
        with gr.Tab(words.label("inside.tab")):
            inside.build({"en-de": wrong})
    options = server.OPTIONS | {"head": words.head()}
    _, address, _ = blocks.queue().launch(prevent_thread_lock=True, quiet=True, **options)
    try:
        page = visit(address)
        assert "At 3 steps this model does otherwise" in page.locator(".differing").inner_text()
        page.locator(".inside button.odd").click()
        assert page.locator(".inside .name").inner_text() == "Add & Norm: Residual"
        assert "Here the model does otherwise than the formula" in sentence(page)
        assert page.locator(".inside .origin").inner_text().startswith("≠")
        assert page.locator(".inside .step b").count() == 3
    finally:
        blocks.close()


@pytest.mark.parametrize(
    ("width", "theme", "locale"),
    [(390, "dark", "zh-CN"), (1280, "light", "en"), (3840, "dark", "en")],
)
def test_it_fits_every_screen(visit, running_page, width, theme, locale):
    """From a phone to 4k nothing spills over, and text stands out from its ground."""
    page = visit(
        f"{running_page}/?__theme={theme}",
        viewport={"width": width, "height": 844}, color_scheme=theme, locale=locale,
    )  # fmt: skip
    for number in (10, 14, 16, 19, 23, 31):  # a wide map, long bars, tiles, a mask, heads, 512 bars
        page.locator(".inside .step").nth(number - 1).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, number

    for part in (".sentence", ".name", ".shape", ".origin", ".count", "figcaption", ".step",
                 ".back", ".next", ".token", ".tile small"):  # fmt: skip
        if page.locator(f".inside {part}").count():
            assert contrast(page, f".inside {part}") >= 4.5, part
