"""A gated LLM, called in every way that LlamaIndex has."""

import pytest
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGatedChatModel
from llama_index.core.base.llms.types import ChatMessage
from llama_index_tje import EntropyGatedLLM

from tests.gates import MODEL, make_gate
from tests.integrations.llama_index_tje.conftest import Make
from tests.integrations.llama_index_tje.ways import EVERY, STREAMED, Way, decision_of, messages, text_of
from tests.standin import StandIn
from tje_middleware import EntropyGate, GateError

SURE = "bits=0.2,1.1,0.4,0.9,0.3 tokens=5 says_model"
UNSURE = "bits=3.0,0.1,2.9,0.2,3.1 tokens=5 says_model"
every_way = pytest.mark.parametrize("way", EVERY, ids=lambda way: way.__name__)
streamed_ways = pytest.mark.parametrize("way", STREAMED, ids=lambda way: way.__name__)


@pytest.fixture
def llm(like: Make, gate: EntropyGate) -> EntropyGatedLLM:
    return EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate)


@every_way
async def test_accepts_a_draft_that_is_sure(llm: EntropyGatedLLM, way: Way) -> None:
    (answer,) = await way(llm, SURE)  # one chunk, where it is streamed
    decision = decision_of(answer)
    assert text_of(answer).startswith("standin-0")
    assert (decision["route"], decision["answered_by"]) == ("final", "draft")
    assert decision["signal_value"] == pytest.approx((0.2 + 1.1 + 0.4 + 0.9 + 0.3) / 5, abs=1e-6)
    assert decision["draft_usage"] == {"input_tokens": 10, "output_tokens": 5, "calls": 1, "partly_known": 0}


@every_way
async def test_asks_the_deeper_llm_where_the_draft_is_unsure(llm: EntropyGatedLLM, way: Way) -> None:
    answer = (await way(llm, UNSURE))[-1]
    decision = decision_of(answer)
    assert text_of(answer).startswith("deep-0")
    assert (decision["route"], decision["answered_by"]) == ("deeper", "deeper")
    assert decision["signal_value"] == pytest.approx((3.0 + 0.1 + 2.9 + 0.2 + 3.1) / 5, abs=1e-6)
    assert decision["deeper_usage"] == {"input_tokens": 10, "output_tokens": 5, "calls": 1, "partly_known": 0}


@every_way
async def test_counts_the_tokens_of_both_answers(llm: EntropyGatedLLM, way: Way) -> None:
    answer = (await way(llm, UNSURE))[-1]
    counts = answer.additional_kwargs
    assert (counts["prompt_tokens"], counts["completion_tokens"], counts["total_tokens"]) == (20, 10, 30)


@streamed_ways
async def test_nothing_of_a_rejected_draft_is_streamed(llm: EntropyGatedLLM, way: Way) -> None:
    chunks = await way(llm, UNSURE)
    assert "".join(chunk.delta or "" for chunk in chunks) == text_of(chunks[-1])
    assert len(chunks) > 5
    assert not any("standin" in text_of(chunk) for chunk in chunks)
    assert [chunk for chunk in chunks[:-1] if "tje" in str(chunk.additional_kwargs)] == []


@streamed_ways
async def test_an_accepted_draft_is_in_the_delta_too(llm: EntropyGatedLLM, way: Way) -> None:
    (chunk,) = await way(llm, SURE)
    assert chunk.delta == text_of(chunk) != ""


@every_way
async def test_measures_what_the_chat_model_of_langchain_measures(
    llm: EntropyGatedLLM, way: Way, provider: StandIn, gate: EntropyGate
) -> None:
    chat = ChatOpenAI(base_url=provider.base_url, model=MODEL, api_key="none", temperature=0.0)
    other = EntropyGatedChatModel(draft=chat, deeper=chat, gate=gate).invoke(SURE)
    answer = (await way(llm, SURE))[-1]
    assert decision_of(answer)["signal_value"] == other.response_metadata["tje"]["signal_value"]


@every_way
async def test_a_model_that_refuses_logprobs_is_asked_once_and_goes_deeper(
    like: Make, provider: StandIn, way: Way
) -> None:
    gate = make_gate("refuses-logprobs")
    llm = EntropyGatedLLM(llm=like("refuses-logprobs"), deeper=like("deep"), gate=gate)
    with pytest.warns(UserWarning, match="refused to give logprobs"):
        answer = (await way(llm, SURE))[-1]
    assert text_of(answer).startswith("deep-0")
    assert decision_of(answer)["reason"] == "no_logprobs"
    await way(llm, SURE)
    assert provider.asked_for_logprobs() == [20, None, None, None, None]


@every_way
async def test_a_gate_that_raises_raises(like: Make, way: Way) -> None:
    gate = make_gate("ignores-logprobs", on_missing="raise")
    with pytest.raises(GateError, match="came without logprobs; the model was asked for them"):
        await way(EntropyGatedLLM(llm=like("ignores-logprobs"), deeper=like("deep"), gate=gate), SURE)


