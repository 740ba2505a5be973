"""The Translate tab's instruments in a real Chromium, against what lab.steps and lab.views say."""

import json
import re
from contextlib import contextmanager
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
import torch

from lab import steps, views
from lab.model import Checkpoint, shipped
from lab.page import resource
from lab.translation import Search, entropy, translate

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("page")]  # one server for all

SENTENCE = "A man in a blue shirt is standing on a ladder."


@pytest.fixture
def visit(open_page, running_page):
    """Visitors by what stands in the address, and by what their browsers are."""

    def come(address="", **options):
        page = open_page(running_page + address, **options)
        page.wait_for_selector("#translate [data-answers]")
        return page

    return come


@pytest.fixture
def page(visit):
    return visit()


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint.load(shipped()["en-de"])


@pytest.fixture(scope="module")
def found(checkpoint):
    """What the first screen shows."""
    return steps.follow(checkpoint, [SENTENCE], explain=True)[0]


@contextmanager
def next_answer(page, view="translate"):
    """Wait until what is done in the block has brought a new answer to the view."""
    before = page.locator(f"#{view} [data-answers]").get_attribute("data-answers")
    yield
    page.wait_for_selector(f"#{view} [data-answers]:not([data-answers='{before}'])")


def text(page, selector):
    return page.locator(f"#translate {selector}").inner_text()


def choose(page, name, value):
    page.locator(f"#translate select.{name}").select_option(value)


def shares(page):
    """The numbers of the table, row by row, in percent."""
    details = page.locator("#translate .numbers")
    if details.get_attribute("open") is None:
        details.locator("summary").click()
        page.wait_for_selector("#translate .numbers td")
    rows = page.locator("#translate .numbers tr").all()[1:]
    return torch.tensor(
        [[float(cell.split()[0]) for cell in row.locator("td").all_inner_texts()] for row in rows]
    )


def same(page, weights):
    """The table holds these weights, to its whole percents."""
    torch.testing.assert_close(shares(page), 100 * weights, atol=0.52, rtol=0)


# Heads together


