"""Whose numbers a draft is judged by: those of the call that wrote it, or none."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGateRunnable, ask_logprobs

from tests.integrations.langchain_tje.conftest import make_gate
from tests.standin import StandIn
from tje_middleware import EntropyGate
from tje_middleware.calls.request import may_refuse

pytestmark = pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning")
Chat = Callable[..., ChatOpenAI]


def decided(draft: Any, question: Any, gate: EntropyGate | None = None, **settings: Any) -> dict[str, Any]:
    """The decision about a draft, whatever it is."""
    seen: list[dict[str, Any]] = []

    def deeper(_: object, decision: Any) -> AIMessage:
        seen.append(decision.as_dict())
        return AIMessage("deeper")

    chain = EntropyGateRunnable(draft=draft, deeper=RunnableLambda(deeper), gate=gate or make_gate(), **settings)
    answer = chain.invoke(question)
    return seen[0] if seen else answer.response_metadata["tje"]


def test_a_message_that_lost_its_id_keeps_the_settings_of_the_call_that_wrote_it(chat: Chat) -> None:
    hot = chat(temperature=1.5)
    same = hot | (lambda message: AIMessage(message.text, response_metadata=message.response_metadata))
    assert decided(hot, "bits=0.2")["reason"] == decided(same, "bits=0.2")["reason"] == "other_settings"


def test_an_answer_in_the_place_of_a_failed_one_is_not_judged_by_it(chat: Chat) -> None:
    def fail(_: object) -> None:
        raise ValueError("unparsable")

    draft = (chat() | fail).with_fallbacks([RunnableLambda(lambda _: AIMessage("canned"))])
    assert decided(draft, "bits=0.2")["reason"] == "no_logprobs"


def test_a_functions_own_message_is_not_judged_by_another_call_that_it_made(chat: Chat) -> None:
    classifier = ask_logprobs(chat())

    def answer(question: str) -> AIMessage:
        classifier.invoke(question)
        return AIMessage("of another provider")

    assert decided(RunnableLambda(answer), "bits=0.2")["reason"] == "no_logprobs"


@pytest.mark.parametrize("slow", ["a", "b"])
def test_side_by_side_it_does_not_matter_which_ends_last(chat: Chat, slow: str) -> None:
    wait: Runnable = RunnableLambda(lambda question: (time.sleep(0.1), question)[1])
    branches = {"a": chat() | StrOutputParser(), "b": chat("ignores-logprobs") | StrOutputParser()}
    branches[slow] = wait | branches[slow]
    assert decided(RunnableParallel(branches), "bits=0.2")["route"] == "deeper"


def test_one_branch_does_not_stop_for_the_tokens_of_another(chat: Chat) -> None:
    other = RunnableLambda(lambda _: "bits=3 tokens=20") | chat(max_tokens=20)
    draft = RunnableParallel(a=chat(max_tokens=20), b=other) | (lambda both: both["a"])
    for mode in ("hold", "abort"):
        decision = decided(draft, "bits=0.2 tokens=20", mode=mode)
        assert (decision["route"], decision["aborted"]) == ("final", False)


def test_of_several_limits_the_largest_bounds_a_mean(chat: Chat) -> None:
    draft = chat(max_tokens=20).bind(max_completion_tokens=200)
    bits = ",".join(["3"] * 11 + ["0.1"])
    for mode in ("hold", "abort"):
        decision = decided(draft, f"bits={bits} tokens=120", mode=mode)
        assert (decision["route"], decision["tokens"]) == ("final", 120)


def test_of_several_answers_at_once_no_stream_is_made(chat: Chat, provider: StandIn) -> None:
    decided(chat(max_tokens=50, n=2), "bits=0.2", mode="abort")
    assert not any(request.get("stream") for request in provider.requests)


def test_a_model_that_does_not_stream_with_tools_is_not_made_to(chat: Chat, provider: StandIn) -> None:
    model = chat(disable_streaming="tool_calling").bind(tools=[{"type": "function", "function": {"name": "f"}}])
    decided(model, "bits=0.1", make_gate(signal="total_entropy"), mode="abort")
    assert not any(request.get("stream") for request in provider.requests)


@pytest.mark.parametrize("mode", ["hold", "abort"])
def test_a_request_that_says_to_stream_is_answered_whole(chat: Chat, mode: str) -> None:
    gate = make_gate(signal="total_entropy")
    assert decided(chat().bind(stream=True), "bits=0.1", gate, mode=mode)["reason"] == "confident"


def test_a_watched_draft_that_is_accepted_says_what_it_cost(chat: Chat) -> None:
    gated = EntropyGateRunnable(
        draft=chat(), deeper=RunnableLambda(lambda _: "deeper"), gate=make_gate(signal="total_entropy"), mode="abort"
    )
    assert gated.invoke("bits=0.1 tokens=6").usage_metadata["total_tokens"] == 16


def test_an_error_that_quotes_a_prompt_about_logprobs_is_no_refusal() -> None:
    assert not may_refuse("logprob", ValueError("input_value='what are logprobs?'"))


def test_settings_of_a_call_reach_a_function_only_where_it_takes_them(chat: Chat, gate: EntropyGate) -> None:
    gated = EntropyGateRunnable(draft=chat(), deeper=RunnableLambda(lambda _: AIMessage("deeper")), gate=gate)
    answer = gated.invoke("bits=2.5", stop=["x"])
    assert (answer.text, answer.response_metadata["tje"]["reason"]) == ("deeper", "uncertain")


def test_who_asks_for_logprobs_in_the_call_gets_them(chat: Chat, gate: EntropyGate) -> None:
    gated = EntropyGateRunnable(draft=chat(), deeper=RunnableLambda(lambda _: "deeper"), gate=gate)
    assert gated.invoke("bits=0.5", logprobs=True).response_metadata["logprobs"]["content"]


async def test_no_token_of_a_fallbacks_draft_is_streamed(chat: Chat, gate: EntropyGate) -> None:
    gated = EntropyGateRunnable(draft=chat("broken").with_fallbacks([chat("spare")]), deeper=chat("deep"), gate=gate)
    texts = [
        event["data"]["chunk"].text
        async for event in gated.astream_events("bits=3 says_model", version="v2")
        if event["event"] == "on_chat_model_stream"
    ]
    assert any("deep" in text for text in texts)
    assert not any("spare" in text for text in texts)