@every_way
async def test_a_deeper_llm_that_fails_leaves_the_draft_and_says_so(like: Make, gate: EntropyGate, way: Way) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("broken"), gate=gate)
    with pytest.warns(UserWarning, match="the deeper branch failed"):
        (answer,) = await way(llm, UNSURE)
    assert text_of(answer).startswith("standin-0")
    assert (decision_of(answer)["reason"], decision_of(answer)["answered_by"]) == ("branch_failed", "draft")


@every_way
async def test_or_raises_where_that_is_the_policy(like: Make, gate: EntropyGate, way: Way) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("broken"), gate=gate, on_branch_error="raise")
    with pytest.raises(Exception, match="500"):
        await way(llm, UNSURE)


@every_way
async def test_a_threshold_set_by_hand_is_the_one(like: Make, gate: EntropyGate, way: Way) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate, threshold=2.0)
    decision = decision_of((await way(llm, UNSURE))[-1])
    assert (decision["route"], decision["threshold"], decision["method"]) == ("final", 2.0, "given")


def test_without_a_deeper_llm_the_same_one_is_asked_with_an_instruction_and_other_settings(
    like: Make, gate: EntropyGate, provider: StandIn
) -> None:
    llm = EntropyGatedLLM(llm=like(), gate=gate, instruction="Think step by step.", deeper_settings={"seed": 7})
    question = [ChatMessage(role="system", content="Be brief."), *messages(UNSURE)]
    decision = decision_of(llm.chat(question))
    draft, deeper = provider.requests
    assert decision["answered_by"] == "deeper"
    assert draft["messages"][0]["content"] == "Be brief."
    assert deeper["messages"][0]["content"] == "Be brief.\n\nThink step by step."
    assert ("seed" in draft, deeper["seed"], "logprobs" in deeper) == (False, 7, False)
    assert question[0].content == "Be brief."


def test_an_instruction_opens_the_conversation_where_there_is_no_system_message_and_a_prompt(
    like: Make, gate: EntropyGate, provider: StandIn
) -> None:
    llm = EntropyGatedLLM(llm=like(), gate=gate, instruction="Think step by step.")
    llm.chat(messages(UNSURE))
    llm.complete(UNSURE)
    chat, completion = (request["messages"] for request in provider.requests[1::2])
    assert [message["role"] for message in chat] == ["system", "user"]
    assert completion[0]["content"].startswith("Think step by step.\n\nbits=3.0")


def test_decisions_about_earlier_answers_are_not_sent_to_a_provider(llm: EntropyGatedLLM, provider: StandIn) -> None:
    first = llm.chat(messages(UNSURE))
    llm.chat([*messages(UNSURE), first.message, *messages(UNSURE)])
    assert "answered_by" not in str(provider.requests)
    assert "tje" in first.message.additional_kwargs


def test_a_gated_llm_may_be_the_deeper_one_of_another(like: Make, gate: EntropyGate) -> None:
    inner = EntropyGatedLLM(llm=like("deep"), deeper=like("deepest"), gate=make_gate("deep"))
    llm = EntropyGatedLLM(llm=like(), deeper=inner, gate=gate)
    answer = llm.chat(messages(UNSURE))
    chunk = list(llm.stream_chat(messages(UNSURE)))[-1]
    for response in (answer, chunk):
        decision = decision_of(response)
        assert text_of(response).startswith("deepest-0")
        assert decision["key"] == str(gate.key)
        assert (decision["deeper_usage"]["calls"], response.additional_kwargs["completion_tokens"]) == (2, 15)


def test_a_deeper_llm_that_refuses_logprobs_answers_callers_who_want_them_without(
    like: Make, gate: EntropyGate
) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("refuses-logprobs"), gate=gate)
    answer = llm.chat(messages(UNSURE), logprobs=True, top_logprobs=20)
    assert text_of(answer).startswith("refuses-logprobs-0")
    assert decision_of(answer)["answered_by"] == "deeper"


def test_an_answer_of_a_gate_further_in_is_of_the_model_that_gave_it(like: Make, gate: EntropyGate) -> None:
    inner = EntropyGatedLLM(llm=like(), deeper=like("mid"), gate=gate, threshold=0.2)
    llm = EntropyGatedLLM(llm=inner, deeper=like("big"), gate=make_gate())
    with pytest.warns(UserWarning, match="written by .mid."):
        answer = llm.chat(messages("bits=0.5 says_model"))
    assert (text_of(answer)[:5], decision_of(answer)["reason"]) == ("big-0", "other_settings")


def test_a_model_asked_for_by_name_is_the_drafts(like: Make, gate: EntropyGate, provider: StandIn) -> None:
    llm = EntropyGatedLLM(llm=like("another"), deeper=like("deep"), gate=gate)
    llm.chat(messages(UNSURE), model="standin")
    assert [request["model"] for request in provider.requests] == ["standin", "deep"]
