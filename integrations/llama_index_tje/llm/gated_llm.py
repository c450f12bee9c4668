"""An LLM that thinks just enough: for query engines, chat engines, agents, and wherever else LlamaIndex takes one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from typing import Any, ClassVar, cast

from llama_index.core.base.llms.types import ChatResponse, ChatResponseAsyncGen, ChatResponseGen, LLMMetadata
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools.types import BaseTool
from pydantic import computed_field

from tje_middleware import EntropyGate
from tje_middleware.branches import Branch
from tje_middleware.calls.request import LogprobsCapabilities
from tje_middleware.errors import described
from tje_middleware.gate.delivery import Delivery, Mode, OnBranchError, ToolCalls

from ..answers.responses import decision_in
from ..asking.asked_llm import asked
from ..asking.delegating import DelegatingLLM, fingerprint_of, named
from ..asking.requests import LLMCall, StructuredCall, ToolsCall, tool_caller, tool_options
from ..branches import DeeperLLM, LLMBranch, branch_of_llm
from .llm_turn import LLMRules, LLMTurn
from .structured_turn import StructuredTurn


class EntropyGatedLLM(DelegatingLLM):
    """An LLM that answers once, and asks a deeper one only where its own entropy says that it is unsure.

    It stands for an LLM in query engines, chat engines, ``FunctionAgent``, ``ReActAgent``, ``AgentWorkflow``,
    ``Settings.llm`` and programs. It asks for logprobs by the provider's own arguments. The decision, the fields of
    ``GateDecision`` as a plain dict, is in ``response.message.additional_kwargs["tje"]`` of a chat and in
    ``response.additional_kwargs["tje"]`` of a completion, and is dispatched as an ``EntropyDecisionEvent``. Where the
    deeper LLM answered, ``prompt_tokens`` and ``completion_tokens`` of the response are those of both.

    Example:
        >>> from llama_index.core.llms import MockLLM
        >>> from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, calibrate
        >>> records = [CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 0.2 + i % 2 + i / 100})
        ...            for i in range(20)]
        >>> gate = EntropyGate(calibrate(records, key=ProfileKey(model="m", task="t")), on_missing="final")
        >>> llm = EntropyGatedLLM(llm=MockLLM(), deeper=MockLLM(), gate=gate)
        >>> import warnings; warnings.simplefilter("ignore")  # a mock has no logprobs, and the gate says so
        >>> response = llm.complete("The capital of France?")
        >>> response.text, response.additional_kwargs["tje"]["reason"]
        ('The capital of France?', 'no_logprobs')

    **What answers deeper.** Any LLM; it gets the same question, and tools in its own form. ``deeper_settings`` are
    arguments of its calls, and without ``deeper`` of ``llm``'s, such as ``{"reasoning_effort": "high"}``.
    ``instruction`` is put at the end of its system message, or in front of its prompt. Or a branch of
    ``tje_middleware.branches``, such as ``SequentialRefinement()``, by which ``llm`` checks its own answer.

    **Tools.** ``tool_calls="gate"`` judges a draft that calls tools like any other; providers that give no logprobs
    for calls make it one that cannot be judged, and the gate's ``on_missing`` says what to do. ``"pass"`` accepts
    every such draft unjudged, with the reason ``tool_call``. ``"deeper_on_unknown"`` judges it where there are
    logprobs, and goes deeper where there are none, whatever ``on_missing`` says.

    **Streams.** With ``hold`` and ``abort`` an accepted draft comes as one chunk, the deeper answer as it is written;
    with ``annotate`` the draft comes as it is written. The decision is in the last chunk. A draft that the branch
    starts from is held with ``abort``, too.

    **Structured output.** ``structured_predict``, its twins and ``as_structured_llm`` ask each LLM in its own way,
    with the provider's schema where it has one, and are gated where the answers behind them come with logprobs. The
    object has no place for the decision: ``capture_entropy().decisions`` has it. A draft is held with ``abort``.

    An object that comes by a call of tools is one without logprobs with many providers, whatever ``tool_calls`` says.

    **What is delegated.** ``metadata`` is ``llm``'s, with the smaller context window, and tools only where both LLMs
    call them; prompts, system prompt and every other attribute are ``llm``'s. A callback manager or rate limiter that
    is put into this LLM is put into both. Serialised, it gives the names of the LLMs, the gate's key and a
    fingerprint of all settings; API keys, settings and prompts are in no serialised form, and in no ``repr``.

    Raises:
        TypeError: one of the LLMs is none, the gate is none, or an argument is unknown: policies are the gate's.
        ValueError: there is nothing to go deeper with, or an option does not exist.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    # Any: a branch is anything that has a branch's methods, and is neither copied nor validated.
    deeper: Any = Field(
        default=None, exclude=True, repr=False, description="The deeper LLM or branch; None for the LLM itself."
    )
    gate: EntropyGate = Field(exclude=True, description="Decides which answer is taken.")
    threshold: float | None = Field(
        default=None, description="A threshold set by hand, in the signal's unit; None for the profile's."
    )
    mode: Mode = Field(
        default="hold",
        description="hold: nobody sees a draft before it is accepted. abort: held, and its request is cancelled once "
        "it is sure to be rejected. annotate: the draft passes through and is the answer, with the decision.",
    )
    on_branch_error: OnBranchError = Field(
        default="draft",
        description="When the deeper LLM fails: draft returns the draft and says so, raise raises. A draft that was "
        "stopped cannot be returned.",
    )
    tool_calls: ToolCalls = Field(default="gate", description="What to do about drafts that call tools.")
    deeper_settings: dict[str, Any] = Field(
        default_factory=dict, exclude=True, repr=False, description="Arguments of the deeper LLM's calls."
    )
    instruction: str | None = Field(
        default=None, exclude=True, repr=False, description="For the deeper LLM's system message."
    )

    #: A stream of its answers may be of either of two LLMs.
    answers_by_several: ClassVar[bool] = True
    _refusals_of_deeper: LogprobsCapabilities = PrivateAttr(default_factory=LogprobsCapabilities)
    # The rules and what they were made of: as one value, since threads may share this LLM.
    _made: tuple[list[object], LLMRules] | None = PrivateAttr(default=None)

    def __init__(
        self,
        *,
        llm: LLM,
        deeper: LLM | LLMBranch | None = None,
        gate: EntropyGate,
        threshold: float | None = None,
        mode: Mode = "hold",
        on_branch_error: OnBranchError = "draft",
        tool_calls: ToolCalls = "gate",
        deeper_settings: Mapping[str, Any] | None = None,
        instruction: str | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        if not isinstance(llm, LLM):
            raise TypeError(f"llm must be a LlamaIndex LLM, not {described(llm)}")
        if deeper is not None and not isinstance(deeper, (LLM, Branch)):
            raise TypeError(
                f"deeper must be a LlamaIndex LLM or a branch such as SequentialRefinement(), not {described(deeper)}"
            )
        same = DeeperLLM(llm, deeper_settings or {}, instruction)
        Delivery(gate, mode, on_branch_error, tool_calls, branch_of_llm(deeper, same))  # refuses what cannot work
        if deeper is None and not deeper_settings and not instruction and mode != "annotate":
            raise ValueError(
                "there is nothing to go deeper with: give deeper (an LLM or a branch), deeper_settings or instruction"
            )
        super().__init__(
            llm=llm,
            deeper=deeper,
            gate=gate,
            threshold=threshold,
            mode=mode,
            on_branch_error=on_branch_error,
            tool_calls=tool_calls,
            deeper_settings=dict(deeper_settings or {}),
            instruction=instruction,
            callback_manager=callback_manager,
        )

    def __repr__(self) -> str:
        llms = f"llm={named(self.llm)}, deeper={self._deeper_name}"
        return f"EntropyGatedLLM({llms}, gate={self.gate!r}, mode={self.mode!r})"

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for the class."""
        return "entropy_gated_llm"

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way
    @property
    def answers_by(self) -> dict[str, str]:
        """What its answers depend on, by name and as a fingerprint, by which caches tell LLMs apart."""
        deeper = self.deeper.to_dict() if isinstance(self.deeper, LLM) else self.deeper
        asked_otherwise = (self.deeper_settings, self.instruction)
        return {
            "llm": named(self.llm),
            "deeper": self._deeper_name,
            "gate": str(self.gate.key),
            "fingerprint": fingerprint_of(self.llm.to_dict(), deeper, asked_otherwise, self.gate.fingerprint()),
        }

    @property
    def _deeper_name(self) -> str:
        is_branch = self.deeper is not None and not isinstance(self.deeper, LLM)
        return type(self.deeper).__name__ if is_branch else named(self._answers_deeper)

    @property
    def metadata(self) -> LLMMetadata:
        """What both LLMs can do, since either may answer."""
        own, deeper = self.llm.metadata, self._answers_deeper.metadata
        return own.model_copy(
            update={
                "context_window": min(own.context_window, deeper.context_window),
                "is_function_calling_model": own.is_function_calling_model and deeper.is_function_calling_model,
            }
        )

    # Tools, to each LLM in its own form

    def chat_with_tools(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> ChatResponse:
        """Answer, or call tools."""
        return cast("ChatResponse", self._answer(self._offering(tools, args, kwargs)))

    async def achat_with_tools(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> ChatResponse:
        """The same on the event loop."""
        return cast("ChatResponse", await self._aanswer(self._offering(tools, args, kwargs)))

    def stream_chat_with_tools(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> ChatResponseGen:
        """Answer, or call tools, in chunks."""
        return self._answers(self._offering(tools, args, kwargs))

    async def astream_chat_with_tools(
        self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """The same on the event loop."""
        return self._aanswers(self._offering(tools, args, kwargs))

    def get_tool_calls_from_response(self, response: ChatResponse, *args: Any, **kwargs: Any) -> list[ToolSelection]:
        """The calls of tools in a response, as the LLM that answered writes them.

        Raises:
            ValueError: there are none, and the caller wants one.
        """
        decision = decision_in(response)
        by_deeper = decision is not None and decision.answered_by == "deeper"
        llm = self._answers_deeper if by_deeper else self.llm
        return tool_caller(llm).get_tool_calls_from_response(response, *args, **kwargs)

    # How a question is answered

    def _answer(self, call: LLMCall) -> Any:
        return self._turn(call).answer()

    async def _aanswer(self, call: LLMCall) -> Any:
        return await self._turn(call).aanswer()

    def _answers(self, call: LLMCall) -> Generator[Any, None, None]:
        return cast("Generator[Any, None, None]", self._turn(call, streamed=True).answers())

    def _aanswers(self, call: LLMCall) -> AsyncGenerator[Any, None]:
        return cast("AsyncGenerator[Any, None]", self._turn(call, streamed=True).aanswers())

    def _turn(self, call: LLMCall, *, streamed: bool = False) -> LLMTurn | StructuredTurn:
        if isinstance(call, StructuredCall):
            return StructuredTurn(self._rules, call)
        return LLMTurn(self._rules, call, streamed=streamed)

    def _offering(self, tools: Sequence[BaseTool], args: Sequence[Any], kwargs: Mapping[str, Any]) -> ToolsCall:
        """A question that offers tools.

        Raises:
            ValueError: one of the LLMs cannot call tools.
        """
        tool_caller(self._answers_deeper)
        return ToolsCall(self.llm, "chat", (), tool_options(args, kwargs), tools=tools)

    @property
    def _rules(self) -> LLMRules:
        """What holds for every question; made anew where a field of this LLM was changed meanwhile."""
        fields, made = [getattr(self, name) for name in type(self).model_fields], self._made
        if made is None or any(now is not then for now, then in zip(fields, made[0], strict=True)):
            gate = self.gate if self.threshold is None else self.gate.with_threshold(self.threshold)
            same = DeeperLLM(self.llm, self.deeper_settings, self.instruction, self._refusals_of_deeper)
            branch = branch_of_llm(self.deeper, same)
            rules = LLMRules(
                asked=asked(self.llm, top_k=gate.key.top_k, capabilities=gate.capabilities),
                same=same,
                branch=branch,
                delivery=Delivery(gate, self.mode, self.on_branch_error, self.tool_calls, branch),
            )
            made = self._made = (fields, rules)
        return made[1]

    @property
    def _answers_deeper(self) -> LLM:
        """The LLM that answers a question whose draft is not accepted."""
        return self.deeper if isinstance(self.deeper, LLM) else self.llm

    def _within(self) -> Sequence[LLM]:
        # The one that asks for logprobs keeps a copy of the LLM where that asks by its own settings.
        asked_llm = [] if self._made is None else [self._made[1].asked]
        return [self.llm, *([self.deeper] if isinstance(self.deeper, LLM) else []), *asked_llm]
