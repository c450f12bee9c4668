"""From a question to its turn: what the LLM that drafts is asked, and what the deeper one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.tools.types import BaseTool

from tje_middleware.delivery import Delivery

from .._answer import Response
from .._asking.asked import AskedLLM
from .._asking.calls import LLMCall
from .._asking.delegating import prepared_for_tools, tool_caller
from .._asking.settings import Kind, Settings, without_asking
from .requests import DeeperLLM
from .structured import StructuredCall, StructuredTurn
from .turn import LLMTurn

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
