"""Streams: which chunk the decision goes with, and that none is left open."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tje_middleware.calls.streams import aclosed, amarked, closed, marked


async def arrived(chunks, seen=None):
    for chunk in chunks:
        await asyncio.sleep(0)
        if seen is not None:
            seen.append(chunk)
        yield chunk


def amarked_list(chunks, has_place):
    async def read():
        return [each async for each in amarked(arrived(chunks), has_place)]

    return asyncio.run(read())


@pytest.fixture(params=[lambda chunks, has_place: list(marked(iter(chunks), has_place)), amarked_list])
def mark(request):
    return request.param


class TestTheMarkedChunk:
    """Capital letters have a place for the decision."""

    @pytest.mark.parametrize(
        ("chunks", "expected"),
        [
            ("aBC", "C"),
            ("ABcd", "B"),
            ("AbCd", "C"),
            ("ab", "b"),  # none has a place
            ("A", "A"),
        ],
    )
    def test_is_the_last_that_has_a_place(self, mark, chunks, expected):
        found = mark(chunks, str.isupper)
        assert "".join(chunk for chunk, _ in found) == chunks
        assert [chunk for chunk, is_marked in found if is_marked] == [expected]

    def test_is_none_where_nothing_came(self, mark):
        assert mark("", str.isupper) == []

    @given(st.text(alphabet="aB", min_size=1))
    def test_is_always_one_in_a_stream_whose_order_stays(self, chunks):
        found = list(marked(iter(chunks), str.isupper))
        assert "".join(chunk for chunk, _ in found) == chunks
        places = [place for place, (_, is_marked) in enumerate(found) if is_marked]
        assert places == [max(chunks.rfind("B"), 0) if "B" in chunks else len(chunks) - 1]

    def test_holds_back_no_more_than_one_that_has_a_place(self):
        read = []
        chunks = marked((read.append(chunk) or chunk for chunk in "ABCd"), str.isupper)
        assert next(chunks) == ("A", False)
        assert read == ["A", "B"]

    async def test_holds_back_no_more_on_the_loop(self):
        read = []
        chunks = amarked(arrived("ABCd", read), str.isupper)
        assert await anext(chunks) == ("A", False)
        assert read == ["A", "B"]


class Recorded:
    """A stream that knows that it was closed, either way."""

    def __init__(self):
        self.is_closed = False

    def close(self):
        self.is_closed = True

    async def aclose(self):
        self.is_closed = True


class TestAClosedStream:
    def test_is_closed_where_it_is_left(self):
        stream = Recorded()
        with closed(stream) as inside:
            assert inside is stream
            assert not stream.is_closed
        assert stream.is_closed

    def test_is_closed_where_it_is_left_by_an_error(self):
        stream = Recorded()
        with pytest.raises(KeyError), closed(stream):
            raise KeyError
        assert stream.is_closed

    async def test_is_closed_on_the_loop(self):
        stream = Recorded()
        with pytest.raises(KeyError):
            async with aclosed(stream):
                raise KeyError
        assert stream.is_closed

    async def test_may_be_one_that_cannot_be_closed(self):
        with closed(iter("ab")) as chunks:
            assert list(chunks) == ["a", "b"]

        class Counted:
            def __aiter__(self):
                return self

            async def __anext__(self):
                raise StopAsyncIteration

        async with aclosed(Counted()) as chunks:
            assert [chunk async for chunk in chunks] == []
