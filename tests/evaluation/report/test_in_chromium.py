"""The page in a real browser: everything is drawn, nothing complains, nothing is cut off."""

from dataclasses import replace

import numpy as np
import pytest

from tje_middleware.evaluation.report import write_report

from .browser import browser, executable
from .samples import HOSTILE, curve_of, drafts, evaluated, records

pytest.importorskip("websockets", reason="the browser is driven over a websocket")
pytestmark = pytest.mark.skipif(executable() is None, reason="no Chromium here: apt-get install chromium")

PHONE, DESK = 390, 1280
VIEWS = [(width, scheme) for width in (PHONE, DESK) for scheme in ("light", "dark")]
ALL_RIGHT = replace(records(30), correct=np.ones(30, dtype=bool))
RECORDS = {
    "full": records(),
    "noise": records(60, gap=0.0, seed=4),
    "all right": ALL_RIGHT,
    "no deeper outcomes": records(60, deeper=False),
    "one record": records(1),
}

MARKS = ".point path, .points path, path.js-line, path.js-fill"
DRAWN = f"""[...document.querySelectorAll('.plot')].map(box => [
    box.dataset.figure, box.querySelectorAll('.main-svg').length, box.querySelectorAll('{MARKS}').length])"""
OVERLAPS = """[...document.querySelectorAll('.plot')].flatMap(box =>
    ['.xtick', '.ytick', '.x2tick', '.y2tick'].flatMap(kind => {
        const texts = [...box.querySelectorAll(kind + ' text')];
        const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
        return boxes.flatMap(([one, a], place) => boxes.slice(place + 1).filter(([, b]) =>
            a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2
        ).map(([other]) => `${box.dataset.figure}: ${one} / ${other}`));
    }))"""
CUT_OFF = """[...document.querySelectorAll('.plot')].flatMap(box => {
    const edge = box.getBoundingClientRect();
    return [...box.querySelectorAll('svg text')].filter(text => {
        const own = text.getBoundingClientRect();
        return own.width && (own.left < edge.left - 1 || own.right > edge.right + 1);
    }).map(text => `${box.dataset.figure}: ${text.textContent}`);
})"""
SMALLEST = """Math.min(...[...document.querySelectorAll('.plot svg text')].map(
    text => parseFloat(getComputedStyle(text).fontSize)))"""
PAPER = "getComputedStyle(document.documentElement).backgroundColor"
INK_IN_FIGURES = "getComputedStyle(document.querySelector('.plot .ytitle')).fill"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    for name, observations in RECORDS.items():
        curve = curve_of(observations) if name == "full" else None
        evaluation = evaluated(observations, model=HOSTILE if name == "full" else "m")
        write_report(folder / f"{name}.html", evaluation, observations, curve=curve, drafts=drafts())
    return folder


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(executable(), tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module", params=[(name, width, scheme) for name in RECORDS for width, scheme in VIEWS])
def seen(request, pages, tab):
    """One page in one view: what there is to see, and what the browser said."""
    name, width, scheme = request.param
    tab.open(pages / f"{name}.html", width=width, scheme=scheme)
    return {
        "errors": tab.run("document.documentElement.dataset.errors"),
        "figures": tab.run(DRAWN),
        "overlaps": tab.run(OVERLAPS),
        "cut off": tab.run(CUT_OFF),
        "smallest": tab.run(SMALLEST),
        "beyond": tab.run("document.scrollingElement.scrollWidth - innerWidth"),
        "complaints": tab.complaints,
        "requests": tab.requests,
    }


def test_every_figure_is_drawn(seen):
    assert len(seen["figures"]) >= 4
    assert [name for name, pictures, marks in seen["figures"] if not pictures or not marks] == []


def test_nothing_complains(seen):
    assert seen["complaints"] == []
    assert seen["errors"] is None


def test_nothing_is_asked_of_the_network(seen):
    assert seen["requests"] == []


def test_the_page_does_not_scroll_sideways(seen):
    assert seen["beyond"] <= 0


def test_labels_neither_overlap_nor_are_cut_off_nor_tiny(seen):
    assert seen["overlaps"] == []
    assert seen["cut off"] == []
    assert seen["smallest"] >= 11


def test_figures_follow_the_scheme_of_the_system(pages, tab):
    seen = []
    for scheme in ("light", "dark"):
        tab.open(pages / "full.html", width=DESK, scheme=scheme)
        seen.append((tab.run(PAPER), tab.run(INK_IN_FIGURES)))
    (light_paper, light_ink), (dark_paper, dark_ink) = seen
    assert light_paper == "rgb(253, 252, 250)"
    assert dark_paper == "rgb(22, 23, 26)"
    assert light_ink != dark_ink


def test_the_button_goes_against_the_system_and_is_remembered(pages, tab):
    tab.open(pages / "full.html", width=DESK, scheme="dark")
    dark = tab.run(INK_IN_FIGURES)
    try:
        tab.run("document.getElementById('theme').click(); new Promise(done => setTimeout(done, 500))")
        assert tab.run("document.getElementById('theme').textContent") == "Theme: light"
        assert tab.run(PAPER) == "rgb(253, 252, 250)"
        assert tab.run(INK_IN_FIGURES) != dark
        tab.open(pages / "noise.html", width=DESK, scheme="dark")
        assert tab.run(PAPER) == "rgb(253, 252, 250)"
    finally:
        tab.run("localStorage.clear()")


def test_a_hostile_name_is_text(pages, tab):
    tab.open(pages / "full.html", width=DESK, scheme="light")
    assert tab.run("document.title") == f"{HOSTILE} on triage"
    assert tab.run("document.querySelectorAll('img').length") == 0
    assert tab.run("document.querySelector('h1').textContent") == f"{HOSTILE} on triage"


def test_wide_tables_scroll_in_their_own_box(pages, tab):
    tab.open(pages / "full.html", width=PHONE, scheme="light")
    assert tab.run("[...document.querySelectorAll('.scroll')].some(box => box.scrollWidth > box.clientWidth)")


def test_on_paper_folded_tables_are_open_and_colours_are_those_for_white(pages, tab):
    tab.open(pages / "full.html", width=DESK, scheme="dark")
    dark = tab.run(INK_IN_FIGURES)
    assert tab.run("document.querySelectorAll('details[open]').length") == 0
    tab.run("dispatchEvent(new Event('beforeprint')); new Promise(done => setTimeout(done, 500))")
    assert tab.run("document.querySelectorAll('details:not([open])').length") == 0
    assert tab.run(INK_IN_FIGURES) != dark
    tab.run("dispatchEvent(new Event('afterprint')); new Promise(done => setTimeout(done, 500))")
    assert tab.run("document.querySelectorAll('details[open]').length") == 0
    assert tab.run(INK_IN_FIGURES) == dark
