"""(h) Fan-out and echo over TLS, consoled alone: the same as without, which stands beside it in the table."""

from __future__ import annotations

from bench.parts import echo, fanout
from bench.run import Run

PART = "tls"


def run(bench: Run) -> None:
    stands = bench.stands(PART, echo.BUSY + 1, but=("conman", "conserver"), tls=True)
    for each in (10,) if bench.quick else (1, 10, 100):
        bench.turns(PART, f"flood, K={each}", stands, fanout.flood, each, bench.seconds, tls=True)
    if not bench.quick:
        bench.turns(PART, "200 KB/s, K=100", stands, fanout.pace, 100, "200 KB/s", bench.seconds, tls=True)
    keys = 100 if bench.quick else 500
    bench.turns(PART, "echo, idle", stands, echo.idle, keys, tls=True)
    if not bench.quick:
        case = f"echo, {echo.BUSY} busy consoles"
        bench.turns(PART, case, stands, echo.busy, keys, tls=True)
