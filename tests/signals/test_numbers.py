from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tje_middleware import SignalError
from tje_middleware.signals import number_entropy, number_max

from .drafts import of_bits


def test_only_tokens_that_hold_a_digit_count() -> None:
    draft = of_bits([4, 1, 4, 2, 0, 4], ["The", " 4", "teen", "th x2y", "7", "."])
    assert number_entropy(draft) == pytest.approx(3.0)
    assert number_max(draft) == pytest.approx(2.0)


@pytest.mark.parametrize("digit", ["٣", "3", "३"])
def test_digits_of_every_script_count(digit: str) -> None:
    assert number_entropy(of_bits([1, 2], ["is ", digit])) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "code", ["<0x0A>", "\\xe2\\x80", "bytes:\\xf0\\x9f", "<|reserved_special_token_12|>", "�", "a"]
)
def test_digits_of_a_byte_or_a_special_token_do_not(code: str) -> None:
    assert number_entropy(of_bits([3, 2], [code, "5"])) == pytest.approx(2.0)
    with pytest.raises(SignalError, match="holds a digit"):
        number_entropy(of_bits([3], [code]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("a1 2é\n", max_size=4), st.integers(0, 3)), min_size=1, max_size=20))
def test_it_is_that_of_a_loop(tokens: Sequence[tuple[str, int]]) -> None:
    draft = of_bits([bits for _, bits in tokens], [text for text, _ in tokens])
    expected = [bits for text, bits in tokens if any(map(str.isdigit, text))]
    if expected:
        assert number_entropy(draft) == pytest.approx(sum(expected))
        assert number_max(draft) == pytest.approx(max(expected))
    else:
        with pytest.raises(SignalError):
            number_entropy(draft)


@pytest.mark.parametrize("signal", [number_entropy, number_max])
def test_without_digits_or_texts_it_is_unknown_and_not_0(signal) -> None:
    with pytest.raises(SignalError, match="no token of the sequence holds a digit"):
        signal(of_bits([1, 2], ["no", " number"]))
    with pytest.raises(SignalError, match="does not know its tokens' texts"):
        signal(of_bits([1, 2]))
