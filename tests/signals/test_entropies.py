from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tje_middleware import SequenceLogprobs, token_entropies
from tje_middleware.signals import (
    length,
    max_entropy,
    p90_entropy,
    quantile_entropy,
    total_entropy,
    uncertain_share,
    uncertain_tokens,
)

from .drafts import drafts, of_bits

STEPS = of_bits([0, 1, 2, 3, 2])


def test_the_total_is_the_sum() -> None:
    assert total_entropy(STEPS) == pytest.approx(8.0)


def test_the_maximum_is_the_worst_token() -> None:
    assert max_entropy(STEPS) == pytest.approx(3.0)


def test_a_token_is_uncertain_above_the_level() -> None:
    assert uncertain_tokens(STEPS) == 3.0
    assert uncertain_tokens(STEPS, level=2.5) == 1.0
    assert uncertain_tokens(STEPS, level=-1.0) == 5.0
    assert uncertain_share(STEPS) == pytest.approx(0.6)
    assert uncertain_share(STEPS, level=2.5) == pytest.approx(0.2)


def test_the_length_counts_tokens() -> None:
    assert length(STEPS) == 5.0


@settings(deadline=None)
@given(drafts(), st.floats(0, 1))
def test_a_quantile_is_numpys(sequence: SequenceLogprobs, q: float) -> None:
    values = token_entropies(sequence)
    assert quantile_entropy(sequence, q) == pytest.approx(np.quantile(values, q), abs=1e-12)
    assert p90_entropy(sequence) == pytest.approx(np.quantile(values, 0.9), abs=1e-12)


@pytest.mark.parametrize("q", [-0.1, 1.1, float("nan")])
def test_a_quantile_beyond_the_ends_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile_entropy(STEPS, q)
