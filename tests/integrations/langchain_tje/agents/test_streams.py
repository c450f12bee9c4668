"""What a gated agent's user sees while it answers, and when a draft is stopped."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGateMiddleware

from tests.integrations.langchain_tje.conftest import make_gate
from tests.releases import needs_config_in_nodes
from tests.standin import StandIn
from tje_middleware import EntropyGate

SURE, UNSURE = "bits=0.5 says_model tokens=6", "bits=2.5 says_model tokens=6"
#: A total of 1 bit is passed with the third token, of two hundred that come at ten milliseconds each.
SLOW = "bits=0.5 tokens=200 pace=0.01"
Chat = Callable[..., ChatOpenAI]
Make = Callable[..., Any]


@tool
def look(word: str) -> str:
    """Look a word up."""
    return f"seen {word}"


def asking(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


@pytest.fixture
def agent(chat: Chat, gate: EntropyGate) -> Make:
    """Makes agents whose gate's deeper model streams."""

    def make(*, model: Any = None, tools: Any = (), **options: Any) -> Any:
        middleware = EntropyGateMiddleware(**{"gate": gate, "deeper": chat("deep"), **options})
        return create_agent(model or chat(), tools=list(tools), middleware=[middleware])

    return make


@pytest.fixture(params=["stream", "astream"])
def streamed(request: pytest.FixtureRequest) -> Callable[..., AsyncIterator[Any]]:
    """Streams an agent, with and without an event loop."""

    async def stream(agent: Any, text: str, **options: Any) -> AsyncIterator[Any]:
        if request.param == "stream":
            for part in agent.stream(asking(text), **options):
                yield part
        else:
            async for part in agent.astream(asking(text), **options):
                yield part

    return stream


async def chunks_of(parts: AsyncIterator[tuple[Any, dict[str, Any]]]) -> list[tuple[Any, dict[str, Any]]]:
    return [(chunk, about) async for chunk, about in parts if chunk.text]


class TestMessages:
    async def test_show_an_accepted_draft_once_and_whole(self, agent: Make, streamed: Any) -> None:
        ((message, _),) = await chunks_of(streamed(agent(), SURE, stream_mode="messages"))
        assert message.text.startswith("standin-0")
        assert message.response_metadata["tje"]["answered_by"] == "draft"

    @needs_config_in_nodes
    async def test_show_the_deeper_answer_as_it_comes_and_nothing_of_the_draft(
        self, agent: Make, streamed: Any
    ) -> None:
        shown = await chunks_of(streamed(agent(), UNSURE, stream_mode="messages"))
        assert [chunk.text for chunk, _ in shown] == [f"deep-{number} " for number in range(6)]
        assert {about["tje.role"] for _, about in shown} == {"deeper"}
        assert len({chunk.id for chunk, _ in shown}) == 1

    @needs_config_in_nodes
    async def test_show_a_draft_as_it_comes_where_it_is_only_annotated(
        self, agent: Make, streamed: Any, gate: EntropyGate
    ) -> None:
        shown = await chunks_of(streamed(agent(mode="annotate"), UNSURE, stream_mode="messages"))
        assert [chunk.text for chunk, _ in shown] == [f"standin-{number} " for number in range(6)]

    async def test_show_nothing_of_a_draft_whose_tool_is_called(self, agent: Make, streamed: Any, chat: Chat) -> None:
        gated = agent(tools=[look], tool_calls="pass")
        parts = streamed(gated, f'{UNSURE} call=look args={{"word": "moon"}}', stream_mode="messages")
        shown = [chunk async for chunk, _ in parts]
        assert [chunk.tool_calls[0]["name"] for chunk in shown if getattr(chunk, "tool_calls", None)] == ["look"]
        assert not [chunk for chunk in shown if "standin-" in chunk.text]


class TestUpdatesAndValues:
    @pytest.mark.parametrize("mode", ["updates", "values", "tasks", "debug", "checkpoints", "custom"])
    async def test_know_nothing_of_a_rejected_draft(self, agent: Make, streamed: Any, mode: str) -> None:
        shown = [repr(part) async for part in streamed(agent(max_deeper_per_run=2), UNSURE, stream_mode=mode)]
        assert not [part for part in shown if "standin-0" in part]

    async def test_of_a_turn_have_the_message_and_the_decision(self, agent: Make, streamed: Any) -> None:
        (update,) = [part async for part in streamed(agent(), UNSURE, stream_mode="updates")]
        assert set(update["model"]) == {"messages", "tje"}
        assert update["model"]["tje"] == [update["model"]["messages"][0].response_metadata["tje"]]

    async def test_end_with_the_state_as_the_agent_gives_it_out(self, agent: Make, streamed: Any) -> None:
        values = [part async for part in streamed(agent(), UNSURE, stream_mode="values")]
        assert [len(part["messages"]) for part in values] == [1, 2]
        assert values[-1]["tje"][0]["answered_by"] == "deeper"


