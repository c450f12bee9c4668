"""Models that refuse or ignore logprobs: found out once, remembered, asked without, and never silently accepted."""

import pickle
import warnings
from collections.abc import Callable

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
MODES = ("hold", "annotate", "abort")


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
        gate.capabilities.note("o3", TypeError("no logprobs"))
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
