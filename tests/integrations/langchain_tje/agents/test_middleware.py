"""The gate in an agent: what is asked of which model, what is decided, and what the agent keeps of it."""

import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ProviderStrategy, StructuredOutputError, ToolStrategy
from langchain.chat_models import init_chat_model
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGateMiddleware
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel, Field

from tests.integrations.langchain_tje.conftest import make_gate
from tests.releases import needs_config_in_nodes
from tests.standin import StandIn
from tje_middleware import CalibrationRecord, EntropyGate, GateError, ProfileKey, calibrate
from tje_middleware.calibration.profile import Threshold
from tje_middleware.errors import TjeWarning

SURE, UNSURE = "bits=0.5 says_model", "bits=2.5 says_model"
CALL = 'says_model call=look args={"word": "moon"}'
WITH_TOOL_LOGPROBS = "standin-toollogprobs"
Chat = Callable[..., ChatOpenAI]
Answer = Callable[..., Awaitable[dict[str, Any]]]


@tool
def look(word: str) -> str:
    """Look a word up."""
    return f"seen {word}"


class Verdict(BaseModel):
    """What comes out."""

    word: str


class LongVerdict(BaseModel):
    """What the stand-in's short words do not satisfy."""

    word: str = Field(pattern="^.{99}$")


def asking(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def thread(name: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


def models_asked(provider: StandIn) -> list[str]:
    return [request["model"] for request in provider.requests]


@pytest.fixture(params=["invoke", "ainvoke"])
def answer(request: pytest.FixtureRequest) -> Answer:
    """Asks an agent, with and without an event loop."""

    async def ask(agent: Any, text: str, config: Any = None) -> dict[str, Any]:
        if request.param == "invoke":
            return agent.invoke(asking(text), config)
        return await agent.ainvoke(asking(text), config)

    return ask


@pytest.fixture
def hopeless() -> EntropyGate:
    """A gate that accepts up to 1 bit, and gives up from 3 bits on."""
    values = [(0.75 + 0.5 * (i % 2), True) for i in range(20)] + [(3.0 + 0.5 * (i % 2), False) for i in range(20)]
    records = [CalibrationRecord(correct=right, signals={"mean_entropy": bits}) for bits, right in values]
    profile = calibrate(records, key=ProfileKey(model="standin", task="t", temperature=0.0))
    return EntropyGate(profile.model_copy(update={"abstain": Threshold(value=3.0)}), abstain=True)


@pytest.fixture
def agent(chat: Chat, gate: EntropyGate) -> Callable[..., Any]:
    """Makes agents with a gate."""

    def make(*, model: Any = None, tools: Any = (), agents: Any = None, **options: Any) -> Any:
        options = {"gate": gate, "deeper": chat("deep"), **options}
        if options["deeper"] is None:
            del options["deeper"]
        return create_agent(
            model or chat(), tools=list(tools), middleware=[EntropyGateMiddleware(**options)], **(agents or {})
        )

    return make


class TestATurn:
    async def test_is_answered_by_a_draft_that_is_sure(
        self, agent: Callable[..., Any], answer: Answer, provider: StandIn
    ) -> None:
        state = await answer(agent(), SURE)
        assert state["messages"][-1].text.startswith("standin-0")
        (decision,) = state["tje"]
        assert decision == state["messages"][-1].response_metadata["tje"]
        assert (decision["route"], decision["reason"], decision["answered_by"]) == ("final", "confident", "draft")
        assert models_asked(provider) == ["standin"]

    async def test_is_answered_by_the_deeper_model_where_the_draft_is_not(
        self, agent: Callable[..., Any], answer: Answer, provider: StandIn
    ) -> None:
        state = await answer(agent(), UNSURE)
        assert [message.type for message in state["messages"]] == ["human", "ai"]
        assert state["messages"][-1].text.startswith("deep-0")
        (decision,) = state["tje"]
        assert (decision["route"], decision["reason"], decision["answered_by"]) == ("deeper", "uncertain", "deeper")
        assert models_asked(provider) == ["standin", "deep"]
        assert provider.asked_for_logprobs() == [20, None]

    async def test_says_what_the_rejected_draft_cost_too(self, agent: Callable[..., Any], answer: Answer) -> None:
        state = await answer(agent(), UNSURE)
        assert state["messages"][-1].usage_metadata["total_tokens"] == 2 * (10 + 4)
        assert state["tje"][0]["draft_usage"]["output_tokens"] == 4
        assert state["tje"][0]["deeper_usage"]["output_tokens"] == 4

    async def test_asks_nothing_else_of_the_provider_than_without_a_gate(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat, provider: StandIn
    ) -> None:
        settings = {"system_prompt": "Be brief.", "response_format": ProviderStrategy(Verdict)}
        await answer(agent(tools=[look], agents=settings), SURE)
        await answer(create_agent(chat(), tools=[look], **settings), SURE)
        gated, plain = provider.requests
        assert {name: gated[name] for name in gated if "logprobs" not in name} == plain

    async def test_gives_up_a_draft_that_going_deeper_does_not_improve(
        self, agent: Callable[..., Any], answer: Answer, provider: StandIn, hopeless: EntropyGate
    ) -> None:
        state = await answer(agent(gate=hopeless), "bits=4.0 says_model")
        assert state["messages"][-1].text.startswith("standin-0")
        assert state["messages"][-1].response_metadata["tje"]["route"] == "abstain"
        assert state["tje"][0]["reason"] == "hopeless"
        assert models_asked(provider) == ["standin"]

    async def test_is_only_annotated_in_that_mode(
        self, chat: Chat, gate: EntropyGate, answer: Answer, provider: StandIn
    ) -> None:
        gated = create_agent(chat(), middleware=[EntropyGateMiddleware(gate=gate, mode="annotate")])
        state = await answer(gated, UNSURE)
        assert state["messages"][-1].text.startswith("standin-0")
        assert (state["tje"][0]["route"], state["tje"][0]["answered_by"]) == ("deeper", "draft")
        assert models_asked(provider) == ["standin"]


class TestTheDeeperModel:
    async def test_may_be_the_same_one_with_other_settings(
        self, agent: Callable[..., Any], answer: Answer, provider: StandIn
    ) -> None:
        state = await answer(agent(deeper=None, deeper_settings={"temperature": 0.7}), UNSURE)
        assert state["tje"][0]["answered_by"] == "deeper"
        assert [request["temperature"] for request in provider.requests] == [0.0, 0.7]
        assert provider.asked_for_logprobs() == [20, None]

    async def test_may_be_another_one_with_settings(
        self, agent: Callable[..., Any], answer: Answer, provider: StandIn
    ) -> None:
        await answer(agent(deeper_settings={"temperature": 0.7}), UNSURE)
        assert [(each["model"], each["temperature"]) for each in provider.requests] == [
            ("standin", 0.0),
            ("deep", 0.7),
        ]

    async def test_keeps_what_is_bound_to_it_though_tools_are_bound_after_that(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat, provider: StandIn
    ) -> None:
        await answer(agent(deeper=chat("deep").bind(temperature=0.7), tools=[look]), UNSURE)
        assert provider.requests[1]["temperature"] == 0.7
        assert provider.requests[1]["tools"] == provider.requests[0]["tools"]

    async def test_may_be_given_by_its_name(
        self,
        agent: Callable[..., Any],
        answer: Answer,
        provider: StandIn,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        # Not OPENAI_BASE_URL: all models whose URL stands there share connections, which belong to one event loop.
        monkeypatch.setenv("OPENAI_API_BASE", provider.base_url)
        gated = agent(deeper="openai:deep")
        assert (await answer(gated, UNSURE))["messages"][-1].text.startswith("deep-0")

    async def test_is_instructed_at_the_end_of_the_system_message(
        self, agent: Callable[..., Any], answer: Answer, provider: StandIn
    ) -> None:
        gated = agent(deeper=None, instruction="Check twice.", agents={"system_prompt": "Be brief."})
        await answer(gated, UNSURE)
        draft, deeper = (request["messages"] for request in provider.requests)
        assert draft[0] == {"role": "system", "content": "Be brief."}
        assert deeper[0] == {"role": "system", "content": "Be brief.\n\nCheck twice."}
        assert draft[1:] == deeper[1:]

    async def test_is_instructed_where_there_is_no_system_message_or_one_of_blocks(
        self, agent: Callable[..., Any], answer: Answer, provider: StandIn
    ) -> None:
        blocks = SystemMessage([{"type": "text", "text": "Be brief."}])
        await answer(agent(deeper=None, instruction="Check twice."), UNSURE)
        await answer(agent(deeper=None, instruction="Check twice.", agents={"system_prompt": blocks}), UNSURE)
        assert provider.requests[1]["messages"][0] == {"role": "system", "content": "Check twice."}
        texts = [block["text"] for block in provider.requests[3]["messages"][0]["content"]]
        assert texts == ["Be brief.", "\n\nCheck twice."]


class TestTheAgentsModel:
    async def test_may_be_given_by_its_name(
        self, agent: Callable[..., Any], answer: Answer, provider: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_API_BASE", provider.base_url)
        state = await answer(agent(model="openai:standin"), UNSURE)
        assert state["tje"][0]["reason"] == "uncertain"
        assert provider.asked_for_logprobs() == [20, None]

    @needs_config_in_nodes
    async def test_may_be_chosen_by_the_config(
        self, agent: Callable[..., Any], answer: Answer, provider: StandIn
    ) -> None:
        model = init_chat_model(
            "none",
            model_provider="openai",
            configurable_fields=("model",),
            base_url=provider.base_url,
            api_key="none",
            temperature=0.0,
        )
        gated = agent(model=model, tools=[look])
        state = await answer(gated, UNSURE, {"configurable": {"model": "standin"}})
        assert state["tje"][0]["reason"] == "uncertain"
        assert models_asked(provider) == ["standin", "deep"]
        assert provider.asked_for_logprobs() == [20, None]

    @needs_config_in_nodes
    async def test_may_have_fields_that_the_config_sets(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat, provider: StandIn
    ) -> None:
        model = chat("none").configurable_fields(model_name=ConfigurableField(id="which"))
        state = await answer(agent(model=model), UNSURE, {"configurable": {"which": "standin"}})
        assert state["tje"][0]["reason"] == "uncertain"
        assert models_asked(provider) == ["standin", "deep"]

    async def test_may_have_fallbacks_which_are_asked_too(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat, provider: StandIn
    ) -> None:
        gated = agent(model=chat("broken").with_fallbacks([chat()]), tools=[look])
        state = await answer(gated, SURE)
        assert state["tje"][0]["reason"] == "confident"
        assert state["tje"][0]["draft_usage"]["output_tokens"] == 4
        assert provider.asked_for_logprobs() == [20, 20]

    async def test_may_have_settings_bound_to_it(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat, provider: StandIn
    ) -> None:
        state = await answer(agent(model=chat().bind(seed=7)), UNSURE)
        assert state["tje"][0]["reason"] == "uncertain"
        assert provider.requests[0]["seed"] == 7
        assert provider.asked_for_logprobs() == [20, None]

    async def test_may_be_chosen_by_a_middleware_in_front_of_the_gate(
        self, chat: Chat, gate: EntropyGate, answer: Answer, provider: StandIn
    ) -> None:
        gated = create_agent(
            chat("other"), middleware=[Chooses(chat()), EntropyGateMiddleware(gate=gate, deeper=chat("deep"))]
        )
        assert (await answer(gated, SURE))["tje"][0]["reason"] == "confident"
        assert models_asked(provider) == ["standin"]

    async def test_that_is_not_the_profiles_cannot_be_judged(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat
    ) -> None:
        with pytest.warns(TjeWarning, match="other"):
            state = await answer(agent(model=chat("other")), SURE)
        assert state["tje"][0]["reason"] == "other_settings"


class TestWithoutLogprobs:
    async def test_a_refusal_is_met_once_and_said_once(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat, provider: StandIn
    ) -> None:
        gated = agent(model=chat("refuses-logprobs"))
        with pytest.warns(TjeWarning) as said:
            states = [await answer(gated, SURE) for _ in range(3)]
        assert len(said) == 1
        assert provider.asked_for_logprobs() == [20] + [None] * 6
        for state in states:
            assert (state["tje"][0]["reason"], state["tje"][0]["answered_by"]) == ("no_logprobs", "deeper")
            assert "refused" in state["tje"][0]["detail"]

    async def test_a_model_that_ignores_the_request_cannot_be_judged(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat
    ) -> None:
        with pytest.warns(TjeWarning, match="asked for them"):
            state = await answer(agent(model=chat("ignores-logprobs")), SURE)
        assert (state["tje"][0]["reason"], state["tje"][0]["answered_by"]) == ("no_logprobs", "deeper")

    async def test_the_responses_api_comes_with_what_to_do_about_it(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat
    ) -> None:
        with pytest.warns(TjeWarning):
            state = await answer(agent(model=chat(use_responses_api=True)), SURE)
        assert state["tje"][0]["reason"] == "no_logprobs"
        assert "use_responses_api=False" in state["tje"][0]["detail"]

    async def test_the_gates_own_policy_holds(self, agent: Callable[..., Any], answer: Answer, chat: Chat) -> None:
        model = chat("ignores-logprobs")
        with pytest.warns(TjeWarning):
            state = await answer(agent(model=model, gate=make_gate(on_missing="final")), SURE)
        assert state["tje"][0]["answered_by"] == "draft"
        with pytest.raises(GateError, match="cannot be judged"):
            await answer(agent(model=model, gate=make_gate(on_missing="raise")), SURE)


class TestTurnsThatCallTools:
    async def test_are_judged_like_any_where_they_have_logprobs(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat, provider: StandIn
    ) -> None:
        gate = make_gate(model=WITH_TOOL_LOGPROBS)
        gated = agent(model=chat(WITH_TOOL_LOGPROBS), gate=gate, tools=[look])
        state = await answer(gated, f"bits=0.5 call_bits=2.5 {CALL}")
        assert [decision["reason"] for decision in state["tje"]] == ["uncertain", "confident"]
        assert models_asked(provider) == [WITH_TOOL_LOGPROBS, "deep", WITH_TOOL_LOGPROBS]
        assert [message.content for message in state["messages"] if message.type == "tool"] == ["seen moon"]

    @pytest.mark.parametrize(("on_missing", "answered_by"), [("deeper", "deeper"), ("final", "draft")])
    async def test_follow_the_gates_policy_where_they_have_none(
        self, agent: Callable[..., Any], answer: Answer, on_missing: str, answered_by: str
    ) -> None:
        with pytest.warns(TjeWarning):
            state = await answer(agent(tools=[look], gate=make_gate(on_missing=on_missing)), f"bits=0.5 {CALL}")
        assert [(each["reason"], each["answered_by"]) for each in state["tje"]] == [
            ("no_logprobs", answered_by),
            ("confident", "draft"),
        ]

    async def test_pass_unjudged_where_that_is_asked_for(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat, provider: StandIn
    ) -> None:
        gate = make_gate(model=WITH_TOOL_LOGPROBS, on_missing="raise")
        gated = agent(model=chat(WITH_TOOL_LOGPROBS), gate=gate, tools=[look], tool_calls="pass")
        state = await answer(gated, f"bits=0.5 call_bits=2.5 {CALL}")
        passed, judged = state["tje"]
        assert (passed["route"], passed["reason"], passed["answered_by"]) == ("final", "tool_call", "draft")
        assert passed["draft_usage"]["calls"] == 1
        assert judged["reason"] == "confident"
        assert models_asked(provider) == [WITH_TOOL_LOGPROBS] * 2

    @pytest.mark.parametrize("on_missing", ["final", "raise"])
    async def test_go_deeper_where_unknown_whatever_the_gates_policy(
        self, agent: Callable[..., Any], answer: Answer, on_missing: str
    ) -> None:
        gated = agent(tools=[look], gate=make_gate(on_missing=on_missing), tool_calls="deeper_on_unknown")
        with pytest.warns(TjeWarning) as said:
            states = [await answer(gated, f"bits=0.5 {CALL}") for _ in range(2)]
        assert len(said) == 1
        for state in states:
            assert [(each["reason"], each["answered_by"]) for each in state["tje"]] == [
                ("no_logprobs", "deeper"),
                ("confident", "draft"),
            ]

    async def test_are_judged_where_known_though_unknown_ones_go_deeper(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat
    ) -> None:
        gate = make_gate(model=WITH_TOOL_LOGPROBS)
        gated = agent(model=chat(WITH_TOOL_LOGPROBS), gate=gate, tools=[look], tool_calls="deeper_on_unknown")
        state = await answer(gated, f"bits=0.5 {CALL}")
        assert [decision["reason"] for decision in state["tje"]] == ["confident", "confident"]


class TestStructuredOutput:
    @pytest.mark.parametrize(("bits", "word"), [("0.5", "standin"), ("2.5", "deep")])
    async def test_of_the_provider_is_judged_by_its_text(
        self, agent: Callable[..., Any], answer: Answer, bits: str, word: str
    ) -> None:
        gated = agent(agents={"response_format": ProviderStrategy(Verdict)})
        state = await answer(gated, f"bits={bits} says_model")
        assert state["structured_response"] == Verdict(word=word)
        assert len(state["tje"]) == 1

    @pytest.mark.parametrize(("bits", "word"), [("0.5", WITH_TOOL_LOGPROBS), ("2.5", "deep")])
    async def test_by_a_tool_is_a_turn_that_calls_one(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat, bits: str, word: str
    ) -> None:
        gate, model = make_gate(model=WITH_TOOL_LOGPROBS), chat(WITH_TOOL_LOGPROBS)
        gated = agent(model=model, gate=gate, agents={"response_format": ToolStrategy(Verdict)})
        state = await answer(gated, f"bits={bits} says_model")
        assert state["structured_response"] == Verdict(word=word)
        _, call, told = state["messages"]
        assert isinstance(told, ToolMessage)
        assert call.response_metadata["tje"] == state["tje"][0]
        assert state["tje"][0]["reason"] in {"confident", "uncertain"}

    async def test_by_a_tool_passes_with_the_other_calls(self, agent: Callable[..., Any], answer: Answer) -> None:
        gated = agent(tool_calls="pass", agents={"response_format": ToolStrategy(Verdict)})
        state = await answer(gated, UNSURE)
        assert state["structured_response"] == Verdict(word="standin")
        assert state["tje"][0]["reason"] == "tool_call"

    async def test_that_a_tool_refuses_goes_another_round_with_the_decision(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat
    ) -> None:
        gate, model = make_gate(model=WITH_TOOL_LOGPROBS), chat(WITH_TOOL_LOGPROBS)
        strategy = ToolStrategy(LongVerdict, handle_errors="Longer, please.")
        gated = agent(model=model, gate=gate, agents={"response_format": strategy})
        stream = gated.stream(asking(SURE), stream_mode="updates")
        call, told = next(stream)["model"]["messages"]
        assert (told.content, call.response_metadata["tje"]["reason"]) == ("Longer, please.", "confident")
        stream.close()

    def test_that_cannot_be_parsed_is_worth_a_deeper_answer_where_it_is_unsure(
        self, agent: Callable[..., Any], provider: StandIn
    ) -> None:
        drafts: list[object] = []

        def easier(messages: object, draft: object, request: Any, handler: Any) -> Any:
            drafts.append(draft)
            return handler(request.override(response_format=ProviderStrategy(Verdict)))

        gated = agent(deeper=easier, agents={"response_format": ProviderStrategy(LongVerdict)})
        state = gated.invoke(asking(UNSURE))
        assert drafts == [None]
        assert state["structured_response"] == Verdict(word="standin")
        assert state["tje"][0]["answered_by"] == "deeper"
        assert models_asked(provider) == ["standin", "standin"]

    async def test_that_cannot_be_parsed_does_not_stand_in_for_a_deeper_answer(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat
    ) -> None:
        gated = agent(deeper=chat("broken"), agents={"response_format": ProviderStrategy(LongVerdict)})
        with pytest.warns(TjeWarning, match="deeper branch failed"), pytest.raises(StructuredOutputError):
            await answer(gated, UNSURE)

    async def test_that_cannot_be_parsed_fails_as_without_a_gate_where_it_is_sure(
        self, agent: Callable[..., Any], answer: Answer, provider: StandIn
    ) -> None:
        gated = agent(agents={"response_format": ProviderStrategy(LongVerdict)})
        with pytest.raises(StructuredOutputError) as failed:
            await answer(gated, SURE)
        assert failed.value.ai_message.response_metadata["tje"]["reason"] == "confident"
        assert "logprobs" not in failed.value.ai_message.response_metadata
        assert models_asked(provider) == ["standin"]


class TestTheState:
    async def test_gathers_the_decisions_of_a_thread(self, agent: Callable[..., Any], answer: Answer) -> None:
        gated = agent(agents={"checkpointer": InMemorySaver()})
        await answer(gated, UNSURE, thread("a"))
        await answer(gated, SURE, thread("b"))
        state = await answer(gated, SURE, thread("a"))
        assert [decision["answered_by"] for decision in state["tje"]] == ["deeper", "draft"]

    async def test_and_the_checkpoints_hold_no_logprobs_even_if_the_user_asks_for_them(
        self, agent: Callable[..., Any], answer: Answer, chat: Chat, provider: StandIn
    ) -> None:
        asked = {"logprobs": True, "top_logprobs": 5}
        saver = InMemorySaver()
        gated = agent(model=chat(**asked), deeper=chat("deep", **asked), agents={"checkpointer": saver})
        await answer(gated, SURE, thread("a"))
        state = await answer(gated, UNSURE, thread("a"))
        assert provider.asked_for_logprobs() == [20, 20, 5]
        assert [message.text.split("-")[0] for message in state["messages"][1::2]] == ["standin", "deep"]
        kept = [saver.serde.dumps_typed(each.checkpoint)[1] for each in saver.list(thread("a"))]
        kept += [saver.serde.dumps_typed(each.pending_writes)[1] for each in saver.list(thread("a"))]
        assert kept
        assert not [each for each in kept if b"top_logprobs" in each]
        assert b"tje" in b"".join(kept)

    def test_is_plain_enough_for_json(self, agent: Callable[..., Any]) -> None:
        decisions = agent().invoke(asking(UNSURE))["tje"]
        assert json.loads(json.dumps(decisions)) == decisions

    def test_takes_no_decisions_from_the_caller(self, agent: Callable[..., Any]) -> None:
        assert "tje" not in agent().get_input_jsonschema()["properties"]
        assert "tje" in agent().get_output_jsonschema()["properties"]


class TestCaps:
    async def test_of_a_run_let_the_draft_through_with_the_reason(
        self, agent: Callable[..., Any], answer: Answer, provider: StandIn
    ) -> None:
        gated = agent(tools=[look], max_deeper_per_run=1, gate=make_gate(), agents={"checkpointer": InMemorySaver()})
        with pytest.warns(TjeWarning):  # the call of the tool comes without logprobs
            state = await answer(gated, f"bits=2.5 {CALL}", thread("a"))
        assert [each["reason"] for each in state["tje"]] == ["no_logprobs", "capped"]
        capped = state["tje"][1]
        assert (capped["route"], capped["answered_by"]) == ("deeper", "draft")
        assert "max_deeper_per_run=1" in capped["detail"]
        assert models_asked(provider) == ["standin", "deep", "standin"]
        # Another run of the thread counts from the start.
        state = await answer(gated, UNSURE, thread("a"))
        assert state["tje"][2]["answered_by"] == "deeper"

    async def test_of_a_turn_are_those_of_each_turn(self, agent: Callable[..., Any], answer: Answer) -> None:
        with pytest.warns(TjeWarning):
            state = await answer(agent(tools=[look], max_deeper_per_turn=1), f"bits=2.5 calls=2 {CALL}")
        assert [each["answered_by"] for each in state["tje"]] == ["deeper"] * 3

    async def test_of_none_never_go_deeper(
        self, agent: Callable[..., Any], answer: Answer, provider: StandIn
    ) -> None:
        state = await answer(agent(max_deeper_per_turn=0), UNSURE)
        assert (state["tje"][0]["reason"], state["tje"][0]["answered_by"]) == ("capped", "draft")
        assert models_asked(provider) == ["standin"]

    async def test_are_not_in_what_the_agent_gives_out(self, agent: Callable[..., Any], answer: Answer) -> None:
        state = await answer(agent(max_deeper_per_run=3), UNSURE)
        assert set(state) == {"messages", "tje"}


class TestTraces:
    @needs_config_in_nodes
    async def test_tell_the_draft_and_the_deeper_answer_apart(
        self, agent: Callable[..., Any], answer: Answer
    ) -> None:
        seen = Watching()
        await answer(agent(), UNSURE, {"callbacks": [seen]})
        draft, deeper = seen.models
        assert draft["tje.role"] == "draft"
        assert "tje.route" not in draft
        assert (deeper["tje.role"], deeper["tje.route"], deeper["tje.reason"]) == ("deeper", "deeper", "uncertain")

    @needs_config_in_nodes
    async def test_get_every_decision_as_an_event(self, agent: Callable[..., Any], answer: Answer) -> None:
        seen = Watching()
        await answer(agent(), SURE, {"callbacks": [seen]})
        await answer(agent(), UNSURE, {"callbacks": [seen]})
        assert [(name, data["route"]) for name, data in seen.events] == [
            ("tje_decision", "final"),
            ("tje_decision", "deeper"),
        ]


class TestSeveralAtOnce:
    async def test_each_has_its_own_decision(self, agent: Callable[..., Any], provider: StandIn) -> None:
        entropies = [0.25 + 0.1 * number for number in range(16)]
        inputs = [asking(f"bits={bits:.2f} says_model") for bits in entropies]
        gated = agent(max_deeper_per_run=1)
        for states in (gated.batch(inputs), await gated.abatch(inputs)):
            assert [state["tje"][0]["signal_value"] for state in states] == pytest.approx(entropies)
            for state, bits in zip(states, entropies, strict=True):
                assert len(state["tje"]) == 1
                assert state["messages"][-1].text.startswith("standin" if bits <= 1 else "deep")

    def test_agents_in_threads_do_not_mix(self, agent: Callable[..., Any], chat: Chat) -> None:
        one, other = agent(), agent(deeper=chat("abyss"))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda turn: turn.invoke(asking(UNSURE)), [one, other] * 8))
        assert [state["messages"][-1].text.split("-")[0] for state in answers] == ["deep", "abyss"] * 8
        assert {len(state["tje"]) for state in answers} == {1}

    async def test_an_agent_may_be_anothers_tool(self, agent: Callable[..., Any]) -> None:
        inner = agent()

        @tool
        async def ask_the_other(text: str) -> str:
            """Ask."""
            return (await inner.ainvoke(asking(text)))["messages"][-1].text

        @tool
        def ask_the_other_now(text: str) -> str:
            """Ask."""
            return inner.invoke(asking(text))["messages"][-1].text

        outer = agent(tools=[ask_the_other, ask_the_other_now], tool_calls="pass")
        for name in ("ask_the_other", "ask_the_other_now"):
            state = await outer.ainvoke(asking(f'bits=0.5 says_model call={name} args={{"text": "{UNSURE}"}}'))
            assert state["messages"][2].content.startswith("deep-0")
            assert [each["reason"] for each in state["tje"]] == ["tool_call", "confident"]


class TestMakingOne:
    def test_without_a_deeper_branch_is_refused(self, gate: EntropyGate) -> None:
        with pytest.raises(ValueError, match="deeper_settings or instruction"):
            EntropyGateMiddleware(gate=gate)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"tool_calls": "ignore"}, "tool_calls must be one of 'gate', 'pass', 'deeper_on_unknown', not 'ignore'"),
            ({"mode": "stream"}, "mode must be one of"),
            ({"on_branch_error": "ignore"}, "on_branch_error must be one of"),
            ({"max_deeper_per_turn": -1}, "max_deeper_per_turn must be"),
            ({"max_deeper_per_run": True}, "max_deeper_per_run must be"),
            ({"deeper": len, "deeper_settings": {"temperature": 1.0}}, "deeper_settings are a model's"),
        ],
    )
    def test_with_an_option_that_does_not_exist_is_refused(
        self, gate: EntropyGate, options: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(ValueError, match=said):
            EntropyGateMiddleware(**{"gate": gate, "deeper": "openai:deep", **options})

    def test_with_what_cannot_answer_is_refused(self, gate: EntropyGate, chat: Chat) -> None:
        with pytest.raises(TypeError, match="deeper must be"):
            EntropyGateMiddleware(gate=gate, deeper=7)
        with pytest.raises(TypeError, match="deeper must be"):
            EntropyGateMiddleware(gate=gate, deeper=ChatOpenAI)
        with pytest.raises(ValueError, match="tools bound"):
            EntropyGateMiddleware(gate=gate, deeper=chat("deep").bind_tools([look]))
        with pytest.raises(TypeError, match="gate must be"):
            EntropyGateMiddleware(gate=None, deeper="openai:deep")

    def test_and_a_second_one_needs_a_name_of_its_own(self, gate: EntropyGate) -> None:
        assert EntropyGateMiddleware(gate=gate, instruction="x").name == "EntropyGateMiddleware"
        assert EntropyGateMiddleware(gate=gate, instruction="x", name="second").name == "second"


class Chooses(AgentMiddleware):
    """Another model for every call."""

    def __init__(self, model: ChatOpenAI) -> None:
        super().__init__()
        self.model = model

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request.override(model=self.model))

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        return await handler(request.override(model=self.model))


class Watching(BaseCallbackHandler):
    """Remembers the metadata of models' runs, and custom events."""

    run_inline = True

    def __init__(self) -> None:
        self.models: list[dict[str, Any]] = []
        self.events: list[tuple[str, Any]] = []

    def on_chat_model_start(self, *_: Any, metadata: Any = None, **__: Any) -> None:
        self.models.append(metadata or {})

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        self.events.append((name, data))
