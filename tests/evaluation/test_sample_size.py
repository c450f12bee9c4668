"""How calibrations on few records spread, and how many labels it would take."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.recorded import drawn, recorded
from tests.samples import KEY
from tje_middleware import CalibrationError, CalibrationRecord, ProfileKey
from tje_middleware.calibration.separation import auroc_interval
from tje_middleware.evaluation.sample_size import labels_for_verdict, learning_curve

RECORDS = drawn(400, gap=1.5)


@pytest.fixture(scope="module")
def curve():
    return learning_curve(RECORDS, key=KEY, sizes=(5, 20, 100), repeats=40)


class TestSizes:
    def test_are_those_below_the_number_of_records(self):
        found = learning_curve(drawn(30), key=KEY, sizes=(20, 5, 30, 500), repeats=2)
        assert [size.records for size in found.sizes] == [5, 20]
        assert found.records == 30

    def test_may_be_none_at_all(self):
        assert learning_curve(drawn(4), key=KEY, repeats=2).sizes == ()

    def test_are_tried_on_the_records_that_were_not_drawn(self, curve):
        assert [size.held_out for size in curve.sizes] == [395, 380, 300]

    @pytest.mark.parametrize(("sizes", "repeats"), [((0, 5), 3), ((5,), 0)])
    def test_and_repeats_below_one_are_refused(self, sizes, repeats):
        with pytest.raises(CalibrationError, match="at least 1"):
            learning_curve(RECORDS, key=KEY, sizes=sizes, repeats=repeats)


class TestDraws:
    def test_scatter_less_when_they_are_larger(self, curve):
        widths = [size.methods["mean"].threshold.high - size.methods["mean"].threshold.low for size in curve.sizes]
        assert widths == sorted(widths, reverse=True)
        aurocs = [size.auroc.high - size.auroc.low for size in curve.sizes]
        assert aurocs == sorted(aurocs, reverse=True)

    def test_lie_around_what_all_records_give(self, curve):
        large = curve.sizes[-1]
        assert large.auroc.low < curve.profile.auroc < large.auroc.high
        threshold = large.methods["mean"].threshold
        assert threshold.low < curve.profile.threshold("mean") < threshold.high

    def test_are_more_often_usable_when_they_are_larger(self, curve):
        usable = [size.verdicts["usable"] for size in curve.sizes]
        assert usable == sorted(usable)
        assert usable[-1] == 1
        assert all(sum(size.verdicts.values()) == pytest.approx(1) for size in curve.sizes)

    def test_without_a_class_are_counted(self):
        rare = recorded(range(40), [1] * 38 + [0] * 2)
        (size,) = learning_curve(rare, key=KEY, sizes=(5,), repeats=200).sizes
        hypergeometric = 38 * 37 * 36 * 35 * 34 / (40 * 39 * 38 * 37 * 36)
        assert size.one_class == pytest.approx(hypergeometric, abs=0.1)
        assert size.verdicts["unusable"] >= size.one_class

    def test_without_a_threshold_are_counted_and_accept_nothing(self, curve):
        small = curve.sizes[0].methods["risk"]
        assert (small.found, small.threshold, small.risk) == (0, None, None)
        assert (small.accepted.low, small.accepted.high) == (0, 0)
        assert small.accuracy_gain.median == 0
        assert small.saved.median < 0  # drafts were paid for

    def test_realise_the_figures_of_their_threshold_on_the_rest(self):
        # The only draw of all records but one has a threshold of exactly 1.
        records = recorded([1.0] * 6 + [3.0, 3.5, 4, 4.5, 5], [1] * 6 + [0] * 5, [1] * 11, tokens=1, deeper_tokens=4)
        (size,) = learning_curve(records, key=KEY, sizes=(10,), repeats=60).sizes
        mean = size.methods["mean"]
        assert mean.threshold.low == mean.threshold.high == 1
        assert (mean.accepted.low, mean.accepted.high) == (0, 1)
        assert mean.risk.high == 0
        assert mean.accuracy_gain.median == 0
        assert (mean.saved.low, mean.saved.high) == (1 - 5 / 4, 1 - 1 / 4)

    def test_of_the_same_seed_are_the_same(self, curve):
        assert learning_curve(RECORDS, key=KEY, sizes=(5, 20, 100), repeats=40).sizes == curve.sizes

    def test_may_come_from_records(self):
        values = zip(np.linspace(0, 1, 20), [True, False] * 10, strict=True)
        records = (CalibrationRecord(correct=c, signals={"mean_entropy": v}) for v, c in values)
        found = learning_curve(records, key=KEY, sizes=(5,), repeats=3)
        (size,) = found.sizes
        assert (found.records, size.draws) == (20, 3)
        assert size.methods["mean"].accuracy_gain is size.methods["mean"].saved is None

    def test_with_an_id_twice_are_refused(self):
        with pytest.raises(CalibrationError, match="same id 'a'"):
            learning_curve(recorded([1, 2], [1, 0], ids=["a", "a"]), key=KEY)

    def test_tell_their_progress(self):
        told = []
        learning_curve(
            drawn(30), key=KEY, sizes=(5, 10), repeats=3, progress=lambda done, total: told.append((done, total))
        )
        assert told == [(done, 6) for done in range(1, 7)]


ALONE = drawn(150, gap=1.5)
# The first of equally good signals is taken; from few records noise is as good.
MANY = replace(ALONE, signals={"other": np.random.default_rng(1).normal(2, 1, 150), **ALONE.signals})
AUTO = ProfileKey(model="m", task="t", signal="auto")


@pytest.fixture(scope="module")
def chosen():
    return learning_curve(MANY, key=AUTO, sizes=(10, 100), repeats=10)


class TestAutomaticChoice:
    def test_is_made_anew_in_every_draw(self, chosen):
        assert chosen.sizes[0].signals.keys() == {"mean_entropy", "other"}
        assert chosen.sizes[1].signals == {"mean_entropy": 1}

    def test_of_different_signals_gives_no_common_threshold(self, chosen):
        assert chosen.sizes[0].methods["mean"].threshold is None
        assert chosen.sizes[1].methods["mean"].threshold is not None

    def test_is_made_less_often_from_many_records(self, chosen):
        assert [size.draws for size in chosen.sizes] == [10, 2]


class TestLabels:
    @pytest.mark.parametrize("share", [0.5, 0.25, 0.1])
    @pytest.mark.parametrize("area", [0.55, 0.6, 0.75, 0.95])
    def test_needed_are_the_fewest_whose_interval_excludes_chance(self, area, share):
        needed = labels_for_verdict(area, share, 0).needed

        def excludes(n):
            return auroc_interval(area, n * share, n * (1 - share))[0] > 0.5 + 1e-9

        assert excludes(needed)
        assert needed <= 1 / share or not excludes(needed - 1)

    @settings(max_examples=50)
    @given(area=st.floats(0.51, 1), share=st.floats(0.01, 0.99), have=st.integers(0, 1000))
    def test_more_are_those_beyond_what_there_is(self, area, share, have):
        needed, more = labels_for_verdict(area, share, have)
        assert more == max(needed - have, 0)

    @pytest.mark.parametrize("area", [0.5, 0.3, 0.0])
    def test_without_separation_no_number_would_do(self, area):
        assert labels_for_verdict(area, 0.5, 10) is None

    @pytest.mark.parametrize("share", [0, 1])
    def test_of_one_class_no_number_would_do(self, share):
        assert labels_for_verdict(0.8, share, 10) is None

    def test_of_a_rare_class_must_hold_one_of_it(self):
        assert labels_for_verdict(1.0, 0.01, 0).needed >= 100

    def test_of_a_curve_are_for_the_separation_in_all_records(self, curve):
        share = RECORDS.correct.mean()
        assert curve.labels == labels_for_verdict(curve.profile.auroc, share, 400)
        assert curve.labels.more == 0

    def test_of_an_automatic_choice_are_for_what_it_reaches_out_of_fold(self):
        found = learning_curve(MANY, key=AUTO, sizes=())
        assert (
            found.labels.needed == labels_for_verdict(found.profile.auroc_out_of_fold, MANY.correct.mean(), 0).needed
        )
