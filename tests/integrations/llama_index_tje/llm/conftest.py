from functools import partial

import pytest

from tests.integrations.llama_index_tje.conftest import Make, make_llm
from tests.standin import StandIn

KEY = "a-key-that-nobody-may-see"


@pytest.fixture
def like(provider: StandIn) -> Make:
    """Makes LLMs that ask for no logprobs by themselves.

    Each has one client, for one loop: with the oldest releases, gated or not, a client for each asynchronous call may
    keep the next from connecting.
    """
    return partial(make_llm, provider, api_key=KEY)
