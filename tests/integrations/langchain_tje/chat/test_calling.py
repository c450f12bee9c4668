"""What the caller of a gated chat model gets, however it is called, and what the provider is asked."""

import asyncio
import time

import pytest
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel, FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_tje import EntropyGatedChatModel
from openai import InternalServerError

from tests.integrations.langchain_tje.chat.conftest import CERTAIN, UNSURE, Chat, Gated, models_asked
from tests.integrations.langchain_tje.chat.handlers import Runs
from tests.integrations.langchain_tje.chat.ways import WAYS, Way, ainvoke, astream, batch, invoke, stream
from tests.integrations.langchain_tje.conftest import make_gate
from tests.standin import StandIn
from tje_middleware import EntropyGate, GateError, TjeWarning

pytestmark = pytest.mark.filterwarnings("ignore:The v3 streaming protocol")


@pytest.mark.parametrize("way", WAYS)
class TestHoweverItIsCalled:
    async def test_a_confident_draft_is_the_answer(self, way: Way, gated: Gated, provider: StandIn) -> None:
        answer = await way(gated(), CERTAIN)
        decision = answer.response_metadata["tje"]
        assert (decision["route"], decision["answered_by"], decision["tokens"]) == ("final", "draft", 9)
        assert decision["signal_value"] == pytest.approx(0.7, abs=1e-9)
        assert answer.text.startswith("standin-0 standin-1 ")
        assert models_asked(provider) == ["standin"]

    async def test_an_unsure_draft_is_replaced(self, way: Way, gated: Gated, provider: StandIn) -> None:
        answer = await way(gated(), UNSURE)
        decision = answer.response_metadata["tje"]
        assert (decision["route"], decision["answered_by"], decision["tokens"]) == ("deeper", "deeper", 9)
        assert decision["signal_value"] == pytest.approx(2.5, abs=1e-9)
        assert "standin" not in answer.text
        assert answer.text.startswith("deep-0 deep-1 ")
        assert models_asked(provider) == ["standin", "deep"]

    @pytest.mark.parametrize(("question", "route"), [(CERTAIN, "final"), (UNSURE, "deeper")])
    async def test_annotated_the_draft_is_the_answer_whatever_was_decided(
        self, way: Way, gated: Gated, provider: StandIn, question: str, route: str
    ) -> None:
        answer = await way(gated(mode="annotate"), question)
        decision = answer.response_metadata["tje"]
        assert (decision["route"], decision["answered_by"], decision["tokens"]) == (route, "draft", 9)
        assert answer.text.startswith("standin-0 standin-1 ")
        assert models_asked(provider) == ["standin"]

    async def test_a_hopeless_draft_is_cancelled(self, way: Way, chat: Chat, gated: Gated, provider: StandIn) -> None:
        model = gated(mode="abort", draft=chat(max_tokens=60))
        answer = await way(model, "bits=4.0 tokens=60 pace=0.005 says_model")
        decision = answer.response_metadata["tje"]
        assert (decision["aborted"], decision["answered_by"]) == (True, "deeper")
        assert provider.wait_for_disconnect()
        assert provider.streams[0].produced < 60
        assert decision["draft_usage"]["partly_known"] == 1

    @pytest.mark.parametrize("mode", ["hold", "annotate"])
    @pytest.mark.parametrize("question", [CERTAIN, UNSURE])
    async def test_logprobs_that_only_the_gate_wanted_are_taken_out(
        self, way: Way, gated: Gated, question: str, mode: str
    ) -> None:
        assert not (await way(gated(mode=mode), question)).response_metadata.get("logprobs")

    async def test_what_was_spent_is_booked_once(self, way: Way, gated: Gated) -> None:
        books, runs = UsageMetadataCallbackHandler(), Runs()
        answer = await way(gated(callbacks=[books, runs]), UNSURE)
        assert {name: usage["total_tokens"] for name, usage in books.usage_metadata.items()} == {"deep": 19 + 19}
        assert runs.counted == {"started": 1, "ended": 1}
        decision = answer.response_metadata["tje"]
        each = {"input_tokens": 10, "output_tokens": 9, "calls": 1, "partly_known": 0}
        assert (decision["draft_usage"], decision["deeper_usage"]) == (each, each)


