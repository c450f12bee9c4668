"""What is read out of a live model's answers that a stand-in would not give: odd numbers, tokens and names."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tje_middleware import SequenceLogprobs
from tje_middleware.cli.doctor import answers
from tje_middleware.cli.doctor.endpoint import Answer

SURE = [math.log(0.9), math.log(0.1)]


def sequence(tokens: list[str], rows: list[list[float]] | None = None, sampled: list[float] | None = None):
    rows = rows or [SURE] * len(tokens)
    return SequenceLogprobs(np.array(rows), tuple(tokens), np.array(sampled or [row[0] for row in rows]))


def answer(evidence, text: str = "", **more) -> Answer:
    unknown = {"reasoning": None, "arguments": None, "model": None, "reasoning_tokens": None, "has_usage": True}
    return Answer(evidence=evidence, text=text, **{**unknown, **more})


def position(token: str, logprob: float = -0.1) -> dict:
    return {"token": token, "logprob": logprob, "top_logprobs": [{"token": token, "logprob": logprob}]}


class TestNumbers:
    def test_logprobs_of_a_distribution(self):
        finding = answers.numbers_of(sequence(["a", "b"]))
        assert finding.status == "ok"
        assert "0.469 bits" in finding.found

    def test_probabilities_that_add_up_to_more_than_one(self):
        finding = answers.numbers_of(sequence(["a"], [[math.log(0.9), math.log(0.5)]]))
        assert (finding.status, "1.400" in finding.found) == ("fail", True)

    def test_a_sampled_token_that_is_not_among_the_alternatives(self):
        finding = answers.numbers_of(sequence(["a", "b"], sampled=[SURE[0], -6.0]))
        assert (finding.status, "at 1 of 2 positions" in finding.found) == ("warn", True)

    def test_certainty_that_only_temperature_0_makes(self):
        cold = sequence(["a"], [[0.0, -math.inf]])
        assert answers.is_certain(cold)
        assert answers.numbers_of(cold).status == "fail"
        assert answers.numbers_of(cold, sequence(["a"])).status == "warn"
        assert answers.numbers_of(cold, cold).status == "fail"

    def test_one_alternative_is_not_called_certain(self):
        assert not answers.is_certain(sequence(["a"], [[0.0]]))


class TestTemperature:
    def test_the_likeliest_tokens_at_0_and_the_same_numbers_at_1(self):
        assert answers.temperature_of(sequence(["a"]), sequence(["a"])).status == "ok"

    def test_other_tokens_than_the_likeliest_at_0(self):
        drawn = sequence(["a", "b", "c"], sampled=[SURE[1], SURE[1], SURE[0]])
        finding = answers.temperature_of(drawn, None)
        assert (finding.status, "at 2 of 3 positions" in finding.found) == ("warn", True)

    def test_numbers_that_change_with_the_temperature(self):
        warm = sequence(["a"], [[math.log(0.6), math.log(0.4)]])
        finding = answers.temperature_of(sequence(["a"]), warm)
        assert (finding.status, "--temperature" in finding.remedy) == ("warn", True)

    def test_five_alternatives_are_compared_with_the_five_likeliest_of_twenty(self):
        twenty = sequence(["a"], [[math.log(0.5), *[math.log(0.5 / 19)] * 19]])
        assert answers.temperature_of(twenty, twenty.truncated(5)).status == "ok"


class TestText:
    @pytest.mark.parametrize(
        ("tokens", "text", "outcome"),
        [
            (["17", " + ", "26"], "17 + 26", "ok"),
            (["<think>", "hm", "</think>", "43"], "43", "ok"),
            (["<think>", "hm", "</think>", "43"], "<think>hm</think>43", "ok"),
            (["43", "<|im_end|>"], "43", "warn"),
            (["\u0120forty", "\u0120three"], "forty three", "warn"),
        ],
        ids=["spelled", "thinking apart", "thinking within", "control token", "tokens of bytes"],
    )
    def test_whether_tokens_spell_the_answer(self, tokens, text, outcome):
        covering = sequence(tokens)
        assert answers.cover_of(answer(covering, text), covering).status == outcome

    def test_tokens_without_names_cannot_be_checked(self):
        nameless = SequenceLogprobs(np.array([SURE]))
        assert "not named" in answers.cover_of(answer(nameless, "43"), nameless).found


class TestThinking:
    def test_within_the_logprobs(self):
        finding = answers.thinking_of(answer(sequence(["<think>", "hm", "</think>", "43"])))
        assert (finding.status, "3 of the 4" in finding.found) == ("ok", True)

    @pytest.mark.parametrize("sign", [{"reasoning": "hm"}, {"reasoning_tokens": 64}, {"text": "<think>hm"}])
    def test_beside_them(self, sign):
        finding = answers.thinking_of(answer(sequence(["43"]), **sign))
        assert (finding.status, "no logprobs cover that" in finding.found) == ("warn", True)

    def test_none(self):
        assert answers.thinking_of(answer(sequence(["43"]), "43", reasoning_tokens=0)).status == "ok"


class TestNames:
    @pytest.mark.parametrize(
        ("name", "outcome"),
        [("m", "ok"), ("org/m", "ok"), ("m-2026-01-01", "ok"), ("n", "warn"), (None, "warn")],
    )
    def test_the_name_that_answers_come_under(self, name, outcome):
        assert answers.name_of(answer(sequence(["43"]), model=name), "m").status == outcome

    def test_another_name_is_to_be_in_the_key_or_an_alias(self):
        finding = answers.name_of(answer(sequence(["43"]), model="n"), "m")
        assert "asked for 'm', the server answers as another model: 'n'" in finding.found
        assert "the model in the profile's key has to be the name that the server answers with" in finding.remedy
        assert "tje registry alias" in finding.remedy


class TestTools:
    def test_logprobs_that_spell_the_arguments(self):
        called = answer(sequence(['{"name": "f", "arguments": ', '{"a":', " 1}", "}"]), arguments='{"a": 1}')
        assert answers.tool_call_of(called, "tool calls").status == "ok"

    def test_logprobs_that_do_not(self):
        called = answer(sequence(["Let ", "me ", "look"]), arguments='{"a": 1}')
        assert answers.tool_call_of(called, "tool calls").status == "warn"

    def test_a_tool_that_is_not_called_is_what_an_agent_has_to_know(self):
        finding = answers.tool_call_of(answer(sequence(["No"])), "tool calls")
        assert (finding.status, "the model called no tool" in finding.found) == ("missing", True)
        assert "matters to agents only" in finding.remedy
        assert "goes deeper by default" in finding.remedy
        assert 'tool_calls="pass"' in finding.remedy


class TestStructured:
    def test_json_under_its_schema(self):
        assert answers.structured_of(answer(sequence(['{"answer": ', "43}"]), '{"answer": 43}')).status == "ok"

    def test_a_schema_that_is_ignored(self):
        assert "not JSON" in answers.structured_of(answer(sequence(["43"]), "It is 43")).found

    def test_logprobs_from_before_the_schema_is_applied(self):
        forced = sequence(['{"answer": ', "43}"], sampled=[-6.0, SURE[0]])
        finding = answers.structured_of(answer(forced, '{"answer": 43}'))
        assert (finding.status, "at 1 of them" in finding.found) == ("warn", True)


class TestAnswer:
    def test_a_stream_is_put_together(self):
        def chunk(delta: dict, token: str | None = None, **more) -> dict:
            logprobs = {"content": [position(token)]} if token else None
            return {"model": "m", "choices": [{"index": 0, "delta": delta, "logprobs": logprobs}], **more}

        call = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a":'}}]}
        rest = {"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}]}
        usage = {
            "choices": [],
            "usage": {"completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 2}},
        }
        chunks = [chunk({"reasoning_content": "hm"}), chunk(call, '{"a":'), chunk(rest, " 1}"), usage]
        whole = Answer.of_stream(chunks)
        assert (whole.arguments, whole.reasoning, whole.model) == ('{"a": 1}', "hm", "m")
        assert (whole.has_usage, whole.reasoning_tokens) == (True, 2)
        assert isinstance(whole.evidence, SequenceLogprobs)

    def test_a_stream_with_a_hole_is_not_taken_for_whole(self):
        def chunk(text: str, token: str | None) -> dict:
            logprobs = {"content": [position(token)]} if token else None
            return {"choices": [{"index": 0, "delta": {"content": text}, "logprobs": logprobs}]}

        streamed = Answer.of_stream([chunk("seventeen ", "seventeen "), chunk("and twenty-six", None)])
        assert answers.stream_of(streamed).status == "fail"

    def test_findings_are_fit_for_json(self):
        finding = answers.numbers_of(sequence(["a"], [[0.0, -math.inf]]))
        assert json.loads(json.dumps(vars(finding)))["name"] == "numbers"
