"""Where a gated engine looks for LLMs in the cheap engine, and where it does not."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core.llms import LLM
from llama_index.core.query_engine import CustomQueryEngine
from llama_index_tje import EntropyGatedQueryEngine
from llama_index_tje.capture.captured import CapturedEntropy
from llama_index_tje.query.copies import _Search, asking

from .engines import SURE, decision_in


class Holding(CustomQueryEngine):
    """Asks its LLM, and holds more."""

    data: Any
    llm: LLM | None = None

    def custom_query(self, query_str):
        return self.llm.complete(query_str).text


@pytest.fixture
def asked(gate):
    def asked(engine):
        return asking(engine, gate, CapturedEntropy())

    return asked


def nested(levels: int, within: object = None) -> list:
    made: Any = [within]
    for _ in range(levels - 1):
        made = [made]
    return made


@pytest.mark.parametrize(
    "hold",
    [
        lambda llm: [llm],
        lambda llm: (1, llm),
        lambda llm: {"cheap": llm},
        lambda llm: {"all": [llm]},
        lambda llm: [Holding(data=[llm])],
        lambda llm: [Holding(data=None, llm=llm) for _ in range(100)],
        lambda llm: dict.fromkeys(range(100), llm),
    ],
    ids=["list", "tuple", "dict", "list in a dict", "engine in a list", "many engines", "large dict"],
)
def test_an_llm_in_a_container_is_seen(hold, engines, asked) -> None:
    held = hold(engines.llm())
    found = asked(Holding(data=held))
    assert found.llm_seen
    assert type(found.engine.data) is type(held)
    assert len(found.engine.data) == len(held)


def test_of_many_engines_each_is_asked(engines, asked) -> None:
    found = asked(Holding(data=[Holding(data=None, llm=engines.llm()) for _ in range(100)]))
    assert all(each.llm.class_name() == "tje_asked_llm" for each in found.engine.data)


@pytest.mark.parametrize(
    "data",
    [nested(400), nested(3), list(range(1000)), {str(number): number for number in range(1000)}],
    ids=["nested", "nested a little", "list", "dict"],
)
def test_data_is_handed_on_as_it_is(data, engines, asked) -> None:
    found = asked(Holding(data=data, llm=engines.llm()))
    assert found.engine.data is data
    assert found.llm_seen


def test_an_llm_behind_data_or_deep_in_containers_is_not_seen(engines, asked) -> None:
    llm = engines.llm()
    assert not asked(Holding(data=[*range(100), llm])).llm_seen
    assert not asked(Holding(data=nested(3, within=llm))).llm_seen


def test_engines_in_engines_without_an_end_do_not_exhaust_the_stack(engines, asked) -> None:
    engine = Holding(data=None, llm=engines.llm())
    for _ in range(2000):
        engine = Holding(data=engine)
    assert not asked(engine).llm_seen


def test_an_engine_that_holds_itself_is_searched_once(engines, asked) -> None:
    engine = Holding(data=[], llm=engines.llm())
    engine.data.append(engine)
    assert asked(engine).llm_seen


@pytest.mark.parametrize(
    "make",
    [
        lambda: [[0.5] * 384 for _ in range(4000)],
        lambda: list(range(1_000_000)),
        lambda: {str(number): number for number in range(300_000)},
    ],
    ids=["vectors", "list", "dict"],
)
def test_of_data_only_the_first_items_are_looked_at(make, engines, gate) -> None:
    class Counting(_Search):
        looks = 0

        def replaced(self, value, *within):
            self.looks += 1
            return super().replaced(value, *within)

    search = Counting(gate, CapturedEntropy())
    search.replaced(Holding(data=make(), llm=engines.llm()))
    assert search.looks < 1000


def test_an_engine_that_holds_data_answers_gated(engines, gate) -> None:
    engine = Holding(data=nested(400), llm=engines.llm())
    both = EntropyGatedQueryEngine(engine=engine, deeper=lambda _: "deeper", gate=gate)
    assert decision_in(both.query(SURE)).accepted