def test_the_browser_s_views_are_those_of_the_lab(page):
    """Mean, maximum, rollout, rollout to the source, entropy and a hidden key, number by number."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"encoder": (5, 5), "decoder": (4, 4), "cross": (4, 5)}
    attention = {
        kind: torch.rand(3, 2, *size, generator=generator).softmax(-1)
        for kind, size in sizes.items()
    }
    flat = {
        kind: {
            "rows": sizes[kind][0],
            "columns": sizes[kind][1],
            "data": weights.flatten().tolist(),
        }
        for kind, weights in attention.items()
    }

    got = page.evaluate(
        f"""(flat) => {{
            {resource("translate_views.js")}
            const stacks = Object.fromEntries(Object.entries(flat).map(([kind, each]) =>
                [kind, unstacked(Float32Array.from(each.data), each, 3, 2)]));
            const heads = [stacks.cross[0][1], stacks.cross[2][0], stacks.cross[2][1]];
            const rolled = rolloutToSource(stacks);
            const hidden = hide(heads[0], 4);
            const all = {{
                mean: mean(heads), maximum: maximum(heads), rollout: rollout(stacks.encoder),
                source: rolled.source, target: rolled.target, left: hidden.left,
                share: {{data: hidden.share}},
                bits: {{data: stacks.cross.flat().map(meanEntropy)}},
                row: {{data: SCALES.row(rowOf(heads[0], 2))}},
                none: {{data: hide(matrix(1, 2, Float32Array.of(0, 1)), 1).left.data}},
            }};
            return Object.fromEntries(Object.entries(all).map(([n, m]) => [n, [...m.data]]));
        }}""",
        flat,
    )

    heads = views.choose(attention["cross"], [(0, 1), (2, 0), (2, 1)])
    source, target = views.rollout_to_source(attention)
    left, share = views.hide(heads[0], [-1])
    expected = {
        "mean": views.mean(heads), "maximum": views.maximum(heads),
        "rollout": views.rollout(attention["encoder"]), "source": source, "target": target,
        "left": left, "share": share, "bits": views.entropy_per_head(attention["cross"]),
        "row": views.scaled(heads[0], "row maximum")[2], "none": torch.zeros(2),
    }  # fmt: skip
    assert set(got) == set(expected)
    for name, weights in expected.items():
        shown = torch.tensor(got[name], dtype=torch.float32)
        torch.testing.assert_close(shown, weights.flatten(), msg=name)


def test_any_heads_are_put_together(page, found):
    """Mean and maximum of a layer, of all layers, and of heads chosen one by one."""
    weights = found.translation.attention["cross"]

    same(page, weights[2].mean(0))
    choose(page, "layer", "all")
    choose(page, "together", "maximum")
    same(page, weights.flatten(0, 1).amax(0))
    assert "maximum of all heads of all layers" in text(page, "figcaption")
    assert "may sum to more than 1" in text(page, "figcaption")
    choose(page, "together", "mean")
    page.get_by_role("button", name="L1 H2").click()
    page.get_by_role("button", name="Choose several heads").click()
    page.get_by_role("button", name="L3 H4").click()
    page.get_by_role("button", name="L2 H1").click()
    page.get_by_role("button", name="L2 H1").click()
    same(page, views.mean(views.choose(weights, [(0, 1), (2, 3)])))
    assert "mean of L1 H2, L3 H4" in text(page, "figcaption")


def test_rollout_shows_its_formula_and_what_came_from_the_translation(page, found):
    """The shares of the source, and that of the translation so far, with the formula beside."""
    source, target = views.rollout_to_source(found.translation.attention)

    choose(page, "together", "rollout")
    page.locator("#translate .queries .token").nth(3).click()

    same(page, source)
    said = re.search(r"so far has (\d+) %", text(page, ".sentence"))
    assert said and abs(int(said[1]) - 100 * target[3].sum()) < 0.6  # sent in 16 bits, then rounded
    assert page.locator("#translate .formula math").count() == 2
    assert "Abnar and Zuidema 2020" in text(page, ".formula p")
    choose(page, "kind", "encoder")
    same(page, views.rollout(found.translation.attention["encoder"]))


def test_a_hidden_sink_is_said_and_the_rest_made_whole(page, found):
    """The end of the sentence at nothing, each row 1 again, and how much was hidden in words."""
    weights = found.translation.attention["cross"][2].mean(0)
    left, share = views.hide(weights, [-1])

    page.get_by_label("Hide </s>").check()
    page.locator("#translate .queries .token").last.click()

    same(page, left)
    assert f"“</s>” is hidden: it had {100 * share[-1]:.0f} %" in text(page, ".sentence")
    assert "</s> is hidden" in text(page, "figcaption")
    choose(page, "kind", "decoder")
    assert "Hide <s>" in text(page, ".settings")


def test_entropy_stands_at_each_head(page, found):
    """Bits of every head and of each layer's mean, as lab.views counts them."""
    weights = found.translation.attention["cross"]
    with_mean = torch.cat([weights.mean(1, keepdim=True), weights], dim=1)

    said = page.locator("#translate .cell small:last-child").all_inner_texts()

    bits = entropy(with_mean).mean(-1).flatten().tolist()
    assert [float(each.split()[0]) for each in said] == pytest.approx(bits, abs=0.06)


# Steps


def test_the_slider_and_its_keys_walk_the_steps(page, found):
    """Arrow keys on the slider and the buttons beside it choose the token."""
    slider = page.locator("#translate .slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Next token").click()
    page.get_by_role("button", name="Previous token").click()

    piece = found.translation.target_pieces[2].strip()
    assert text(page, ".queries [aria-pressed=true]") == piece
    assert slider.get_attribute("aria-valuetext").endswith(f": {piece}")


def test_another_candidate_is_taken_and_taken_back(page, checkpoint, found):
    """Five candidates with their probabilities; a click on another one and the model goes on from
    it; one click leads back."""
    at = 3
    page.locator("#translate .queries .token").nth(at).click()
    candidates = page.locator("#translate .candidates .token")
    expected = [each.piece.strip() for each in found.steps[at].candidates]
    assert candidates.locator("span").all_inner_texts() == expected
    first = text(page, ".candidates .token:first-child small")
    assert first == f"{100 * found.steps[at].candidates[0].probability:.0f} %"

    with next_answer(page):
        candidates.nth(1).click()

    prefix = [*found.ids[:at], found.steps[at].candidates[1].id]
    other = steps.follow(checkpoint, [SENTENCE], prefixes=[prefix])[0].translation
    assert text(page, ".translation") == other.text != found.translation.text
    assert found.translation.text in text(page, ".forced")
    assert text(page, ".queries [aria-pressed=true]") == expected[1]
    page.get_by_role("button", name="Back to the model's choice").click()
    assert text(page, ".translation") == found.translation.text
    assert page.locator("#translate .forced").is_hidden()


