"""Who sees what of a draft, and when its request is cancelled."""

from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.base.llms.types import CompletionResponse, LLMMetadata
from llama_index.core.llms import CustomLLM
from llama_index_tje import EntropyGatedLLM

from tests.gates import make_gate
from tests.integrations.llama_index_tje.conftest import Make
from tests.integrations.llama_index_tje.ways import EVERY, STREAMED, Way, decision_of, messages, text_of
from tests.standin import StandIn
from tje_middleware import EntropyGate, GateDecision

UNSURE = "bits=2.5 says_model tokens=6"
#: A total of 1 bit is passed with the third token, of two hundred that come at ten milliseconds each.
SLOW_AND_UNSURE = "bits=0.5 tokens=200 pace=0.01 says_model"
every_way = pytest.mark.parametrize("way", EVERY, ids=lambda way: way.__name__)


@pytest.fixture
def counting() -> EntropyGate:
    """A gate by total entropy, which only grows: what has passed the threshold is rejected for sure."""
    return make_gate(signal="total_entropy")


class TestAbort:
    @every_way
    async def test_cancels_the_request_once_the_draft_is_sure_to_be_rejected(
        self, like: Make, counting: EntropyGate, provider: StandIn, way: Way
    ) -> None:
        llm = EntropyGatedLLM(llm=like(), deeper=like("deep", max_tokens=3), gate=counting, mode="abort")
        answer = (await way(llm, SLOW_AND_UNSURE))[-1]
        decision = decision_of(answer)
        assert text_of(answer).startswith("deep-0")
        assert (decision["aborted"], decision["tokens"], decision["signal_value"]) == (True, 3, pytest.approx(1.5))
        assert decision["draft_usage"] == {"input_tokens": 0, "output_tokens": 3, "calls": 1, "partly_known": 1}
        assert provider.wait_for_disconnect()
        assert provider.streams[0].produced < 50

    @every_way
    async def test_an_accepted_draft_is_as_if_it_were_held(self, like: Make, counting: EntropyGate, way: Way) -> None:
        held = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=counting)
        aborting = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=counting, mode="abort")
        (one,), (other,) = await way(held, "bits=0.2 tokens=4"), await way(aborting, "bits=0.2 tokens=4")
        assert (text_of(one), one.delta) == (text_of(other), other.delta)
        assert GateDecision.from_dict(decision_of(one)) == GateDecision.from_dict(decision_of(other))
        assert one.additional_kwargs.keys() == other.additional_kwargs.keys()

    def test_an_average_is_bounded_by_a_limit_of_tokens(self, like: Make, gate: EntropyGate) -> None:
        llm = EntropyGatedLLM(llm=like(max_tokens=8), deeper=like("deep"), gate=gate, mode="abort")
        decision = decision_of(llm.chat(messages("bits=4.0 tokens=8")))
        assert (decision["aborted"], decision["tokens"]) == (True, 3)

    def test_without_one_the_draft_is_held_which_is_said_once(self, like: Make, gate: EntropyGate) -> None:
        llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate, mode="abort")
        with pytest.warns(UserWarning, match="set max_tokens"):
            decision = decision_of(llm.chat(messages("bits=4.0 tokens=8")))
        assert (decision["aborted"], decision["route"]) == (False, "deeper")
        llm.chat(messages("bits=4.0 tokens=8"))

    def test_a_server_that_refuses_such_a_stream_is_asked_without(self, like: Make, provider: StandIn) -> None:
        gate = make_gate("like-llama-cpp", signal="total_entropy")
        llm = EntropyGatedLLM(llm=like("like-llama-cpp"), deeper=like("deep"), gate=gate, mode="abort")
        settings = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}
        decision = decision_of(llm.chat(messages("bits=0.2 tokens=2"), **settings))
        assert (decision["route"], decision["reason"]) == ("final", "confident")
        llm.chat(messages("bits=0.2 tokens=2"), **settings)
        assert [bool(request.get("stream")) for request in provider.requests] == [True, False, False]

    def test_a_stopped_draft_cannot_take_the_place_of_a_deeper_llm_that_fails(
        self, like: Make, counting: EntropyGate
    ) -> None:
        llm = EntropyGatedLLM(llm=like(), deeper=like("broken"), gate=counting, mode="abort")
        with pytest.raises(Exception, match="500"):
            llm.chat(messages("bits=0.5 tokens=200"))


class TestAnnotate:
    @pytest.mark.parametrize("way", STREAMED, ids=lambda way: way.__name__)
    async def test_lets_the_draft_pass_as_it_comes_and_never_goes_deeper(
        self, like: Make, gate: EntropyGate, provider: StandIn, way: Way
    ) -> None:
        chunks = await way(EntropyGatedLLM(llm=like(), gate=gate, mode="annotate"), UNSURE)
        decision = decision_of(chunks[-1])
        assert len(chunks) > 6
        assert "".join(chunk.delta or "" for chunk in chunks) == text_of(chunks[-1])
        assert (decision["route"], decision["answered_by"], decision["tokens"]) == ("deeper", "draft", 6)
        assert decision["draft_usage"]["output_tokens"] == 6
        assert len(provider.requests) == 1

    @every_way
    async def test_decides_alike_however_it_is_called(self, like: Make, gate: EntropyGate, way: Way) -> None:
        answer = (await way(EntropyGatedLLM(llm=like(), gate=gate, mode="annotate"), UNSURE))[-1]
        decision = decision_of(answer)
        assert text_of(answer).startswith("standin-0")
        assert (decision["route"], decision["signal_value"]) == ("deeper", pytest.approx(2.5))


class TestEarlyClosedStreams:
    @pytest.mark.parametrize("mode", ["hold", "annotate"])
    def test_close_the_request(self, like: Make, gate: EntropyGate, provider: StandIn, mode: str) -> None:
        llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate, mode=mode)
        stream = llm.stream_chat(
            messages("bits=2.5 tokens=2000 pace=0.01" if mode == "annotate" else "bits=2.5 tokens=300 pace=0.01")
        )
        for _ in range(3):
            next(stream)
        stream.close()
        assert provider.wait_for_disconnect()

    async def test_on_the_event_loop_too(self, like: Make, gate: EntropyGate, provider: StandIn) -> None:
        llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate)
        stream = await llm.astream_chat(messages("bits=2.5 tokens=300 pace=0.01"))
        for _ in range(3):
            await anext(stream)
        await stream.aclose()
        assert provider.wait_for_disconnect()

    def test_leave_what_the_llm_reads_from_open(self, gate: EntropyGate) -> None:
        """A generator that an LLM reads from may be its user's own, and be read on."""
        llm = EntropyGatedLLM(llm=Shared(words=iter_of_words()), gate=gate, mode="annotate")
        with pytest.warns(UserWarning, match="without logprobs"):
            first = llm.stream_complete("?")
            next(first)
            first.close()
            assert [chunk.delta for chunk in llm.stream_complete("?")][:1] == ["c"]


def iter_of_words() -> Iterator[str]:
    yield from "abcd"


class Shared(CustomLLM):
    """All its answers come from one source."""

    words: Any

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, prompt: str, formatted: bool = False, **settings: Any) -> CompletionResponse:
        return CompletionResponse(text=next(self.words))

    def stream_complete(self, prompt: str, formatted: bool = False, **settings: Any) -> Any:
        source = self.words

        def chunks() -> Iterator[CompletionResponse]:
            for word in source:
                yield CompletionResponse(text=word, delta=word)

        return chunks()
