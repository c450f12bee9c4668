"""An LLM that is asked for logprobs, and answers without them where its provider refuses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from copy import copy
from dataclasses import replace
from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms import LLM
from llama_index.core.llms.structured_llm import StructuredLLM

from tje_middleware import EntropyGate
from tje_middleware.calls.request import DraftRequest, LogprobsCapabilities
from tje_middleware.calls.streams import aclosed
from tje_middleware.errors import described

from ..capture.blocks import note_call
from .delegating import DelegatingLLM
from .requests import LLMCall, Settings, asking_for_itself, model_of, with_asking, without_own_asking
from .streams import WantedLogprobs, astreamed, streamed


def ask_logprobs(llm: LLM, *, top_k: int | None = None, gate: EntropyGate | None = None) -> LLM:
    """An LLM whose every request asks for logprobs, by its provider's own arguments.

    For answers to calibrate from, for the LLMs of a gated query engine, and for a workflow's step that drafts. It
    stands for the LLM wherever LlamaIndex takes one, and leaves the LLM as it is. Where the provider refuses, the
    answer comes without logprobs, and it is not asked for them again.

    Example:
        >>> from llama_index.core.llms import MockLLM
        >>> str(ask_logprobs(MockLLM()).complete("Hello"))
        'Hello'

    Args:
        llm: The LLM.
        top_k: Alternatives a token; None for as many as the gate needs, or 20.
        gate: The gate that the answers are for: it remembers who refuses, and says so in its decisions.

    Raises:
        TypeError: what was given is no LLM, or no gate.
        ValueError: ``top_k`` is below 1, or not what the gate needs.
    """
    if not isinstance(llm, LLM):
        raise TypeError(f"llm must be a LlamaIndex LLM, not {described(llm)}")
    if gate is not None and not isinstance(gate, EntropyGate):
        raise TypeError(f"gate must be an EntropyGate, not {described(gate)}")
    if isinstance(llm, StructuredLLM):  # it parses what the LLM within answers
        return llm.model_copy(update={"llm": ask_logprobs(llm.llm, top_k=top_k, gate=gate)})
    if gate is None:
        return asked(llm, top_k=20 if top_k is None else top_k, capabilities=LogprobsCapabilities())
    if top_k not in {None, gate.key.top_k}:
        raise ValueError(f"the gate needs top_k={gate.key.top_k}, not {top_k}: leave top_k out")
    return asked(llm, top_k=gate.key.top_k, capabilities=gate.capabilities, noted=True)


def asked(llm: LLM, *, top_k: int, capabilities: LogprobsCapabilities, noted: bool = False) -> AskedLLM:
    """An LLM that is asked for logprobs; the given one itself, where it is asked so already."""
    if not isinstance(llm, AskedLLM):
        return AskedLLM(llm=llm, top_k=top_k, capabilities=capabilities, noted=noted)
    if llm.top_k >= top_k and llm.capabilities is capabilities and llm.noted >= noted:
        return llm
    return AskedLLM(llm=llm.llm, top_k=max(top_k, llm.top_k), capabilities=capabilities, noted=noted)


class AskedLLM(DelegatingLLM):
    """An LLM that is asked for logprobs: what ``ask_logprobs`` returns.

    A provider's refusal is handled here, where nothing but the LLM within can have raised it.
    """

    # Any: pydantic would copy or validate what is shared here on purpose.
    capabilities: Any = Field(
        exclude=True, repr=False, description="The LogprobsCapabilities that remember refusals."
    )
    top_k: int = Field(ge=1, description="Alternatives a token that are asked for.")
    given: Any = Field(
        default=None, exclude=True, repr=False, description="The arguments to ask with; None for the provider's."
    )
    noted: bool = Field(
        default=False, exclude=True, repr=False, description="Whether the gate's drafts hear of calls that none sees."
    )

    _plain: tuple[dict[str, Any], LLM] | None = PrivateAttr(default=None)

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name for the class."""
        return "tje_asked_llm"

    def request(self, settings: Settings) -> DraftRequest:
        """One request: whether logprobs may be asked for in it, and what its model refuses."""
        if self.noted:
            note_call(self.capabilities)
        name = model_of(self.llm, settings) or type(self.llm).__name__
        return DraftRequest(self.capabilities, name, has_tools=bool(settings.get("tools")))

    @property
    def plain(self) -> LLM:
        """The LLM within, without its own settings that ask for logprobs: they would win over a request's."""
        if not asking_for_itself(self.llm):
            return self.llm
        # The copy has connections of its own, and is made anew only where the LLM was changed since.
        now = {**self.llm.__dict__, **(self.llm.__pydantic_private__ or {})}
        now = {name: copy(value) if isinstance(value, (dict, list)) else value for name, value in now.items()}
        if self._plain is None or self._plain[0] != now:
            self._plain = (now, without_own_asking(self.llm))
        return self._plain[1]

    def asking(self, call: LLMCall) -> LLMCall:
        """A call as it is made with logprobs."""
        return replace(self._made(call), settings=self._asking_settings(call.settings))

    def _asking_settings(self, settings: Settings) -> dict[str, Any]:
        if self.given is not None:
            return {**settings, **self.given}
        return with_asking(self.llm, settings, self.top_k)

    # With logprobs, or without where such a request is refused

    def _answer(self, call: LLMCall) -> Any:
        request = self.request(call.settings)
        if request.may_ask():
            try:
                return self.asking(call).whole()
            except Exception as error:
                request.note_refusal(error)
        return request.answered(self._made(call).whole())

    async def _aanswer(self, call: LLMCall) -> Any:
        request = self.request(call.settings)
        if request.may_ask():
            try:
                return await self.asking(call).awhole()
            except Exception as error:
                request.note_refusal(error)
        return request.answered(await self._made(call).awhole())

    def _answers(self, call: LLMCall) -> Generator[Any, None, None]:
        yield from streamed(self._made(call), self.capabilities, self._wanted(call))

    async def _aanswers(self, call: LLMCall) -> AsyncGenerator[Any, None]:
        async with aclosed(astreamed(self._made(call), self.capabilities, self._wanted(call))) as chunks:
            async for chunk in chunks:
                yield chunk

    def _made(self, call: LLMCall) -> LLMCall:
        return replace(call.undecided(), llm=self.plain)

    def _wanted(self, call: LLMCall) -> WantedLogprobs:
        return WantedLogprobs(self._asking_settings, self.request(call.settings))
