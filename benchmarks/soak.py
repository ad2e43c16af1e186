"""`make soak`: rounds of calls and `kill -9`, for as long as it is left running; Ctrl-C ends it.

Each round sends calls, kills the gateway somewhere on their way, starts it again, sends the same calls as clients do that
try again, and checks every answer and that the provider was asked each question once.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measures.bench import Bench
from benchmarks.processes import Servant
from benchmarks.stand import Gateway, Setting

CALLS = 500
#: The gateway dies within so many seconds of its first request: before, in and after its batch.
LONGEST_LIFE_SECONDS = 1.5
RETRY = {"x-stainless-retry-count": "1"}


def main() -> None:
    """Round after round; ends with a status other than 0 when a promise was broken."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else time.time_ns() % 1_000_000
    chance = random.Random(seed)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="batchway-soak-") as folder:
        bench = Bench(directory=Path(folder), quick=True)
        with Servant("benchmarks.floors.simulator", bench.directory / "simulator", core=1) as simulator:
            upstream = f"http://127.0.0.1:{simulator.ready['port']:.0f}/sim/v1"
            for number in range(1, sys.maxsize):
                _round(bench, upstream, number, chance.uniform(0.0, LONGEST_LIFE_SECONDS))
                _check(simulator, number)


def _round(bench: Bench, upstream: str, number: int, life_seconds: float) -> None:
    setting = Setting(idle_seconds=0.1, window_seconds=0.3, max_requests=CALLS // 2)
    directory = bench.directory / "gateway"
    began = time.monotonic()
    with Gateway(directory, upstream, setting) as gateway, bench.load() as load:
        gateway.wait()
        load.ask("open", port=gateway.port, count=CALLS)
        load.ask("send", tag=f"round{number}", headers={})
        time.sleep(life_seconds)
        gateway.kill()
    with Gateway(directory, upstream, setting) as gateway, bench.load() as load:
        gateway.wait()
        load.ask("open", port=gateway.port, count=CALLS)
        load.ask("send", tag=f"round{number}", headers=RETRY)
        answers = load.ask("answers")
    if answers["wrong"]:
        raise SystemExit(f"round {number}: {answers['wrong']:.0f} of {CALLS} answers are wrong")
    print(f"round {number}: killed after {life_seconds:.2f} s, {time.monotonic() - began:.1f} s in all", flush=True)


def _check(simulator: Servant, rounds: int) -> None:
    submitted = simulator.ask("submitted")
    if not submitted["lines"] == submitted["distinct"] == rounds * CALLS:
        raise SystemExit(
            f"after {rounds} rounds {submitted['lines']:.0f} lines were paid for {submitted['distinct']:.0f} questions, "
            f"{rounds * CALLS} were asked"
        )


if __name__ == "__main__":
    main()
