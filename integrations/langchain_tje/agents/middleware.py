"""The entropy gate for agents of LangChain's ``create_agent``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from langchain.agents.middleware import AgentMiddleware, ExtendedModelResponse, ModelRequest, ModelResponse
from langchain.agents.middleware.types import AgentState, ContextT, ModelCallResult, ResponseT
from langgraph.types import Command

from tje_middleware import EntropyGate
from tje_middleware.gate.delivery import Delivery, Mode, OnBranchError, ToolCalls

from .agent_branch import AgentDeeper, branch_of
from .agent_turn import AgentTurn
from .deeper_count import DeeperCount, state_schema_of


class EntropyGateMiddleware(AgentMiddleware[AgentState[ResponseT], ContextT, ResponseT]):
    """Let an agent think deeper only in the turns in which its own entropy says that it is unsure.

    In every turn the agent's model writes a draft and is asked for logprobs. A draft that the gate accepts is the
    agent's answer, or the call of tools that it makes; in the place of another comes what the deeper branch answers.
    The decision, the fields of ``GateDecision`` as a plain dict, is in ``response_metadata["tje"]`` of the message,
    and those of the whole thread are in the agent's state under ``tje``. Logprobs are taken out of every message, so
    that they do not fill the checkpoints.

    Example:
        >>> from langchain.agents import create_agent
        >>> from langchain_core.language_models import FakeListChatModel
        >>> from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, calibrate
        >>> records = [CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 0.2 + i % 2 + i / 100})
        ...            for i in range(20)]
        >>> gate = EntropyGate(calibrate(records, key=ProfileKey(model="m", task="t")), on_missing="final")
        >>> deeper = FakeListChatModel(responses=["It is 42, because ..."])
        >>> agent = create_agent(FakeListChatModel(responses=["42"]),
        ...                      middleware=[EntropyGateMiddleware(gate=gate, deeper=deeper)])
        >>> import warnings; warnings.simplefilter("ignore")  # a fake model has no logprobs, and the gate says so
        >>> state = agent.invoke({"messages": [("user", "What is six times seven?")]})
        >>> state["messages"][-1].text, state["tje"][0]["route"], state["tje"][0]["reason"]
        ('42', 'final', 'no_logprobs')

    **What the deeper branch is.** A chat model, or its name for ``init_chat_model``: it gets the same request.
    ``deeper_settings`` are settings of its calls, and without ``deeper`` of the agent's own model's, such as
    ``{"reasoning_effort": "high"}``. ``instruction`` is put at the end of its system message. A Runnable is given the
    messages, the system message first; an agent or a graph is given them as its state. A function, sync or async, is
    given the messages and whichever it names of ``draft`` (the rejected message), ``decision``, ``request`` and
    ``handler`` (which calls the agent's model with a request); it returns an ``AIMessage``, a ``str``, or a
    ``ModelResponse``, which an agent with a ``response_format`` needs. One that names ``draft`` without a default
    needs it, and no draft is stopped then; with a default it is given None for one that was. A function may interrupt
    the graph; when it is resumed, the turn begins again, with a new draft. A branch of
    ``tje_middleware.branches``, such as ``SequentialRefinement()``, asks the agent's model again, as often as it
    needs.

    **Tools.** ``tool_calls="gate"`` judges a draft that calls tools like any other; providers that give no logprobs
    for calls make it one that cannot be judged, and the gate's ``on_missing`` says what to do. ``"pass"`` accepts
    every such draft unjudged, with the reason ``tool_call``. ``"deeper_on_unknown"`` judges it where there are
    logprobs, and goes deeper where there are none, whatever ``on_missing`` says. An answer by ``ToolStrategy`` is a
    call of tools, too; one by ``ProviderStrategy`` is judged by its text. With ``"pass"`` and ``mode="abort"``,
    drafts of turns that are offered tools are held: nobody knows beforehand that they will not call one.

    **Caps.** A draft that was to go deeper and is not allowed to is the answer, with the reason ``capped``. A turn is
    one turn of the agent's loop, in which middleware around the gate, such as a retry, may call it several times; a
    run is one invocation of the agent. What went deeper in a turn whose failure a middleware around the gate turned
    into a message is not counted in the run.

    **Giving up.** With ``EntropyGate(abstain=True)`` a hopeless draft is delivered with the route ``abstain``; look
    for it in ``state["tje"][-1]["route"]`` after the run, or in an ``after_model`` hook that hands over to a person.

    **Streams.** With ``hold`` and ``abort`` no token of a draft is in any ``stream_mode``: an accepted draft comes
    whole, the deeper answer as it is written. Traces, ``astream_events`` among them, show the runs of both, with
    ``tje.role`` in their metadata, and the decision as the custom event ``tje_decision``; ``stream_mode="custom"``
    has it as ``{"tje": decision}``.

    **Among other middleware: best last.** Then the gate is closest to the model and judges exactly what that wrote.

    - ``ModelFallbackMiddleware``: in front of the gate, the model that steps in is gated as well, if the profile is
      its own; behind it, its answers came unasked and cannot be judged, and callback handlers see their tokens.
    - ``ModelRetryMiddleware``: in front, it asks for a new draft, too, when the deeper branch fails and
      ``on_branch_error="raise"``, and goes deeper again as far as ``max_deeper_per_turn`` allows; behind, it repeats
      the failing call alone, and a message that it makes of a failure cannot be judged.
    - ``LLMToolSelectorMiddleware``: in front, it selects once; behind, once for the draft and once for the deeper
      answer, and what it spends counts as theirs.
    - ``ModelCallLimitMiddleware`` counts turns: a draft and its deeper answer are one.
    - ``SummarizationMiddleware`` goes by the usage in messages, where a deeper answer counts its rejected draft: it
      may summarise a little earlier.
    - Two gates need two names. The outer one judges what the inner one delivers, and holds it back as its draft; the
      inner one's deeper model is asked for logprobs, too. The outer one's deeper answer is judged by nobody.

    Args:
        gate: Decides.
        deeper: The deeper branch; None for the agent's model with ``deeper_settings`` or ``instruction``.
        deeper_settings: Settings of the deeper model's calls.
        instruction: For the deeper branch's system message.
        tool_calls: What to do about drafts that call tools.
        mode: ``hold``: nobody sees a draft before it is accepted. ``abort``: held, and its request is cancelled once
            it is sure to be rejected. ``annotate``: the draft passes through and is the answer, with the decision; a
            deeper branch need not be given.
        max_deeper_per_turn: How often to go deeper in one turn at most; None for no limit.
        max_deeper_per_run: The same for one invocation of the agent.
        on_branch_error: When the deeper branch fails: ``draft`` returns the draft and says so, ``raise`` raises. A
            draft that was stopped cannot be returned.
        name: The middleware's, which has to be its own in an agent; None for the class's.

    Raises:
        ValueError: no deeper branch is given, or an option that does not exist.
        TypeError: an argument is of no kind that could serve, or the deeper function requires what it is not given.
    """

    def __init__(
        self,
        *,
        gate: EntropyGate,
        deeper: AgentDeeper | None = None,
        deeper_settings: Mapping[str, Any] | None = None,
        instruction: str | None = None,
        tool_calls: ToolCalls = "gate",
        mode: Mode = "hold",
        max_deeper_per_turn: int | None = 1,
        max_deeper_per_run: int | None = None,
        on_branch_error: OnBranchError = "draft",
        name: str | None = None,
    ) -> None:
        super().__init__()
        delivery = Delivery(gate, mode, on_branch_error, tool_calls)
        if deeper is None and not deeper_settings and not instruction and mode != "annotate":
            raise ValueError(
                "there is nothing to go deeper with: give deeper (a model, its name, a Runnable or a function), "
                "deeper_settings or instruction"
            )
        self.gate = gate
        self.tools = []
        self._name = name or type(self).__name__
        self._caps = {"max_deeper_per_turn": max_deeper_per_turn, "max_deeper_per_run": max_deeper_per_run}
        for option, cap in self._caps.items():
            if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 0):
                raise ValueError(f"{option} must be None or a count of at least 0, not {cap!r}")
        self._delivery = replace(delivery, branch=branch_of(deeper, deeper_settings))
        self._instruction = instruction
        self.state_schema = cast("type[AgentState[ResponseT]]", state_schema_of(self._name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(gate={self.gate!r}, mode={self._delivery.mode!r}, name={self._name!r})"

    @property
    def name(self) -> str:
        """The one that it was given, or the class's."""
        return self._name

    def wrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], ModelResponse[ResponseT]],
    ) -> ModelCallResult[ResponseT]:
        """Ask for a draft, decide, and go deeper where it is not accepted.

        Raises:
            GateError: the draft cannot be judged, and the gate says ``on_missing="raise"``.
            TypeError: the deeper branch cannot be called without an event loop, or answers with what is no answer.
        """
        count = DeeperCount(request.state, name=self._name, caps=self._caps)
        if count.is_for_another:
            return ExtendedModelResponse(handler(request), Command(update=count.update))
        turn = AgentTurn(self._delivery, self._instruction, request, handler, count)
        return cast("ModelCallResult[ResponseT]", turn.answer())

    async def awrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], Awaitable[ModelResponse[ResponseT]]],
    ) -> ModelCallResult[ResponseT]:
        """The same on the event loop."""
        count = DeeperCount(request.state, name=self._name, caps=self._caps)
        if count.is_for_another:
            return ExtendedModelResponse(await handler(request), Command(update=count.update))
        turn = AgentTurn(self._delivery, self._instruction, request, handler, count)
        return cast("ModelCallResult[ResponseT]", await turn.aanswer())