def test_an_accepted_draft_is_booked_under_its_own_name(gated: Gated) -> None:
    books = UsageMetadataCallbackHandler()
    gated().invoke(CERTAIN, {"callbacks": [books]})
    assert {name: usage["total_tokens"] for name, usage in books.usage_metadata.items()} == {"standin": 19}


def test_in_a_batch_every_decision_belongs_to_its_own_question(gated: Gated) -> None:
    bits = [0.03 + 0.1 * i for i in range(30)]
    answers = gated().batch([f"bits={b:.3f}" for b in bits], {"max_concurrency": 16})
    values = [answer.response_metadata["tje"]["signal_value"] for answer in answers]
    assert values == pytest.approx(bits, abs=1e-9)


def test_the_deeper_answer_streams_as_it_comes(gated: Gated) -> None:
    arrivals = [time.monotonic() for chunk in gated().stream("bits=2.5 tokens=6 pace=0.05") if chunk.text]
    assert len(arrivals) == 6
    assert arrivals[-1] - arrivals[0] > 0.15


def test_an_annotated_draft_streams_as_it_comes(gated: Gated) -> None:
    chunks = list(gated(mode="annotate").stream("bits=2.5 tokens=6"))
    assert len([chunk for chunk in chunks if chunk.text]) == 6
    assert [index for index, chunk in enumerate(chunks) if "tje" in chunk.response_metadata] == [len(chunks) - 1]


def test_a_stream_that_is_left_is_cancelled_at_the_provider(gated: Gated, provider: StandIn) -> None:
    chunks = gated(mode="annotate").stream("tokens=200 pace=0.01")
    next(chunks)
    chunks.close()
    assert provider.wait_for_disconnect()


async def test_on_the_event_loop_too(gated: Gated, provider: StandIn) -> None:
    chunks = gated().astream("bits=2.5 tokens=200 pace=0.01")
    assert (await anext(chunks)).response_metadata.get("tje") is None
    await chunks.aclose()
    assert await asyncio.to_thread(provider.wait_for_disconnect)


@pytest.mark.parametrize("way", WAYS)
async def test_logprobs_that_the_user_asked_for_stay(way: Way, chat: Chat, gated: Gated) -> None:
    answer = await way(gated(draft=chat(logprobs=True, top_logprobs=5)), CERTAIN)
    assert answer.response_metadata["logprobs"]["content"]


def test_logprobs_asked_for_in_the_call_are_those_of_the_model_that_answers(gated: Gated, provider: StandIn) -> None:
    model = gated()
    for question, text in ((CERTAIN, "standin-0 "), (UNSURE, "deep-0 ")):
        answer = model.invoke(question, logprobs=True, top_logprobs=20)
        assert answer.response_metadata["logprobs"]["content"][0]["token"] == text
    assert provider.asked_for_logprobs() == [20, 20, 20]


def test_the_deeper_model_is_not_asked_for_logprobs(gated: Gated, provider: StandIn) -> None:
    gated().invoke(UNSURE)
    assert provider.asked_for_logprobs() == [20, None]


def test_a_deeper_model_that_refuses_logprobs_answers_without(gated: Gated) -> None:
    answer = gated(deeper="refuses-logprobs").invoke(UNSURE, logprobs=True, top_logprobs=20)
    assert answer.response_metadata["tje"]["answered_by"] == "deeper"
    assert not answer.response_metadata.get("logprobs")


def test_a_draft_without_logprobs_is_not_accepted(gated: Gated) -> None:
    model = gated(draft="refuses-logprobs", gate=make_gate("refuses-logprobs"))
    with pytest.warns(TjeWarning, match="refused"):
        decision = model.invoke(CERTAIN).response_metadata["tje"]
    assert (decision["reason"], decision["answered_by"]) == ("no_logprobs", "deeper")


def test_a_gate_that_raises_is_heard(gated: Gated) -> None:
    with pytest.raises(GateError, match="cannot be judged"):
        gated(draft="ignores-logprobs", gate=make_gate("ignores-logprobs", on_missing="raise")).invoke(CERTAIN)


