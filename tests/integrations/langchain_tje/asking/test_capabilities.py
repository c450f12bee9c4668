"""Models that refuse or ignore logprobs: found out once, remembered, asked without, and never silently accepted."""

import asyncio
import json
import pickle
import warnings
from collections.abc import Awaitable, Callable

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGateRunnable, think_just_enough

from tests.integrations.langchain_tje.conftest import make_gate
from tests.releases import needs
from tests.standin import StandIn
from tje_middleware import EntropyGate, TjeWarning

Chat = Callable[..., ChatOpenAI]
Way = Callable[..., Awaitable[AIMessage]]
MODES = ("hold", "annotate", "abort")
#: Their errors quote the request: what they were asked for, and the prompt.
ECHOING, REFUSING = "standin-echoing", "refuses-logprobs-echoing"
PRIVATE = "bits=0.2 tokens=2 What do logprobs say of Ada, who is not well?"
MALFORMED = {"stop": ["a", "b", "c", "d", "e"]}


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return word


def gated(draft: Runnable, gate: EntropyGate, mode: str = "hold") -> EntropyGateRunnable:
    return think_just_enough(draft, deeper=lambda _: AIMessage("deeper"), gate=gate, mode=mode)


class TestAModelThatRefuses:
    @pytest.mark.parametrize("mode", MODES)
    def test_is_asked_for_logprobs_once(self, chat: Chat, provider: StandIn, mode: str) -> None:
        gate = make_gate("refuses-logprobs", signal="total_entropy", on_missing="final")
        chain = gated(chat("refuses-logprobs"), gate, mode)
        with pytest.warns(TjeWarning, match="refused to give logprobs.*reasoning models") as said:
            answers = [chain.invoke("bits=0.5") for _ in range(3)]
        assert provider.asked_for_logprobs() == [20, None, None, None]
        assert {answer.response_metadata["tje"]["reason"] for answer in answers} == {"no_logprobs"}
        assert len(said) == 1

    @pytest.mark.parametrize("mode", MODES)
    async def test_is_asked_for_logprobs_once_on_the_event_loop(
        self, chat: Chat, provider: StandIn, mode: str
    ) -> None:
        gate = make_gate("refuses-logprobs", signal="total_entropy", on_missing="final")
        chain = gated(chat("refuses-logprobs"), gate, mode)
        with pytest.warns(TjeWarning, match="refused to give logprobs"):
            for _ in range(3):
                await chain.ainvoke("bits=0.5")
        assert provider.asked_for_logprobs() == [20, None, None, None]

    def test_is_known_to_every_chain_of_the_gate(self, chat: Chat, provider: StandIn) -> None:
        gate = make_gate("refuses-logprobs", on_missing="final")
        with pytest.warns(TjeWarning):
            for _ in range(3):
                gated(chat("refuses-logprobs"), gate).invoke("bits=0.5")
        assert provider.asked_for_logprobs() == [20, None, None, None]

    def test_is_known_to_a_gate_in_another_process(self) -> None:
        gate = make_gate()
        gate.capabilities.remember("o3", TypeError("no logprobs"))
        assert "no logprobs" in (pickle.loads(pickle.dumps(gate)).capabilities.refusal("o3") or "")

    def test_says_nothing_of_other_models(self, chat: Chat, provider: StandIn) -> None:
        gate = make_gate(on_missing="final")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TjeWarning)
            gated(chat("refuses-logprobs"), gate).invoke("bits=0.5")
        assert gated(chat(), gate).invoke("bits=0.5").response_metadata["tje"]["reason"] == "confident"

    def test_only_in_streams_is_asked_again_unstreamed(self, chat: Chat, provider: StandIn) -> None:
        gate = make_gate("like-llama-cpp", signal="total_entropy")
        chain = gated(chat("like-llama-cpp").bind_tools([look_up]), gate, "abort")
        for _ in range(2):
            assert chain.invoke("bits=0.1").response_metadata["tje"]["reason"] == "confident"
        # The first is refused as a stream; from then on nothing is streamed, and nothing can be stopped.
        assert [bool(request.get("stream")) for request in provider.requests] == [True, False, False]
        assert provider.asked_for_logprobs() == [20, 20, 20]


def test_a_model_that_ignores_the_request_is_asked_on_and_warned_of_once(chat: Chat, provider: StandIn) -> None:
    chain = gated(chat("ignores-logprobs"), make_gate("ignores-logprobs"))
    with pytest.warns(TjeWarning, match="the model was asked for them") as said:
        answers = [chain.invoke("bits=0.5").text for _ in range(3)]
    assert answers == ["deeper"] * 3
    assert provider.asked_for_logprobs() == [20, 20, 20]
    assert len(said) == 1


def test_an_error_that_is_no_refusal_is_raised(chat: Chat, provider: StandIn) -> None:
    with pytest.raises(Exception, match="the server is broken"):
        gated(chat("broken"), make_gate("broken")).invoke("bits=0.5")
    assert len(provider.requests) == 1


async def invoke(chain: Runnable, question: str, **settings: object) -> AIMessage:
    return await asyncio.to_thread(lambda: chain.invoke(question, **settings))


async def ainvoke(chain: Runnable, question: str, **settings: object) -> AIMessage:
    return await chain.ainvoke(question, **settings)


