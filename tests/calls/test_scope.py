"""Blocks within blocks: whose watcher is the innermost, in whatever order and context they are left."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tje_middleware.calls.scope import Scoped, innermost, scope

variable: ContextVar[Scoped | None] = ContextVar("variable", default=None)


@contextmanager
def block() -> Iterator[Scoped]:
    with scope(variable, lambda _: Scoped()) as watcher:
        yield watcher


def blocks() -> Iterator[Scoped]:
    with block() as watcher:
        yield watcher


@pytest.fixture(autouse=True)
def _none_is_open():
    assert variable.get() is None
    yield
    assert variable.get() is None


def test_the_innermost_is_that_of_the_block_that_was_entered_last() -> None:
    with block() as outer:
        with block() as inner:
            assert variable.get() is inner
        assert variable.get() is outer


def test_each_is_made_with_that_of_the_block_around_it() -> None:
    around: list[Scoped | None] = []

    def make(of: Scoped | None) -> Scoped:
        around.append(of)
        return Scoped()

    with scope(variable, make) as outer, scope(variable, make):
        pass
    assert around == [None, outer]


def test_one_that_cannot_be_made_leaves_things_as_they_are() -> None:
    def refuse(_: Scoped | None) -> Scoped:
        raise ValueError("no")

    with block() as outer:
        with pytest.raises(ValueError, match="no"), scope(variable, refuse):
            pass
        assert variable.get() is outer


def test_an_error_leaves_a_block() -> None:
    with pytest.raises(ZeroDivisionError), block():
        raise ZeroDivisionError


def test_one_in_a_generator_does_not_outlive_the_block_around_it() -> None:
    with block():
        generator = blocks()
        next(generator)
    generator.close()


def test_one_in_a_generator_that_is_closed_within_another_leaves_that_alone() -> None:
    generator = blocks()
    next(generator)
    with block() as later:
        generator.close()
        assert variable.get() is later


def test_a_block_is_never_opened_within_one_that_is_left() -> None:
    generator = blocks()
    left = next(generator)
    context = contextvars.copy_context()
    generator.close()

    def around_the_next() -> list[Scoped | None]:
        found: list[Scoped | None] = []
        with scope(variable, lambda around: found.append(around) or Scoped()):
            return found

    assert context[variable] is left
    assert context.run(around_the_next) == [None]


async def test_a_task_has_a_copy_and_its_own_blocks_end_there() -> None:
    async def work() -> tuple[Scoped | None, Scoped | None]:
        before = variable.get()
        with block():
            await asyncio.sleep(0)
        return before, variable.get()

    with block() as outer:
        assert await asyncio.gather(*(asyncio.create_task(work()) for _ in range(3))) == [(outer, outer)] * 3
        assert variable.get() is outer


async def test_in_a_task_that_outlives_its_block_the_innermost_is_the_next_around_that_is_open() -> None:
    go = asyncio.Event()

    async def late() -> Scoped | None:
        await go.wait()
        return innermost(variable.get())

    with block() as outer:
        with block():
            task = asyncio.create_task(late())
            await asyncio.sleep(0)
        go.set()
        assert await task is outer


async def test_one_may_be_left_in_another_task_than_it_was_entered_in() -> None:
    async def watched():
        with block() as watcher:
            yield watcher

    generator = watched()
    await asyncio.create_task(anext(generator))
    await asyncio.create_task(generator.aclose())


@given(st.permutations(range(5)))
def test_whatever_the_order_in_which_they_are_left_the_innermost_is_open(order: list[int]) -> None:
    generators = [blocks() for _ in order]
    watchers = [next(generator) for generator in generators]
    still_open = set(order)
    for leaving in order:
        generators[leaving].close()
        still_open.discard(leaving)
        assert variable.get() is (watchers[max(still_open)] if still_open else None)