class TestWhenTheDeeperModelFails:
    @pytest.mark.parametrize("way", WAYS)
    async def test_the_draft_is_the_answer_and_says_so(self, way: Way, gated: Gated) -> None:
        with pytest.warns(TjeWarning, match="the deeper branch failed"):
            answer = await way(gated(deeper="broken"), UNSURE)
        decision = answer.response_metadata["tje"]
        assert (decision["reason"], decision["answered_by"]) == ("branch_failed", "draft")
        assert answer.text.startswith("standin-0 ")

    @pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream])
    async def test_or_the_error_is_raised(self, way: Way, gated: Gated) -> None:
        with pytest.raises(InternalServerError):
            await way(gated(deeper="broken", on_branch_error="raise"), UNSURE)

    @pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream])
    async def test_a_draft_that_was_stopped_is_no_answer(self, way: Way, chat: Chat, gated: Gated) -> None:
        model = gated(mode="abort", draft=chat(max_tokens=50), deeper="broken")
        with pytest.raises(InternalServerError):
            await way(model, "bits=4.0 tokens=50")

    @pytest.mark.parametrize("way", [stream, astream])
    async def test_what_was_given_out_is_not_taken_back(self, way: Way, gated: Gated) -> None:
        class BreaksOff(FakeListChatModel):
            def _stream(self, *args: object, **kwargs: object) -> object:
                chunks = super()._stream(*args, **kwargs)
                yield next(chunks)
                yield next(chunks)
                raise ConnectionError("gone")

            _astream = BaseChatModel._astream  # by way of the synchronous one

        with pytest.raises(ConnectionError, match="gone"):
            await way(gated(deeper=BreaksOff(responses=["abc"])), UNSURE)


def test_models_that_do_not_stream_are_given_out_whole(gate: EntropyGate, chat: Chat) -> None:
    model = EntropyGatedChatModel(
        draft=chat(disable_streaming=True), deeper=GenericFakeChatModel(messages=iter([])), gate=gate, mode="annotate"
    )
    (text,) = [chunk.text for chunk in model.stream(CERTAIN) if chunk.text]
    assert text.startswith("standin-0 standin-1 ")


def test_a_deeper_model_that_streams_by_itself_is_streamed(chat: Chat, gated: Gated, provider: StandIn) -> None:
    answer = gated(deeper=chat("deep", streaming=True, stream_usage=True)).invoke(UNSURE)
    assert answer.text.startswith("deep-0 deep-1 ")
    assert [bool(request.get("stream")) for request in provider.requests] == [False, True]
    assert answer.usage_metadata["total_tokens"] == 2 * 19


def test_a_draft_that_streams_by_itself_is_held_all_the_same(chat: Chat, gated: Gated) -> None:
    (chunk,) = gated(draft=chat(streaming=True)).stream(CERTAIN)
    assert chunk.response_metadata["tje"]["tokens"] == 9


class TwoAnswers(FakeListChatModel):
    """Gives two answers to choose from, as OpenAI's ``n=2``."""

    def _generate(self, *args: object, **kwargs: object) -> ChatResult:
        others = [{"token": f"x{rank}", "logprob": -30.0} for rank in range(19)]
        position = {"token": "sure", "logprob": 0.0, "top_logprobs": [{"token": "sure", "logprob": 0.0}, *others]}
        info = {"logprobs": {"content": [position]}}
        both = [ChatGeneration(message=AIMessage(text), generation_info=info) for text in ("sure", "or not")]
        return ChatResult(generations=both)


def test_of_several_answers_the_first_is_judged_and_all_are_given(gated: Gated) -> None:
    model = gated(draft=TwoAnswers(responses=[]), gate=make_gate(model="standin"))
    (answers,) = model.generate([[HumanMessage("?")]]).generations
    assert [answer.text for answer in answers] == ["sure", "or not"]
    assert answers[0].message.response_metadata["tje"]["route"] == "final"
    assert not any("logprobs" in answer.generation_info for answer in answers)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("question", "text"), [(CERTAIN, "standin-0 "), (UNSURE, "deep-0 ")])
async def test_handlers_hear_of_the_answers_tokens_alone(way: Way, gated: Gated, question: str, text: str) -> None:
    heard = Tokens()
    answer = await way(gated(callbacks=[heard]), question)
    is_streamed = way not in {invoke, ainvoke, batch}
    assert "".join(heard.tokens) == (answer.text if is_streamed else "")
    assert answer.text.startswith(text)


class Tokens(BaseCallbackHandler):
    def __init__(self) -> None:
        self.tokens: list[str] = []

    def on_llm_new_token(self, token: str, **_: object) -> None:
        self.tokens.append(token)
