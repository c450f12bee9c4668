"""Records, keys and profiles: what is read, what is refused, and when two settings are one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.samples import KEY, calibrate_samples, draft, profile, sample
from tje_middleware import CalibrationError, CalibrationProfile, CalibrationRecord, NoThreshold


class TestRecord:
    def test_reads_the_line_of_the_disk_format(self):
        line = '{"id": "q17", "correct": true, "tokens": 211, "signals": {"mean_entropy": 0.31}, "text": "kept out"}'
        record = CalibrationRecord.model_validate_json(line)
        assert (record.id, record.correct, record.tokens) == ("q17", True, 211)
        assert record.value("mean_entropy", 20) == 0.31

    def test_reads_raw_logprobs_with_texts_and_sampled_logprobs(self):
        raw = {
            "top_logprobs": [[-0.1, -3.0], [-0.2, -2.0]],
            "token_texts": ["a", "b"],
            "sampled_logprobs": [-0.1, -2],
        }
        sequence = CalibrationRecord.model_validate({"correct": False, **raw}).sequence
        assert sequence.top_k == 2
        assert sequence.tokens == ("a", "b")
        assert sequence.sampled_logprobs.tolist() == [-0.1, -2.0]

    def test_reads_what_the_deeper_branch_gave_and_cost(self):
        record = CalibrationRecord.model_validate({"correct": False, "deeper_correct": True, "deeper_tokens": 640})
        assert (record.deeper_correct, record.deeper_tokens) == (True, 640)

    def test_takes_a_number_for_an_id(self):
        assert CalibrationRecord.model_validate({"id": 7, "correct": True}).id == "7"

    @pytest.mark.parametrize("label", [1, 0, 1.0, "true", "yes", [], None])
    def test_a_label_is_true_or_false_and_nothing_like_it(self, label):
        with pytest.raises(ValidationError, match="correct"):
            CalibrationRecord.model_validate({"correct": label})

    @pytest.mark.parametrize("label", [1, 0, 1.0, "true"])
    def test_so_is_the_deeper_branchs(self, label):
        with pytest.raises(ValidationError, match="deeper_correct"):
            CalibrationRecord.model_validate({"correct": True, "deeper_correct": label})

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), "much", None, True])
    def test_a_signal_is_a_finite_number(self, value):
        with pytest.raises(ValidationError, match="mean_entropy"):
            CalibrationRecord.model_validate({"correct": True, "signals": {"mean_entropy": value}})

    def test_a_signal_may_be_a_number_of_numpy(self):
        assert CalibrationRecord(correct=True, signals={"x": np.float32(0.5)}).value("x", 20) == 0.5

    @pytest.mark.parametrize("tokens", [-1, 1.5, "many"])
    def test_tokens_are_a_count(self, tokens):
        with pytest.raises(ValidationError, match="tokens"):
            CalibrationRecord.model_validate({"correct": True, "tokens": tokens})

    @pytest.mark.parametrize("rows", [[], [[]], [[0.3, -1.0]], [[float("nan")]], [["a"]], "x", 3])
    def test_logprobs_that_are_none_are_refused_where_the_record_is_read(self, rows):
        with pytest.raises(ValidationError):
            CalibrationRecord.model_validate({"correct": True, "top_logprobs": rows})

    def test_a_computed_signal_takes_precedence_over_the_logprobs(self):
        record = CalibrationRecord(correct=True, signals={"mean_entropy": 9.0}, sequence=draft(0.3))
        assert record.value("mean_entropy", 20) == 9.0

    def test_is_written_without_its_logprobs(self):
        assert "sequence" not in CalibrationRecord(correct=True, sequence=draft(0.3)).model_dump()


class TestProfile:
    finite = st.floats(0, 1e6)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(finite, max_size=8), st.lists(finite, min_size=1, max_size=8))
    def test_comes_back_from_json_as_it_went(self, correct, incorrect):
        made = calibrate_samples(np.array(correct), np.array(incorrect), key=KEY)
        assert CalibrationProfile.model_validate_json(made.model_dump_json()) == made
        assert CalibrationProfile.model_validate(json.loads(json.dumps(made.model_dump(mode="json")))) == made

    def test_of_a_newer_schema_is_refused(self):
        text = json.dumps({**profile().model_dump(mode="json"), "schema_version": 4})
        with pytest.raises(ValidationError, match="schema_version"):
            CalibrationProfile.model_validate_json(text)

    def test_names_the_methods_that_there_are(self):
        with pytest.raises(CalibrationError, match=r"no method 'median'.*mean, info, bayes, universal"):
            profile().threshold("median")

    def test_says_why_a_method_has_no_threshold_and_which_ones_do(self):
        alone = calibrate_samples(sample(0.3, 0.1, 5), np.array([]), key=KEY)
        assert alone.threshold("mean") == pytest.approx(0.3)
        with pytest.raises(NoThreshold, match=r"'bayes' has no threshold.*2 incorrect drafts.*that have one: mean\)"):
            alone.threshold("bayes")

    def test_cannot_be_changed(self):
        with pytest.raises(ValidationError):
            profile().verdict = "usable"


@pytest.mark.parametrize("label", [np.True_, np.False_])
def test_numpys_booleans_are_labels(label: np.bool_) -> None:
    assert CalibrationRecord(correct=label).correct is bool(label)
