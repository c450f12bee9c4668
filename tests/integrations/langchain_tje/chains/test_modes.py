"""Streams of a gated chain: who sees what, and when a draft is stopped."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGateRunnable, think_just_enough

from tests.integrations.langchain_tje.conftest import make_gate
from tests.standin import StandIn
from tje_middleware import EntropyGate

PROMPT = ChatPromptTemplate.from_messages([("human", "{question}")])
SURE, UNSURE = {"question": "bits=0.5 says_model tokens=6"}, {"question": "bits=2.5 says_model tokens=6"}
#: A total of 1 bit is passed with the third token, of two hundred that come at ten milliseconds each.
SLOW_AND_UNSURE = {"question": "bits=0.5 tokens=200 pace=0.01 says_model"}
Chat = Callable[..., ChatOpenAI]


@pytest.fixture
def chain(chat: Chat) -> Runnable:
    return PROMPT | chat()


@pytest.fixture
def deeper(chat: Chat) -> Runnable:
    return PROMPT | chat("deep", stream_usage=True)


@pytest.fixture
def counting() -> EntropyGate:
    """A gate by total entropy, which only grows: what has passed the threshold is rejected for sure."""
    return make_gate(signal="total_entropy")


def joined(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return whole


async def collected(stream: AsyncIterator[AIMessageChunk]) -> list[AIMessageChunk]:
    return [chunk async for chunk in stream]


class TestHold:
    def test_gives_an_accepted_draft_whole(self, chain: Runnable, deeper: Runnable, gate: EntropyGate) -> None:
        (answer,) = think_just_enough(chain, deeper=deeper, gate=gate).stream(SURE)
        assert answer.text.startswith("standin-0")
        assert answer.response_metadata["tje"]["answered_by"] == "draft"

    def test_streams_the_deeper_answer_and_nothing_of_the_draft(
        self, chain: Runnable, deeper: Runnable, gate: EntropyGate
    ) -> None:
        chunks = list(think_just_enough(chain, deeper=deeper, gate=gate).stream(UNSURE))
        assert len(chunks) > 6
        assert "standin" not in joined(chunks).text
        assert joined(chunks).response_metadata["tje"]["answered_by"] == "deeper"

    async def test_does_the_same_on_the_event_loop(
        self, chain: Runnable, deeper: Runnable, gate: EntropyGate
    ) -> None:
        chunks = await collected(think_just_enough(chain, deeper=deeper, gate=gate).astream(UNSURE))
        assert len(chunks) > 6
        assert "standin" not in joined(chunks).text
        assert joined(chunks).response_metadata["tje"]["route"] == "deeper"

    def test_counts_the_rejected_draft_into_the_usage_once(
        self, chain: Runnable, deeper: Runnable, gate: EntropyGate
    ) -> None:
        gated = think_just_enough(chain, deeper=deeper, gate=gate)
        streamed, whole = joined(list(gated.stream(UNSURE))), gated.invoke(UNSURE)
        assert streamed.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"] == 12
        assert streamed.usage_metadata["input_tokens"] == whole.usage_metadata["input_tokens"] == 20

    def test_streams_what_a_parser_makes_of_the_deeper_answer(
        self, chain: Runnable, deeper: Runnable, gate: EntropyGate
    ) -> None:
        gated = think_just_enough(chain | StrOutputParser(), deeper=deeper | StrOutputParser(), gate=gate)
        assert "".join(gated.stream(UNSURE)).startswith("deep-0 deep-1")

    def test_in_a_longer_chain_streams_on(self, chain: Runnable, deeper: Runnable, gate: EntropyGate) -> None:
        gated = think_just_enough(chain, deeper=deeper, gate=gate) | StrOutputParser()
        assert len(list(gated.stream(UNSURE))) > 5

    def test_a_branch_that_fails_before_its_first_word_leaves_the_draft(
        self, chain: Runnable, chat: Chat, gate: EntropyGate
    ) -> None:
        gated = think_just_enough(chain, deeper=PROMPT | chat("broken"), gate=gate)
        with pytest.warns(UserWarning, match="the deeper branch failed"):
            (answer,) = gated.stream(UNSURE)
        assert answer.response_metadata["tje"]["reason"] == "branch_failed"
        assert answer.text.startswith("standin-0")

    def test_a_branch_that_fails_within_its_answer_raises(self, chain: Runnable, gate: EntropyGate) -> None:
        def failing(question: Iterator[dict]) -> Iterator[AIMessageChunk]:
            list(question)
            yield AIMessageChunk("a ")
            yield AIMessageChunk("b ")
            raise ConnectionError("gone")

        stream = think_just_enough(chain, deeper=RunnableLambda(lambda _: None) | failing, gate=gate).stream(UNSURE)
        assert next(stream).text == "a "
        with pytest.raises(ConnectionError, match="gone"):
            list(stream)


class TestAnnotate:
    def test_lets_the_draft_pass_as_it_comes_and_never_goes_deeper(
        self, chain: Runnable, deeper: Runnable, gate: EntropyGate, provider: StandIn
    ) -> None:
        chunks = list(think_just_enough(chain, deeper=deeper, gate=gate, mode="annotate").stream(UNSURE))
        assert len(chunks) > 6
        answer = joined(chunks)
        assert answer.text.startswith("standin-0 standin-1")
        assert (answer.response_metadata["tje"]["route"], answer.response_metadata["tje"]["answered_by"]) == (
            "deeper",
            "draft",
        )
        assert len(provider.requests) == 1

    def test_measures_what_an_unstreamed_answer_measures(
        self, chain: Runnable, deeper: Runnable, gate: EntropyGate
    ) -> None:
        gated = think_just_enough(chain, deeper=deeper, gate=gate, mode="annotate")
        streamed, whole = joined(list(gated.stream(UNSURE))), gated.invoke(UNSURE)
        values = [answer.response_metadata["tje"]["signal_value"] for answer in (streamed, whole)]
        assert values[0] == pytest.approx(values[1], abs=1e-12)
        assert values[0] == pytest.approx(2.5, abs=1e-6)

    async def test_does_the_same_on_the_event_loop(
        self, chain: Runnable, deeper: Runnable, gate: EntropyGate
    ) -> None:
        gated = think_just_enough(chain, deeper=deeper, gate=gate, mode="annotate")
        answer = joined(await collected(gated.astream(UNSURE)))
        assert answer.response_metadata["tje"]["signal_value"] == pytest.approx(2.5, abs=1e-6)

    def test_shows_no_logprobs_that_only_the_gate_wanted(
        self, chain: Runnable, deeper: Runnable, gate: EntropyGate
    ) -> None:
        for chunk in think_just_enough(chain, deeper=deeper, gate=gate, mode="annotate").stream(SURE):
            assert "logprobs" not in chunk.response_metadata


@pytest.fixture
def stopping(chain: Runnable, counting: EntropyGate) -> EntropyGateRunnable:
    """A chain that stops drafts, with a deeper branch that asks nobody."""
    return think_just_enough(chain, deeper=lambda _: AIMessage("deeper"), gate=counting, mode="abort")


class TestAbort:
    def test_stops_a_draft_that_is_sure_to_be_rejected(
        self, stopping: EntropyGateRunnable, provider: StandIn
    ) -> None:
        decision = stopping.invoke(SLOW_AND_UNSURE).response_metadata["tje"]
        assert (decision["aborted"], decision["route"], decision["tokens"]) == (True, "deeper", 3)
        assert decision["signal_value"] == pytest.approx(1.5, abs=1e-6)
        assert provider.wait_for_disconnect()
        assert provider.streams[0].produced < 20

    async def test_does_the_same_on_the_event_loop(self, stopping: EntropyGateRunnable, provider: StandIn) -> None:
        answer = await stopping.ainvoke(SLOW_AND_UNSURE)
        assert (answer.text, answer.response_metadata["tje"]["aborted"]) == ("deeper", True)
        assert provider.wait_for_disconnect()
        assert provider.streams[0].produced < 20

    def test_streams_nothing_of_the_draft(self, stopping: EntropyGateRunnable, provider: StandIn) -> None:
        assert [chunk.text for chunk in stopping.stream(SLOW_AND_UNSURE)] == ["deeper"]
        assert provider.wait_for_disconnect()

    async def test_streams_nothing_of_the_draft_on_the_event_loop(
        self, stopping: EntropyGateRunnable, provider: StandIn
    ) -> None:
        assert [chunk.text for chunk in await collected(stopping.astream(SLOW_AND_UNSURE))] == ["deeper"]
        assert provider.wait_for_disconnect()

    def test_counts_the_tokens_that_came(self, stopping: EntropyGateRunnable) -> None:
        answer = stopping.invoke(SLOW_AND_UNSURE)
        spent = answer.response_metadata["tje"]["draft_usage"]
        assert spent == {"input_tokens": 0, "output_tokens": 3, "calls": 1, "partly_known": 1}
        assert answer.usage_metadata["output_tokens"] == 3

    def test_leaves_a_draft_alone_that_may_be_accepted(
        self, stopping: EntropyGateRunnable, provider: StandIn
    ) -> None:
        answer = stopping.invoke({"question": "bits=0.1 tokens=8 says_model"})
        assert answer.text.startswith("standin-0")
        assert answer.response_metadata["tje"]["signal_value"] == pytest.approx(0.8, abs=1e-6)
        assert "logprobs" not in answer.response_metadata
        assert [stream.disconnected for stream in provider.streams] == [False]

    def test_is_not_taken_for_a_failure_by_retries_and_fallbacks(
        self, chat: Chat, counting: EntropyGate, provider: StandIn
    ) -> None:
        draft = PROMPT | chat().with_retry(stop_after_attempt=3).with_fallbacks([chat("other")])
        gated = think_just_enough(draft, deeper=lambda _: AIMessage("deeper"), gate=counting, mode="abort")
        assert gated.invoke(SLOW_AND_UNSURE).response_metadata["tje"]["aborted"]
        assert len(provider.requests) == 1

    def test_a_mean_is_bounded_by_the_limit_of_tokens(self, chat: Chat, gate: EntropyGate, provider: StandIn) -> None:
        # 20 tokens at 2.5 bits are 50 bits: with a limit of 40 tokens the mean is above 1 bit after 17 of them.
        draft = PROMPT | chat(max_tokens=40)
        gated = think_just_enough(draft, deeper=lambda _: AIMessage("deeper"), gate=gate, mode="abort")
        decision = gated.invoke({"question": "bits=2.5 tokens=40 pace=0.01"}).response_metadata["tje"]
        assert (decision["aborted"], decision["tokens"]) == (True, 17)

    def test_without_a_limit_a_mean_proves_nothing_and_nothing_is_streamed(
        self, chain: Runnable, gate: EntropyGate, provider: StandIn
    ) -> None:
        gated = think_just_enough(chain, deeper=lambda _: AIMessage("deeper"), gate=gate, mode="abort")
        with pytest.warns(UserWarning, match="bounded only with a limit of tokens: set max_tokens on the model"):
            assert not gated.invoke(UNSURE).response_metadata["tje"]["aborted"]
        assert not any(request.get("stream") for request in provider.requests)

    def test_half_a_draft_does_not_stand_in_for_a_branch_that_fails(
        self, chain: Runnable, chat: Chat, counting: EntropyGate
    ) -> None:
        gated = think_just_enough(chain, deeper=PROMPT | chat("broken"), gate=counting, mode="abort")
        with pytest.raises(Exception, match="the server is broken"):
            gated.invoke(SLOW_AND_UNSURE)

    def test_many_at_once_are_stopped_each_by_its_own_tokens(
        self, stopping: EntropyGateRunnable, provider: StandIn
    ) -> None:
        questions = [{"question": f"bits={0.3 + 0.05 * i:.2f} tokens=100 pace=0.01"} for i in range(8)]
        for i, answer in enumerate(stopping.batch(questions)):
            decision = answer.response_metadata["tje"]
            assert decision["signal_value"] == pytest.approx(decision["tokens"] * (0.3 + 0.05 * i), abs=1e-5)
        assert provider.wait_for_disconnect(count=8)
