"""`make bench-providers`: what each kind of provider costs, line by line and as one large batch; writes PROVIDERS.md."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.bodies import Bodies
from benchmarks.machine import facts
from benchmarks.measures.bench import DETACHED
from benchmarks.processes import OTHER_CORE, Child, Servant
from benchmarks.stand import Gateway, Setting, until
from benchmarks.table import short
from gateway.cli.demo.cast import Part, parts
from gateway.cli.demo.oracle import CHAT, Oracle, oracle_batch
from gateway.clock import SystemClock
from gateway.records import Call, line_id, new_marker
from gateway.sandbox.temporary import TemporaryFolder

RESULTS = Path(__file__).with_name("PROVIDERS.md")
ROUNDS = 5
LINES_AT_ONCE = 2_000
MEGABYTE = 1_000_000
#: What a batch of this bench has; a kind whose own limit is higher gets that many.
LINES = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """Lines a second through the pure functions of a plugin, one thread, bodies of 1 KB."""

    encoded: float
    decoded: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """One batch from the moment it may seal to the last line settled."""

    lines: int
    seconds: float
    #: The most that the gateway had in memory meanwhile, above what it had before.
    peak_bytes: int
    #: CPU of the gateway for each line.
    cpu_us: float
    #: The longest answer of /healthz to a caller that asks every 2 ms.
    stall_ms: float


def main() -> None:
    """Measure the kinds that are named, or all."""
    parser = argparse.ArgumentParser(prog="make bench-providers", description=__doc__)
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--quick", action="store_true", help="a tenth of the lines: shows that it works")
    arguments = parser.parse_args()
    console = Console()
    rows: list[Sequence[str]] = []
    for part in parts(arguments.kinds):
        with TemporaryFolder("batchway-providers-") as directory:
            codec = measure_codec(part, directory)
            whole = measure_batch(part, directory, 10 if arguments.quick else 1) if part.provider_class.batch else None
        rows.append(row(part, codec, whole))
        console.print("  ".join(rows[-1]))
        if not arguments.kinds and not arguments.quick:
            RESULTS.write_text(markdown(rows), encoding="utf-8")


def measure_codec(part: Part, directory: Path) -> Codec:
    """Encode and frame, then decode, the same lines again and again."""
    oracle = Oracle(part.provider_class, part.simulator_class, SystemClock(), directory / "oracle")
    provider = oracle.provider
    bodies = [json.loads(Bodies(tag="b").of(number)) for number in range(LINES_AT_ONCE)]
    calls = [Call(endpoint=CHAT, model=part.model, body={**body, "model": part.model}) for body in bodies]
    marker = new_marker()

    def encode() -> list[bytes]:
        return [provider.frame(line_id(marker, n), provider.encode(call)) for n, call in enumerate(calls)]

    encoded = _rate(encode)
    if not provider.batch:
        return Codec(encoded=encoded, decoded=0.0)
    rows = [oracle.row(line, oracle_batch(part.model)) for line in encode()]

    def decode() -> list[bool]:
        return [provider.decode(each).status == 200 for each in rows]

    if not all(decode()):
        raise RuntimeError(f"{part.kind}: a row of an answer is not decoded as one")
    return Codec(encoded=encoded, decoded=_rate(decode))


def _rate(work: Callable[[], object]) -> float:
    """Lines a second, the median of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return LINES_AT_ONCE / median(seconds)


def measure_batch(part: Part, directory: Path, divisor: int) -> Whole:
    """One batch as large as the kind's limits allow, up to 100,000 lines, through a real gateway and simulator."""
    most = part.provider_class.limits.max_requests or LINES
    count = min(max(LINES, most if most <= 2 * LINES else LINES), most) // divisor
    keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in part.provider_class.sandbox_settings.items())
    setting = Setting(kind=part.kind, keys=keys, max_requests=count)
    with Servant("benchmarks.floors.simulated", part.kind, directory / "simulator", core=OTHER_CORE) as simulator:
        upstream = f"http://127.0.0.1:{simulator.ready['port']:.0f}/{part.kind}{part.simulator_class.base_path}"
        with (
            Gateway(directory / "gateway", upstream, setting) as gateway,
            Servant("benchmarks.load", core=OTHER_CORE) as load,
        ):
            gateway.wait()
            load.ask(
                "start", port=gateway.port, connections=64, tag="line", vary=True, headers=dict(DETACHED), most=count
            )
            # The window is full with the last of them, and seals at once.
            until(lambda: gateway.accepted() >= count - 1, "nearly all requests are accepted")
            _forget_peak(gateway)
            before, cpu, began = gateway.resident_bytes, gateway.cpu_seconds, time.monotonic()
            load.ask("stop")
            stall = _watched(load, gateway)
            seconds = time.monotonic() - began
            answered = simulator.ask("submitted")
            if answered["answered"] != count or answered["lines"] != count:
                raise RuntimeError(f"{part.kind}: {answered} instead of {count} lines, each answered once")
            return Whole(
                lines=count,
                seconds=seconds,
                peak_bytes=gateway.peak_bytes - before,
                cpu_us=(gateway.cpu_seconds - cpu) / count * 1e6,
                stall_ms=stall,
            )


def _watched(load: Servant, gateway: Gateway) -> float:
    """Wait until the batch is collected; the longest stall meanwhile, in ms."""
    load.ask(
        "start", port=gateway.port, connections=1, tag="probe", vary=False, headers={},
        pause_ms=2.0, method="GET", path="/healthz",
    )  # fmt: skip
    gateway.until_collected(1)
    return load.ask("stop")["max_ms"]


def _forget_peak(child: Child) -> None:
    """Let the kernel count the peak of memory anew."""
    Path(f"/proc/{child.process.pid}/clear_refs").write_text("5")


HEADINGS = (
    "kind",
    "encode, lines/s",
    "decode, lines/s",
    "batch, lines",
    "sealed to collected, s",
    "peak memory above idle, MB",
    "gateway CPU, us/line",
    "longest stall, ms",
)


def row(part: Part, codec: Codec, whole: Whole | None) -> tuple[str, ...]:
    """One kind, under `HEADINGS`."""
    pure = (part.kind, f"{codec.encoded:,.0f}", f"{codec.decoded:,.0f}" if codec.decoded else "-")
    if whole is None:
        return (*pure, "one by one", "-", "-", "-", "-")
    return (
        *pure,
        f"{whole.lines:,}",
        short(whole.seconds),
        short(whole.peak_bytes / MEGABYTE),
        short(whole.cpu_us),
        short(whole.stall_ms),
    )


INTRODUCTION = (
    "Written by `make bench-providers`: bodies of 1 KB; pure functions on one thread; one batch through a real gateway, the "
    "kind's SDK and its simulator, whose time is in it. Compare kinds with `openai` of the same run, not with other machines."
)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The whole of PROVIDERS.md."""
    lines = [
        "# Providers",
        "",
        INTRODUCTION,
        "",
        *[f"- {fact}" for fact in facts()],
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
        *["| " + " | ".join(each) + " |" for each in rows],
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
