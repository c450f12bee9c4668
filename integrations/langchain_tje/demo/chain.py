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
    SequenceLogprobs,
    TjeWarning,
    UnreadableLogprobs,
    calibrate,
    parse_logprobs,
)
from tje_middleware.demo import ALWAYS, NEVER, UNTIL_REPEATED, DemoResult, Question, is_right, label, load_questions
from tje_middleware.evaluation import Outcome, compare
from tje_middleware.local import LocalServer
from tje_middleware.signals import AUTO

from ..asking.chain import ask_logprobs
from ..branches.refinement import sequential_refinement
from ..chains.decorator import think_just_enough

PROMPT = "{question}\nAnswer with one word or number only."
TASK = "tje-demo"
MAX_TOKENS = 24
REFINEMENT_STEPS = 3
# A small model is wrong about hard questions with confidence: one wrong answer in twenty is out of its reach.
ALPHA = 0.2

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
    key = ProfileKey(model=model, task=TASK, signal=AUTO, temperature=0.0)
    records = run.records(questions[:calibration], key)
    registry.put(calibrate(records, key=key, alpha=ALPHA))
    profile = registry.get(key)
    gates, missing = _gates(registry, profile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TjeWarning)  # what a gate warns of stands above the table
        answers = run.answers(questions[calibration : calibration + test], gates)
    outcomes = {name: [answer.outcome for answer in of_policy] for name, of_policy in answers.items()}
    return DemoResult(
        model=model,
        profile=profile,
        comparisons=compare(outcomes, baseline=ALWAYS),
        missing=missing,
        calibrated_on=records,
        tested_on=_tested(answers[NEVER], answers[ALWAYS]),
    )


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
        if threshold.value is not None:
            gates[method] = EntropyGate.from_registry(
                registry, model=profile.key.model, task=TASK, signal=AUTO, temperature=0.0, method=method
            )
        elif method != "cost":  # there are no prices here
            missing[method] = threshold.reason or "no threshold"
    return gates, missing


def _tested(drafts: Sequence[_Answer], deeper: Sequence[_Answer]) -> list[CalibrationRecord]:
    """The tested questions as records: what never and what always going deeper made of each."""
    return [
        CalibrationRecord(
            id=draft.question.id,
            correct=draft.outcome.correct,
            tokens=draft.outcome.output_tokens,
            sequence=draft.logprobs(),
            deeper_correct=other.outcome.correct,
            deeper_tokens=max(other.outcome.output_tokens - draft.outcome.output_tokens, 0),
        )
        for draft, other in zip(drafts, deeper, strict=True)
    ]


class _Run:
    """Asks questions through a chain, several at once, and counts what it costs."""

    def __init__(self, chain: Chain, progress: Progress, parallel: int) -> None:
        self._chain = chain
        self._progress = progress
        self._parallel = parallel

    def records(self, questions: Sequence[Question], key: ProfileKey) -> list[CalibrationRecord]:
        """Answer once each and refine the answer; keep logprobs, grades and costs of both."""
        asking = ask_logprobs(self._chain, top_k=key.top_k)
        drafts = self._ask("drafts", asking, questions)
        sequences = [draft.logprobs() for draft in drafts]
        refine = sequential_refinement(self._chain, steps=REFINEMENT_STEPS)
        written = {draft.question.question: draft.message for draft in drafts}

        def deepen(question: dict[str, str], config: RunnableConfig) -> AIMessage:
            refined: AIMessage = refine.invoke(question, config, draft=written[question["question"]])
            return refined

        refined = self._ask("their refinement", RunnableLambda(deepen), questions)
        return [
            CalibrationRecord(
                id=draft.question.id,
                correct=draft.outcome.correct,
                tokens=draft.outcome.output_tokens,
                sequence=sequence,
                deeper_correct=other.outcome.correct,
                deeper_tokens=other.outcome.output_tokens,
            )
            for draft, sequence, other in zip(drafts, sequences, refined, strict=True)
        ]

    def answers(self, questions: Sequence[Question], gates: Mapping[str, EntropyGate]) -> dict[str, list[_Answer]]:
        """Run every policy on the same questions, each for real."""
        deeper = sequential_refinement(self._chain, steps=REFINEMENT_STEPS)
        until_repeated = sequential_refinement(self._chain, steps=REFINEMENT_STEPS, until_repeated=True)
        policies: dict[str, Chain] = {
            NEVER: ask_logprobs(self._chain),
            ALWAYS: _always(self._chain, deeper),
            UNTIL_REPEATED: _always(self._chain, until_repeated),
        }
        for method, gate in gates.items():
            # A branch that failed must end the run: its draft would be counted as a saving.
            policies[method] = think_just_enough(self._chain, deeper=deeper, gate=gate, on_branch_error="raise")
        return {
            name: self._ask(label(name), policy, questions, accepts_all=name == NEVER)
            for name, policy in policies.items()
        }

    def _ask(
        self, name: str, chain: Chain, questions: Sequence[Question], *, accepts_all: bool = False
    ) -> list[_Answer]:
        """All answers, in the order of the questions."""
        meters = [UsageMetadataCallbackHandler() for _ in questions]
        configs: list[RunnableConfig] = [
            {"callbacks": [meter], "max_concurrency": self._parallel} for meter in meters
        ]
        messages: dict[int, AIMessage] = {}
        inputs = [{"question": question.question} for question in questions]
        self._progress(name, 0, len(questions))
        try:
            for index, message in chain.batch_as_completed(inputs, configs):
                messages[index] = message
                self._progress(name, len(messages), len(questions))
        except OpenAIError as error:
            raise DemoError(f"the server did not answer: {error}; check the URL, the key and the model") from error
        return [
            _Answer.of(question, messages[index], meters[index], accepts_all=accepts_all)
            for index, question in enumerate(questions)
        ]


@dataclass(frozen=True)
class _Answer:
    """One question's answer by one policy.

    Attributes:
        question: What was asked.
        message: What came back.
        outcome: Its grade, and its cost over all model calls behind it.
    """

    question: Question
    message: AIMessage
    outcome: Outcome

    @classmethod
    def of(
        cls, question: Question, message: AIMessage, meter: UsageMetadataCallbackHandler, *, accepts_all: bool
    ) -> _Answer:
        """Grade an answer and add up what it cost.

        Raises:
            DemoError: the server counts no tokens.
        """
        usages = meter.usage_metadata.values()
        if not usages:
            raise DemoError("this server does not say how many tokens an answer took, so none can be compared")
        outcome = Outcome(
            correct=is_right(question, message.text),
            output_tokens=sum(usage["output_tokens"] for usage in usages),
            input_tokens=sum(usage["input_tokens"] for usage in usages),
            accepted=accepts_all or message.response_metadata.get("tje", {}).get("route") == "final",
        )
        return cls(question, message, outcome)

    def logprobs(self) -> SequenceLogprobs:
        """The logprobs of the message.

        Raises:
            DemoError: it has none.
        """
        try:
            return parse_logprobs(self.message)
        except UnreadableLogprobs as error:
            raise DemoError(f"this server gives no logprobs that a gate could use: {error}") from error


def _always(chain: Chain, deeper: Runnable[Any, Any]) -> Chain:
    """The paper's baseline: the draft and every step of its refinement, whatever the draft is like."""

    def answer(question: dict[str, str], config: RunnableConfig) -> AIMessage:
        draft = chain.invoke(question, config)
        refined: AIMessage = deeper.invoke(question, config, draft=draft)
        return refined

    return RunnableLambda(answer, name="always_deeper")


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
