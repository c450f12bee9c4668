"""The agent demo: it ends and reports, whatever the model does."""

import json
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_tje.demo.agent import MAX_TURNS, calculate, turns_right, written_call
from langchain_tje.demo.run_agent import MAX_DEEPER_PER_RUN, run_agent_demo
from rich.console import Console

from tests.standin import StandIn
from tje_middleware import CalibrationRegistry, DemoError
from tje_middleware.demo import ALWAYS, NEVER, AgentDemoResult, Question, calculated
from tje_middleware.local import LocalServer

CALL = '{"name": "calculate", "arguments": {"expression": "2 * 3"}}'
SUM = Question(id="q", kind="arithmetic", level=1, question="What is 2 times 3?", answers=("6",))


def asked(number: int, wish: str) -> Question:
    return Question(
        id=f"q{number}", kind="arithmetic", level=1, question=f"Question {number}: {wish}", answers=("6",)
    )


def demo(provider: StandIn, wishes: list[str], where: Path, model: str = "standin", test: int = 4) -> AgentDemoResult:
    questions = [asked(number, wish) for number, wish in enumerate(wishes)]
    with CalibrationRegistry(f"sqlite:///{where}/d.db") as registry:
        return run_agent_demo(
            provider.base_url,
            model,
            registry=registry,
            calibration=len(questions) - test,
            test=test,
            progress=lambda *_: None,
            questions=questions,
        )


def printed(result: AgentDemoResult) -> str:
    console = Console(width=100, file=StringIO())
    with console.capture() as shown:
        console.print(result)
    return " ".join(shown.get().split())


def separable(n: int) -> list[str]:
    """Right and sure, wrong and unsure, in turn; by the form of a call that a model writes as text."""
    return [f"says=6 bits=0.{i + 1}" if i % 2 else f"says=7 bits=3.{i}" for i in range(n)]


@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="the embedded model is not installed")
def test_the_embedded_model_really_goes_round_the_loop(tmp_path: Path) -> None:
    with LocalServer() as server, CalibrationRegistry(f"sqlite:///{tmp_path}/d.db") as registry:
        result = run_agent_demo(
            server.base_url, server.model, registry=registry, calibration=10, test=4, progress=lambda *_: None
        )
    never, always = result.policies[NEVER], result.policies[ALWAYS]
    assert result.graded.runs == 10
    assert 0 < result.graded.calls < result.graded.turns
    assert result.graded.unmeasured == 0
    assert result.profile.n_correct + result.profile.n_incorrect == result.graded.turns
    assert never.calls > 0
    assert (always.accepted, always.deeper) == (0, always.turns)
    assert always.comparison.output_tokens > never.comparison.output_tokens
    assert json.dumps(result.as_dict(), allow_nan=False)


def test_a_gate_that_separates_accepts_the_sure_turns(provider: StandIn, tmp_path: Path) -> None:
    result = demo(provider, separable(9) + ["says=6 bits=0.1", "says=7 bits=3.5"] * 2, tmp_path)
    assert result.profile.verdict == "usable"
    info = result.policies["info"]
    assert (info.turns, info.accepted, info.deeper, info.unknown, info.capped) == (4, 2, 2, 0, 0)
    assert info.comparison.saved.value > 0
    assert "of 4 drafts 2 accepted, 2 went deeper" in printed(result)


def test_a_model_that_always_calls_the_tool_is_stopped(provider: StandIn, tmp_path: Path) -> None:
    wish = 'call=calculate args={"expression": "2 * 3"} calls=99'
    result = demo(provider, [wish] * 8, tmp_path, model="standin-toollogprobs")
    assert result.graded.right == 0  # no call is an answer
    for figures in result.policies.values():
        assert figures.runs_cut_off == 4
        assert figures.turns == 4 * MAX_TURNS
        assert figures.comparison.accuracy.value == 0
    assert "had no answer after" in printed(result)


def test_the_cap_of_a_run_holds(provider: StandIn, tmp_path: Path) -> None:
    wish = 'call=calculate args={"expression": "2 * 3"} calls=99'
    result = demo(provider, [wish] * 8, tmp_path, model="standin-toollogprobs")
    (gated,) = [figures for name, figures in result.policies.items() if name not in {NEVER, ALWAYS}]
    assert gated.deeper == 4 * MAX_DEEPER_PER_RUN
    assert gated.capped == gated.turns - gated.deeper > 0
    assert gated.runs_capped == 4


