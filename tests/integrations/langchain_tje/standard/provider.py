"""The stand-in, knowing what the suites' own questions want to hear."""

from __future__ import annotations

import io
import json

from tests.standin import StandIn
from tests.standin.server import _Handler

_JOKE = json.dumps('{"setup": "Why?", "punchline": "Because."}')

#: Words of a question, and what they say in the stand-in's language.
TRANSLATIONS = {
    "magic_function(3)": 'call=magic_function args={"input": 3}',
    "weather in San Francisco": 'call=get_weather args={"location": "San Francisco, CA"}',
    "你好啊集团": 'call=unicode_customer args={"customer_name": "你好啊集团", "description": "x"}',
    "こんにちは株式会社": 'call=unicode_customer args={"customer_name": "こんにちは株式会社", "description": "x"}',
    "as a JSON with 'setup'": f"says={_JOKE}",
}


class SuiteProvider(StandIn):
    """A stand-in for models that do as the suites' prompts say."""

    def __init__(self) -> None:
        super().__init__()
        self._server.RequestHandlerClass = _Translating


class _Translating(_Handler):
    def do_POST(self) -> None:  # noqa: N802 (the name that http.server wants)
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for message in request["messages"]:
            content = message.get("content")
            if message["role"] == "user" and isinstance(content, str):
                said = [words for asked, words in TRANSLATIONS.items() if asked in content]
                message["content"] = " ".join([content, *said])
        body = json.dumps(request).encode()
        self.headers.replace_header("Content-Length", str(len(body)))
        connection, self.rfile = self.rfile, io.BytesIO(body)
        try:
            super().do_POST()
        finally:
            self.rfile = connection
