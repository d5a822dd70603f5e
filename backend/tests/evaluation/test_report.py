import re
from html.parser import HTMLParser

import pytest

from s3d.errors import StorageError
from s3d.evaluation.report import Best, Page

VOID = {"meta", "img", "br", "link"}


class Checker(HTMLParser):
    """Collects tags and refuses what is not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def tags(page):
    checker = Checker()
    checker.feed(page.html())
    assert checker.open == []
    return checker.seen


def full_page():
    page = Page("Title", "Subtitle", footer="Made today.")
    page.section("One").text("First.\n\nSecond.").note("Mind this.")
    page.table(["Case", "A", "B"], [["x", 0.5, 0.25], ["y", 1, float("nan")]], "Caption", last_row=["Mean", 0.75, 0.25])
    return page.picture(b"\x89PNG", "a picture", "below it")


def bold(page):
    return re.findall(r"<strong>([^<]*)</strong>", page.html())


def test_the_page_is_well_formed_and_says_it_is_no_medical_device():
    html = full_page().html()
    names = [tag for tag, _ in tags(full_page())]
    assert names.count("h1") == 1
    assert names.count("p") == 5  # subtitle, two paragraphs, note, footer
    assert html.startswith("<!DOCTYPE html>")
    assert "For research use only, not a medical device. Made today.</p>\n</footer>" in html


def test_nothing_is_fetched_from_outside():
    html = full_page().html()
    assert re.findall(r"(?:https?:)?//|url\(|@import", html) == []
    sources = [attributes["src"] for tag, attributes in tags(full_page()) if tag == "img"]
    assert sources == ["data:image/png;base64,iVBORw=="]
    assert "script" not in [tag for tag, _ in tags(full_page())]


def test_every_text_is_escaped():
    evil = "<script>alert('x')</script>&\""
    page = Page(evil, evil, evil).section(evil).text(evil).note(evil)
    page.table([evil], [[evil]], evil, last_row=[evil]).picture(b"", evil, evil)
    assert "<script" not in page.html()
    assert "&lt;script&gt;" in page.html()
    pictures = [attributes for tag, attributes in tags(page) if tag == "img"]
    assert pictures[0]["alt"] == evil


def test_a_dollar_sign_in_a_text_is_only_a_dollar_sign():
    assert "$title costs $5" in Page("x").text("$title costs $5").html()


def test_figures_are_right_aligned_with_the_digits_asked_for():
    cells = re.findall(r'<td class="number">([^<]*)</td>', full_page().html())
    assert cells == ["0.500", "0.250", "1", "\N{EN DASH}", "0.750", "0.250"]
    signed = Page("x").table(["Case", "Gain"], [["1", "+0.6 [0.3, 0.9]"], ["2", float("-inf")]], digits=1).html()
    assert re.findall(r'class="number">([^<]*)<', signed) == ["Gain", "+0.6 [0.3, 0.9]", "-∞"]


def test_a_column_of_words_is_left_aligned_and_the_first_column_always():
    html = Page("x").table(["Case", "What"], [["001", "word"]]).html()
    assert '<th scope="row">001</th><td>word</td>' in html


def test_the_better_figure_of_each_row_is_bold():
    page = Page("x").table(["", "A", "B"], [["x", 0.5, 0.25], ["y", 0.1, 0.3]], best=Best((1, 2)))
    assert bold(page) == ["0.500", "0.300"]
    assert "Bold: the best" in page.html()


def test_figures_that_look_equal_are_not_marked():
    page = Page("x").table(["", "A", "B"], [["x", 0.50001, 0.5], ["y", 0.3, float("nan")]], best=Best((1, 2)))
    assert bold(page) == []
    assert "Bold" not in page.html()


def test_the_best_of_a_column_may_be_the_lowest_and_may_be_shared():
    rows = [["x", 2.0, 1], ["y", 1.0, 1], ["z", 1.0001, 1]]
    page = Page("x").table(["", "HD95", "Rank"], rows, best=Best((1, 2), along="column", higher=False))
    assert bold(page) == ["1.000", "1.000"]


def test_the_file_is_written_whole_or_not_at_all(tmp_path):
    path = full_page().write(tmp_path / "deep" / "report.html")
    assert path.read_text(encoding="utf-8") == full_page().html()
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StorageError, match=r"report\.html"):
        full_page().write(blocked / "report.html")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["deep", "file"]
