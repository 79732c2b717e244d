"""The pages in a real browser."""

from __future__ import annotations

from html import escape

import pytest

from browser import chromium, needs_chromium, watch
from mnist_lab.report import compare, mistakes, read_kept, report_study
from mnist_lab.report.page import render_comparison, render_mistakes, render_study
from studies import make_study

pytestmark = needs_chromium

CONTRAST = 4.5  # of text, by WCAG 2.2 AA


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def pages(settings, small_dataset):
    """The files of a study's pages, by name."""
    study = make_study(settings, small_dataset, 40, kept=5)
    trials = study.ranked()[:2]
    kept = read_kept(study, trials, settings)
    numbers = [str(trial.number) for trial in trials]
    compared = compare(study, numbers, kept=kept, dataset=small_dataset)
    found = mistakes(study, settings, small_dataset)
    texts = {
        "study": render_study(report_study(study, settings), commands="mnist-lab sweep fnn"),
        "compare": render_comparison(compared, small_dataset.validation),
        "mistakes": render_mistakes(found, small_dataset.validation),
    }
    for name, text in texts.items():
        (settings.root / f"{name}.html").write_text(text)
    return {name: settings.root / f"{name}.html" for name in texts}


@pytest.fixture
def page(browser, pages):
    """The study's page, opened."""
    opened = watch(browser, height=1200).page
    opened.goto(pages["study"].as_uri())
    yield opened
    opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [600, 1400])
def test_every_page_fits_makes_no_errors_and_fetches_nothing(browser, pages, width, scheme):
    for file in pages.values():
        watched = watch(browser, width, scheme)
        watched.page.goto(file.as_uri())
        content, window = watched.page.evaluate(
            "[document.documentElement.scrollWidth, innerWidth]"
        )
        assert content <= window
        assert watched.errors == []
        assert [url for url in watched.requests if not url.startswith("data:")] == [file.as_uri()]
        watched.page.close()


def test_a_click_on_a_column_sorts_by_it_and_another_one_the_other_way(page):
    head = page.locator("#leaderboard th", has_text="parameters")
    cells = page.locator("#leaderboard tbody tr td:nth-child(6)")

    def values():
        return [int(text.replace(",", "")) for text in cells.all_inner_texts()]

    head.locator("button").click()
    assert values() == sorted(values())
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert values() == sorted(values(), reverse=True)
    assert page.locator("#leaderboard th[aria-sort]").count() == 1


def test_only_the_pareto_front_is_left_on_demand(page):
    rows = page.locator("#leaderboard tbody tr:visible")
    before = rows.count()
    page.get_by_label("only trials that no smaller model equals").check()
    assert 0 < rows.count() < before


def test_a_drag_along_an_axis_keeps_the_lines_that_cross_there(page):
    axis = page.locator("svg.parallel .brush").first
    axis.scroll_into_view_if_needed()
    box = axis.bounding_box()
    middle = box["x"] + box["width"] / 2
    page.mouse.move(middle, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(middle, box["y"] + box["height"] / 3, steps=4)
    page.mouse.up()
    faded = page.locator("svg.parallel polyline.out").count()
    assert 0 < faded < page.locator("svg.parallel polyline").count()
    page.mouse.click(middle, box["y"] + box["height"] - 2)
    assert page.locator("svg.parallel polyline.out").count() == 0


def test_sections_are_reached_by_keyboard(page):
    page.get_by_role("button", name="Images").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "images"
    top = page.evaluate("document.getElementById('images').getBoundingClientRect().top")
    assert abs(top) < 5


def test_a_trial_with_the_focus_stands_out_everywhere(page):
    row = page.locator("#leaderboard tbody tr").nth(1)
    row.focus()
    number = row.get_attribute("data-trial")
    assert page.locator(f"svg .hot[data-trial='{number}']").count() > 2
    assert f"Trial {number}:" in page.locator("#tip").inner_text()
    page.keyboard.press("Escape")
    assert page.locator(".hot").count() == 0


def test_charts_and_pictures_have_names_for_screen_readers(page):
    for each in page.locator("svg:not([aria-hidden])").all():
        assert each.get_attribute("role") == "img"
        assert each.locator("title").first.inner_html()
    assert page.locator(".pic").count() > 5
    for each in page.locator(".pic").all()[:5]:
        assert "labelled" in each.get_attribute("aria-label")
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1


def test_it_works_in_the_sandbox_that_mlflow_shows_it_in(browser, pages, tmp_path):
    outer = tmp_path / "outer.html"
    content = escape(pages["study"].read_text(), quote=True)
    outer.write_text(
        f'<iframe sandbox="allow-scripts" width="600" height="900" srcdoc="{content}">'
    )
    watched = watch(browser, 700)
    watched.page.goto(outer.as_uri())
    frame = watched.page.frame_locator("iframe")
    frame.get_by_role("button", name="Cost").click()
    frame.locator("#leaderboard th", has_text="seconds").locator("button").click()
    assert watched.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_dark_enough_on_its_ground(browser, pages, scheme):
    page = watch(browser, scheme=scheme).page
    page.goto(pages["study"].as_uri())
    colours = page.evaluate(
        "Object.fromEntries(['bg', 'panel', 'ink', 'soft', 'blue', 'red'].map(name =>"
        " [name, getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()]))"
    )
    for text in ("ink", "soft", "blue", "red"):
        for ground in ("bg", "panel"):
            assert contrast(colours[text], colours[ground]) >= CONTRAST, (text, ground)


def contrast(first, second):
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    """The relative luminance of ``#rgb`` or ``#rrggbb`` (WCAG 2.2)."""
    digits = colour.removeprefix("#")
    digits = "".join(2 * each for each in digits) if len(digits) == 3 else digits
    shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
