"""`python -m gateway.cli.demo.leash COMMAND...`: a `batchway` command that ends when its parent does, however that ends.

A killed demonstration cannot stop its children; but the system closes what it held open, and they see the end of the pipe
that is their standard input.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

from gateway.cli import main

_STANDARD_INPUT = 0


def _follow() -> None:
    """Wait for the end of the parent, then for our own in order."""
    with suppress(OSError):
        while os.read(_STANDARD_INPUT, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_follow, name="leash", daemon=True).start()
    main()
