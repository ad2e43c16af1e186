"""How people and systems tell a process to end.

Floor 1, and light.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def when_told_to_end(end: Callable[[], object]) -> None:
    """Call `end` in the running loop on Ctrl-C, on SIGTERM, and when the terminal is closed (unless `nohup` says otherwise)."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, end)
