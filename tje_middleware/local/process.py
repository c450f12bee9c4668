"""The child process: llama.cpp's server, alive for as long as somebody holds its standard input open.

Run by :mod:`tje_middleware.local.server`, never imported. It says one JSON line on its standard output, either
``{"base_url": ...}`` once requests are answered, or ``{"error": ...}``; llama.cpp's log goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

_ERRORS_ONLY = 1


def main() -> int:
    """Serve what the JSON in the only argument says until standard input ends; 1 if the server did not start."""
    options = json.loads(sys.argv[1])
    # Ctrl-C in a terminal reaches the whole group of processes; when to end is the parent's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    report = _claim_stdout()
    # Before the model is loaded, for a parent that dies meanwhile; xllamacpp holds the GIL while it loads, so the
    # thread acts on it right after.
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        server = _serve(options)
    except (ImportError, RuntimeError) as error:
        said = f"xllamacpp cannot be loaded: {error}" if isinstance(error, ImportError) else str(error)
        report.write(json.dumps({"error": said}) + "\n")
        return 1
    report.write(json.dumps({"base_url": f"{server.listening_address}/v1"}) + "\n")
    threading.Event().wait()
    return 0


def _claim_stdout() -> TextIO:
    """Keep standard output for the one line that the parent reads; what C++ prints goes to the log."""
    report = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    return report


def _exit_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)  # no clean-up: nothing of a server of answers is worth the wait


class _Server(Protocol):
    listening_address: str


def _serve(options: Mapping[str, Any]) -> _Server:
    # libgomp's threads spin at each barrier; when another process wants the core, they spin for its whole time
    # slice, and a token takes a second. This many turns cost an idle machine a tenth of its speed and save a busy
    # one half of it. A user's own choice stands. libgomp reads this when it is loaded, with xllamacpp.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Only a server needs it, and only after the line above.
    import xllamacpp  # type: ignore[import-untyped]  # noqa: PLC0415

    params = xllamacpp.CommonParams()
    params.model.path = options["weights"]
    params.model_alias = {options["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = options["port"]
    params.cpuparams.n_threads = options["threads"]
    params.cpuparams_batch.n_threads = options["threads"]
    params.n_parallel = options["parallel"]
    params.n_ctx = options["parallel"] * options["context"]
    params.kv_unified = False  # each request has its context for itself
    params.cont_batching = True
    params.fit_params = False  # would shrink the context silently when memory looks short
    params.cache_ram_mib = 0  # old prompts would otherwise be kept in up to 8 GiB of memory
    params.verbosity = _ERRORS_ONLY
    params.offline = True
    params.ui = False
    params.endpoint_slots = False  # it shows the prompts of others
    params.cors_origins = ""  # no web page may read answers
    server: _Server = xllamacpp.Server(params)
    return server


if __name__ == "__main__":
    sys.exit(main())