def test_only_the_token_taken_is_the_visitor_s(page):
    """What stands before a token that was taken is the model's, and so is a link's beginning."""
    page.locator("#translate .queries .token").nth(5).click()
    with next_answer(page):
        page.locator("#translate .candidates .token").nth(1).click()

    assert text(page, ".of").startswith("Token 6 was chosen by you")
    page.locator("#translate .queries .token").first.click()
    assert text(page, ".of").startswith("Token 1 was chosen from these")


def test_other_languages_translate_at_once(page):
    """No old translation stands below new languages; what the model has learnt is said."""
    assert "captions" in text(page, ".knows")

    with next_answer(page):
        choose(page, "pair", "en-zh")

    assert re.search("[\u4e00-\u9fff]", text(page, ".translation"))
    assert "everyday sentences" in text(page, ".knows")


def test_sampling_leads_to_its_settings(page):
    """Who chooses sampling finds temperature, top-k and top-p open, and a way there."""
    with next_answer(page):
        choose(page, "method", "sample")

    page.locator("#chances details[open]").wait_for()
    page.get_by_role("button", name="Set temperature, top-k and top-p").click()
    assert page.evaluate("document.activeElement.closest('#chances') !== null")


def test_the_tree_shows_scores_and_what_was_pruned(page, checkpoint):
    """Kept branches with scores, by keys too; what was pruned at once on demand; the same as a
    table; and the model goes on from any of them."""
    with next_answer(page):
        choose(page, "method", "beam")
    tree = steps.beam_tree(checkpoint, SENTENCE, Search("beam"))
    page.locator("#translate .tree > summary").click()
    leaves = page.locator("#translate .leaf")
    page.wait_for_selector("#translate .leaf")

    assert leaves.count() == sum(node.kept for node in tree.nodes)
    best = checkpoint.tokenizer.decode(tree.sentences[0][0])
    score = re.search(f"1. “{re.escape(best)}” −([0-9.]+)", text(page, ".tree-said"))
    assert float(score[1]) == pytest.approx(-tree.sentences[0][1], abs=0.0051)
    page.get_by_label("Show what was pruned at once").check()
    assert leaves.count() == len(tree.nodes)
    page.locator("#translate .tree-text summary").click()
    page.wait_for_selector("#translate .tree-text td")
    assert page.locator("#translate .tree-text tr").count() == len(tree.nodes) + 1
    page.locator("#translate .leaf[tabindex='0']").focus()
    for _ in tree.best[0]:
        page.keyboard.press("ArrowLeft")  # to the first token
    page.keyboard.press("ArrowDown")
    second = sorted((n for n in tree.nodes if n.step == 1), key=lambda node: -node.score)[1]
    focused = page.evaluate("document.activeElement.ariaLabel")
    assert second.candidate.piece.strip() in focused
    assert float(focused.split("−")[1].split(",")[0]) == pytest.approx(-second.score, abs=0.0051)
    with next_answer(page):
        page.get_by_role("button", name="Let the model go on from here").click()
    assert text(page, ".queries .token:first-child") == second.candidate.piece.strip()


def test_temperature_and_cuts_show_before_and_after(page, checkpoint, found):
    """The next token's chances before and after, for the step on show; then a draw with them."""
    page.locator("#translate .queries .token").nth(3).click()
    with next_answer(page, "chances"):
        page.locator("#chances summary").click()
    with next_answer(page, "chances"):
        page.locator("#chances .top_k").fill("2")

    chances = steps.distribution(
        checkpoint, SENTENCE, found.ids[:3], Search("sample", top_k=2, top_p=0.9)
    )
    rows = page.locator("#chances tr").all()[1:]
    assert "2 of the vocabulary" in page.locator("#chances .sentence").inner_text()
    for chance, row in zip(chances.chances, rows[:2], strict=False):
        before, after = row.locator("td").all_inner_texts()
        assert row.locator("th").inner_text() == chance.piece.strip()
        assert float(before.split()[0]) == pytest.approx(100 * chance.before, rel=0.06)
        assert float(after.split()[0]) == pytest.approx(100 * chance.after, rel=0.06)
    assert rows[2].locator("td").last.inner_text() == "cut off"
    with next_answer(page):
        page.get_by_role("button", name="Draw a translation with these").click()
    assert page.locator("#translate select.method").input_value() == "sample"


