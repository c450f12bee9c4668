"""An LLM that thinks just enough: for query engines, chat engines, agents, and wherever else LlamaIndex takes one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.tools.types import BaseTool
from pydantic import computed_field

from tje_middleware import EntropyGate
from tje_middleware.calls.capabilities import LogprobsCapabilities
from tje_middleware.errors import described
from tje_middleware.gate.delivery import Delivery, Mode, OnBranchError, ToolCalls

from ..answers.responses import Response, decision_in
from ..asking.calls import LLMCall
from ..asking.delegating import DelegatingLLM, fingerprint_of, named, prepared_for_tools, tool_caller
from ..asking.model import AskedLLM, asked
from ..asking.settings import Kind, Settings, without_asking
from .requests import DeeperLLM
from .structured import StructuredCall, StructuredTurn
from .turn import LLMTurn


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

    **What the deeper LLM is.** Any LLM; it gets the same question, and tools in its own form. ``deeper_settings`` are
    arguments of its calls, and without ``deeper`` of ``llm``'s, such as ``{"reasoning_effort": "high"}``.
    ``instruction`` is put at the end of its system message, or in front of its prompt.

    **Tools.** ``tool_calls="gate"`` judges a draft that calls tools like any other; providers that give no logprobs
    for calls make it one that cannot be judged, and the gate's ``on_missing`` says what to do. ``"pass"`` accepts
    every such draft unjudged, with the reason ``tool_call``. ``"deeper_on_unknown"`` judges it where there are
    logprobs, and goes deeper where there are none, whatever ``on_missing`` says.

    **Streams.** With ``hold`` and ``abort`` an accepted draft comes as one chunk, the deeper answer as it is written;
    with ``annotate`` the draft comes as it is written. The decision is in the last chunk.

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

    deeper: LLM | None = Field(
        default=None, exclude=True, repr=False, description="The deeper LLM; None for the LLM itself."
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
    _asked: AskedLLM | None = PrivateAttr(default=None)
    _refusals_of_deeper: LogprobsCapabilities = PrivateAttr(default_factory=LogprobsCapabilities)
    _made_of: tuple[object, object] = PrivateAttr(default=(None, None))

    def __init__(
        self,
        *,
        llm: LLM,
        deeper: LLM | None = None,
        gate: EntropyGate,
        threshold: float | None = None,
        mode: Mode = "hold",
        on_branch_error: OnBranchError = "draft",
        tool_calls: ToolCalls = "gate",
        deeper_settings: Mapping[str, Any] | None = None,
        instruction: str | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        for role, given in (("llm", llm), ("deeper", deeper)):
            if not isinstance(given, LLM) and not (given is None and role == "deeper"):
                raise TypeError(f"{role} must be a LlamaIndex LLM, not {described(given)}")
        Delivery(gate, mode, on_branch_error, tool_calls)
        if deeper is None and not deeper_settings and not instruction and mode != "annotate":
            raise ValueError(
                "there is nothing to go deeper with: give deeper (an LLM), deeper_settings or instruction"
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
        deeper = named(self._answers_deeper)
        return f"EntropyGatedLLM(llm={named(self.llm)}, deeper={deeper}, gate={self.gate!r}, mode={self.mode!r})"

    __str__ = __repr__

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for the class."""
        return "entropy_gated_llm"

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way
    @property
    def answers_by(self) -> dict[str, str]:
        """What its answers depend on, by name and as a fingerprint, by which caches tell LLMs apart."""
        deeper = {} if self.deeper is None else self.deeper.to_dict()
        asked_otherwise = (self.deeper_settings, self.instruction)
        return {
            "llm": named(self.llm),
            "deeper": named(self._answers_deeper),
            "gate": str(self.gate.key),
            "fingerprint": fingerprint_of(self.llm.to_dict(), deeper, asked_otherwise, self.gate.fingerprint()),
        }

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

    # Questions

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages.

        Raises:
            GateError: the draft cannot be judged, and the gate says ``on_missing="raise"``.
        """
        return self._turns.asking("chat", messages, kwargs).answer()  # type: ignore[return-value]

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The same on the event loop."""
        return await self._turns.asking("chat", messages, kwargs).aanswer()  # type: ignore[return-value]

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer messages in chunks."""
        return self._turns.asking("chat", messages, kwargs, streamed=True).answers()  # type: ignore[return-value]

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """The same on the event loop."""
        return self._turns.asking("chat", messages, kwargs, streamed=True).aanswers()  # type: ignore[return-value]

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt; raises as ``chat``."""
        settings = {"formatted": formatted, **kwargs}
        return self._turns.asking("complete", prompt, settings).answer()  # type: ignore[return-value]

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The same on the event loop."""
        settings = {"formatted": formatted, **kwargs}
        return await self._turns.asking("complete", prompt, settings).aanswer()  # type: ignore[return-value]

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer a prompt in chunks."""
        settings = {"formatted": formatted, **kwargs}
        return self._turns.asking("complete", prompt, settings, streamed=True).answers()  # type: ignore[return-value]

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """The same on the event loop."""
        settings = {"formatted": formatted, **kwargs}
        return self._turns.asking("complete", prompt, settings, streamed=True).aanswers()  # type: ignore[return-value]

    # Tools, to each LLM in its own form

    def chat_with_tools(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> ChatResponse:
        """Answer, or call tools."""
        return self._turns.offering(tools, args, kwargs).answer()  # type: ignore[return-value]

    async def achat_with_tools(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> ChatResponse:
        """The same on the event loop."""
        return await self._turns.offering(tools, args, kwargs).aanswer()  # type: ignore[return-value]

    def stream_chat_with_tools(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> ChatResponseGen:
        """Answer, or call tools, in chunks."""
        return self._turns.offering(tools, args, kwargs, streamed=True).answers()  # type: ignore[return-value]

    async def astream_chat_with_tools(
        self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """The same on the event loop."""
        return self._turns.offering(tools, args, kwargs, streamed=True).aanswers()  # type: ignore[return-value]

    def get_tool_calls_from_response(self, response: ChatResponse, *args: Any, **kwargs: Any) -> list[ToolSelection]:
        """The calls of tools in a response, as the LLM that answered writes them.

        Raises:
            ValueError: there are none, and the caller wants one.
        """
        decision = decision_in(response)
        by_deeper = decision is not None and decision.answered_by == "deeper"
        llm = self._answers_deeper if by_deeper else self.llm
        return tool_caller(llm).get_tool_calls_from_response(response, *args, **kwargs)

    # Structured output

    def structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Answer with an object; raises as ``chat``."""
        return self._turns.predicting(output_cls, prompt, llm_kwargs, prompt_args).answer()

    async def astructured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """The same on the event loop."""
        return await self._turns.predicting(output_cls, prompt, llm_kwargs, prompt_args).aanswer()

    def stream_structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """Answer with an object that grows; an accepted draft comes whole."""
        return self._turns.predicting(output_cls, prompt, llm_kwargs, prompt_args).answers()  # type: ignore[return-value]

    async def astream_structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """The same on the event loop."""
        return self._turns.predicting(output_cls, prompt, llm_kwargs, prompt_args).aanswers()  # type: ignore[return-value]

    # How a question is taken its way

    @property
    def _turns(self) -> Turns:
        gate = self.gate if self.threshold is None else self.gate.with_threshold(self.threshold)
        return Turns(
            asked=self._asking,
            deeper=DeeperLLM(
                self._answers_deeper,
                self.deeper_settings,
                self.instruction,
                self._refusals_of_deeper,
                is_another=self.deeper is not None,
            ),
            delivery=Delivery(gate, self.mode, self.on_branch_error, self.tool_calls),
        )

    @property
    def _answers_deeper(self) -> LLM:
        return self.deeper or self.llm

    @property
    def _asking(self) -> AskedLLM:
        """What asks the LLM for logprobs; made anew where this one was given another LLM or gate."""
        made_of = (self.llm, self.gate)
        if self._asked is None or any(now is not then for now, then in zip(made_of, self._made_of, strict=True)):
            self._made_of = made_of
            self._asked = asked(self.llm, top_k=self.gate.key.top_k, capabilities=self.gate.capabilities)
        return self._asked

    def _within(self) -> Sequence[LLM]:
        return [self.llm, *([self.deeper] if self.deeper is not None else []), self._asking]


# The parameters of LlamaIndex's methods with tools, in their order.
_TOOL_OPTIONS = ("user_msg", "chat_history", "verbose", "allow_parallel_tool_calls", "tool_required")
_CONVERSATION = {"user_msg", "chat_history"}


@dataclass(frozen=True)
class Turns:
    """What holds for every question to one gated LLM.

    Attributes:
        asked: The LLM that drafts, asked for logprobs.
        deeper: The deeper one.
        delivery: The rules.
    """

    asked: AskedLLM
    deeper: DeeperLLM
    delivery: Delivery

    def asking(self, kind: Kind, question: Any, settings: Settings, *, streamed: bool = False) -> LLMTurn:
        """A question in messages or by a prompt."""
        return self._turn(
            LLMCall(self.asked, kind, question, without_asking(settings)),
            self.deeper.asked(kind, question, settings),
            streamed,
        )

    def offering(
        self, tools: Sequence[BaseTool], args: Sequence[Any], kwargs: Mapping[str, Any], *, streamed: bool = False
    ) -> LLMTurn:
        """A question that offers tools, to each LLM in its own form.

        Raises:
            ValueError: one of the LLMs cannot call tools.
        """
        options = {**dict(zip(_TOOL_OPTIONS, args, strict=False)), **kwargs}
        own = prepared_for_tools(self.deeper.llm, tools, **options)
        deeper = self.deeper.asked("chat", own.pop("messages"), own)
        return self._turn(
            _validated(self._drafted_with(tools, without_asking(options)), self.asked, tools, options),
            _validated(deeper, self.deeper.llm, tools, options),
            streamed,
        )

    def predicting(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        settings: Settings | None,
        variables: Mapping[str, Any],
    ) -> StructuredTurn:
        """A question whose answer is an object."""
        settings = settings or {}
        return StructuredTurn(
            self.delivery,
            draft=StructuredCall(self.asked, output_cls, prompt, without_asking(settings), variables),
            deeper=self.deeper.predicting(output_cls, prompt, settings, variables),
        )

    def _turn(self, draft: LLMCall, deeper: LLMCall, streamed: bool) -> LLMTurn:
        return LLMTurn(self.delivery, asked=self.asked, draft=draft, deeper=deeper, streamed=streamed)

    def _drafted_with(self, tools: Sequence[BaseTool], options: Mapping[str, Any]) -> LLMCall:
        settings = prepared_for_tools(self.asked, tools, **options)
        return LLMCall(self.asked, "chat", settings.pop("messages"), settings)


def _validated(call: LLMCall, llm: Any, tools: Sequence[BaseTool], options: Mapping[str, Any]) -> LLMCall:
    """The call, its whole answer put right as the LLM does it: some allow a single call of tools by that alone."""
    rest = {name: value for name, value in options.items() if name not in _CONVERSATION}

    def validated(response: Response) -> Response:
        if not isinstance(response, ChatResponse):
            return response
        return tool_caller(llm)._validate_chat_with_tools_response(response, tools, **rest)

    return replace(call, finish=validated)
