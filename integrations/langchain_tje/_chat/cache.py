"""LangChain's cache under a gated chat model: which answers are the same, and which are not to be kept."""

from __future__ import annotations

from typing import Any

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.globals import get_llm_cache

from tje_middleware.decision import METADATA_KEY

from .._answer import message_in


class SettledAnswers(BaseCache):
    """A view of a cache that keeps no answer of an hour of need.

    A draft in the place of a deeper model that failed, or a decision by a profile that may be out of date, would
    stay the answer long after.
    """

    def __init__(self, cache: BaseCache) -> None:
        self._cache = cache

    @classmethod
    def over(cls, cache: BaseCache | bool | None) -> BaseCache | bool | None:
        """The view of the cache that a model's setting means; the setting itself where it means none."""
        meant = cache if isinstance(cache, BaseCache) else get_llm_cache()
        if cache is False or meant is None or isinstance(meant, cls):
            return cache
        return cls(meant)

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """As the cache has it."""
        return self._cache.lookup(prompt, llm_string)

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The same on the event loop."""
        return await self._cache.alookup(prompt, llm_string)

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep a settled answer."""
        if _is_settled(return_val):
            self._cache.update(prompt, llm_string, return_val)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """The same on the event loop."""
        if _is_settled(return_val):
            await self._cache.aupdate(prompt, llm_string, return_val)

    def clear(self, **kwargs: Any) -> None:
        """Clear the cache."""
        self._cache.clear(**kwargs)


def _is_settled(answers: RETURN_VAL_TYPE) -> bool:
    for answer in answers:
        message = message_in(getattr(answer, "message", None))
        decision = message.response_metadata.get(METADATA_KEY) if message is not None else None
        if decision is not None and (decision["reason"] == "branch_failed" or decision["stale"]):
            return False
    return True