def test_predict_before_you_look(page, found):
    """The weights are covered until a word is chosen; then it says right or wrong, with shares,
    and counts."""
    weights = found.translation.attention["cross"][2].mean(0)
    words = [piece.strip() for piece in found.translation.source_pieces]
    page.get_by_role("button", name="Predict before you look").click()
    for at, right in ((4, True), (5, False)):
        page.locator("#translate .queries .token").nth(at).click()
        assert page.locator("#translate .pictures").is_hidden()
        assert page.locator("#translate .keys small").count() == 0
        assert "%" not in text(page, ".sentence")
        best = int(weights[at, :-1].argmax())
        guess = best if right else best - 1
        page.locator("#translate .keys .token").nth(guess).click()

        said = text(page, ".sentence")
        assert said.startswith("Right" if right else "Not this one")
        assert f"“{words[best]}”" in said and f"{100 * weights[at, best]:.0f} %" in said
        assert page.locator("#translate .pictures").is_visible()
    assert text(page, ".tally") == "1 of 2 right"


def test_a_tie_is_right_and_the_end_is_not_asked(page):
    """The game begins at a word; each of two words that show the same share is right."""
    page.locator("#translate .queries .token").last.click()
    page.get_by_role("button", name="Predict before you look").click()

    asked = text(page, ".queries [aria-pressed=true]")
    assert asked != "</s>" and f"does “{asked}” look at most?" in text(page, ".sentence")
    said = page.evaluate(
        f"""() => {{
            const [START, END] = ["<s>", "</s>"];
            const percent = (share) => `${{Math.round(100 * share)}} %`;
            const [shareSaid, rowOf, readable] = [percent, (matrix) => matrix, (piece) => piece];
            const state = {{query: 0}}, draw = () => {{}}, $ = () => ({{focus: draw}});
            const labels = () => ({{queries: ["x"], keys: ["a", "b", "c", END]}});
            const picture = () => ({{values: [0.204, 0.2, 0.1, 0.496]}});
            {resource("translate_guess.js")}
            return [0, 1, 2].map((s) => {{ guess(s); return game.best === s; }});
        }}"""
    )
    assert said == [True, True, False]


def test_a_replay_ends_at_a_word_that_looks_at_a_word(visit):
    """What stays to be seen is telling, not the end of the sentence; and no dots stay behind."""
    page = visit(reduced_motion="no-preference")

    page.wait_for_function(
        "document.querySelector('#translate .play').dataset.symbol === 'play'"
        " && document.querySelector('#translate .step').textContent !== 'on show: token 1 of 12'"
    )

    assert text(page, ".queries [aria-pressed=true]") in ("blauen", "Hemd", "Leiter")
    assert not text(page, ".translation").endswith("…")


# Links


def test_a_link_shows_the_same_again(page, visit):
    """Sentence, languages, layer, head, token and the forced beginning come back; the field is
    selected where nothing may be copied."""
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    with next_answer(page):
        page.get_by_role("button", name="Where is the nearest hospital?").click()
    with next_answer(page):
        page.locator("#translate .candidates .token").nth(1).click()
    page.get_by_role("button", name="L2 H3").click()
    choose(page, "kind", "decoder")
    page.locator("#translate .queries .token").nth(2).click()

    page.get_by_role("button", name="Copy link").click()

    link = page.locator("#translate .address").input_value()
    selected = page.evaluate("document.activeElement.selectionEnd")
    assert selected == len(link) and "copy it" in text(page, ".linked")
    other = visit(link[link.index("/?") :])
    other.wait_for_selector("#translate .forced:not([hidden])")
    for selector in (".translation", ".sentence", "figcaption", ".step"):
        assert text(other, selector) == text(page, selector), selector
    assert other.locator("#translate input.text").input_value() == "Where is the nearest hospital?"


def test_reload_language_and_back_keep_what_is_on_show(page):
    """Sentence, languages, forced beginning, layer, head, token and tab are in the address."""
    with next_answer(page):
        page.get_by_role("button", name="Where is the nearest hospital?").click()
    with next_answer(page):
        page.locator("#translate .candidates .token").nth(1).click()
    page.get_by_role("button", name="L2 H3").click()
    page.locator("#translate .queries .token").nth(2).click()
    kept = [text(page, each) for each in (".translation", ".sentence", ".step")]
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_url("**tab=compare*")

    page.reload()
    page.locator("[data-tab-id=compare][aria-selected=true]").wait_for()
    page.wait_for_selector("#translate [data-answers='2']", state="attached")
    page.go_back()
    page.locator("[data-tab-id=translate][aria-selected=true]").wait_for()
    assert [text(page, each) for each in (".translation", ".sentence", ".step")] == kept
    page.get_by_role("button", name="中文").click()
    page.wait_for_selector("html[lang=zh-CN] #translate [data-answers='2']")
    assert text(page, ".translation") == kept[0] and "第 2 层，第 3 头" in text(page, ".sentence")


