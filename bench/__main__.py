"""`python -m bench [PART...]`: consoled beside its peers, on this machine, in this run.  See README.md."""

from __future__ import annotations

import argparse
import compileall
import importlib
import signal
import sys
import tempfile
import time
from pathlib import Path

import consoled
from bench import report
from bench.machine import Tools, Trouble, adopt, raise_descriptors
from bench.run import Run
from bench.servers import SERVERS

PARTS = ("fanout", "stall", "attach", "idle", "clients", "ingest", "small", "many", "echo", "tls", "ssh")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--servers", default=",".join((*SERVERS, "relay")), help="(default: %(default)s)")
    parser.add_argument("--watchers", default="", help="of the fan-out's flood, such as 10,100")
    parser.add_argument("--rounds", type=int, default=0, help="(default: 3, 1 if quick)")
    parser.add_argument("--seconds", type=float, default=0, help="of one measurement (default: 0.8, 0.5 if quick)")
    parser.add_argument("--quick", action="store_true", help="all parts, small, in less than two minutes")
    parser.add_argument("--limit", type=float, default=0, help="seconds after which nothing new is begun")
    parser.add_argument("--place", help="a directory on the disk to write to (default: that for temporary files)")
    parser.add_argument("--results", type=Path, metavar="DIRECTORY", help="write last.md and last.json there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write an SVG of them there")
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"{part!r} is no part: {', '.join(PARTS)}")
    quick = options.quick
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way nothing is left behind
    adopt()
    compileall.compile_dir(Path(consoled.__file__).parent, quiet=1)  # as an installer does
    descriptors = raise_descriptors(65536)
    with tempfile.TemporaryDirectory(prefix="consoled-bench-", dir=options.place) as place:
        try:
            tools = Tools(Path(place))
        except Trouble as trouble:
            sys.exit(str(trouble))
        bench = Run(
            tools,
            Path(place),
            options.servers.split(","),
            rounds=options.rounds or (1 if quick else 3),
            seconds=options.seconds or (0.5 if quick else 0.8),
            quick=quick,
            descriptors=descriptors,
            deadline=time.monotonic() + (options.limit or (100 if quick else 840)),
        )
        if options.watchers:
            bench.watchers = [int(number) for number in options.watchers.split(",")]
        elif quick:
            bench.watchers = (1, 100)
        try:
            for part in options.parts or PARTS:
                try:
                    importlib.import_module(f"bench.parts.{part}").run(bench)
                except Trouble as trouble:  # outside of anybody's turn
                    bench.failed(part, "all", "all", trouble)
        except KeyboardInterrupt:
            bench.say("interrupted")
        finally:
            bench.close()
    report.show(bench, time.monotonic() - bench.began, options.results, options.plot)


if __name__ == "__main__":
    main()
