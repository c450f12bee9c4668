"""What deeper branches say of themselves: whether they need the draft, and what going deeper costs without a gate."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnablePassthrough
from langchain_openai import ChatOpenAI
from langchain_tje import (
    EntropyGatedChatModel,
    EntropyGateMiddleware,
    EntropyGateRunnable,
    EntropyRouter,
    ask_logprobs,
    sequential_refinement,
    think_just_enough,
)
from langchain_tje.branches.deeper import ChainBranch, as_runnable
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime

from tests.integrations.langchain_tje.conftest import make_gate
from tests.integrations.ledgers import Written
from tests.standin import StandIn
from tje_middleware import EntropyGate
from tje_middleware.branches import REFINE_INSTRUCTION, SequentialRefinement

UNSURE = "bits=2.5 tokens=6"
PROMPT = ChatPromptTemplate.from_messages([("user", "{text}")])
Chat = Callable[..., ChatOpenAI]


def revised(_: object, draft: AIMessage) -> AIMessage:
    return AIMessage(f"not {draft.text}")


def answered(_: object, draft: AIMessage | None = None) -> AIMessage:
    return AIMessage("something else")


#: ``deeper=`` in the form that the name says, of a chain; and whether it needs the draft, which it then includes.
FORMS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "a refinement": (sequential_refinement, True),
    "one in a chain": (lambda chain: sequential_refinement(chain) | StrOutputParser(), True),
    "one behind a step": (lambda chain: RunnablePassthrough() | sequential_refinement(chain), True),
    "one with retries": (lambda chain: sequential_refinement(chain).with_retry(), True),
    "one with a name": (lambda chain: sequential_refinement(chain).with_config(run_name="refined"), True),
    "one with fallbacks": (lambda chain: sequential_refinement(chain).with_fallbacks([chain]), True),
    "one of several": (lambda chain: {"one": sequential_refinement(chain), "other": chain}, True),
    "a function of the draft": (lambda _: revised, True),
    "one as a Runnable": (lambda _: RunnableLambda(revised), True),
    "one that can do without": (lambda _: answered, False),
    "a chain": (lambda chain: chain, False),
}


class TestWhatABranchSays:
    @pytest.mark.parametrize("form", FORMS)
    def test_in_every_form(self, chat: Chat, form: str) -> None:
        make, needs = FORMS[form]
        branch = ChainBranch(as_runnable(make(PROMPT | chat())))
        assert (branch.needs_draft, branch.includes_draft) == (needs, needs)


class TestSavings:
    """What going deeper saved against always going deeper, with a gate that was told nothing of the branch."""

    @pytest.mark.parametrize(
        ("deeper", "saved"),
        [
            (sequential_refinement, 0),
            (lambda chain: sequential_refinement(chain) | RunnableLambda(lambda message: message), 0),
            (lambda _: SequentialRefinement(steps=2), 0),
            (lambda _: revised, 0),
            (lambda _: answered, -6),
            (lambda chain: chain, -6),
        ],
    )
    def test_of_a_chain(self, chat: Chat, written: Written, deeper: Callable[[Any], Any], saved: int) -> None:
        chain = PROMPT | chat()
        think_just_enough(chain, deeper=deeper(chain), gate=written.gate()).invoke({"text": UNSURE})
        assert (written.row.answered_by, written.row.draft_output_tokens) == ("deeper", 6)
        assert (written.row.tokens_saved, written.row.saved_by) == (saved, "measured")

    @pytest.mark.parametrize(("says", "saved"), [(None, 0), (False, -6), (True, 0)])
    async def test_a_gate_that_was_told_wins(
        self, chat: Chat, written: Written, says: bool | None, saved: int
    ) -> None:
        chain = PROMPT | chat()
        gate = written.gate(deeper_includes_draft=says)
        await think_just_enough(chain, deeper=sequential_refinement(chain), gate=gate).ainvoke({"text": UNSURE})
        assert (written.row.tokens_saved, written.row.saved_by) == (saved, "measured")

    @pytest.mark.parametrize(
        ("deeper", "saved"),
        [
            (lambda chat: sequential_refinement(chat(), steps=1), 0),
            (lambda _: SequentialRefinement(steps=1), 0),
            (lambda _: revised, 0),
            (lambda chat: chat("big"), -6),
        ],
    )
    @pytest.mark.parametrize("way", ["invoke", "ainvoke"])
    async def test_of_an_agent(
        self, chat: Chat, written: Written, deeper: Callable[[Chat], Any], saved: int, way: str
    ) -> None:
        middleware = EntropyGateMiddleware(gate=written.gate(), deeper=deeper(chat))
        asked = getattr(create_agent(chat(), middleware=[middleware]), way)({"messages": [("user", UNSURE)]})
        if isinstance(asked, Awaitable):
            await asked
        assert (written.row.answered_by, written.row.tokens_saved) == ("deeper", saved)

    @pytest.mark.parametrize(("refines", "saved"), [(True, 0), (False, -6)])
    def test_of_a_chat_model(self, chat: Chat, written: Written, refines: bool, saved: int) -> None:
        deeper = SequentialRefinement(steps=1) if refines else chat("big")
        EntropyGatedChatModel(draft=chat(), deeper=deeper, gate=written.gate()).invoke(UNSURE)
        assert (written.row.answered_by, written.row.tokens_saved) == ("deeper", saved)

    @pytest.mark.parametrize(
        ("node", "sees_draft", "saved"),
        [
            (lambda chat: lambda state: {"messages": [chat("big").invoke(state["messages"])]}, False, -6),
            (lambda chat: lambda state: {"messages": [chat("big").invoke(state["messages"])]}, True, 0),
            (
                lambda chat: RunnableLambda(lambda state: {"messages": [chat("big").invoke(state["messages"])]}),
                True,
                0,
            ),
            (
                lambda chat: RunnableLambda(lambda state: state["messages"]) | sequential_refinement(chat(), steps=1),
                False,
                0,
            ),
        ],
    )
    def test_of_a_graph(
        self, chat: Chat, written: Written, node: Callable[[Chat], Any], sees_draft: bool, saved: int
    ) -> None:
        asked = ask_logprobs(chat())
        router = EntropyRouter(gate=written.gate(), deeper="think")
        builder = StateGraph(MessagesState)
        builder.add_node("draft", lambda state: {"messages": [asked.invoke(state["messages"])]})
        builder.add_node("gate", router)
        builder.add_node("think", router.replaces_draft(node(chat), sees_draft=sees_draft))
        builder.add_edge(START, "draft")
        builder.add_edge("draft", "gate")
        builder.compile().invoke({"messages": [("user", UNSURE)]})
        assert (written.row.answered_by, written.row.tokens_saved) == ("deeper", saved)


class TestACoreBranch:
    """A branch that knows no framework asks again through whatever is gated."""

    def asked(self, provider: StandIn) -> list[list[tuple[str, str]]]:
        return [[(each["role"], each["content"]) for each in request["messages"]] for request in provider.requests]

    REFINED = (
        [("user", UNSURE)],
        [("user", UNSURE), ("assistant", "w0 w1 w2 w3 w4 w5 "), ("user", REFINE_INSTRUCTION)],
        [("user", UNSURE), ("assistant", "w0 w1 w2 w3 "), ("user", REFINE_INSTRUCTION)],
    )

    def test_of_a_chain_asks_its_model_and_parses_what_it_says_last(
        self, chat: Chat, provider: StandIn, gate: EntropyGate
    ) -> None:
        chain = PROMPT | chat() | StrOutputParser()
        answer = think_just_enough(chain, deeper=SequentialRefinement(steps=2), gate=gate).invoke({"text": UNSURE})
        assert answer == "w0 w1 w2 w3 "
        assert self.asked(provider) == list(self.REFINED)
        assert provider.asked_for_logprobs() == [20, None, None]

    async def test_of_a_chain_on_the_event_loop(self, chat: Chat, provider: StandIn, gate: EntropyGate) -> None:
        chain = think_just_enough(PROMPT | chat(), deeper=SequentialRefinement(steps=2), gate=gate)
        assert [chunk.text async for chunk in chain.astream({"text": UNSURE})] == ["w0 w1 w2 w3 "]
        assert self.asked(provider) == list(self.REFINED)

    def test_asks_the_chain_that_a_copy_was_given_instead(
        self, chat: Chat, provider: StandIn, gate: EntropyGate
    ) -> None:
        gated = EntropyGateRunnable(draft=chat(), deeper=SequentialRefinement(steps=1), gate=gate)
        gated.invoke(UNSURE)
        gated.model_copy(update={"draft": chat(temperature=0.0, max_tokens=3)}).invoke(UNSURE)
        assert [request.get("max_completion_tokens") for request in provider.requests] == [None, None, 3, 3]

    def test_needs_a_chat_model_that_is_to_be_seen(self, gate: EntropyGate) -> None:
        with pytest.raises(ValueError, match="SequentialRefinement needs a chat model in the chain"):
            think_just_enough(lambda text: text, deeper=SequentialRefinement(), gate=gate)

    def test_of_an_agent_asks_its_handler(self, chat: Chat, provider: StandIn, gate: EntropyGate) -> None:
        middleware = EntropyGateMiddleware(gate=gate, deeper=SequentialRefinement(steps=2), instruction="Think.")
        agent = create_agent(chat(), middleware=[middleware], system_prompt="Be brief.")
        state = agent.invoke({"messages": [("user", UNSURE)]})
        brief, thinking = [("system", "Be brief.")], [("system", "Be brief.\n\nThink.")]
        first, *refined = self.REFINED
        assert self.asked(provider) == [brief + first, *(thinking + messages for messages in refined)]
        assert state["tje"][0]["deeper_usage"]["calls"] == 2

    @pytest.mark.parametrize("way", ["invoke", "stream"])
    def test_of_a_chat_model_asks_the_draft_s_model(
        self, chat: Chat, provider: StandIn, gate: EntropyGate, way: str
    ) -> None:
        model = EntropyGatedChatModel(draft=chat(), deeper=SequentialRefinement(steps=2), gate=gate)
        found = getattr(model, way)(UNSURE)
        answer = found if isinstance(found, AIMessage) else list(found)[-1]
        assert answer.response_metadata["tje"]["answered_by"] == "deeper"
        assert answer.response_metadata["tje"]["deeper_usage"]["calls"] == 2
        assert self.asked(provider) == list(self.REFINED)

    async def test_of_a_chat_model_on_the_event_loop(self, chat: Chat, provider: StandIn, gate: EntropyGate) -> None:
        model = EntropyGatedChatModel(draft=chat(), deeper=SequentialRefinement(steps=2), gate=gate)
        assert (await model.ainvoke(UNSURE)).text == "w0 w1 w2 w3 "
        assert self.asked(provider) == list(self.REFINED)

    def test_of_a_chat_model_gets_its_tools(self, chat: Chat, provider: StandIn, gate: EntropyGate) -> None:
        def look(word: str) -> str:
            """Look a word up."""
            return word

        model = EntropyGatedChatModel(draft=chat(), deeper=SequentialRefinement(steps=1), gate=gate)
        model.bind_tools([look]).invoke(UNSURE)
        assert [len(request["tools"]) for request in provider.requests] == [1, 1]

    def test_two_refinements_do_not_share_answers_in_a_cache(self, chat: Chat, gate: EntropyGate) -> None:
        one, same, other = (
            EntropyGatedChatModel(draft=chat(), deeper=SequentialRefinement(steps=steps), gate=gate)
            for steps in (1, 1, 2)
        )
        assert one._get_llm_string() == same._get_llm_string() != other._get_llm_string()


def styled(question: object, style: str) -> str:
    return style


def configured(question: object, config: RunnableConfig, draft: object) -> str:
    return "deeper"


def told_all(messages: list, request: object, handler: object, draft: object, decision: object) -> str:
    return "42"


def generated(chunks: Iterator[object], style: str) -> Iterator[str]:
    yield style


async def agenerated(chunks: AsyncIterator[object], style: str) -> AsyncIterator[str]:
    yield style


class TestWhatCannotBeCalled:
    """A function that requires what nobody gives it is refused when the gate is built."""

    REFUSED = (
        styled,
        RunnableLambda(styled),
        RunnableLambda(lambda text: text) | styled,
        RunnableLambda(lambda text: text) | revised,  # the draft is given to the first step
        {"answer": styled},
        RunnableLambda(styled).with_retry(),
        generated,
        agenerated,
    )

    @pytest.mark.parametrize("deeper", REFUSED)
    def test_by_a_chain(self, chat: Chat, gate: EntropyGate, deeper: Any) -> None:
        with pytest.raises(TypeError, match=r"requires '(style|draft)', which it is not given"):
            think_just_enough(deeper=deeper, gate=gate)

    def test_by_a_gate_that_is_made_by_its_class(self, chat: Chat, gate: EntropyGate) -> None:
        with pytest.raises(TypeError, match="requires 'style'"):
            EntropyGateRunnable(draft=chat(), deeper=RunnableLambda(styled), gate=gate)

    @pytest.mark.parametrize("deeper", REFUSED)
    def test_by_an_agent(self, gate: EntropyGate, deeper: Any) -> None:
        with pytest.raises(TypeError, match=r"requires '(style|draft)', which it is not given"):
            EntropyGateMiddleware(gate=gate, deeper=deeper)

    def test_by_an_agent_that_offers_more(self, gate: EntropyGate) -> None:
        EntropyGateMiddleware(gate=gate, deeper=told_all)
        with pytest.raises(TypeError, match="draft, decision, request, handler"):
            EntropyGateMiddleware(gate=gate, deeper=styled)

    def test_by_a_graph(self, gate: EntropyGate) -> None:
        router = EntropyRouter(gate=gate, deeper="think")
        for node in (styled, RunnableLambda(styled), RunnableLambda(revised)):
            with pytest.raises(TypeError, match="which it is not given"):
                router.replaces_draft(node)

    def test_not_what_langgraph_gives_to_a_node(self, gate: EntropyGate) -> None:
        def think(state: dict, config: RunnableConfig, runtime: Runtime) -> dict:
            return state

        EntropyRouter(gate=gate, deeper="think").replaces_draft(think)

    @pytest.mark.parametrize(
        "deeper",
        [configured, RunnableLambda(styled).bind(style="brief"), partial(styled, style="brief"), lambda *_, **__: ""],
    )
    def test_not_what_is_given_in_another_way(self, chat: Chat, gate: EntropyGate, deeper: Any) -> None:
        assert think_just_enough(chat(), deeper=deeper, gate=gate).invoke(UNSURE) in {"deeper", "brief", ""}


class TestAbort:
    """A draft that the branch starts from is held, and never stopped."""

    SLOW = "bits=0.5 tokens=20 pace=0.01"

    @pytest.fixture
    def counting(self) -> EntropyGate:
        """A gate by total entropy, which only grows: what has passed the threshold is rejected for sure."""
        return make_gate(signal="total_entropy")

    @pytest.mark.parametrize(
        ("deeper", "aborted"),
        [(lambda chat: sequential_refinement(chat(), steps=1), False), (lambda chat: chat(), True)],
    )
    def test_a_chain(self, chat: Chat, counting: EntropyGate, deeper: Callable[[Chat], Any], aborted: bool) -> None:
        gated = think_just_enough(chat(), deeper=deeper(chat), gate=counting, mode="abort")
        decision = gated.invoke(self.SLOW).response_metadata["tje"]
        assert (decision["answered_by"], decision["aborted"]) == ("deeper", aborted)

    @pytest.mark.parametrize(
        ("deeper", "aborted"), [(lambda _: SequentialRefinement(steps=1), False), (lambda chat: chat(), True)]
    )
    def test_a_chat_model(
        self, chat: Chat, counting: EntropyGate, deeper: Callable[[Chat], Any], aborted: bool
    ) -> None:
        gated = EntropyGatedChatModel(draft=chat(), deeper=deeper(chat), gate=counting, mode="abort")
        decision = gated.invoke(self.SLOW).response_metadata["tje"]
        assert (decision["answered_by"], decision["aborted"]) == ("deeper", aborted)

    @pytest.mark.parametrize(("deeper", "aborted"), [(revised, False), (answered, True)])
    def test_an_agent(
        self, chat: Chat, counting: EntropyGate, deeper: Callable[..., AIMessage], aborted: bool
    ) -> None:
        middleware = EntropyGateMiddleware(gate=counting, deeper=deeper, mode="abort")
        state = create_agent(chat(), middleware=[middleware]).invoke({"messages": [("user", self.SLOW)]})
        assert (state["tje"][0]["answered_by"], state["tje"][0]["aborted"]) == ("deeper", aborted)
