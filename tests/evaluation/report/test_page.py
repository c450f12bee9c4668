"""The page: everything that a reader asks for is in it or explained, and nothing from the records can break it."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from tje_middleware.errors import CalibrationError
from tje_middleware.evaluation.report import render_report, write_report

from .samples import HOSTILE, SIGNAL, curve_of, drafts, evaluated, records

SECTIONS = ["result", "signal", "savings", "risk", "roc", "reliability", "learning", "thresholds", "drafts", "method"]
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """A parsed page: its elements in order, its text by section, and whether every element is closed."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.sections, self.unbalanced = [], {}, [], []
        self.scripts, self._open, self._section = [], [], None
        self.feed(page)
        self.close()
        self.unbalanced += self._open

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name not in VOID:
            self._open.append(name)
        if name == "section":
            self._section = dict(attributes)["id"]
            self.sections.append(self._section)
        if name == "script":
            self.scripts.append("")

    def handle_endtag(self, name):
        if not self._open or self._open.pop() != name:
            self.unbalanced.append(name)
        if name == "section":
            self._section = None

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        else:
            # White space is shown as one blank, however the template is broken into lines.
            self.text[self._section] = re.sub(r"\s+", " ", self.text.get(self._section, "") + data)

    @property
    def figures(self):
        (found,) = [text for text, (_, of) in zip(self.scripts, self._of("script"), strict=True) if "id" in of]
        return json.loads(found, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    @property
    def boxes(self):
        return [of["data-figure"] for _, of in self.tags if "data-figure" in of]

    def _of(self, name):
        return [tag for tag in self.tags if tag[0] == name]


def page_of(observations, **more):
    return Page(render_report(evaluated(observations), observations, **more))


@pytest.fixture(scope="module")
def full():
    observations = records()
    return page_of(observations, curve=curve_of(observations), drafts=drafts())


ALL_RIGHT = replace(records(30), correct=np.ones(30, dtype=bool))
ODD = {
    "no deeper outcomes": records(60, deeper=False),
    "all right": ALL_RIGHT,
    "all wrong": replace(ALL_RIGHT, correct=~ALL_RIGHT.correct),
    "noise": records(60, gap=0.0, seed=4),
    "the wrong direction": records(60, gap=-0.4),
    "one record": records(1),
    "two records": records(2),
    "a constant signal": replace(records(40), signals={SIGNAL: np.full(40, 0.5)}),
    "no tokens": replace(records(60), tokens=None, deeper_tokens=None),
    "huge values": replace(records(40), signals={SIGNAL: np.geomspace(1e-30, 1e30, 40)}),
    "many records": records(20_000),
}


class TestAFullPage:
    def test_has_every_section_in_the_order_in_which_a_reader_asks(self, full):
        assert full.sections == SECTIONS

    def test_closes_what_it_opens(self, full):
        assert full.unbalanced == []

    def test_has_a_box_for_each_figure_and_a_figure_for_each_box(self, full):
        assert full.boxes == list(full.figures)
        assert full.boxes == [
            "distribution",
            "savings-tokens",
            "savings-accepted",
            "policies",
            "risk-coverage",
            "roc",
            "reliability",
            "learning",
        ]

    def test_says_the_result_with_its_intervals(self, full):
        said = re.search(r"Accepting with noninferior saves [\d.]+% \[.*?\] of the tokens", full.text["result"])
        assert said
        assert "points against always going deeper" in full.text["result"]

    def test_names_model_task_signal_and_counts(self, full):
        assert all(word in full.text["result"] for word in ("acme-7b", "triage", SIGNAL, "200: 139 right, 61 wrong"))

    def test_has_all_methods_in_its_tables(self, full):
        for method in ("mean", "info", "bayes", "universal", "risk", "noninferior", "cost"):
            assert method in full.text["thresholds"]
            assert method in full.text["savings"]

    def test_refers_to_the_paper_and_the_settings(self, full):
        assert "2510.08146" in full.text["method"]
        assert "seed = 0" in full.text["method"]

    def test_loads_nothing(self, full):
        assert [of for _, of in full.tags if "src" in of or of.get("rel") == "stylesheet"] == []
        (policy,) = [of["content"] for _, of in full.tags if "http-equiv" in of]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")

    def test_says_where_an_axis_does_not_begin_at_zero(self, full):
        low, _ = full.figures["savings-accepted"]["layout"]["yaxis"]["range"]
        assert low > 0
        assert f"runs from {low:.0%}" in full.text["savings"]

    def test_is_valid_for_plotly(self, full):
        graph_objects = pytest.importorskip("plotly.graph_objects")
        for figure in full.figures.values():
            drawn = json.loads(re.sub(r"var\(--[\w-]+\)", "#123456", json.dumps(figure)))
            graph_objects.Figure(drawn)


class TestAPageAboutOddRecords:
    @pytest.mark.parametrize("name", ODD)
    def test_has_every_section_and_says_something_in_it(self, name):
        page = page_of(ODD[name])
        assert page.sections == SECTIONS
        assert page.unbalanced == []
        assert page.boxes == list(page.figures)
        assert all(len(page.text[section]) > 60 for section in SECTIONS)
        assert not re.search(r"\bnan\b|\binf\b|\bNone\b", "".join(page.text.values()))

    @pytest.mark.parametrize("name", ["noise", "the wrong direction", "all right", "one record", "a constant signal"])
    def test_says_plainly_that_the_gate_would_accept_nothing(self, name):
        page = page_of(ODD[name])
        assert "accepts nothing" in page.text["result"]
        assert "do not gate" in page.text["result"]

    def test_explains_what_missing_outcomes_hide(self):
        page = page_of(ODD["no deeper outcomes"])
        assert "was not recorded" in page.text["savings"]
        assert "neither savings nor a loss of accuracy can be shown" in page.text["result"]
        assert "deeper_correct is not in every record" in page.text["reliability"]

    def test_draws_no_roc_of_one_class_and_says_why(self):
        page = page_of(ODD["all right"])
        assert "roc" not in page.boxes
        assert "all drafts are right" in page.text["roc"]

    def test_says_that_no_texts_and_no_curve_were_given(self):
        page = page_of(records(60))
        assert "no token texts" in page.text["drafts"]
        assert "no learning curve was computed" in page.text["learning"]

    def test_gives_the_reason_for_each_threshold_that_is_missing(self):
        page = page_of(ODD["one record"])
        assert "bayes needs at least 2 correct drafts" in page.text["thresholds"]

    def test_without_any_threshold_says_so(self):
        observations = records(60)
        evaluation = evaluated(observations)
        thresholds = {
            name: type(found)(reason="there is none") for name, found in evaluation.profile.thresholds.items()
        }
        profile = evaluation.profile.model_copy(update={"thresholds": thresholds})
        page = Page(render_report(replace(evaluation, profile=profile), observations))
        assert "No method found a threshold" in page.text["result"]
        assert page.sections == SECTIONS

    def test_stays_small_with_many_records(self):
        figures = page_of(ODD["many records"]).figures
        assert len(json.dumps(figures)) < 150_000
        longest = [len(trace[axis]) for one in figures.values() for trace in one["data"] for axis in ("x", "y")]
        assert max(longest) <= 1_000  # a band goes there and back


@pytest.fixture(scope="module")
def hostile():
    observations = replace(records(60), signals={SIGNAL: records(60).signals[SIGNAL], HOSTILE: np.arange(60.0)})
    evaluation = evaluated(observations, model=HOSTILE, task=f"{HOSTILE}`{HOSTILE}`")
    profile = evaluation.profile.model_copy(update={"notes": (HOSTILE,), "verdict_reason": HOSTILE})
    return render_report(replace(evaluation, profile=profile), observations, drafts=drafts())


class TestHostileTexts:
    def test_open_no_element(self, hostile):
        page = Page(hostile)
        assert page.unbalanced == []
        assert [name for name, _ in page.tags].count("script") == 3
        assert "img" not in {name for name, _ in page.tags}
        assert [of for _, of in page.tags if any(name.startswith("on") for name in of)] == []

    def test_are_shown_as_they_are(self, hostile):
        assert HOSTILE in Page(hostile).text["result"]
        assert HOSTILE in Page(hostile).text["drafts"]

    def test_as_the_signals_name_stay_text_in_figures(self):
        observations = replace(records(60), signals={HOSTILE: records(60).signals[SIGNAL]})
        evaluation = evaluated(replace(observations, signals={SIGNAL: observations.signals[HOSTILE]}))
        key = evaluation.profile.key.model_copy(update={"signal": HOSTILE})
        profile = evaluation.profile.model_copy(update={"key": key})
        page = Page(render_report(replace(evaluation, profile=profile), observations))
        assert "<" not in page.figures["distribution"]["layout"]["xaxis"]["title"]["text"]


class TestWriting:
    def test_writes_the_whole_page(self, tmp_path):
        observations = records(40)
        write_report(tmp_path / "r.html", evaluated(observations), observations, title="A title")
        assert "<title>A title</title>" in (tmp_path / "r.html").read_text(encoding="utf-8")
        assert [path.name for path in tmp_path.iterdir()] == ["r.html"]

    def test_writes_half_a_character_as_its_number(self, tmp_path):
        observations = records(40)
        write_report(tmp_path / "r.html", evaluated(observations), observations, title="\ud83d")
        assert "<title>\\ud83d</title>" in (tmp_path / "r.html").read_text(encoding="utf-8")

    def test_into_a_folder_that_is_not_there_says_so(self, tmp_path):
        observations = records(40)
        with pytest.raises(CalibrationError, match=r"r\.html cannot be written"):
            write_report(tmp_path / "no" / "r.html", evaluated(observations), observations)

    def test_leaves_the_old_page_where_there_is_nothing_to_report(self, tmp_path):
        (tmp_path / "r.html").write_text("old")
        with pytest.raises(CalibrationError, match="no records"):
            write_report(tmp_path / "r.html", evaluated(records(40)), records(0))
        assert (tmp_path / "r.html").read_text() == "old"

    def test_needs_the_profiles_signal(self):
        other = replace(records(40), signals={"other": np.arange(40.0)})
        with pytest.raises(CalibrationError, match=SIGNAL):
            render_report(evaluated(records(40)), other)


def told_by(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


class TestPlotly:
    def test_is_loaded_only_when_a_page_is_made(self):
        assert told_by("import tje_middleware.evaluation.report, sys; print('plotly' in sys.modules)") == "False"

    def test_where_it_is_missing_the_import_names_what_to_install(self):
        code = """
import sys
sys.modules["plotly"] = None
try:
    import tje_middleware.evaluation.report
except ImportError as error:
    print(error.name, error)
"""
        assert told_by(code) == 'plotly a report needs plotly: pip install "tje-middleware[report]"'
