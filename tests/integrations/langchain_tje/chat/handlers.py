"""A handler that counts a model's runs."""

from langchain_core.callbacks import BaseCallbackHandler


class Runs(BaseCallbackHandler):
    def __init__(self) -> None:
        self.counted = {"started": 0, "ended": 0}
        self.infos: list[dict | None] = []

    def on_chat_model_start(self, *_: object, **__: object) -> None:
        self.counted["started"] += 1

    def on_llm_end(self, response: object, **_: object) -> None:
        self.counted["ended"] += 1
        self.infos.append(response.generations[0][0].generation_info)
