"""A deeper node's answer in the place that the draft has in a graph's state."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph.types import Command

from tje_middleware import GateDecision, TokenUsage
from tje_middleware.branches.base import require_callable
from tje_middleware.gate.delivery import Delivery

from ..branches.deeper import ChainBranch, as_runnable, is_control_flow, rejecting
from ..callbacks.handler import spending
from ..messages.answer import annotated, usage_in
from .judging import Judged, decision_in, model_of, spent_on, text_for
from .state_messages import last_message, messages_of, update_of, with_messages

#: A node as LangGraph takes it: a function of the state, sync or async, or a Runnable.
Node = Callable[..., Any] | Callable[..., Awaitable[Any]] | Runnable[Any, Any]
Judge = Callable[[AIMessage, list[Any]], Judged]

#: What LangGraph gives to a node's function that names it, beside the state.
_BY_LANGGRAPH = ("config", "runtime", "writer", "store", "previous")


@dataclass(frozen=True)
class DraftPlace:
    """Where one run of a deeper node puts its answer.

    Attributes:
        state: What the node was called with.
        key: Where its messages are.
        delivery: The rules.
        message: What is replaced; or, where ``continues``, the node's own message that called tools.
        decision: What was decided about the draft.
        continues: Whether the node goes on after its tools have answered: the draft is replaced already.
    """

    state: Any
    key: str
    delivery: Delivery
    message: AIMessage
    decision: GateDecision
    continues: bool = False

    @classmethod
    def in_state(cls, state: Any, key: str, delivery: Delivery, judge: Judge) -> DraftPlace:
        """The place of the last draft in a state, or of the answer that a node goes on with.

        Args:
            state: What the node was called with.
            key: Where its messages are.
            delivery: The rules.
            judge: Decides about a draft, given the messages before it, unless that was done before.

        Raises:
            ValueError: there is no draft, nor anything that took its place since the last question.
        """
        messages = messages_of(state, key)
        last = last_message(messages, key)
        if isinstance(last, AIMessage):
            draft = judge(last, messages[:-1])
            return cls(state, key, delivery, draft.message, draft.decision)
        for message in reversed(convert_to_messages(messages)):
            if isinstance(message, HumanMessage):
                break
            decision = decision_in(message)
            if isinstance(message, AIMessage) and decision is not None:
                return cls(state, key, delivery, message, decision, continues=True)
        raise ValueError(
            f"there is no draft to replace: the last message of {key!r} is a {type(last).__name__}, and nothing "
            "since the last question was judged; let the edge to this node come from the gate"
        )

    def shown(self, *, with_draft: bool) -> Any:
        """The state as the node gets it."""
        if self.continues or with_draft:
            return self.state
        return with_messages(self.state, self.key, messages_of(self.state, self.key)[:-1])

    def filled(self, result: object, seen: TokenUsage) -> Any:
        """What the node returned, with its answer in the draft's place and the decision in the answer.

        Args:
            result: An update of the state, a message, or a Command.
            seen: What the model calls that were seen spent.

        Raises:
            TypeError: there is no message in it.
        """
        if not isinstance(result, Command):
            return self._filled(result, seen)
        update = result.update
        if isinstance(update, (list, tuple)) and update and all(isinstance(pair, tuple) for pair in update):
            update = dict(update)  # keys and values in pairs
        return replace(result, update=self._filled(update, seen))

    def kept(self, error: Exception) -> Any:
        """The update that keeps the draft where the node failed.

        Raises:
            Exception: the error itself, where that is the policy, or it is LangGraph's way to interrupt a graph, or
                the draft is replaced already.
        """
        if self.continues or self.decision.answered_by == "deeper" or is_control_flow(error):
            raise error
        decision = self.delivery.after_failure(self.decision, error)
        decision = self.delivery.with_draft(decision, decision.draft_usage)
        gate = self.delivery.gate
        gate.amend(decision, deeper_includes_draft=self._includes, answer=text_for(gate, self.message))
        return update_of(self.state, self.key, [annotated(self.message, decision)])

    def _filled(self, update: object, seen: TokenUsage) -> Any:
        if isinstance(update, (BaseMessage, list)):
            update = update_of(self.state, self.key, [update] if isinstance(update, BaseMessage) else update)
        try:
            messages: list[Any] = convert_to_messages(messages_of(update, self.key))
        except (TypeError, ValueError, NotImplementedError) as error:
            raise TypeError(
                f"the deeper node returned no message to replace the draft ({error}); "
                f"it returns a message, {{{self.key!r}: [...]}} or a Command with such an update"
            ) from error
        given = convert_to_messages(messages_of(self.state, self.key))
        known = {message.id for message in given if message.id} - {self.message.id}
        answers = [message for message in messages if isinstance(message, AIMessage) and message.id not in known]
        # A subgraph returns the messages that it was given, too; if only the draft comes back, it is the answer.
        new = [message for message in answers if not self._is_draft(message)] or answers
        if not new:
            raise TypeError("the deeper node returned no AIMessage that is new, and so nothing to replace the draft")
        return with_messages(update, self.key, self._placed(messages, new, seen))

    def _placed(self, messages: list[Any], new: list[AIMessage], seen: TokenUsage) -> list[Any]:
        """The first new message takes the draft's id; the last one is the answer, with the decision and all usage."""
        *earlier, last = new
        before = self.decision.deeper_usage or TokenUsage()
        # Messages have the usage also of calls that no callback saw, such as those made before an interrupt.
        told_of = [message for message in new if message.usage_metadata and not self._is_draft(message)]
        spent = max(seen, sum(map(spent_on, told_of), TokenUsage()), key=lambda usage: usage.total_tokens)
        decision = self.delivery.with_deeper(self.decision, self.decision.draft_usage, before + spent)
        gate = self.delivery.gate
        gate.amend(
            decision,
            deeper_model=model_of(last),
            deeper_includes_draft=self._includes,
            answer=text_for(gate, last),
        )
        told = sum(map(usage_in, earlier), TokenUsage())
        if self.continues:
            told += before + (self.decision.draft_usage or TokenUsage())
        instead = {id(message): message for message in new}
        instead[id(last)] = annotated(last, decision, told)
        if not self.continues:
            instead[id(new[0])] = instead[id(new[0])].model_copy(update={"id": self.message.id})
        kept = (message for message in messages if id(message) in instead or not self._is_draft(message))
        return [instead.get(id(message), message) for message in kept]

    @property
    def _includes(self) -> bool:
        return self.delivery.branch is not None and self.delivery.branch.includes_draft

    def _is_draft(self, message: BaseMessage) -> bool:
        return message.id is not None and message.id == self.message.id and message.content == self.message.content


