"""The entropy gate in a LangGraph graph: a routing node or a conditional edge, and the nodes behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

from langchain_core.callbacks import dispatch_custom_event
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import set_config_context
from langgraph.constants import END
from langgraph.types import Command, Send, StreamWriter

from tje_middleware import EntropyGate, GateDecision, Route
from tje_middleware.gate.decision import METADATA_KEY
from tje_middleware.gate.delivery import Delivery, OnBranchError

from ..messages.visibility import EVENT
from .draft_place import DraftPlace, Node, node_branch, replacing
from .judging import Judged, answer_of, judged, question_of, reply_to
from .state_messages import draft_in, messages_of, update_of, values_in, with_messages, with_values


def _unheard(_: Any) -> None:
    """Stands in for a stream writer outside of a graph."""


class EntropyRouter:
    """Sends a graph on to its end where the draft's own entropy says that it is sure, else to a deeper node.

    The draft is the last message of the state. The router is a node: it writes the draft back with the decision in
    ``response_metadata["tje"]`` and without logprobs, under the draft's id, so that ``add_messages`` puts it in the
    draft's place; and it goes to ``deeper``, ``final`` or ``abstain``. Or its ``route`` is a conditional edge, which
    writes nothing; let the node that drafts return ``router.judge(message)`` then, which also keeps the logprobs,
    1.7 kB a token, out of the first checkpoint.

    The deeper node's answer takes the draft's place where that node is wrapped in ``replaces_draft``; ``hand_over``
    is a node that asks a human. The state may be a dict, a pydantic model, a dataclass, or a list of messages. Node
    and edge also stream the decision as ``{"tje": decision}`` with ``stream_mode="custom"``, and dispatch it as the
    event ``tje_decision``.

    The gate's ledger has each draft once a run, and what became of it where the node that answers is wrapped in
    ``replaces_draft`` or is ``hand_over``. How long the answer took is not known: no question is seen before there
    is a draft. Where an edge judges drafts out of LangChain's cache, runs are told apart by the ids that
    ``add_messages`` gives to questions; without such ids, each look at the draft is a decision.

    A decision that another gate made is not taken over, and a message that holds it has no logprobs left: of gates
    one after the other, let each judge what its own node drafts.

    LangGraph's ``stream_mode="messages"`` shows what any node writes, a draft that is replaced later, too. Where
    nobody may see it, draft and deeper branch belong into one node: an ``EntropyGateRunnable``.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
        >>> from langchain_core.messages import AIMessage
        >>> from langgraph.graph import START, MessagesState, StateGraph
        >>> from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, calibrate
        >>> records = [CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 0.2 + i % 2 + i / 100})
        ...            for i in range(20)]
        >>> gate = EntropyGate(calibrate(records, key=ProfileKey(model="m", task="t", top_k=2)))
        >>> words = [{"token": word, "logprob": -0.69315} for word in ("Lyon", "Paris")]  # 1 bit
        >>> logprobs = {"content": [{**words[0], "top_logprobs": words}]}
        >>> unsure = AIMessage("Lyon", response_metadata={"logprobs": logprobs})
        >>> model, big_model = GenericFakeChatModel(messages=iter([unsure])), FakeListChatModel(responses=["Paris"])
        >>> router = EntropyRouter(gate=gate, deeper="think")
        >>> def draft(state):
        ...     return {"messages": [router.judge(model.invoke(state["messages"]))]}
        >>> @router.replaces_draft
        ... def think(state):
        ...     return {"messages": [big_model.invoke(state["messages"])]}
        >>> builder = StateGraph(MessagesState)
        >>> _ = builder.add_node(draft).add_node(think).add_edge(START, "draft")
        >>> _ = builder.add_node("gate", router, destinations=router.destinations).add_edge("draft", "gate")
        >>> question, answer = builder.compile().invoke({"messages": "The capital of France?"})["messages"]
        >>> answer.text, answer.response_metadata["tje"]["answered_by"]
        ('Paris', 'deeper')

    Args:
        gate: Decides about drafts.
        deeper: The node that answers where the gate is not satisfied.
        final: Where accepted drafts go.
        abstain: Where drafts that the gate gives up go; None: with the accepted ones.
        messages_key: Where the state has its messages. Their reducer replaces by id, as ``add_messages`` does.
        decisions_key: Where the node adds each decision, a dict, to a list in the state; needs a reducer that adds,
            such as ``operator.add``. None: the messages alone hold them.
        carry_state: Send the state that the node was called with to the next node. For nodes that were reached by
            ``Send``: what a ``Send`` carries is not in the graph's state, and the next node would not see it. (Drafts
            that parallel nodes write into one state are one conversation: of them, the last is judged.)
        on_branch_error: When a deeper node wrapped in ``replaces_draft`` fails: keep the draft and say so, or raise,
            which leaves it to the graph's retry policies and error handlers.

    Raises:
        ValueError: a policy that does not exist.
    """

    def __init__(
        self,
        *,
        gate: EntropyGate,
        deeper: str,
        final: str = END,
        abstain: str | None = None,
        messages_key: str = "messages",
        decisions_key: str | None = None,
        carry_state: bool = False,
        on_branch_error: OnBranchError = "draft",
    ) -> None:
        self._delivery = Delivery(gate, on_branch_error=on_branch_error)
        self.gate = gate
        self.deeper = deeper
        self.final = final
        self.abstain = abstain
        self.messages_key = messages_key
        self.decisions_key = decisions_key
        self.carry_state = carry_state

    def __repr__(self) -> str:
        return f"EntropyRouter(deeper={self.deeper!r}, final={self.final!r}, abstain={self.abstain!r}, {self.gate})"

    @property
    def destinations(self) -> tuple[str, ...]:
        """Where the node may go, for ``builder.add_node("gate", router, destinations=router.destinations)``."""
        return tuple(dict.fromkeys([self.deeper, self.final, self.abstain or self.final]))

    @property
    def path_map(self) -> list[str]:
        """The same for ``builder.add_conditional_edges("draft", router.route, router.path_map)``."""
        return list(self.destinations)

    def __call__(
        self,
        state: Any,
        # LangGraph recognises these parameters by exactly these annotations.
        config: Optional[RunnableConfig] = None,  # noqa: UP045
        writer: StreamWriter = _unheard,
    ) -> Command[Any]:
        """Decide about the draft in the state, and go on.

        Raises:
            GateError: it cannot be judged, and the gate says ``on_missing="raise"``.
            TypeError: this is no state with messages.
            ValueError: there is no draft at the end of its messages.
        """
        messages = messages_of(state, self.messages_key)
        draft = self._draft_in(messages, is_kept=True)
        _announce(draft.decision, config, writer)
        update = update_of(state, self.messages_key, [draft.message])
        carried = with_messages(state, self.messages_key, [*messages[:-1], draft.message])
        if self.decisions_key is not None:
            added = [draft.decision.as_dict()]
            before = values_in(state, self.decisions_key)
            update = with_values(update, {self.decisions_key: added})
            carried = with_values(carried, {self.decisions_key: [*before, *added]})
        target = self._target(draft.decision)
        by_send = self.carry_state and target != END
        return Command(update=update, goto=Send(target, carried) if by_send else target)

    def route(
        self,
        state: Any,
        config: Optional[RunnableConfig] = None,  # noqa: UP045
        writer: StreamWriter = _unheard,
    ) -> str:
        """The name of the node to go to, as a conditional edge's function; the state stays as it is.

        A draft that was judged before is not judged again.

        Raises:
            GateError: it cannot be judged, and the gate says ``on_missing="raise"``.
            TypeError: this is no state with messages.
            ValueError: there is no draft at the end of its messages.
        """
        draft = self._draft_in(messages_of(state, self.messages_key))
        _announce(draft.decision, config, writer)
        return self._target(draft.decision)

    def judge(self, message: AIMessage, asked: Any = None) -> AIMessage:
        """The draft with the decision in it and without logprobs, for the node that writes it.

        Args:
            message: The draft.
            asked: What it answers, such as ``state["messages"]``, for a ledger that keeps texts.

        Raises:
            GateError: it cannot be judged, and the gate says ``on_missing="raise"``.
            TypeError: this is no AIMessage.
        """
        if not isinstance(message, AIMessage):
            raise TypeError(f"a draft is an AIMessage, not a {type(message).__name__}: judge the model's own message")
        return self._judged(message, asked, is_kept=True).message

    def replaces_draft(self, node: Node, *, sees_draft: bool = False) -> Any:
        """The deeper node, its answer put in the place of the draft.

        The message takes the draft's id, the decision with ``answered_by="deeper"``, and counts in its
        ``usage_metadata`` what the draft cost, too. Where the node answers with several messages, the first stands
        where the draft stood, and the last has the decision; where it calls tools and is called again after them,
        its later answers follow as usual.

        With ``stream_mode="messages"`` LangGraph shows what the node's models stream. An answer that none of them
        streamed has the id of a message that was shown, and is not shown again: ``"updates"`` has it.

        Args:
            node: A function of the state, sync or async, or a Runnable; returns an update with messages, a message,
                or a Command.
            sees_draft: Whether the rejected draft is among the messages that the node is given; always going deeper
                then costs the draft as well, and what the gate saves is counted against that.

        Returns:
            A node. Called without a draft in its state it raises ValueError; where ``node`` returns no message,
            TypeError. What ``node`` itself raises is dealt with by ``on_branch_error``; nothing is kept back once
            its first message has taken the draft's place.

        Raises:
            TypeError: ``node`` is no node, or a function that requires what LangGraph does not give.
        """
        branch = node_branch(node, sees_draft=sees_draft)
        delivery = replace(self._delivery, branch=branch)

        def find(state: Any) -> DraftPlace:
            return DraftPlace.in_state(state, self.messages_key, delivery, self._judged)

        return replacing(node, branch, find, sees_draft=sees_draft)

    def hand_over(
        self,
        state: Any,
        config: Optional[RunnableConfig] = None,  # noqa: UP045
    ) -> Any:
        """A node that asks a human: interrupts the graph, and puts the reply in the place of the draft.

        The interrupt's value is ``{"question": ..., "draft": ..., "decision": ...}``, two texts and a dict. Resume
        with ``Command(resume=reply)``: a text, a message, or a dict with a message's ``content``; an empty text keeps
        the draft (None does, too, where the release of LangGraph takes it). Any other reply interrupts again, and the
        value says under ``"problem"`` what was wrong. Needs a checkpointer, as every interrupt does.

        Raises:
            ValueError: there is no draft at the end of the state's messages.
        """
        messages = messages_of(state, self.messages_key)
        draft = self._draft_in(messages)
        asked = {
            "question": question_of(messages),
            "draft": str(draft.message.text),
            "decision": draft.message.response_metadata[METADATA_KEY],
        }
        answer = answer_of(reply_to(asked, config), draft, self._delivery)
        return update_of(state, self.messages_key, [answer])

    def _draft_in(self, messages: list[Any], *, is_kept: bool = False) -> Judged:
        return self._judged(draft_in(messages, self.messages_key), messages[:-1], is_kept=is_kept)

    def _judged(self, message: AIMessage, asked: Any, *, is_kept: bool = False) -> Judged:
        hands_over = self.abstain is not None
        return judged(message, self._delivery, asked=asked, hands_over=hands_over, is_kept=is_kept)

    def _target(self, decision: GateDecision) -> str:
        targets = {Route.FINAL: self.final, Route.DEEPER: self.deeper, Route.ABSTAIN: self.abstain or self.final}
        return targets[self._delivery.route_left(decision)]


def _announce(decision: GateDecision, config: RunnableConfig | None, writer: StreamWriter) -> None:
    """Write the decision to the graph's custom stream and dispatch it to callbacks; outside of a graph do nothing."""
    if config is None:
        return
    fields = decision.as_dict()
    # Before Python 3.11 an asynchronous graph does not set the config in the context, where its writer looks for it.
    with set_config_context(config) as context:
        context.run(writer, {METADATA_KEY: fields})
    if getattr(config.get("callbacks"), "parent_run_id", None) is not None:
        dispatch_custom_event(EVENT, fields, config=config)
