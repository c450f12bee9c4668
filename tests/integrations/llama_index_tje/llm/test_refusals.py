"""What is no refusal of logprobs, though it looks like one: errors that quote the request; and what is told of it."""

from __future__ import annotations

import json
import warnings

import pytest
from llama_index.core.llms import LLM
from llama_index.llms.openai_like import OpenAILike
from llama_index_tje import EntropyGatedLLM, ask_logprobs

from tests.gates import make_gate
from tests.integrations.llama_index_tje.conftest import Make
from tests.integrations.llama_index_tje.ways import EVERY, STREAMED, WHOLE, Way, decision_of, messages, text_of
from tests.standin import StandIn
from tje_middleware import EntropyGate, TjeWarning

#: Its errors quote the request: what it was asked for, and the prompt.
ECHOING = "standin-echoing"
REFUSING = "refuses-logprobs-echoing"
PRIVATE = "bits=0.2 tokens=2 What do logprobs say of Ada, who is not well?"
MALFORMED = {"additional_kwargs": {"stop": ["a", "b", "c", "d", "e"]}}
every_way = pytest.mark.parametrize("way", EVERY, ids=lambda way: way.__name__)
every_mode = pytest.mark.parametrize("mode", ["hold", "annotate", "abort"])


def gated(like: Make, gate: EntropyGate, mode: str, model: str = ECHOING, **settings: object) -> LLM:
    return EntropyGatedLLM(llm=like(model, **settings), deeper=like("deep"), gate=gate, mode=mode)


def total(model: str, **policies: object) -> EntropyGate:
    """A gate whose rejections can be foreseen, for every mode."""
    return make_gate(model, signal="total_entropy", **policies)


@every_mode
@every_way
class TestAMalformedRequestWhoseErrorQuotesIt:
    async def test_raises_what_it_raises_without_the_gate(self, like: Make, way: Way, mode: str) -> None:
        with pytest.raises(Exception, match="stop takes at most") as plain:
            await way(like(ECHOING, **MALFORMED), PRIVATE)
        with pytest.raises(Exception, match="stop takes at most") as raised:
            await way(gated(like, total(ECHOING), mode, **MALFORMED), PRIVATE)
        assert type(raised.value) is type(plain.value)
        assert "logprobs'" not in str(raised.value).replace(PRIVATE, "")

    async def test_says_nothing_of_the_next(self, like: Make, provider: StandIn, way: Way, mode: str) -> None:
        gate = total(ECHOING)
        with pytest.raises(Exception, match="stop takes at most"):
            await way(gated(like, gate, mode, **MALFORMED), PRIVATE)
        assert gate.capabilities.any_refusal() is None
        decision = decision_of((await way(gated(like, gate, mode), PRIVATE))[-1])
        assert (decision["reason"], decision["tokens"]) == ("confident", 2)
        assert provider.asked_for_logprobs()[-1] == 20
        assert "Ada" not in json.dumps(decision)

    async def test_leaves_streams_to_be_asked_for(self, like: Make, provider: StandIn, way: Way, mode: str) -> None:
        gate = total(ECHOING)
        with pytest.raises(Exception, match="stop takes at most"):
            await way(gated(like, gate, mode, **MALFORMED), PRIVATE)
        await way(gated(like, gate, mode), PRIVATE)
        again = provider.requests[-1]
        assert bool(again.get("stream")) == (mode == "abort" or (mode == "annotate" and way in STREAMED))
        assert bool(again.get("stream_options")) == bool(again.get("stream"))