@dataclass(frozen=True)
class FunctionNode:
    """A function as the deeper node of a graph, as far as a gate knows of it.

    Attributes:
        needs_draft: Whether the draft is among the messages that it is given.
        includes_draft: The same: what works on a draft is not to be had without one.
    """

    needs_draft: bool
    includes_draft: bool


def node_branch(node: Node, *, sees_draft: bool) -> ChainBranch | FunctionNode:
    """The deeper node as the gate's deeper branch.

    Args:
        node: The node.
        sees_draft: Whether the draft is among the messages that it is given.

    Raises:
        TypeError: it is nothing that could answer, or a function that requires what LangGraph does not give.
    """
    if isinstance(node, Runnable) or not callable(node):
        branch = ChainBranch(as_runnable(node), given="the state", offered=())
        branch.needs_draft = branch.needs_draft or sees_draft
        branch.includes_draft = branch.includes_draft or sees_draft
        return branch
    require_callable(node, given="the state", offered=_BY_LANGGRAPH)
    return FunctionNode(sees_draft, sees_draft)


def replacing(
    node: Node, branch: ChainBranch | FunctionNode, find: Callable[[Any], DraftPlace], *, sees_draft: bool
) -> Any:
    """The node, with its answers put in the places that ``find`` gives.

    A function keeps its signature and annotations: LangGraph reads from them what to give it, and where it goes.
    """
    if not isinstance(branch, ChainBranch):
        function = cast("Callable[..., Any]", node)
        return wraps(function)((_areplacing if _is_async(function) else _replacing)(function, find, sees_draft))
    runnable = branch.runnable
    replace_draft = _replacing(runnable.invoke, find, sees_draft)
    areplace_draft = _areplacing(runnable.ainvoke, find, sees_draft)

    def in_place(state: Any, config: RunnableConfig) -> Any:
        branch.require(on_loop=False)
        return replace_draft(state, config)

    async def ain_place(state: Any, config: RunnableConfig) -> Any:
        return await areplace_draft(state, config)

    return RunnableLambda(in_place, ain_place, name=runnable.get_name())


def _replacing(call: Callable[..., Any], find: Callable[[Any], DraftPlace], sees_draft: bool) -> Callable[..., Any]:
    def in_place(state: Any, *args: Any, **kwargs: Any) -> Any:
        place = find(state)
        try:
            with rejecting(place.message), spending() as log:
                result = call(place.shown(with_draft=sees_draft), *args, **kwargs)
        except Exception as error:
            return place.kept(error)
        return place.filled(result, log.usage)

    return in_place


def _areplacing(call: Callable[..., Any], find: Callable[[Any], DraftPlace], sees_draft: bool) -> Callable[..., Any]:
    async def in_place(state: Any, *args: Any, **kwargs: Any) -> Any:
        place = find(state)
        try:
            with rejecting(place.message), spending() as log:
                result = await call(place.shown(with_draft=sees_draft), *args, **kwargs)
        except Exception as error:
            return place.kept(error)
        return place.filled(result, log.usage)

    return in_place


def _is_async(node: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(node) or inspect.iscoroutinefunction(getattr(node, "__call__", None))  # noqa: B004
