"""What the deeper LLM is asked otherwise than the one that drafts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate

from .._answer import without_decisions
from .._asking.calls import LLMCall
from .._asking.settings import Kind, Settings
from .structured import StructuredCall


@dataclass(frozen=True)
class DeeperLLM:
    """The deeper LLM, with what it is given beside the question.

    Attributes:
        llm: The LLM.
        settings: Arguments of its calls; they win over the question's.
        instruction: For its system message.
    """

    llm: LLM
    settings: Settings
    instruction: str | None

    def asked(self, kind: Kind, question: Any, settings: Settings) -> LLMCall:
        """The request for a question that is asked in messages or by a prompt."""
        if kind == "chat":
            question = self._instructed(without_decisions(question))
        elif self.instruction is not None:
            question = f"{self.instruction}\n\n{question}"
        return LLMCall(self.llm, kind, question, {**settings, **self.settings})

    def predicting(
        self, output_cls: type[Any], prompt: BasePromptTemplate, settings: Settings, variables: Mapping[str, Any]
    ) -> StructuredCall:
        """The request for an object."""
        if self.instruction is not None:
            messages = prompt.format_messages(llm=self.llm, **variables)
            prompt, variables = ChatPromptTemplate(message_templates=self._instructed(messages)), {}
        return StructuredCall(self.llm, output_cls, prompt, {**settings, **self.settings}, variables)

    def _instructed(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """The messages with the instruction at the end of the system message; not as one of the user's."""
        if self.instruction is None:
            return list(messages)
        instructed = list(messages)
        place = next((n for n, each in enumerate(instructed) if each.role == MessageRole.SYSTEM), None)
        if place is None:
            return [ChatMessage(role=MessageRole.SYSTEM, content=self.instruction), *instructed]
        system = instructed[place]
        content = f"{system.content}\n\n{self.instruction}" if system.content else self.instruction
        rest = system.additional_kwargs
        instructed[place] = ChatMessage(role=MessageRole.SYSTEM, content=content, additional_kwargs=rest)
        return instructed