@every_mode
@every_way
class TestARefusalThatQuotesTheRequest:
    async def test_is_remembered_after_one_try(self, like: Make, provider: StandIn, way: Way, mode: str) -> None:
        gate = total(REFUSING, on_missing="final")
        llm = gated(like, gate, mode, model=REFUSING)
        with pytest.warns(TjeWarning, match="refused to give logprobs"):
            await way(llm, PRIVATE)
        tried = len(provider.requests)
        await way(llm, PRIVATE)
        assert provider.asked_for_logprobs()[tried:] == [None]

    async def test_is_told_without_the_prompt(self, like: Make, way: Way, mode: str) -> None:
        gate = total(REFUSING, on_missing="final")
        with pytest.warns(TjeWarning, match="refused to give logprobs") as warned:
            for _ in range(2):
                answer = (await way(gated(like, gate, mode, model=REFUSING), PRIVATE))[-1]
        decision = decision_of(answer)
        assert decision["reason"] == "no_logprobs"
        assert "BadRequestError): logprobs are not supported with reasoning models" in decision["detail"]
        assert "Ada" not in json.dumps(decision) + "".join(str(each.message) for each in warned)

    async def test_leaves_streams_to_be_asked_for_what_they_cost(
        self, like: Make, provider: StandIn, way: Way, mode: str
    ) -> None:
        gate = total(REFUSING, on_missing="final")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TjeWarning)
            for _ in range(2):
                await way(gated(like, gate, mode, model=REFUSING), PRIVATE)
        again = provider.requests[-1]
        assert bool(again.get("stream_options")) == bool(again.get("stream"))


@every_way
async def test_a_plain_refusal_takes_no_more_than_one_request_more_where_the_draft_is_watched(
    like: Make, provider: StandIn, way: Way
) -> None:
    gate = total("refuses-logprobs", on_missing="final")
    llm = gated(like, gate, "abort", model="refuses-logprobs")
    with pytest.warns(TjeWarning, match="refused to give logprobs"):
        for _ in range(2):
            assert text_of((await way(llm, PRIVATE))[-1]) == "w0 w1 "
    assert provider.asked_for_logprobs() == [20, None, None]


@pytest.mark.parametrize("way", [*WHOLE, *STREAMED], ids=lambda way: way.__name__)
async def test_an_llm_that_is_only_asked_for_logprobs_goes_by_the_same_rules(
    like: Make, provider: StandIn, gate: EntropyGate, way: Way
) -> None:
    with pytest.raises(Exception, match="stop takes at most"):
        await way(ask_logprobs(like(ECHOING, **MALFORMED), gate=gate), PRIVATE)
    await way(ask_logprobs(like(ECHOING), gate=gate), PRIVATE)
    assert provider.asked_for_logprobs()[-1] == 20
    assert gate.capabilities.may_ask_usage(ECHOING)


def test_a_tool_call_of_a_malformed_request_raises_as_well(like: Make, gate: EntropyGate, provider: StandIn) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    llm = gated(like, total(ECHOING), "abort", **MALFORMED)
    with pytest.raises(Exception, match="stop takes at most"):
        llm.chat(messages(PRIVATE), tools=tools)
    assert provider.asked_for_logprobs()[-1] is None


def test_what_the_deeper_llm_refuses_is_not_held_against_the_one_that_drafts(like: Make, gate: EntropyGate) -> None:
    """They may be the same model, with other settings."""

    class Reasoning(OpenAILike):
        def chat(self, messages: object, **settings: object) -> object:
            if settings.get("reasoning_effort") and settings.get("logprobs"):
                raise TypeError("logprobs are not supported with reasoning_effort")
            return super().chat(messages, **settings)

    plain = like()
    llm = EntropyGatedLLM(
        llm=Reasoning(**{name: getattr(plain, name) for name in MADE_OF}),
        deeper_settings={"reasoning_effort": "high"},
        gate=gate,
    )
    assert decision_of(llm.chat(messages("bits=3"), logprobs=True))["answered_by"] == "deeper"
    assert decision_of(llm.chat(messages("bits=0.3")))["reason"] == "confident"


MADE_OF = ("model", "api_base", "api_key", "temperature", "max_retries", "is_chat_model", "reuse_client")


def test_the_deeper_llm_is_asked_as_the_caller_asks(like: Make, gate: EntropyGate, provider: StandIn) -> None:
    EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate).chat(
        messages("bits=3"), logprobs=True, top_logprobs=5
    )
    assert provider.asked_for_logprobs() == [20, 5]
