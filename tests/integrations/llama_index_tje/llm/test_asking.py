"""How an LLM is asked for logprobs: by its provider's own arguments, whatever it was set to."""

import pytest
from llama_index.core.base.llms.types import CompletionResponse, LLMMetadata
from llama_index.core.llms import LLM, CustomLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.llms.openai import OpenAI, OpenAIResponses
from llama_index.llms.openai_like import OpenAILike
from llama_index_tje import EntropyGatedLLM, ask_logprobs, capture_entropy

from tests.gates import make_gate
from tests.integrations.llama_index_tje.conftest import Make
from tests.integrations.llama_index_tje.ways import EVERY, Way, decision_of, messages, text_of
from tests.standin import StandIn
from tje_middleware import EntropyGate

SURE = "bits=0.5 tokens=4"
every_way = pytest.mark.parametrize("way", EVERY, ids=lambda way: way.__name__)


@every_way
@pytest.mark.parametrize(
    "own",
    [
        {},
        {"logprobs": True, "top_logprobs": 5},
        {"additional_kwargs": {"logprobs": True, "top_logprobs": 2}},
    ],
    ids=["unset", "set", "additional"],
)
async def test_asks_for_what_the_gate_needs(
    like: Make, gate: EntropyGate, provider: StandIn, way: Way, own: dict
) -> None:
    await way(ask_logprobs(like(**own), gate=gate), SURE)
    assert provider.asked_for_logprobs() == [20]


async def test_a_requests_own_asking_gives_way(like: Make, gate: EntropyGate, provider: StandIn) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate)
    decision = decision_of(llm.chat(messages("bits=2.5"), logprobs=True, top_logprobs=5))
    assert decision["reason"] == "uncertain"
    assert provider.asked_for_logprobs() == [20, 5]


@pytest.mark.parametrize("own", [{}, {"logprobs": True, "top_logprobs": 5}], ids=["unset", "set"])
def test_what_is_changed_on_the_llm_later_holds(like: Make, gate: EntropyGate, provider: StandIn, own: dict) -> None:
    llm = like(**own)
    gated = EntropyGatedLLM(llm=llm, deeper=like("deep"), gate=gate)
    gated.complete(SURE)
    llm.temperature = 0.7
    with pytest.warns(UserWarning, match=r"sampled at temperature 0\.7"):
        gated.complete(SURE)
    assert [request["temperature"] for request in provider.requests] == [0.0, 0.7, 0.0]


def test_openai_itself_is_asked_likewise(gate: EntropyGate, provider: StandIn) -> None:
    gate = make_gate("gpt-4o-mini")
    llm = OpenAI(model="gpt-4o-mini", api_base=provider.base_url, api_key="none", temperature=0.0, max_retries=0)
    response = EntropyGatedLLM(llm=llm, deeper=llm, gate=gate).chat(messages(SURE))
    assert decision_of(response)["reason"] == "confident"
    assert response.logprobs is not None


@every_way
async def test_the_responses_api_has_arguments_of_its_own(provider: StandIn, way: Way) -> None:
    gate = make_gate("gpt-4o-mini")
    llm = OpenAIResponses(
        model="gpt-4o-mini",
        api_base=provider.base_url,
        api_key="none",
        temperature=0.0,
        max_retries=0,
        reuse_client=False,
    )
    answer = (await way(EntropyGatedLLM(llm=llm, deeper=llm, gate=gate), SURE))[-1]
    assert (decision_of(answer)["reason"], decision_of(answer)["tokens"]) == ("confident", 4)
    assert provider.asked_for_logprobs() == [20]


class Offline(CustomLLM):
    """An LLM of the user's own, which knows nothing of logprobs and refuses what it does not know."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False) -> CompletionResponse:
        return CompletionResponse(text="offline")

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False) -> object:
        yield CompletionResponse(text="offline", delta="offline")


@every_way
async def test_an_llm_that_does_not_know_the_argument_answers_without(gate: EntropyGate, way: Way) -> None:
    llm: LLM = EntropyGatedLLM(llm=Offline(), deeper=Offline(), gate=make_gate())
    with pytest.warns(UserWarning, match="unexpected keyword argument 'logprobs'"):
        answer = (await way(llm, SURE))[-1]
    assert text_of(answer) == "offline"
    assert decision_of(answer)["reason"] == "no_logprobs"


class Old(OpenAILike):
    """A server that does not know what a newer one would tell of a stream."""

    def stream_chat(self, messages: object, **settings: object) -> object:
        if "stream_options" in settings:
            raise TypeError("unexpected keyword argument 'stream_options'")
        return super().stream_chat(messages, **settings)


def test_a_server_that_does_not_say_what_a_stream_costs_is_not_asked_twice(provider: StandIn) -> None:
    gate, settings = make_gate(), {"api_key": "none", "is_chat_model": True, "temperature": 0.0, "max_retries": 0}
    asked: list[dict] = []

    class Counting(Old):
        def stream_chat(self, messages: object, **settings: object) -> object:
            asked.append(settings)
            return super().stream_chat(messages, **settings)

    llm = Counting(model="standin", api_base=provider.base_url, **settings)
    gated = EntropyGatedLLM(llm=llm, gate=gate, mode="annotate")
    for _ in range(2):
        decision = decision_of(list(gated.stream_chat(messages(SURE)))[-1])
        assert (decision["reason"], decision["draft_usage"]["partly_known"]) == ("confident", 1)
    assert ["stream_options" in each for each in asked] == [True, False, False]


def test_another_error_is_no_refusal(like: Make, gate: EntropyGate, provider: StandIn) -> None:
    with pytest.raises(Exception, match="500"):
        ask_logprobs(like("broken"), gate=gate).complete(SURE)
    assert len(provider.requests) == 1


def test_asked_twice_is_asked_once(like: Make, gate: EntropyGate) -> None:
    llm = ask_logprobs(like(), gate=gate)
    assert ask_logprobs(llm, gate=gate) is llm


def test_what_is_captured_of_an_asked_llm_is_counted_once(like: Make, gate: EntropyGate) -> None:
    with capture_entropy() as seen:
        ask_logprobs(like(), gate=gate).complete(SURE)
    assert [call.mean_entropy for call in seen.calls] == [pytest.approx(0.5)]


def test_without_a_gate_twenty_alternatives_are_asked_for_or_as_many_as_said(like: Make, provider: StandIn) -> None:
    ask_logprobs(like()).complete(SURE)
    ask_logprobs(like(), top_k=5).complete(SURE)
    assert provider.asked_for_logprobs() == [20, 5]


def test_a_gate_knows_how_many_it_needs(like: Make, gate: EntropyGate) -> None:
    with pytest.raises(ValueError, match="the gate needs top_k=20, not 5"):
        ask_logprobs(like(), top_k=5, gate=gate)


@pytest.mark.parametrize("wrong", [{"llm": "gpt-4o"}, {"gate": 0.5}])
def test_what_is_no_llm_or_no_gate_is_refused(like: Make, gate: EntropyGate, wrong: dict) -> None:
    arguments = {"llm": like(), "gate": gate, **wrong}
    with pytest.raises(TypeError, match=next(iter(wrong))):
        ask_logprobs(arguments["llm"], gate=arguments["gate"])