HOSTILE = [
    ({"s": "<img src=x onerror=alert(1)> dog", "l": "1e9", "h": "__proto__", "t": "-1"}, None),
    ({"s": SENTENCE, "p": "<script>", "t": "9" * 50}, "no model for these languages"),
    ({"s": "A dog.", "f": "2,2,99999999,x,1.5", "h": "1.1,9.9,0.0", "k": "constructor"}, "anew"),
    ({"s": "x" * 5000}, "5,000 characters"),
    ({"p": "en-zh", "l": "99", "h": "99", "t": "99", "v": "toString", "m": "evil"}, None),
    ({"l": "0", "h": "0", "t": "0"}, None),
]


@pytest.mark.parametrize(("values", "said"), HOSTILE, ids=lambda value: str(value)[:40])
def test_a_hostile_link_ends_in_words_or_the_usual(visit, values, said):
    """Whatever stands in the address, the page shows a picture or says what is wrong."""
    page = visit(f"/?{urlencode(values)}")
    asks = "s" in values or "p" in values

    page.wait_for_selector(f"#translate [data-answers='{2 if asks else 1}']")
    if said:
        assert said in text(page, ".message")
    else:
        assert "layer" in text(page, "figcaption") and text(page, ".step").startswith(
            "on show: token "
        )
        assert page.locator("#translate img, #translate script").count() == 0


# Files


def saved(page, ending):
    with page.expect_download() as download:
        page.locator(f"#translate button.{ending}").click()
    return download.value.path(), download.value.suggested_filename


def test_the_drawing_is_saved_as_svg(visit):
    """Every cell, label and the title as text, Chinese too, with the fonts that have it."""
    page = visit(
        "/?" + urlencode({"s": "Where is the nearest <b>hospital</b> & why?", "p": "en-zh"})
    )
    page.wait_for_selector("#translate [data-answers='2']")
    tokens = page.locator("#translate .queries .token").all_inner_texts()
    keys = page.locator("#translate .keys .token span").all_inner_texts()

    path, name = saved(page, "svg")

    svg = ElementTree.fromstring(path.read_text("utf-8"))
    texts = [each.text for each in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert name == "attention-cross-layer3-mean.svg"
    assert {*tokens, *keys, "generated (query) ↓, source (key) →", "scale: 0 – 1"} <= set(texts)
    assert "Noto Sans CJK SC" in svg.get("font-family")
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}rect"))) >= len(tokens) * len(keys)
    assert {each.tag.split("}")[1] for each in svg.iter()} == {"svg", "rect", "text"}


def test_everything_is_saved_as_json(page, found):
    """Tokens, steps and every weight, and which picture was on show."""
    path, name = saved(page, "json")

    kept = json.loads(path.read_text("utf-8"))
    assert name.endswith(".json") and kept["text"] == found.translation.text
    assert kept["ids"] == found.ids and len(kept["steps"]) == len(found.ids)
    for kind, weights in found.translation.attention.items():
        torch.testing.assert_close(
            torch.tensor(kept["attention"][kind]), weights, atol=3e-5, rtol=0
        )
    shown = torch.tensor(kept["shown"]["weights"])
    torch.testing.assert_close(
        shown, found.translation.attention["cross"][2].mean(0), atol=3e-5, rtol=0
    )


