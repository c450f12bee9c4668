"""What is bound to a gated chat model: two models, of two providers, behind one."""

from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool
from langchain_tje import EntropyGatedChatModel, EntropyGateRunnable
from pydantic import BaseModel, Field

from tests.integrations.langchain_tje.chat.conftest import Gated
from tests.integrations.langchain_tje.chat.ways import WAYS, Way
from tests.integrations.langchain_tje.conftest import make_gate
from tests.standin import StandIn

TOOLS = "standin-toollogprobs"

pytestmark = pytest.mark.filterwarnings("ignore:The v3 streaming protocol")


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


class Verdict(BaseModel):
    """A verdict."""

    answer: str


class OtherProvider(BaseChatModel):
    """A model whose tools have a form of their own, which remembers how it was asked."""

    asked: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "other"

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any) -> Runnable:
        return self.bind(functions=[each.name for each in tools], forced=tool_choice, **kwargs)

    def with_structured_output(self, schema: type, *, include_raw: bool = False, **kwargs: Any) -> Runnable:
        return self.bind(shape=schema.__name__) | RunnableLambda(lambda message: schema(answer=message.text.upper()))

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        self.asked.append({"stop": stop, **kwargs})
        return ChatResult(generations=[ChatGeneration(message=AIMessage("from another"))])


@pytest.fixture
def other() -> OtherProvider:
    return OtherProvider()


@pytest.fixture
def mixed(gated: Gated, other: OtherProvider) -> EntropyGatedChatModel:
    """A draft that gives logprobs of tool calls, and a deeper model of another provider."""
    return gated(draft=TOOLS, deeper=other, gate=make_gate(TOOLS))


@pytest.mark.parametrize("way", WAYS)
class TestTools:
    QUESTION = 'call=weather args={"city": "Oslo"}'

    async def test_a_confident_call_is_the_drafts(
        self, way: Way, mixed: EntropyGatedChatModel, other: OtherProvider
    ) -> None:
        answer = await way(mixed.bind_tools([weather]), f"{self.QUESTION} bits=0.5")
        assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("weather", {"city": "Oslo"})]
        assert answer.response_metadata["tje"]["answered_by"] == "draft"
        assert other.asked == []

    async def test_each_model_gets_tools_in_its_own_form(
        self, way: Way, mixed: EntropyGatedChatModel, other: OtherProvider, provider: StandIn
    ) -> None:
        answer = await way(mixed.bind_tools([weather], tool_choice="any"), f"{self.QUESTION} bits=2.5")
        assert (answer.text, answer.response_metadata["tje"]["answered_by"]) == ("from another", "deeper")
        (request,) = provider.requests
        assert [each["function"]["name"] for each in request["tools"]] == ["weather"]
        assert request["tool_choice"] == "required"
        assert other.asked == [{"stop": None, "functions": ["weather"], "forced": "any"}]


class TestBindings:
    def test_what_is_bound_reaches_both(
        self, mixed: EntropyGatedChatModel, other: OtherProvider, provider: StandIn
    ) -> None:
        mixed.bind(stop=["x"], response_format={"type": "json_object"}).invoke("bits=2.5")
        sent = {"stop": ["x"], "response_format": {"type": "json_object"}}
        assert {name: provider.requests[0][name] for name in sent} == sent
        assert other.asked == [sent]

    def test_what_is_set_after_the_tools_holds_for_both(
        self, mixed: EntropyGatedChatModel, other: OtherProvider, provider: StandIn
    ) -> None:
        bound = mixed.bind_tools([weather], tool_choice="any").bind(tool_choice="none", stop=["x"])
        bound.invoke("bits=2.5")
        assert provider.requests[0]["tool_choice"] == "none"
        assert other.asked == [{"stop": ["x"], "functions": ["weather"], "forced": "any", "tool_choice": "none"}]

    def test_tools_bound_anew_take_the_place_of_those_before(
        self, mixed: EntropyGatedChatModel, other: OtherProvider
    ) -> None:
        again = tool("again", weather)
        mixed.bind_tools([weather]).bind_tools([again]).invoke("bits=2.5")
        assert other.asked == [{"stop": None, "functions": ["again"], "forced": None}]

    def test_the_model_itself_has_no_tools(self, mixed: EntropyGatedChatModel, other: OtherProvider) -> None:
        bound = mixed.bind_tools([weather])
        mixed.invoke("bits=2.5")
        bound.bound.invoke("bits=2.5")  # around the binding
        assert other.asked == [{"stop": None}, {"stop": None}]

    def test_logprobs_asked_for_in_a_binding_stay_in(self, mixed: EntropyGatedChatModel) -> None:
        bound = mixed.bind_tools([weather], logprobs=True)
        assert bound.invoke("bits=0.5").response_metadata["logprobs"]["content"]


