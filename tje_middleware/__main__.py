"""``python -m tje_middleware`` is ``tje``."""

from .cli import app

if __name__ == "__main__":
    app()