async def stream(chain: Runnable, question: str, **settings: object) -> AIMessage:
    return await asyncio.to_thread(lambda: joined(list(chain.stream(question, **settings))))


async def astream(chain: Runnable, question: str, **settings: object) -> AIMessage:
    return joined([chunk async for chunk in chain.astream(question, **settings)])


def joined(chunks: list) -> AIMessage:
    return sum(chunks[1:], chunks[0])


def total(model: str, **policies: object) -> EntropyGate:
    """A gate whose rejections can be foreseen, for every mode."""
    return make_gate(model, signal="total_entropy", **policies)


every_mode = pytest.mark.parametrize("mode", MODES)
every_way = pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream], ids=lambda way: way.__name__)


@every_mode
@every_way
class TestAMalformedRequestWhoseErrorQuotesIt:
    async def test_raises_what_it_raises_without_the_gate(self, chat: Chat, way: Way, mode: str) -> None:
        with pytest.raises(Exception, match="stop takes at most") as plain:
            await way(chat(ECHOING), PRIVATE, **MALFORMED)
        with pytest.raises(Exception, match="stop takes at most") as raised:
            await way(gated(chat(ECHOING), total(ECHOING), mode), PRIVATE, **MALFORMED)
        assert type(raised.value) is type(plain.value)
        assert "logprobs'" not in str(raised.value).replace(PRIVATE, "")

    async def test_says_nothing_of_the_next(self, chat: Chat, provider: StandIn, way: Way, mode: str) -> None:
        gate = total(ECHOING)
        chain = gated(chat(ECHOING), gate, mode)
        with pytest.raises(Exception, match="stop takes at most"):
            await way(chain, PRIVATE, **MALFORMED)
        assert gate.capabilities.any_refusal() is None
        decision = (await way(chain, PRIVATE)).response_metadata["tje"]
        assert (decision["reason"], decision["tokens"]) == ("confident", 2)
        assert provider.asked_for_logprobs()[-1] == 20
        assert "Ada" not in json.dumps(decision)

    async def test_leaves_streams_to_be_asked_for(self, chat: Chat, provider: StandIn, way: Way, mode: str) -> None:
        chain = gated(chat(ECHOING), total(ECHOING), mode)
        with pytest.raises(Exception, match="stop takes at most"):
            await way(chain, PRIVATE, **MALFORMED)
        await way(chain, PRIVATE)
        in_chunks = mode == "abort" or (mode == "annotate" and way in (stream, astream))
        assert bool(provider.requests[-1].get("stream")) == in_chunks


@every_mode
@every_way
class TestARefusalThatQuotesTheRequest:
    async def test_is_remembered_after_one_try(self, chat: Chat, provider: StandIn, way: Way, mode: str) -> None:
        chain = gated(chat(REFUSING), total(REFUSING, on_missing="final"), mode)
        with pytest.warns(TjeWarning, match="refused to give logprobs"):
            await way(chain, PRIVATE)
        tried = len(provider.requests)
        await way(chain, PRIVATE)
        assert provider.asked_for_logprobs()[tried:] == [None]

    async def test_is_told_without_the_prompt(self, chat: Chat, way: Way, mode: str) -> None:
        chain = gated(chat(REFUSING), total(REFUSING, on_missing="final"), mode)
        with pytest.warns(TjeWarning, match="refused to give logprobs") as warned:
            decision = [await way(chain, PRIVATE) for _ in range(2)][-1].response_metadata["tje"]
        assert decision["reason"] == "no_logprobs"
        assert "Error): logprobs are not supported with reasoning models" in decision["detail"]
        assert "Ada" not in json.dumps(decision) + "".join(str(each.message) for each in warned)


class TestTheResponsesApi:
    @pytest.mark.parametrize("mode", MODES)
    def test_is_refused_with_the_remedy(self, chat: Chat, provider: StandIn, mode: str) -> None:
        chain = gated(chat(use_responses_api=True), make_gate(signal="total_entropy", on_missing="final"), mode)
        with pytest.warns(TjeWarning, match="set use_responses_api=False"):
            decision = chain.invoke("bits=0.5").response_metadata["tje"]
        assert (decision["route"], decision["reason"], decision["signal_value"]) == ("final", "no_logprobs", None)

    async def test_is_refused_with_the_remedy_on_the_event_loop(self, chat: Chat) -> None:
        chain = gated(chat(use_responses_api=True), make_gate(on_missing="final"))
        with pytest.warns(TjeWarning, match="set use_responses_api=False"):
            await chain.ainvoke("bits=0.5")

    @needs("langchain-openai", "1.1.0", "a list of models that take the Responses API")
    def test_taken_by_itself_for_some_models_is_noticed(self, chat: Chat) -> None:
        chain = gated(chat("gpt-5-pro"), make_gate("gpt-5-pro"))
        with pytest.warns(TjeWarning, match="set use_responses_api=False"):
            assert chain.invoke("bits=0.5").text == "deeper"

    def test_the_remedy_works(self, chat: Chat) -> None:
        chain = gated(chat("gpt-5-pro", use_responses_api=False), make_gate("gpt-5-pro"))
        assert chain.invoke("bits=0.5").response_metadata["tje"]["reason"] == "confident"
