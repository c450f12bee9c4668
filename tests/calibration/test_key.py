"""Keys: what they are valid for, when two names mean one model, and how a key reads."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.samples import KEY
from tje_middleware import ProfileKey
from tje_middleware.calibration.key import is_of, same_model


class TestKey:
    @pytest.mark.parametrize(
        "wrong", [{"model": ""}, {"task": ""}, {"top_k": 0}, {"temperature": -0.1}, {"temperature": float("nan")}]
    )
    def test_refuses_what_names_nothing(self, wrong):
        with pytest.raises(ValidationError):
            ProfileKey(**{"model": "m", "task": "t", **wrong})

    def test_refuses_a_misspelt_part(self):
        with pytest.raises(ValidationError, match="temprature"):
            ProfileKey(model="m", task="t", temprature=0)

    def test_serves_as_a_key_of_a_dict(self):
        assert {ProfileKey(model="m", task="t", temperature=0): 1}[ProfileKey(model="m", task="t", temperature=0.0)]

    def test_a_draft_with_fewer_alternatives_differs_and_one_with_more_does_not(self):
        assert "5 alternatives" in KEY.difference(5)
        assert KEY.difference(21) is None

    def test_settings_differ_only_where_both_are_known(self):
        known = ProfileKey(model="m", task="t", temperature=0.7, prompt_fingerprint="abc")
        assert known.difference(20, temperature=None, prompt_fingerprint=None) is None
        assert KEY.difference(20, temperature=1.0, prompt_fingerprint="x") is None
        assert "temperature 1.0" in known.difference(20, temperature=1.0)
        assert "'xyz'" in known.difference(20, prompt_fingerprint="xyz")
        assert "'other'" in known.difference(20, model="other")


class TestSameModel:
    @pytest.mark.parametrize(
        ("name", "other"),
        [
            ("gpt-4o", "gpt-4o"),
            ("gpt-4o", "GPT-4o "),
            ("openai:gpt-4o", "gpt-4o"),
            ("models/gemini-2.5-pro", "gemini-2.5-pro"),
            ("openai:gpt-4o-2024-08-06", "gpt-4o"),
            ("claude-sonnet-4@20250514", "claude-sonnet-4"),
        ],
    )
    def test_a_prefix_or_a_snapshots_date_tell_no_models_apart(self, name, other):
        assert same_model(name, other)
        assert same_model(other, name)

    @pytest.mark.parametrize(
        ("name", "other"),
        [("gpt-4o", "gpt-4o-mini"), ("qwen:0.5b", "llama:0.5b"), ("", "gpt-4o"), ("o", "gpt-4o"), ("a/x", "b/x")],
    )
    def test_other_names_are_other_models(self, name, other):
        assert not same_model(name, other)
        assert not same_model(other, name)


class TestInWords:
    # Names of what stands between the parts of a key and of what does not print.
    name = st.text(st.sampled_from('a /"\\(),\n\x1b\u202e\u00e9'), min_size=1, max_size=6)
    key = st.builds(
        ProfileKey,
        model=name,
        task=name,
        signal=name,
        top_k=st.integers(1, 2),
        temperature=st.none() | st.sampled_from([0, 0.5]),
        prompt_fingerprint=st.none() | name,
    )

    @pytest.mark.parametrize("name", ["gpt-4o", "Qwen/Qwen2.5-7B Instruct", "m:1@2", "日本語"])
    def test_plain_names_stand_as_they_are(self, name):
        assert str(ProfileKey(model=name, task=name)) == f"{name} / {name} / mean_entropy (top 20)"

    def test_others_stand_in_quotes(self):
        key = ProfileKey(model="a / b", task="\x1b[31m", temperature=0, prompt_fingerprint="x, y")
        said = '"a / b" / "\\u001b[31m" / mean_entropy (top 20, temperature 0, prompt "x, y")'
        assert str(key) == said

    @given(key, key)
    @settings(max_examples=500)
    def test_no_two_keys_have_the_same_and_all_of_them_can_be_printed(self, one, other):
        assert (str(one) == str(other)) == (one == other)
        assert str(one).isprintable()

    @given(key, name)
    @settings(max_examples=500)
    def test_a_key_is_of_its_model_and_task_and_of_no_other(self, key, other):
        words = str(key)
        assert is_of(words)
        assert is_of(words, model=key.model, task=key.task)
        assert is_of(words, model=other) == (key.model == other)
        assert is_of(words, task=other) == (key.task == other)

    def test_what_is_no_key_is_of_nothing(self):
        assert is_of("?")
        assert not is_of("?", model="?")
