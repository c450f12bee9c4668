"""What both demos do: ask many questions of a server, count what that costs, and gate by the profile they give."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

import httpx
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_openai import ChatOpenAI
from openai import OpenAIError
from pydantic import SecretStr

from tje_middleware import CalibrationProfile, CalibrationRegistry, DemoError, EntropyGate
from tje_middleware.demo import Question
from tje_middleware.evaluation import Outcome
from tje_middleware.local import LocalServer

#: Called with the name of what is being done, how many questions of it are done, and how many there are.
Progress = Callable[[str, int, int], None]
_Output = TypeVar("_Output")


@contextmanager
def served(model: str | None, base_url: str | None, api_key: str = "none") -> Iterator[tuple[str, str]]:
    """The base URL and the model's name, of the embedded model or of a server that runs already.

    Args:
        model: A GGUF path or hub id; beside a base URL, the name of the model to ask for.
        base_url: Any OpenAI-compatible server instead of the embedded one.
        api_key: That server's key.

    Raises:
        LocalModelError: the embedded model does not start.
        DemoError: the server cannot be asked for its models.
    """
    if base_url is not None:
        yield base_url, model or _first_model(base_url, api_key)
        return
    with LocalServer(model) as server, _no_proxy():
        yield server.base_url, server.model


def chat_model(base_url: str, model: str, api_key: str, max_tokens: int) -> ChatOpenAI:
    """A chat model as any user has it: nothing in it knows of the gate."""
    return ChatOpenAI(
        base_url=base_url,
        model=model,
        api_key=SecretStr(api_key),
        temperature=0.0,
        max_completion_tokens=max_tokens,
        stop_sequences=["\n"],
        timeout=120,
    )


@dataclass(frozen=True)
class Asked(Generic[_Output]):
    """A question, what a chain or an agent made of it, and the tokens of all model calls behind that."""

    question: Question
    output: _Output
    run_id: UUID
    output_tokens: int
    input_tokens: int

    def outcome(self, *, correct: bool, accepted: bool) -> Outcome:
        """With its grade, for a comparison."""
        return Outcome(
            correct=correct, output_tokens=self.output_tokens, input_tokens=self.input_tokens, accepted=accepted
        )


@dataclass(frozen=True)
class Survey:
    """Asks questions, ``parallel`` of them at once, and tells ``progress`` how far it is."""

    progress: Progress
    parallel: int

    def ask(
        self,
        name: str,
        runnable: Runnable[Any, _Output],
        questions: Sequence[Question],
        as_input: Callable[[Question], object],
    ) -> list[Asked[_Output]]:
        """What became of every question, in their order.

        Raises:
            DemoError: the server does not answer, or counts no tokens.
        """
        meters = [UsageMetadataCallbackHandler() for _ in questions]
        ids = [uuid4() for _ in questions]
        configs: list[RunnableConfig] = [
            {"callbacks": [meter], "run_id": run_id, "max_concurrency": self.parallel}
            for meter, run_id in zip(meters, ids, strict=True)
        ]
        outputs: dict[int, _Output] = {}
        self.progress(name, 0, len(questions))
        try:
            for index, output in runnable.batch_as_completed([*map(as_input, questions)], configs):
                outputs[index] = output
                self.progress(name, len(outputs), len(questions))
        except OpenAIError as error:
            raise DemoError(f"the server did not answer: {error}; check the URL, the key and the model") from error
        return [
            Asked(question, outputs[index], ids[index], *_tokens(meters[index]))
            for index, question in enumerate(questions)
        ]


def parted(
    questions: Sequence[Question], calibration: int, test: int, whose: str = ""
) -> tuple[Sequence[Question], Sequence[Question]]:
    """Questions to calibrate from, and others to run the policies on.

    Raises:
        DemoError: there are not so many.
    """
    if calibration + test > len(questions):
        raise DemoError(f"there are {len(questions)} questions{whose}, fewer than {calibration} + {test}")
    return questions[:calibration], questions[calibration : calibration + test]


def without_threshold(profile: CalibrationProfile, methods: Iterable[str]) -> dict[str, str]:
    """Of every method that has no threshold, the reason."""
    thresholds = {method: profile.thresholds[method] for method in methods}
    return {name: each.reason or "no threshold" for name, each in thresholds.items() if each.value is None}


def gates_of(
    registry: CalibrationRegistry, profile: CalibrationProfile, methods: Iterable[str]
) -> dict[str, EntropyGate]:
    """Of every method a gate that follows the registry."""
    key = profile.key.model_dump()
    return {method: EntropyGate.from_registry(registry, **key, method=method) for method in methods}


def no_logprobs(why: object) -> DemoError:
    """The error about a server without usable logprobs."""
    return DemoError(f"this server gives no logprobs that a gate could use: {why}")


def _tokens(meter: UsageMetadataCallbackHandler) -> tuple[int, int]:
    """Tokens written and read."""
    usages = meter.usage_metadata.values()
    if not usages:
        raise DemoError("this server does not say how many tokens an answer took, so none can be compared")
    return sum(usage["output_tokens"] for usage in usages), sum(usage["input_tokens"] for usage in usages)


@contextmanager
def _no_proxy() -> Iterator[None]:
    """Reach this machine directly; HTTP clients would send even that through a proxy from the environment."""
    names = ("NO_PROXY", "no_proxy")  # where both are set, clients read the second
    before = {name: os.environ.get(name) for name in names}
    known = before["no_proxy"] or before["NO_PROXY"]
    os.environ.update(dict.fromkeys(names, ",".join(filter(None, [known, "127.0.0.1"]))))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _first_model(base_url: str, api_key: str) -> str:
    try:
        headers = {"Authorization": f"Bearer {api_key}"}
        response = httpx.get(f"{base_url.rstrip('/')}/models", headers=headers, timeout=10)
        response.raise_for_status()
        return str(response.json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise DemoError(
            f"{base_url} does not say which models it has ({type(error).__name__}: {error}); "
            "name one with --model, and check the URL (it usually ends in /v1)"
        ) from error
