"""Tool calls for models that write them as text: what the agent demo puts around its gate. Not for production."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool
from pydantic import TypeAdapter, ValidationError

# By it a call that came as text is known again, and shown to the model as it wrote it.
_WRITTEN = "written_"


@dataclass(frozen=True)
class Example:
    """A question with the call that answers it, to show a model the form.

    Attributes:
        question: What is asked.
        call: The tool's name and its arguments.
        result: What the tool says.
        answer: What is said after that.
    """

    question: str
    call: tuple[str, Mapping[str, object]]
    result: str
    answer: str


def messages_of(examples: Sequence[Example]) -> list[AnyMessage]:
    """Examples as a model reads them that knows nothing of tools."""
    messages: list[AnyMessage] = []
    for example in examples:
        name, arguments = example.call
        written = AIMessage(json.dumps({"name": name, "arguments": arguments}))
        messages += [HumanMessage(example.question), written, _told(name, example.result), AIMessage(example.answer)]
    return messages


class TextToolCalls(AgentMiddleware[Any, Any, Any]):
    """Reads ``{"name": ..., "arguments": {...}}`` in a model's text as the call of a tool.

    Strictly: the text is that object and nothing else, the tool is known, and the arguments fit it; any other text
    stays text. In the next turn the model sees its call as it wrote it, and the result as ``name: result``. Calls
    that a model makes natively pass through.

    In front of the gate, so that the gate judges the text that the model wrote, with all of its logprobs.

    Args:
        examples: Shown before the conversation.
    """

    def __init__(self, examples: Sequence[Example] = ()) -> None:
        super().__init__()
        self.tools = []
        self._shown = messages_of(examples)

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Ask in text, and read the answer."""
        return self._read(handler(self._in_text(request)), request)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """The same on the event loop."""
        return self._read(await handler(self._in_text(request)), request)

    def _in_text(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        return request.override(messages=[*self._shown, *map(_as_text, request.messages)])

    def _read(self, response: ModelResponse[Any], request: ModelRequest[Any]) -> ModelResponse[Any]:
        tools = {tool.name: tool for tool in request.tools if isinstance(tool, BaseTool)}
        return replace(response, result=[_with_call(message, tools) for message in response.result])


def _with_call(message: Any, tools: Mapping[str, BaseTool]) -> Any:
    if not isinstance(message, AIMessage) or message.tool_calls:
        return message
    call = written_call(message.text, tools)
    if call is None:
        return message
    name, arguments = call
    made = {"name": name, "args": arguments, "id": f"{_WRITTEN}{uuid4().hex[:12]}", "type": "tool_call"}
    return message.model_copy(update={"tool_calls": [made]})


def written_call(text: str, tools: Mapping[str, BaseTool]) -> tuple[str, dict[str, Any]] | None:
    """The one call of a known tool that a text is; None where it is anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.keys() != {"name", "arguments"}:
        return None
    name, arguments = found["name"], found["arguments"]
    tool = tools.get(name) if isinstance(name, str) else None
    if tool is None or not isinstance(arguments, dict) or not arguments.keys() <= tool.args.keys():
        return None
    try:
        TypeAdapter(tool.get_input_schema()).validate_python(arguments)
    except ValidationError:
        return None
    return name, arguments


def _as_text(message: AnyMessage) -> AnyMessage:
    if isinstance(message, AIMessage) and any(_was_written(call["id"]) for call in message.tool_calls):
        return message.model_copy(update={"tool_calls": []})
    if isinstance(message, ToolMessage) and _was_written(message.tool_call_id):
        return _told(message.name, message.text)
    return message


def _was_written(call_id: str | None) -> bool:
    return bool(call_id and call_id.startswith(_WRITTEN))


def _told(name: str | None, result: str) -> HumanMessage:
    return HumanMessage(f"{name}: {result}")
