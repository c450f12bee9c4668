"""``python -m tje_middleware`` is ``tje``."""

from .cli import app

app()
