"""One answer, ``The sky is blue``, in every shape that a provider or a framework gives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LogProb
from openai.types import Completion
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

TEXT = "The sky is blue"
TOKENS = ["The", " sky", " is", " blue"]
ROWS = [[-0.1, -2.5, -5.0], [-0.7, -0.8, -3.0], [-0.01, -5.0, -7.0], [-1.0, -1.2, -1.3]]
WORDS = ["x", "y", "z"]
IDS = [11, 22, 33, 44]


def position(index: int) -> dict[str, Any]:
    alternatives = [{"token": word, "logprob": row} for word, row in zip(WORDS, ROWS[index], strict=True)]
    alternatives[0]["token"] = TOKENS[index]
    return {
        "token": TOKENS[index],
        "logprob": ROWS[index][0],
        "bytes": [],
        "top_logprobs": [{**item, "bytes": []} for item in alternatives],
    }


def positions() -> list[dict[str, Any]]:
    return [position(index) for index in range(len(TOKENS))]


def objects() -> list[SimpleNamespace]:
    return [
        SimpleNamespace(**{**entry, "top_logprobs": [SimpleNamespace(**item) for item in entry["top_logprobs"]]})
        for entry in positions()
    ]


def by_token() -> list[dict[str, float]]:
    return [{item["token"]: item["logprob"] for item in entry["top_logprobs"]} for entry in positions()]


def legacy_block() -> dict[str, Any]:
    return {
        "tokens": list(TOKENS),
        "token_logprobs": [row[0] for row in ROWS],
        "top_logprobs": by_token(),
        "text_offset": [0, 3, 7, 10],
    }


def chat(**choice: Any) -> dict[str, Any]:
    entry = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": TEXT},
        "logprobs": {"content": positions(), "refusal": None},
    }
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{**entry, **choice}]}


def completion() -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "text": TEXT, "logprobs": legacy_block()}
    return {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}


def responses() -> dict[str, Any]:
    part = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": positions()}
    message = {"id": "2", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return {
        "id": "1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "output": [{"id": "3", "type": "reasoning", "summary": []}, message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def message(**metadata: Any) -> AIMessage:
    return AIMessage(TEXT, response_metadata=metadata or {"logprobs": {"content": positions(), "refusal": None}})


def google(*, camel: bool = False) -> dict[str, Any]:
    names = ("logProbability", "topCandidates", "chosenCandidates", "logprobsResult")
    number, top, chosen, result = (
        names if camel else ("log_probability", "top_candidates", "chosen_candidates", "logprobs_result")
    )
    groups = [
        {"candidates": [{"token": item["token"], number: item["logprob"]} for item in entry["top_logprobs"]]}
        for entry in positions()
    ]
    picked = [{"token": token, number: row[0]} for token, row in zip(TOKENS, ROWS, strict=True)]
    return {
        "candidates": [{"content": {"parts": [{"text": TEXT}]}, result: {top: groups, chosen: picked}}],
        "usage_metadata": {},
    }


@dataclass
class VllmLogprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class VllmCompletion:
    text: str
    token_ids: list[int]
    logprobs: list[dict[int, VllmLogprob]] | None


@dataclass
class VllmRequest:
    outputs: list[VllmCompletion]
    prompt: str = "secret"
    prompt_logprobs: None = None
    metrics: dict[str, float] = field(default_factory=dict)


def vllm() -> VllmRequest:
    block = [
        {
            (number if rank == 0 else 90 + rank): VllmLogprob(value, rank + 1, TOKENS[index] if rank == 0 else "w")
            for rank, value in enumerate(ROWS[index])
        }
        for index, number in enumerate(IDS)
    ]
    return VllmRequest([VllmCompletion(TEXT, list(IDS), block)])


def llama_cpp(name: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    for token, row in zip(TOKENS, ROWS, strict=True):
        if name == "top_logprobs":
            entries.append({"id": 1, "token": token, "logprob": row[0], name: [{"logprob": v} for v in row]})
        else:
            entries.append({"content": token, name: [{"tok_str": "w", "prob": float(np.exp(v))} for v in row]})
    return {"content": TEXT, "completion_probabilities": entries, "stop": True}


def chat_response(raw: Any, **fields: Any) -> ChatResponse:
    return ChatResponse(message=ChatMessage(role="assistant", content=TEXT), raw=raw, **fields)


def lists_of_logprob() -> list[list[LogProb]]:
    return [
        [LogProb(token=item["token"], logprob=item["logprob"], bytes=[]) for item in entry["top_logprobs"]]
        for entry in positions()
    ]


def shapes() -> dict[str, Any]:
    """A fresh payload of every shape, all of them saying the same."""
    sdk_logprobs = ChatCompletion.model_validate(chat()).choices[0].logprobs
    generation = ChatGeneration(message=message(), generation_info={"logprobs": {"content": positions()}})
    ollama = {"model": "m", "message": {"role": "assistant", "content": TEXT}, "done": True, "logprobs": positions()}
    together = {"content": None, "refusal": None, **legacy_block()}
    raw_record = {"id": "q", "correct": True, "top_logprobs": ROWS, "token_texts": TOKENS}
    return {
        "OpenAI chat object": ChatCompletion.model_validate(chat()),
        "OpenAI chat dict": chat(),
        "OpenAI chat with tool calls": chat(message={"role": "assistant", "content": None, "tool_calls": [{}]}),
        "OpenAI completion object": Completion.model_validate(completion()),
        "OpenAI completion dict": completion(),
        "OpenAI choice": chat()["choices"][0],
        "OpenAI logprobs": chat()["choices"][0]["logprobs"],
        "OpenAI positions": positions(),
        "Responses object": Response.model_validate(responses()),
        "Responses dict": responses(),
        "LangChain message": message(),
        "LangChain message as dict": message().model_dump(),
        "LangChain include_raw": {"raw": message(), "parsed": None, "parsing_error": None},
        "LangChain response_metadata": message().response_metadata,
        "LangChain generation": generation,
        "LangChain generation_info": generation.generation_info,
        "LangChain ChatResult": ChatResult(generations=[generation]),
        "LangChain LLMResult": LLMResult(generations=[[generation]]),
        "LangChain LLMResult of a text model": LLMResult(
            generations=[[Generation(text=TEXT, generation_info={"logprobs": legacy_block()})]]
        ),
        "LangChain over LiteLLM": message(logprobs=sdk_logprobs),
        "LangChain over Ollama": message(logprobs=positions()),
        "LangChain over Ollama, objects": message(logprobs=objects()),
        "LangChain over Vertex": message(logprobs_result=positions()),
        "LangChain over Google": message(logprobs_result=google()["candidates"][0]["logprobs_result"]),
        "LlamaIndex chat": chat_response(ChatCompletion.model_validate(chat()), logprobs=lists_of_logprob()),
        "LlamaIndex chat, raw as dict": chat_response(chat()),
        "LlamaIndex chat, raw lost": chat_response(None, logprobs=lists_of_logprob()),
        "LlamaIndex chat, raw of an unknown provider": chat_response({"id": 1}, logprobs=lists_of_logprob()),
        "LlamaIndex completion": CompletionResponse(text=TEXT, raw=chat()),
        "LlamaIndex completion of a text model": CompletionResponse(text=TEXT, raw=completion()),
        "Ollama dict": ollama,
        "Ollama generate": {"model": "m", "response": TEXT, "done": True, "logprobs": positions()},
        "Ollama object": SimpleNamespace(**{**ollama, "logprobs": objects()}),
        "vLLM offline": vllm(),
        "vLLM offline positions": vllm().outputs[0].logprobs,
        "llama.cpp top_logprobs": llama_cpp("top_logprobs"),
        "llama.cpp probs": llama_cpp("probs"),
        "llama.cpp top_probs": llama_cpp("top_probs"),
        "Google": google(),
        "Google REST": google(camel=True),
        "Google candidate": google()["candidates"][0],
        "Google result": google()["candidates"][0]["logprobs_result"],
        "Together": chat(logprobs=legacy_block()),
        "Together through OpenAI's SDK": ChatCompletion.model_validate(chat(logprobs=together)),
        "our record": raw_record,
        "rows": ROWS,
        "array": np.array(ROWS),
        "rows as arrays": [np.array(row) for row in ROWS],
    }
