"""An LLM that checks its own answer: the deeper branch is an object of the core, and asks the LLM that drafted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI
from llama_index_tje import EntropyGatedLLM, capture_entropy
from pydantic import BaseModel

from tests.gates import make_gate
from tests.integrations.llama_index_tje.conftest import Make
from tests.integrations.llama_index_tje.ways import EVERY, STREAMED, WHOLE, Way, chat, decision_of, text_of
from tests.standin import StandIn
from tje_middleware import EntropyGate, TjeWarning
from tje_middleware.branches import REFINE_INSTRUCTION, SequentialRefinement

SURE, UNSURE = "bits=0.5 tokens=4", "bits=2.5 tokens=4"
REFINED = 'Check it: says="better" bits=2.0'
every_way = pytest.mark.parametrize("way", EVERY, ids=lambda way: way.__name__)


def refining(like: Make, gate: EntropyGate, **options: Any) -> EntropyGatedLLM:
    branch = SequentialRefinement(steps=2, instruction=options.pop("instruction", REFINED))
    return EntropyGatedLLM(llm=like(), deeper=branch, gate=gate, **options)


def asked(provider: StandIn) -> list[list[tuple[str, str]]]:
    """The messages of each request."""
    return [
        [(each["role"], each["content"].strip()) for each in request["messages"]] for request in provider.requests
    ]


class TestARejectedDraft:
    @every_way
    async def test_is_checked_step_by_step_by_the_llm_that_wrote_it(
        self, like: Make, gate: EntropyGate, provider: StandIn, way: Way
    ) -> None:
        answer = (await way(refining(like, gate), UNSURE))[-1]
        assert text_of(answer).strip() == "better"
        first, second, third = asked(provider)
        assert first == [("user", UNSURE)]
        assert second == [("user", UNSURE), ("assistant", "w0 w1 w2 w3"), ("user", REFINED)]
        assert third == [("user", UNSURE), ("assistant", "better"), ("user", REFINED)]
        assert provider.asked_for_logprobs() == [20, None, None]

    @every_way
    async def test_is_counted_with_all_steps(self, like: Make, gate: EntropyGate, way: Way) -> None:
        decision = decision_of((await way(refining(like, gate), UNSURE))[-1])
        assert (decision["answered_by"], decision["reason"]) == ("deeper", "uncertain")
        assert (decision["draft_usage"]["calls"], decision["deeper_usage"]["calls"]) == (1, 2)

    @pytest.mark.parametrize("way", STREAMED, ids=lambda way: way.__name__)
    async def test_that_streams_comes_as_one_chunk(self, like: Make, gate: EntropyGate, way: Way) -> None:
        chunks = await way(refining(like, gate), UNSURE)
        assert [chunk.delta.strip() for chunk in chunks] == ["better"]

    async def test_is_the_answer_where_a_step_fails(self, like: Make, gate: EntropyGate) -> None:
        class Failing(SequentialRefinement):
            def run(self, ask: Any) -> Any:
                ask.again(("user", "once"))
                raise ConnectionError("broken off")

        llm = EntropyGatedLLM(llm=like(), deeper=Failing(), gate=gate)
        with pytest.warns(TjeWarning, match="the deeper branch failed"):
            decision = decision_of((await chat(llm, UNSURE))[-1])
        assert (decision["answered_by"], decision["reason"]) == ("draft", "branch_failed")
        assert decision["deeper_usage"]["calls"] == 1  # what it spent until then is not forgotten

    async def test_that_calls_a_tool_is_shown_what_it_calls(
        self, like: Make, gate: EntropyGate, provider: StandIn
    ) -> None:
        def city(name: str) -> str:
            """Knows cities."""
            return name

        llm = refining(like, gate, instruction=REFINE_INSTRUCTION)
        with pytest.warns(TjeWarning, match="gave no logprobs"):
            await llm.achat_with_tools([FunctionTool.from_defaults(city)], user_msg="call=city")
        _, shown, _ = asked(provider)[1]
        assert shown[0] == "assistant"
        assert shown[1].startswith("city(")
        assert all(request.get("tools") for request in provider.requests)


@pytest.mark.parametrize("way", WHOLE, ids=lambda way: way.__name__)
async def test_an_accepted_draft_is_not_checked(like: Make, gate: EntropyGate, provider: StandIn, way: Way) -> None:
    decision = decision_of((await way(refining(like, gate), SURE))[-1])
    assert (decision["answered_by"], len(provider.requests)) == ("draft", 1)


class TestADraftThatCouldBeStopped:
    """The branch starts from the draft, so that one is held to its end."""

    @pytest.fixture
    def gate(self) -> Iterator[EntropyGate]:
        return make_gate(signal="total_entropy")  # whose rejections can be foreseen

    @every_way
    async def test_is_held(self, like: Make, gate: EntropyGate, provider: StandIn, way: Way) -> None:
        decision = decision_of((await way(refining(like, gate, mode="abort"), "bits=2.5 tokens=30"))[-1])
        assert (decision["answered_by"], decision["aborted"]) == ("deeper", False)
        assert decision["draft_usage"]["output_tokens"] == 30
        assert not provider.requests[0].get("stream")


class City(BaseModel):
    """A city."""

    name: str


async def test_an_object_is_checked_as_json(provider: StandIn) -> None:
    gate = make_gate("gpt-4o-mini")
    own = {"api_base": provider.base_url, "api_key": "none", "temperature": 0.0, "max_retries": 0}
    llm = EntropyGatedLLM(llm=OpenAI(model="gpt-4o-mini", **own), deeper=SequentialRefinement(steps=1), gate=gate)
    with capture_entropy() as seen:
        city = llm.structured_predict(City, PromptTemplate("{which}"), which=UNSURE)
    assert isinstance(city, City)
    assert seen.decisions[0].answered_by == "deeper"
    assert seen.decisions[0].deeper_usage.calls == 1
    assert ("assistant", city.model_dump_json()) in asked(provider)[1]


@pytest.mark.parametrize("own", [{"deeper_settings": {"seed": 1}}, {"instruction": "Think."}])
def test_what_only_a_deeper_llm_takes_is_refused(like: Make, gate: EntropyGate, own: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="SequentialRefinement asks by itself"):
        EntropyGatedLLM(llm=like(), deeper=SequentialRefinement(), gate=gate, **own)


def test_it_is_named_and_caches_tell_it_apart(like: Make, gate: EntropyGate) -> None:
    shown = [
        EntropyGatedLLM(llm=like(), deeper=SequentialRefinement(steps=steps), gate=gate).to_dict()["answers_by"]
        for steps in (1, 1, 2)
    ]
    assert shown[0] == shown[1] != shown[2]
    assert shown[0]["deeper"] == "SequentialRefinement"
