"""What a gated chain keeps of the chain it stands for, and what traces and cost trackers see."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnableConfig, RunnableLambda
from langchain_core.tracers.schemas import Run
from langchain_openai import ChatOpenAI
from langchain_tje import think_just_enough

from tests.standin import StandIn
from tje_middleware import EntropyGate

PROMPT = ChatPromptTemplate.from_messages([("human", "{question}")])
SURE, UNSURE = {"question": "bits=0.5 says_model"}, {"question": "bits=2.5 says_model"}
Chat = Callable[..., ChatOpenAI]


class Runs(BaseCallbackHandler):
    """Every run that starts: its name, what it is a part of, its tags and metadata."""

    run_inline = True

    def __init__(self) -> None:
        self.parents: dict[UUID, UUID | None] = {}
        self.names: dict[UUID, str] = {}
        self.tags: dict[str, list[str]] = {}
        self.metadata: dict[str, dict[str, Any]] = {}
        self.outputs: dict[str, Any] = {}

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self._start(kwargs)

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        kwargs.setdefault("name", kwargs["invocation_params"]["model"])
        self._start({**kwargs, "name": kwargs["invocation_params"]["model"]})

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self.outputs[self.names[run_id]] = outputs

    def _start(self, run: dict[str, Any]) -> None:
        name = run["name"]
        self.parents[run["run_id"]], self.names[run["run_id"]] = run.get("parent_run_id"), name
        self.tags[name], self.metadata[name] = run.get("tags") or [], run.get("metadata") or {}

    @property
    def roots(self) -> list[str]:
        return [self.names[run] for run, parent in self.parents.items() if parent is None]


@pytest.fixture
def runs() -> Runs:
    return Runs()


def gated(chat: Chat, gate: EntropyGate, **settings: Any) -> Runnable:
    return think_just_enough(PROMPT | chat(), deeper=PROMPT | chat("deep"), gate=gate, **settings)


class TestTraces:
    def test_show_draft_gate_and_deeper_as_children_of_one_run(
        self, chat: Chat, gate: EntropyGate, runs: Runs
    ) -> None:
        gated(chat, gate).invoke(UNSURE, {"callbacks": [runs]})
        assert len(runs.roots) == 1
        assert {"standin", "EntropyGate", "deep"} <= set(runs.names.values())

    def test_say_in_the_gates_run_what_was_decided(self, chat: Chat, gate: EntropyGate, runs: Runs) -> None:
        gated(chat, gate).invoke(SURE, {"callbacks": [runs]})
        metadata = runs.metadata["EntropyGate"]
        assert (metadata["tje.route"], metadata["tje.signal"]) == ("final", "mean_entropy")
        assert metadata["tje.signal_value"] == pytest.approx(0.5, abs=1e-6)
        assert runs.outputs["EntropyGate"]["reason"] == "confident"

    async def test_say_the_same_on_the_event_loop(self, chat: Chat, gate: EntropyGate, runs: Runs) -> None:
        await gated(chat, gate).ainvoke(UNSURE, {"callbacks": [runs]})
        assert runs.metadata["EntropyGate"]["tje.route"] == "deeper"
        assert runs.metadata["standin"]["tje.role"] == "draft"
        assert runs.metadata["deep"]["tje.role"] == "deeper"

    def test_tell_a_draft_from_the_run_that_replaced_it(self, chat: Chat, gate: EntropyGate, runs: Runs) -> None:
        gated(chat, gate).invoke(UNSURE, {"callbacks": [runs]})
        assert runs.metadata["standin"]["tje.role"] == "draft"
        assert "tje.route" not in runs.metadata["standin"]
        assert (runs.metadata["deep"]["tje.role"], runs.metadata["deep"]["tje.reason"]) == ("deeper", "uncertain")

    def test_go_on_under_the_name_that_the_chain_had(self, chat: Chat, gate: EntropyGate, runs: Runs) -> None:
        chain = (PROMPT | chat()).with_config(run_name="answering", tags=["prod"], metadata={"team": "search"})
        think_just_enough(chain, deeper=PROMPT | chat("deep"), gate=gate).invoke(UNSURE, {"callbacks": [runs]})
        assert runs.roots == ["answering"]
        assert "prod" in runs.tags["answering"]
        assert "prod" in runs.tags["deep"]
        assert runs.metadata["deep"]["team"] == "search"

    def test_of_a_function_bear_its_name(self, chat: Chat, gate: EntropyGate, runs: Runs) -> None:
        @think_just_enough(deeper=PROMPT | chat("deep"), gate=gate)
        def answer_question(question: dict) -> Runnable:
            return PROMPT | chat()

        answer_question.invoke(SURE, {"callbacks": [runs]})
        assert runs.roots == ["answer_question"]


class TestConfig:
    def test_listeners_of_the_chain_hear_of_the_whole_once(self, chat: Chat, gate: EntropyGate) -> None:
        heard: list[Run] = []
        chain = (PROMPT | chat()).with_listeners(on_end=heard.append)
        think_just_enough(chain, deeper=PROMPT | chat("deep"), gate=gate).invoke(UNSURE)
        assert [run.outputs["output"].text.split("-")[0] for run in heard] == ["deep"]

    def test_the_concurrency_bound_to_the_chain_holds_for_batches(self, gate: EntropyGate) -> None:
        running, most = 0, 0

        def count(question: dict) -> AIMessage:
            nonlocal running, most
            running += 1
            most = max(most, running)
            time.sleep(0.005)
            running -= 1
            return AIMessage("counted")

        chain = RunnableLambda(count).with_config(max_concurrency=1)
        with pytest.warns(UserWarning, match="cannot be judged"):
            think_just_enough(chain, deeper=count, gate=gate).batch([SURE] * 20)
        assert most == 1

    def test_what_the_chain_can_be_configured_in_reaches_it(
        self, chat: Chat, gate: EntropyGate, provider: StandIn
    ) -> None:
        model = chat().configurable_fields(max_tokens=ConfigurableField(id="limit"))
        chain = think_just_enough(PROMPT | model, deeper=PROMPT | chat("deep"), gate=gate)
        assert "limit" in [spec.id for spec in chain.config_specs]
        chain.invoke(SURE, {"configurable": {"limit": 17}})
        assert 17 in provider.requests[0].values()

    def test_the_threshold_can_be_configured(self, chat: Chat, gate: EntropyGate) -> None:
        chain = gated(chat, gate).configurable_fields(threshold=ConfigurableField(id="threshold"))
        usual = chain.invoke(UNSURE).response_metadata["tje"]
        lenient = chain.with_config(configurable={"threshold": 3.0}).invoke(UNSURE).response_metadata["tje"]
        assert (usual["route"], usual["threshold"], usual["method"]) == ("deeper", pytest.approx(1.0), "mean")
        assert (lenient["route"], lenient["threshold"], lenient["method"]) == ("final", 3.0, "given")

    def test_a_chain_of_configurable_alternatives_is_asked_as_the_one_it_is(
        self, chat: Chat, gate: EntropyGate, provider: StandIn
    ) -> None:
        chain = (PROMPT | chat()).configurable_alternatives(
            ConfigurableField(id="which"), default_key="small", other=PROMPT | chat("other")
        )
        config: RunnableConfig = {"configurable": {"which": "other"}}
        answer = think_just_enough(chain, deeper=PROMPT | chat("deep"), gate=gate, mode="annotate")
        with pytest.warns(UserWarning, match="written by 'other'"):
            decision = answer.invoke(SURE, config).response_metadata["tje"]
        assert decision["reason"] == "other_settings"
        assert provider.asked_for_logprobs() == [20]


class TestUsage:
    def test_of_a_deeper_answer_includes_the_rejected_draft(self, chat: Chat, gate: EntropyGate) -> None:
        answer = gated(chat, gate).invoke(UNSURE)
        assert answer.usage_metadata["total_tokens"] == 2 * (10 + 4)
        decision = answer.response_metadata["tje"]
        assert decision["draft_usage"]["output_tokens"] == decision["deeper_usage"]["output_tokens"] == 4

    def test_of_an_accepted_draft_is_its_own(self, chat: Chat, gate: EntropyGate) -> None:
        answer = gated(chat, gate).invoke(SURE)
        assert answer.usage_metadata["total_tokens"] == 14
        assert answer.response_metadata["tje"]["deeper_usage"] is None

    def test_of_a_deeper_branch_of_several_calls_is_that_of_all(self, chat: Chat, gate: EntropyGate) -> None:
        deep = chat("deep")

        def twice(question: dict) -> AIMessage:
            deep.invoke(question["question"])
            return deep.invoke(question["question"])

        answer = think_just_enough(PROMPT | chat(), deeper=twice, gate=gate).invoke(UNSURE)
        assert answer.response_metadata["tje"]["deeper_usage"]["calls"] == 2
        assert answer.usage_metadata["total_tokens"] == 3 * 14

    def test_is_counted_once_by_a_tracker_of_costs(self, chat: Chat, gate: EntropyGate) -> None:
        tracker = UsageMetadataCallbackHandler()
        gated(chat, gate).invoke(UNSURE, {"callbacks": [tracker]})
        spent = {model: usage["total_tokens"] for model, usage in tracker.usage_metadata.items()}
        assert spent == {"standin": 14, "deep": 14}