def test_with_an_unusable_verdict_nothing_is_accepted_and_it_is_said(provider: StandIn, tmp_path: Path) -> None:
    result = demo(provider, ["says=7 bits=0.5"] * 10, tmp_path)  # all wrong
    assert result.profile.verdict == "unusable"
    assert list(result.policies) == [NEVER, ALWAYS, "mean"]
    assert result.policies["mean"].accepted == 0
    assert result.policies["mean"].unknown == result.policies["mean"].turns == 4
    assert "the profile is unusable" in printed(result)
    assert "The model never called the tool" in printed(result)


def test_calls_without_logprobs_are_in_no_record_and_unknown_to_the_gate(provider: StandIn, tmp_path: Path) -> None:
    call = 'call=calculate args={"expression": "2 * 3"} '
    wishes = [call + wish for wish in [*separable(8), "says=6 bits=0.1", "says=6 bits=0.1"]]
    result = demo(provider, wishes, tmp_path, test=2)
    assert (result.graded.calls, result.graded.unmeasured) == (8, 8)
    assert result.profile.verdict == "usable"
    assert (result.policies["info"].unknown, result.policies["info"].accepted) == (2, 2)
    assert "8 turns came without logprobs" in printed(result)


def test_a_server_without_logprobs_is_an_error(provider: StandIn, tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="gives no logprobs"):
        demo(provider, ["says=6"] * 6, tmp_path, model="ignores-logprobs")


def test_more_questions_than_there_are_is_an_error(tmp_path: Path) -> None:
    with (
        CalibrationRegistry(f"sqlite:///{tmp_path}/d.db") as registry,
        pytest.raises(DemoError, match="there are 120"),
    ):
        run_agent_demo("http://x", "m", registry=registry, calibration=100, test=30, progress=lambda *_: None)


def test_a_written_call_is_read() -> None:
    assert written_call(CALL, {"calculate": calculate}) == ("calculate", {"expression": "2 * 3"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The answer is 6.",
        f"Sure: {CALL}",
        f"{CALL} {CALL}",
        "[" * 100_000,
        CALL.replace("calculate", "delete"),
        CALL.replace("expression", "formula"),
        CALL.replace('"2 * 3"', "6"),
        '{"name": "calculate", "arguments": {}}',
        '{"name": ["calculate"], "arguments": {"expression": "1"}}',
        '{"name": "calculate", "arguments": {"expression": "1", "more": 1}}',
        '{"name": "calculate", "arguments": {"expression": "1"}, "id": 1}',
    ],
)
def test_anything_else_stays_text(text: str) -> None:
    assert written_call(text, {"calculate": calculate}) is None


def test_turns_are_graded_by_themselves() -> None:
    def run(result: str, answer: str) -> dict[str, bool]:
        call: Any = {"name": "calculate", "args": {}, "id": "c", "type": "tool_call"}
        messages = [HumanMessage(SUM.question), AIMessage("", tool_calls=[call], id="call")]
        return turns_right(SUM, [*messages, ToolMessage(result, tool_call_id="c"), AIMessage(answer, id="answer")])

    assert run("6", "The answer is 6.") == {"call": True, "answer": True}
    assert run("5", "The answer is 5.") == {"call": False, "answer": True}  # it cannot know better
    assert run("6", "The answer is 5.") == {"call": True, "answer": False}
    assert run("error: no", "The answer is 6.") == {"call": False, "answer": True}
    assert turns_right(SUM, [HumanMessage("2 * 3?"), AIMessage("6", id="a")]) == {"a": True}


@pytest.mark.parametrize(
    ("expression", "value"),
    [("17 * 23", "391"), ("2 * (18 + 7)", "50"), ("1 / 3", "0.333333"), ("-4 - -1", "-3"), ("0.15 * 240", "36")],
)
def test_the_calculator_calculates(expression: str, value: str) -> None:
    assert calculated(expression) == value


@pytest.mark.parametrize(
    "expression",
    ["", "1 +", "2 ** 9999", "a", "__import__('os')", "True + 1", "1e308 * 10", "1 / 0", "(" * 119, "9" * 200, "1,2"],
)
def test_the_calculator_says_what_it_cannot(expression: str) -> None:
    assert calculated(expression).startswith("error: ")