def test_the_saved_page_works_alone(visit, browser, tmp_path):
    """From the disk, with no request: the same heat map; tokens, heads and the tree answer clicks;
    a hostile sentence stays text."""
    hostile = "</script><script>hacked = 1</script> \u2028 dog <!-- <b>"
    page = visit("/?" + urlencode({"s": hostile, "m": "beam", "l": "2", "h": "3", "t": "2"}))
    page.wait_for_selector("#translate [data-answers='2']")
    path, _ = saved(page, "html")
    target = tmp_path / "page.html"
    target.write_bytes(path.read_bytes())

    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    alone = context.new_page()
    seen, faults = [], []
    alone.on("request", lambda asked: seen.append(asked.url))
    alone.on("console", lambda said: faults.append(said.text))
    alone.on("pageerror", lambda error: faults.append(str(error)))
    alone.goto(target.as_uri())
    alone.wait_for_selector("[data-state=done]")

    def pixels(of):
        return of.locator(".cell canvas").evaluate_all("all => all.map((one) => one.toDataURL())")

    assert pixels(alone) == pixels(page)
    for selector in (".translation", ".sentence", "figcaption", ".step"):
        assert alone.locator(selector).inner_text() == text(page, selector)
    alone.locator(".queries .token").first.click()
    alone.get_by_role("button", name="L1 H1").click()
    page.locator("#translate .queries .token").first.click()
    page.get_by_role("button", name="L1 H1").click()
    assert alone.locator(".sentence").inner_text() == text(page, ".sentence")
    alone.locator(".tree > summary").click()
    alone.wait_for_selector(".leaf")
    assert alone.locator(".candidates .token:enabled").count() == 0
    assert alone.locator(".of").inner_text() == "Token 1 was chosen from these"
    assert alone.evaluate("typeof hacked") == "undefined" and alone.locator("b").count() == 0
    assert seen == [target.as_uri()] and faults == []
    context.close()


# With the other tabs


def test_the_other_tabs_and_this_one_follow_each_other(page):
    """What is on show is shared, and what another tab chooses is shown here."""
    page.get_by_role("button", name="L2 H3").click()
    shared = page.evaluate("({...lab.shared, ids: lab.shared.ids.length})")
    assert (shared["layer"], shared["head"], shared["pair"]) == (1, 2, "en-de")
    assert shared["text"] == SENTENCE and shared["ids"] == 12

    page.evaluate(
        """() => {
            const detail = {kind: "encoder", layer: 0, head: 3, query: 4};
            Object.assign(lab.shared, detail);
            window.dispatchEvent(new CustomEvent("lab:shared", {detail}));
        }"""
    )

    assert re.search("encoder, layer 1, head 4", text(page, "figcaption"))
    assert text(page, ".step").startswith("on show: token 5 of")


def test_a_sentence_of_another_tab_is_translated_when_the_tab_is_seen(page, checkpoint):
    """Who typed it elsewhere finds it here."""
    page.get_by_role("tab", name="Look inside").click()
    page.wait_for_selector("#inside .lab")
    page.evaluate(
        """() => {
            const detail = {text: "A dog is running.", pair: "en-de"};
            Object.assign(lab.shared, detail);
            window.dispatchEvent(new CustomEvent("lab:shared", {detail}));
        }"""
    )
    with next_answer(page):
        page.get_by_role("tab", name="Translate").click()

    assert text(page, ".translation") == translate(checkpoint, ["A dog is running."])[0].text


def test_the_tab_speaks_chinese(visit):
    """Every text of the tab in the visitor's language."""
    page = visit(locale="zh-CN")

    assert text(page, ".go") == "翻译"
    assert "选出“Ein”时" in text(page, ".sentence")
    everything = page.locator("#translate .lab, #chances .lab").all_inner_texts()
    assert not re.search(r"translate\.|looked at|Choose|layer \d", " ".join(everything))


def test_doubt_is_told(page, checkpoint):
    """Where the words were improbable on average, and only there; a good second one mends it."""
    unlike = "My brother reads a book in the kitchen because it is raining."
    path = steps.follow(checkpoint, [unlike])[0]
    share = torch.tensor([each.chosen.probability for each in path.steps]).log().mean().exp()
    assert share < 0.5
    assert page.locator("#translate .doubt").is_hidden()

    with next_answer(page):
        page.fill("#translate form .text", unlike)
        page.keyboard.press("Enter")

    assert f"its words {100 * share:.0f} %." in text(page, ".doubt")


def test_a_piece_that_goes_on_a_word_is_no_word(page, found):
    """Among the candidates "-blauen", the end of a word, is another one than "blauen"."""
    at, piece = next(
        (i, each.piece)
        for i, step in enumerate(found.steps[1:], 1)
        for each in step.candidates
        if each.piece.isalpha()  # a word begins with a space
    )

    page.locator("#translate .queries .token").nth(at).click()

    names = page.locator("#translate .candidates .token > span").all_inner_texts()
    assert f"-{piece}" in names and len(names) == len(set(names))