class TestEvents:
    @needs_config_in_nodes
    async def test_stream_the_deeper_answer_and_show_the_decision(self, agent: Make) -> None:
        events = [event async for event in agent().astream_events(asking(UNSURE), version="v2")]
        streamed = [event for event in events if event["event"] == "on_chat_model_stream"]
        assert {event["metadata"]["tje.role"] for event in streamed} == {"deeper"}
        assert [event["data"]["reason"] for event in events if event["event"] == "on_custom_event"] == ["uncertain"]

    @pytest.mark.parametrize(("question", "by"), [(SURE, "standin"), (UNSURE, "deep")])
    async def test_of_the_newest_kind_have_one_answer_that_was_judged_by_all_its_tokens(
        self, agent: Make, question: str, by: str
    ) -> None:
        gated = agent()
        if not hasattr(gated, "stream_events"):
            pytest.skip("this LangGraph has no stream_events")
        texts: list[str] = []
        run = gated.stream_events(asking(question), version="v3")
        texts.extend(str(message.text) for message in run.messages)
        arun = await gated.astream_events(asking(question), version="v3")
        texts.extend([str(await message.text) async for message in arun.messages])
        whole = "".join(f"{by}-{number} " for number in range(6))
        assert texts == [whole, whole]
        assert run.output["tje"][0]["tokens"] == 6

    @pytest.mark.parametrize("mode", ["hold", "annotate"])
    async def test_of_the_newest_kind_lose_no_logprobs(self, agent: Make, mode: str) -> None:
        gated = agent(mode=mode)
        if not hasattr(gated, "stream_events"):
            pytest.skip("this LangGraph has no stream_events")
        run = gated.stream_events(asking("bits=3.0,0.1 tokens=6"), version="v3")
        assert run.output["tje"][0]["signal_value"] == pytest.approx(3.5 / 6)


class TestAbort:
    @pytest.fixture
    def counting(self) -> EntropyGate:
        """A gate by total entropy, which only grows: what has passed the threshold is rejected for sure."""
        return make_gate(signal="total_entropy")

    async def test_stops_a_draft_that_is_sure_to_be_rejected(
        self, agent: Make, streamed: Any, counting: EntropyGate, provider: StandIn
    ) -> None:
        gated = agent(gate=counting, mode="abort", deeper=lambda _, draft=None: f"in the place of {draft}")
        (update,) = [part async for part in streamed(gated, SLOW, stream_mode="updates")]
        assert update["model"]["messages"][0].text == "in the place of None"
        (decision,) = update["model"]["tje"]
        assert (decision["aborted"], decision["reason"], decision["answered_by"]) == (True, "uncertain", "deeper")
        assert decision["draft_usage"]["partly_known"] == 1
        assert provider.wait_for_disconnect()
        assert provider.streams[0].produced < 100

    @needs_config_in_nodes
    async def test_shows_nothing_of_what_was_stopped(self, agent: Make, streamed: Any, counting: EntropyGate) -> None:
        gated = agent(gate=counting, mode="abort")
        shown = await chunks_of(streamed(gated, "says_model bits=0.5 tokens=20", stream_mode="messages"))
        assert [chunk.text.split("-")[0] for chunk, _ in shown] == ["deep"] * 20

    async def test_stops_nothing_that_no_deeper_answer_may_replace(
        self, agent: Make, streamed: Any, counting: EntropyGate, provider: StandIn
    ) -> None:
        gated = agent(gate=counting, mode="abort", max_deeper_per_turn=0)
        (update,) = [part async for part in streamed(gated, "bits=0.5 tokens=20", stream_mode="updates")]
        (decision,) = update["model"]["tje"]
        assert (decision["aborted"], decision["reason"], decision["tokens"]) == (False, "capped", 20)
        assert len(update["model"]["messages"][0].text.split()) == 20
        assert not [stream for stream in provider.streams if stream.disconnected]

    async def test_stops_no_call_of_a_tool_that_is_to_pass(
        self, agent: Make, streamed: Any, chat: Chat, provider: StandIn
    ) -> None:
        model = "standin-toollogprobs"
        gated = agent(
            model=chat(model),
            tools=[look],
            gate=make_gate(model=model, signal="total_entropy"),
            mode="abort",
            tool_calls="pass",
        )
        question = 'bits=0.01 call_bits=2.0 call=look args={"word": "moon"}'
        parts = [part async for part in streamed(gated, question, stream_mode="updates")]
        assert [each["model"]["tje"][0]["reason"] for each in parts if "model" in each] == ["tool_call", "confident"]
        assert not [stream for stream in provider.streams if stream.disconnected]