class TestStructuredOutput:
    @pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
    @pytest.mark.parametrize(("bits", "said"), [("0.5", TOOLS), ("2.5", "deep")])
    async def test_it_is_of_the_model_that_answers(self, gated: Gated, method: str, bits: str, said: str) -> None:
        model = gated(draft=TOOLS, gate=make_gate(TOOLS)).with_structured_output(Verdict, method=method)
        question = f"bits={bits} says_model"
        expected = Verdict(answer=said)
        assert model.invoke(question) == expected
        assert await model.ainvoke(question) == expected
        assert list(model.stream(question))[-1] == expected
        assert [each async for each in model.astream(question)][-1] == expected

    @pytest.mark.parametrize(("bits", "answerer"), [("0.5", "draft"), ("2.5", "deeper")])
    async def test_the_decision_is_in_the_raw_message(self, gated: Gated, bits: str, answerer: str) -> None:
        model = gated().with_structured_output(Verdict, include_raw=True)
        for answer in (model.invoke(f"bits={bits}"), await model.ainvoke(f"bits={bits}")):
            assert answer["parsed"] == Verdict(answer="yes")
            assert answer["raw"].response_metadata["tje"]["answered_by"] == answerer

    def test_each_model_is_asked_and_read_in_its_own_way(
        self, mixed: EntropyGatedChatModel, other: OtherProvider, provider: StandIn
    ) -> None:
        model = mixed.with_structured_output(Verdict)
        assert model.invoke("bits=0.5") == Verdict(answer="yes")
        assert model.invoke("bits=2.5") == Verdict(answer="FROM ANOTHER")
        assert list(model.stream("bits=2.5")) == [Verdict(answer="FROM ANOTHER")]
        assert "response_format" in provider.requests[0]
        assert other.asked == [{"stop": None, "shape": "Verdict"}] * 2

    def test_an_annotated_draft_is_read_as_the_drafts(self, gated: Gated, other: OtherProvider) -> None:
        model = gated(deeper=other, mode="annotate").with_structured_output(Verdict)
        assert [model.invoke("bits=2.5"), *model.stream("bits=2.5")][-1] == Verdict(answer="yes")
        assert other.asked == []

    def test_a_model_that_composes_it_in_another_way_is_gated_all_the_same(self, gated: Gated) -> None:
        class Composed(OtherProvider):
            def with_structured_output(self, schema: type, **kwargs: Any) -> Runnable:
                return RunnableLambda(lambda _: schema(answer="composed"))

        model = gated(deeper=Composed()).with_structured_output(Verdict)
        assert isinstance(model, EntropyGateRunnable)
        assert model.invoke("bits=2.5") == Verdict(answer="composed")

    @pytest.mark.parametrize(
        ("bits", "answer"),
        [("0.5", "yes"), ("2.5", "FROM ANOTHER")],  # of the draft, and of the inner deeper model
    )
    def test_a_gated_model_within_another_is_read_by_its_own_decision(
        self, gated: Gated, other: OtherProvider, bits: str, answer: str
    ) -> None:
        inner = gated(deeper=other)
        outer = gated(draft="first", deeper=inner, gate=make_gate("first"), threshold=0.0)
        assert outer.with_structured_output(Verdict).invoke(f"bits={bits}") == Verdict(answer=answer)
