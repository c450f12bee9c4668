"""``tje demo``: a real model, gated through a LangChain chain, calibrated and measured."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_openai import ChatOpenAI
from openai import OpenAIError
from pydantic import SecretStr

from tje_middleware import (
    CalibrationProfile,
    CalibrationRecord,
    CalibrationRegistry,
    DemoError,
    EntropyGate,
    ProfileKey,
    TjeWarning,
    UnreadableLogprobs,
    calibrate,
    parse_logprobs,
)
from tje_middleware.demo import ALWAYS, NEVER, UNTIL_REPEATED, DemoResult, Question, is_right, label, load_questions
from tje_middleware.evaluation import Outcome, compare
from tje_middleware.local import LocalServer

from ._asking import ask_logprobs
from ._decorator import think_just_enough
from ._refinement import sequential_refinement

PROMPT = "{question}\nAnswer with one word or number only."
TASK = "tje-demo"
MAX_TOKENS = 24
REFINEMENT_STEPS = 3

#: Called with the name of what is being done, how many questions of it are done, and how many there are.
Progress = Callable[[str, int, int], None]
Chain = Runnable[dict[str, str], AIMessage]


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


@contextmanager
def _no_proxy() -> Iterator[None]:
    """Reach this machine directly; HTTP clients would send even that through a proxy from the environment."""
    names = ("NO_PROXY", "no_proxy")  # where both are set, the second counts
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


def run_demo(
    base_url: str,
    model: str,
    *,
    registry: CalibrationRegistry,
    calibration: int,
    test: int,
    progress: Progress,
    api_key: str = "none",
    parallel: int = 8,
) -> DemoResult:
    """Calibrate on one part of the questions, and run every policy on another part for real.

    Args:
        base_url: An OpenAI-compatible server.
        model: The model to ask for.
        registry: Where the profile is stored.
        calibration: Questions to calibrate from.
        test: Questions to run the policies on; none of them was calibrated from.
        progress: Told how far it is.
        api_key: The server's key.
        parallel: Questions asked at once.

    Raises:
        DemoError: the server gives no logprobs or counts no tokens.
        RegistryError: the profile cannot be stored.
    """
    questions = load_questions()
    if calibration + test > len(questions):
        raise DemoError(f"there are {len(questions)} questions, fewer than {calibration} + {test}")
    run = _Run(_chain(base_url, model, api_key), progress, parallel)
    key = ProfileKey(model=model, task=TASK, temperature=0.0)
    records = run.records(questions[:calibration], key)
    registry.put(calibrate(records, key=key))
    profile = registry.get(key)
    gates, missing = _gates(registry, profile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TjeWarning)  # what a gate warns of stands above the table
        outcomes = run.outcomes(questions[calibration : calibration + test], gates)
    return DemoResult(model, profile, compare(outcomes, baseline=ALWAYS), missing)


def _chain(base_url: str, model: str, api_key: str) -> Chain:
    """A chain as any user has it: nothing in it knows of the gate."""
    chat = ChatOpenAI(
        base_url=base_url,
        model=model,
        api_key=SecretStr(api_key),
        temperature=0.0,
        max_completion_tokens=MAX_TOKENS,
        stop_sequences=["\n"],
        timeout=120,
    )
    return ChatPromptTemplate.from_messages([("human", PROMPT)]) | chat


def _gates(
    registry: CalibrationRegistry, profile: CalibrationProfile
) -> tuple[dict[str, EntropyGate], dict[str, str]]:
    """A gate for every method that has a threshold; of the others, the reason."""
    gates, missing = {}, {}
    for method, threshold in profile.thresholds.items():
        if threshold.value is None:
            missing[method] = threshold.reason or "no threshold"
        else:
            gates[method] = EntropyGate.from_registry(
                registry, model=profile.key.model, task=TASK, temperature=0.0, method=method
            )
    return gates, missing


class _Run:
    """Asks questions through a chain, several at once, and counts what it costs."""

    def __init__(self, chain: Chain, progress: Progress, parallel: int) -> None:
        self._chain = chain
        self._progress = progress
        self._parallel = parallel

    def records(self, questions: Sequence[Question], key: ProfileKey) -> list[CalibrationRecord]:
        """Answer once each, and keep the logprobs with the grade."""
        asking = ask_logprobs(self._chain, top_k=key.top_k)
        records = []
        for question, answer, usage in self._ask("calibrating", asking, questions):
            try:
                sequence = parse_logprobs(answer)
            except UnreadableLogprobs as error:
                raise DemoError(f"this server gives no logprobs that a gate could use: {error}") from error
            records.append(
                CalibrationRecord(
                    id=question.id,
                    correct=is_right(question, answer.text),
                    tokens=usage.output_tokens,
                    sequence=sequence,
                )
            )
        return records

    def outcomes(self, questions: Sequence[Question], gates: Mapping[str, EntropyGate]) -> dict[str, list[Outcome]]:
        """Run every policy on the same questions, each for real."""
        deeper = sequential_refinement(self._chain, steps=REFINEMENT_STEPS)
        until_repeated = sequential_refinement(self._chain, steps=REFINEMENT_STEPS, until_repeated=True)
        policies: dict[str, Chain] = {
            NEVER: self._chain,
            ALWAYS: _always(self._chain, deeper),
            UNTIL_REPEATED: _always(self._chain, until_repeated),
        }
        for method, gate in gates.items():
            # A branch that failed must end the run: its draft would be counted as a saving.
            policies[method] = think_just_enough(self._chain, deeper=deeper, gate=gate, on_branch_error="raise")
        return {
            name: [
                Outcome(
                    correct=is_right(question, answer.text),
                    output_tokens=usage.output_tokens,
                    input_tokens=usage.input_tokens,
                    accepted=name == NEVER or answer.response_metadata.get("tje", {}).get("route") == "final",
                )
                for question, answer, usage in self._ask(label(name), policy, questions)
            ]
            for name, policy in policies.items()
        }

    def _ask(
        self, name: str, chain: Chain, questions: Sequence[Question]
    ) -> list[tuple[Question, AIMessage, _Usage]]:
        """All answers, in the order of the questions."""
        meters = [UsageMetadataCallbackHandler() for _ in questions]
        configs: list[RunnableConfig] = [
            {"callbacks": [meter], "max_concurrency": self._parallel} for meter in meters
        ]
        answers: dict[int, AIMessage] = {}
        inputs = [{"question": question.question} for question in questions]
        self._progress(name, 0, len(questions))
        try:
            for index, answer in chain.batch_as_completed(inputs, configs):
                answers[index] = answer
                self._progress(name, len(answers), len(questions))
        except OpenAIError as error:
            raise DemoError(f"the server did not answer: {error}; check the URL, the key and the model") from error
        return [(question, answers[index], _Usage.of(meters[index])) for index, question in enumerate(questions)]


def _always(chain: Chain, deeper: Runnable[Any, Any]) -> Chain:
    """The paper's baseline: the draft and every step of its refinement, whatever the draft is like."""

    def answer(question: dict[str, str], config: RunnableConfig) -> AIMessage:
        draft = chain.invoke(question, config)
        refined: AIMessage = deeper.invoke(question, config, draft=draft)
        return refined

    return RunnableLambda(answer, name="always_deeper")


@dataclass(frozen=True)
class _Usage:
    """Tokens over all the model calls behind one answer."""

    input_tokens: int
    output_tokens: int

    @classmethod
    def of(cls, meter: UsageMetadataCallbackHandler) -> _Usage:
        if not meter.usage_metadata:
            raise DemoError("this server does not say how many tokens an answer took, so none can be compared")
        usages = meter.usage_metadata.values()
        return cls(sum(usage["input_tokens"] for usage in usages), sum(usage["output_tokens"] for usage in usages))


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
