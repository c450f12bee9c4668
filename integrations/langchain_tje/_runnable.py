"""Draft, gate, deeper: as one Runnable."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    CallbackManagerForChainRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import Input, Output
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from tje_middleware import EntropyGate, GateDecision, MissingLogprobs, Route, TjeWarning

from ._asking import ask_visible_models, asks_for_logprobs
from ._capture import EVENT, DraftCapture
from ._deeper import deeper_arguments, is_control_flow, rejecting, require_sync
from ._model import UNNAMED, Refusals

OnBranchError = Literal["draft", "raise"]


class EntropyGateRunnable(RunnableSerializable[Input, Output]):
    """Answer once; go deeper only where the answer's own entropy says that it is unsure.

    The draft's chat model is asked for logprobs. A message that comes out carries the decision, the fields of
    ``GateDecision`` as a plain dict, in ``response_metadata["tje"]``; whatever comes out, the decision is also
    dispatched as the custom event ``tje_decision``. Streaming yields the whole answer once it is decided.

    Example:
        >>> gated = EntropyGateRunnable(draft=chain, deeper=deep_chain, gate=gate)   # doctest: +SKIP
        >>> gated.invoke({"question": "..."}).response_metadata["tje"]["route"]       # doctest: +SKIP
        'final'
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    #: For a gate around this one: its model is asked for logprobs already.
    asks_by_itself: ClassVar[bool] = True

    draft: Runnable[Any, Any] = Field(description="Writes the first, cheap answer.")
    deeper: Runnable[Any, Any] = Field(description="Answers where the gate is not satisfied.")
    gate: EntropyGate = Field(description="Decides which answer is taken.")
    on_branch_error: OnBranchError = Field(
        default="draft", description="When the deeper branch fails: return the draft and say so, or raise."
    )

    # Of each model that refused to be asked for logprobs, what it said; once is enough.
    _refusals: Refusals = PrivateAttr(default_factory=dict)
    _prepared: _Prepared | None = PrivateAttr(default=None)
    _said_branch_failed: bool = PrivateAttr(default=False)

    @property
    def InputType(self) -> type[Input]:  # noqa: N802 (LangChain's name)
        """The draft's."""
        return cast("type[Input]", self.draft.InputType)

    @property
    def OutputType(self) -> type[Output]:  # noqa: N802
        """The draft's."""
        return cast("type[Output]", self.draft.OutputType)

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """The draft's."""
        return cast("type[BaseModel]", self.draft.get_input_schema(config))

    def get_output_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """The draft's."""
        return cast("type[BaseModel]", self.draft.get_output_schema(config))

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """Answer, deciding on the way.

        Raises:
            GateError: the draft cannot be judged, and the gate says ``on_missing="raise"``.
        """
        return self._call_with_config(self._answer, input, config, **kwargs)

    async def ainvoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """The same on the event loop."""
        return await self._acall_with_config(self._aanswer, input, config, **kwargs)

    def _answer(
        self, question: Input, run_manager: CallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Output:
        prepared, capture = self._prepare(), DraftCapture()
        draft = prepared.asking.invoke(question, _watched(config, run_manager, capture), **kwargs)
        draft, decision = self._decide(draft, capture, prepared)
        dispatch_custom_event(
            EVENT, decision.as_dict(), config=patch_config(config, callbacks=run_manager.get_child())
        )
        if decision.route is not Route.DEEPER:
            return cast("Output", _delivered(draft, decision))
        require_sync(self.deeper)
        child = patch_config(config, callbacks=run_manager.get_child("tje:deeper"))
        arguments = {**deeper_arguments(self.deeper, draft, decision), **kwargs}
        try:
            with rejecting(draft):
                answer = self.deeper.invoke(question, child, **arguments)
        except Exception as error:
            return self._after_failure(draft, decision, error)
        return cast("Output", _delivered(answer, decision))

    async def _aanswer(
        self, question: Input, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Output:
        prepared, capture = self._prepare(), DraftCapture()
        draft = await prepared.asking.ainvoke(question, _watched(config, run_manager, capture), **kwargs)
        draft, decision = self._decide(draft, capture, prepared)
        await adispatch_custom_event(
            EVENT, decision.as_dict(), config=patch_config(config, callbacks=run_manager.get_child())
        )
        if decision.route is not Route.DEEPER:
            return cast("Output", _delivered(draft, decision))
        child = patch_config(config, callbacks=run_manager.get_child("tje:deeper"))
        arguments = {**deeper_arguments(self.deeper, draft, decision), **kwargs}
        try:
            with rejecting(draft):
                answer = await self.deeper.ainvoke(question, child, **arguments)
        except Exception as error:
            return self._after_failure(draft, decision, error)
        return cast("Output", _delivered(answer, decision))

    def _prepare(self) -> _Prepared:
        """The draft that asks for logprobs; made anew where a copy of this was given another draft or gate."""
        prepared = self._prepared
        if prepared is None or prepared.draft is not self.draft or prepared.gate is not self.gate:
            top_k = self.gate.key.top_k
            asking, model_seen = ask_visible_models(self.draft, top_k=top_k, refusals=self._refusals)
            prepared = _Prepared(self.draft, self.gate, asking, model_seen, asks_for_logprobs(self.draft))
            self._prepared = prepared
        return prepared

    def _decide(self, draft: object, capture: DraftCapture, prepared: _Prepared) -> tuple[object, GateDecision]:
        """The draft without what only the gate wanted, and the decision about it."""
        call = capture.writer_of(_message(draft), trusted=prepared.model_seen)
        logprobs: object = call.logprobs
        if isinstance(logprobs, MissingLogprobs):
            # Not every integration names its model; what any model of this chain said is then the best there is.
            refusal = self._refusals.get(call.model or UNNAMED) or next(iter(self._refusals.values()), None)
            if refusal is not None:
                logprobs = MissingLogprobs(refusal)
            elif prepared.model_seen:
                said, _, _ = str(logprobs).partition("; ask the provider")
                logprobs = MissingLogprobs(f"{said}; the model was asked for them")
            else:
                logprobs = MissingLogprobs(
                    "the chain calls its model where it cannot be asked for logprobs: "
                    "use a chat model wrapped in ask_logprobs() there"
                )
        decision = self.gate.decide(logprobs, model=call.model, temperature=call.temperature)
        return (draft if prepared.keeps_logprobs else _without_logprobs(draft)), decision

    def _after_failure(self, draft: object, decision: GateDecision, error: Exception) -> Output:
        """Return the draft in the place of a deeper branch that failed, and say so; or raise."""
        if self.on_branch_error == "raise" or is_control_flow(error):
            raise error
        # The error's kind alone: its text may quote the prompt or the answer, and decisions are kept.
        failed = f"the deeper branch failed ({type(error).__name__}), so this is the draft"
        if not self._said_branch_failed:
            self._said_branch_failed = True
            warnings.warn(f"{failed}: {str(error)[:200]} (said once)", TjeWarning, stacklevel=2)
        decision = replace(decision, reason="branch_failed", detail=f"{decision.detail}; {failed}")
        return cast("Output", _delivered(draft, decision))


@dataclass(frozen=True)
class _Prepared:
    """What is derived from a draft and a gate.

    Attributes:
        draft: The draft as it was given.
        gate: The gate as it was given.
        asking: The draft, its model asked for logprobs.
        model_seen: Whether there was a model to be asked.
        keeps_logprobs: Whether the user asks for logprobs anyway, and expects them in the answer.
    """

    draft: Runnable[Any, Any]
    gate: EntropyGate
    asking: Runnable[Any, Any]
    model_seen: bool
    keeps_logprobs: bool


def _message(answer: object) -> object:
    """The message in an answer: itself, or under ``raw`` where structured output includes it."""
    raw = answer.get("raw") if isinstance(answer, dict) else None
    return raw if isinstance(raw, AIMessage) else answer


def _with_metadata(answer: object, metadata: dict[str, Any]) -> object:
    """The answer, its message's metadata replaced; messages belong to whoever made them and are copied."""
    message = cast("AIMessage", _message(answer)).model_copy(update={"response_metadata": metadata})
    return {**answer, "raw": message} if isinstance(answer, dict) else message


def _without_logprobs(draft: object) -> object:
    """Without the logprobs that only the gate wanted: at 20 alternatives they are 2 KB a token."""
    message = _message(draft)
    if not isinstance(message, AIMessage) or "logprobs" not in message.response_metadata:
        return draft
    rest = {name: value for name, value in message.response_metadata.items() if name != "logprobs"}
    return _with_metadata(draft, rest)


def _delivered(answer: object, decision: GateDecision) -> object:
    """Put the decision into the answer, where there is a place for it."""
    message = _message(answer)
    if not isinstance(message, AIMessage):
        return answer
    return _with_metadata(answer, {**message.response_metadata, "tje": decision.as_dict()})


def _watched(
    config: RunnableConfig,
    run_manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
    capture: DraftCapture,
) -> RunnableConfig:
    callbacks = run_manager.get_child("tje:draft")
    callbacks.add_handler(capture)
    return patch_config(config, callbacks=callbacks)
