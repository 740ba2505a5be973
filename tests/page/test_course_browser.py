"""The course in a real Chromium: log in, hand in, wait, read; and the teacher's tab."""

import re

import a_course as a
import a_course_page as c
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("course-page"), *a.WARNINGS]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return c.make(tmp_path_factory.mktemp("class"))


@pytest.fixture(scope="module")
def address(project, tmp_path_factory):
    said = tmp_path_factory.mktemp("server") / "said.txt"
    with c.served(project, said) as (address, _):
        yield address
    assert "Traceback" not in said.read_text()


@pytest.fixture
def pardoned():
    """What a browser says of answers that we asked for."""
    return re.compile("status of 40[034]")


@pytest.fixture
def visit(open_page, address):
    """A visitor who has logged in and sees the tab for handing in."""

    def come(name, scheme="light", width=1280, height=1000, locale="en"):
        size = {"width": width, "height": height}
        page = open_page(address, viewport=size, color_scheme=scheme, locale=locale)
        page.fill("#name", name)
        page.fill("#password", c.PASSWORD)
        page.locator("button").click()
        page.wait_for_selector("[data-state=done]")
        open_tab(page, "Hand in" if locale == "en" else "提交作业")
        page.wait_for_function("document.querySelector('.who')?.textContent")
        return page

    return come


def open_tab(page, name):
    """On a phone the last tabs are behind three points."""
    tab = page.get_by_role("tab", name=name)
    if not tab.count():
        page.get_by_role("button", name="More tabs").click()
        tab = page.locator(".overflow-dropdown button", has_text=name)
    tab.click()


def send(page, tmp_path, **files):
    """Choose these files and press the button; what the page says of each."""
    paths = []
    for name, raw in files.items():
        path = tmp_path / f"{name}.ipynb"
        path.write_bytes(raw)
        paths.append(path)
    page.set_input_files("#notebooks", paths)
    page.get_by_role("button", name="Hand in", exact=True).click()
    page.wait_for_function(
        "count => document.querySelectorAll('.news .said:not(.wait)').length === count",
        arg=len(paths),
    )
    return page.locator(".news .said").all_inner_texts()


def test_from_the_login_to_the_feedback(visit, project, tmp_path):
    """Two files, one of them none: a receipt and a sentence; then points and what was wrong, in
    words that no browser runs. A reload shows the same."""
    page = visit("ada")
    hostile = a.answer(
        c.released(project),
        softmax=c.MISTAKE,
        soft_lookup=f"def soft_lookup(query, *given):\n    raise ValueError({c.HOSTILE!r})",
    )

    receipt, refused = send(page, tmp_path, mine=c.as_bytes(hostile), photo=b"GIF89a")

    assert "Handed in: 01-attention, by ada" in receipt and "sha256" in receipt
    assert refused.startswith("Not handed in: photo.ipynb is no notebook")
    page.wait_for_selector("[data-unit='01-attention'][data-state=graded]", timeout=90_000)
    before = page.locator(".units").inner_text()
    assert re.search(r"\d+ of 32 points", before)
    assert "exp overflows for scores of some hundreds" in before
    assert "SelfAttention: 0 of 6 (not started)" in before
    assert c.HOSTILE in page.locator("[data-part=soft_lookup]").inner_text()
    page.reload()
    page.get_by_role("tab", name="Hand in").click()
    page.wait_for_selector("[data-state=graded]")
    assert page.locator(".units").inner_text() == before
    assert page.title() == "Attention Lab"
    assert page.locator(".units img").count() == 0
    assert page.get_by_role("tab", name="The class").count() == 0
    with page.expect_download() as found:
        page.locator(".units summary").click()
        page.get_by_role("link", name="The file as it was handed in").click()
    assert found.value.path().read_bytes() == c.as_bytes(hostile)


def test_a_second_session_sees_nothing_of_the_first(visit, tmp_path, project):
    """The other learner's page is empty, and Ada's addresses are not theirs."""
    ada, other = visit("ada"), visit("王小明")
    send(ada, tmp_path, mine=c.wrong(project))
    ada.wait_for_selector("[data-state=graded]", timeout=90_000)

    assert other.locator(".unit").count() == 0
    for path, status in (
        ("/course/notebook?id=01-attention/1", 404),
        ("/course/class", 403),
        ("/course/report", 403),
        ("/gradio_api/upload", 403),
    ):
        answer = other.evaluate("path => fetch(path).then((answer) => answer.status)", path)
        assert answer == status, path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(visit, scheme, tmp_path, project):
    """Nothing sticks out at 390 pixels; buttons are large enough for a finger; text is readable."""
    page = visit("ada", scheme, 390, 844)
    send(page, tmp_path, mine=c.right(project))
    page.wait_for_selector("[data-state=graded]", timeout=90_000)

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for button in page.locator(".course :is(button, .button, input[type=file])").all():
        if button.is_visible():
            assert button.bounding_box()["height"] >= 44
    ink, ground = page.evaluate(
        """() => {
            const unit = document.querySelector(".unit");
            return [getComputedStyle(unit).color, getComputedStyle(unit).backgroundColor];
        }"""
    )
    light = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in (ink, ground)]
    assert abs(light[0] - light[1]) > 150
    assert (light[0] > light[1]) == (scheme == "dark")


def test_the_teacher_sees_the_class(visit, tmp_path, project):
    """The tab, the queue, a download, and the report in a frame that runs nothing."""
    page = visit(c.TEACHER)
    send(page, tmp_path, mine=c.right(project))  # who teaches may try it, too
    page.wait_for_selector("[data-state=graded]", timeout=90_000)
    page.get_by_role("tab", name="The class").click()
    page.wait_for_selector("[data-loaded]", state="attached")
    page.get_by_role("button", name="Look again").click()
    page.wait_for_selector(".export")

    assert re.search(r"2 learners, \d+ hand-ins", page.locator(".sum").inner_text())
    frame = page.frame_locator("iframe[title='What the class did']")
    frame.locator(".lab-report").wait_for()
    assert page.locator("iframe[title='What the class did']").get_attribute("sandbox") == ""
    with page.expect_download() as found:
        page.get_by_role("button", name="Download").click()
    assert found.value.suggested_filename == "grades.csv"


def test_it_speaks_chinese(visit, tmp_path, project):
    """The login, handing in, and the class; what the switch chose goes along to the next login."""
    page = visit(c.TEACHER, locale="zh-HK")
    said = page.locator("section.course").first.inner_text()
    assert all(word in said for word in ("你是 turing", "修改密码", "提交你的 notebook", "截止"))
    page.set_input_files("#notebooks", {"name": "x.ipynb", "mimeType": "", "buffer": b"GIF89a"})
    page.locator(".course button.go").click()
    page.wait_for_selector(".news .bad")
    assert page.locator(".news").inner_text().startswith("没有提交成功：x.ipynb")
    open_tab(page, "全班")
    page.wait_for_selector("[data-loaded]", state="attached")
    assert "2 名学生" in page.locator(".sum").inner_text()
    page.get_by_role("button", name="English").click()
    page.wait_for_selector("html[lang=en] [data-state=done]")
    open_tab(page, "Hand in")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_selector("#password")
    assert page.locator("html").get_attribute("lang") == "en"


def test_logging_out_leaves_the_login(visit, address):
    """And going back shows the login again."""
    page = visit("王小明")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_selector("#password")
    page.goto(address)

    assert page.locator("#password").is_visible()
    assert page.url.endswith("/login")
