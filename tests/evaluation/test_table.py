"""What a person reads and what a machine reads."""

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console, RenderableType

from tests.evaluation.recorded import drawn, recorded
from tests.samples import KEY
from tje_middleware import ProfileKey
from tje_middleware.calibration.settings import CalibrationSettings, Prices
from tje_middleware.evaluation import replay
from tje_middleware.evaluation.sample_size import learning_curve
from tje_middleware.evaluation.table import as_dict, evaluation_table, learning_table, profile_table

SETTINGS = CalibrationSettings(resamples=60, alpha=0.3, prices=Prices(error=1, deeper=0.2))


def rendered(table: RenderableType, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(table)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def evaluation():
    records = drawn(1_500).with_signal("other", np.random.default_rng(1).normal(5, 1, 1_500))
    return replay(records, key=ProfileKey(model="m", task="t", signal="auto"), settings=SETTINGS)


@pytest.fixture(scope="module")
def curve():
    return learning_curve(drawn(120), key=KEY, sizes=(5, 20), repeats=10)


class TestTables:
    @pytest.mark.parametrize("width", [80, 100, 160])
    def test_cut_nothing_off(self, evaluation, curve, width):
        for table in (evaluation_table(evaluation), profile_table(evaluation.profile), learning_table(curve, "mean")):
            text = rendered(table, width)
            assert "…" not in text
            assert max(map(len, text.splitlines())) <= width

    @pytest.mark.parametrize("width", [80, 160])
    def test_show_every_policy_with_its_figures(self, evaluation, width):
        text = rendered(evaluation_table(evaluation), width)
        for name, figures in evaluation.policies.items():
            row = next(line for line in text.splitlines() if re.match(rf" {name} ", line))
            assert f"{figures.accuracy.value:.1%}" in row
            assert f"{figures.accepted.value:.1%}" in row

    def test_put_intervals_below_their_figures_where_there_is_no_room_beside(self, evaluation):
        accuracy = evaluation.policies["never"].accuracy
        interval = f"[{accuracy.low * 100:.1f}, {accuracy.high * 100:.1f}]"
        assert f"{accuracy.value:.1%} {interval}" in rendered(evaluation_table(evaluation), 160)
        assert f"{accuracy.value:.1%} {interval}" not in rendered(evaluation_table(evaluation), 80)

    def test_say_why_a_method_is_missing_once_for_all_of_the_same_reason(self):
        correct = np.arange(60) % 2
        backwards = recorded(np.arange(60) * 0.01 + correct, correct, np.ones(60), tokens=10, deeper_tokens=40)
        text = rendered(evaluation_table(replay(backwards, key=KEY)), 200)
        assert text.count("an unusable profile in 5 of 5 folds") == 1
        assert "mean, info, universal: an unusable profile" in text

    def test_say_what_cannot_be_known_without_deeper_outcomes(self):
        text = rendered(evaluation_table(replay(recorded(range(20), [1] * 12 + [0] * 8), key=KEY)), 400)
        assert "Without deeper_correct in every record" in text
        assert "Without tokens and deeper_tokens in every record" in text

    def test_say_who_pays_for_the_draft(self):
        texts = [
            rendered(evaluation_table(replay(drawn(60), key=KEY, deeper_includes_draft=included)), 300)
            for included in (True, False)
        ]
        assert ["writes the draft, too" in text for text in texts] == [True, False]
        assert ["writes no draft" in text for text in texts] == [False, True]

    def test_of_a_profile_show_thresholds_guarantees_candidates_and_notes(self, evaluation):
        profile = evaluation.profile.model_copy(update={"notes": ("something is odd",)})
        text = rendered(profile_table(profile), 200)
        assert profile.thresholds["risk"].guarantee in text
        assert profile.thresholds["noninferior"].guarantee in text
        assert f"{profile.thresholds['mean'].value:.4g}" in text
        assert "Signals that were looked at" in text
        assert "something is odd" in text
        assert profile.verdict_reason in text

    def test_of_a_learning_curve_have_a_row_for_each_size(self, curve):
        text = rendered(learning_table(curve, "mean"), 160)
        assert [line.split()[0] for line in text.splitlines() if re.match(r" +\d", line)] == ["5", "20"]


class TestPlainValues:
    def test_are_strict_json(self, evaluation):
        assert json.loads(json.dumps(as_dict(evaluation), allow_nan=False)) == as_dict(evaluation)

    def test_hold_the_figures(self, evaluation):
        plain = as_dict(evaluation)
        accuracy = evaluation.policies["mean"].accuracy
        assert plain["policies"]["mean"]["accuracy"] == {
            "value": accuracy.value,
            "low": accuracy.low,
            "high": accuracy.high,
        }
        assert plain["curve"]["area"] == evaluation.curve.area

    def test_thin_a_long_curve_and_keep_its_ends(self, evaluation):
        plain = as_dict(evaluation)["curve"]
        assert len(plain["gate"]) == len(plain["saved"]) == 201
        assert (plain["gate"][0], plain["gate"][-1]) == (evaluation.curve.gate[0], evaluation.curve.gate[-1])

    def test_have_none_where_there_is_no_curve(self):
        assert as_dict(replay(recorded(range(20), [1] * 12 + [0] * 8), key=KEY))["curve"] is None
