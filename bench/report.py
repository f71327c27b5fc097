"""What was found, as a table of medians and ratios, as JSON, and judged by what was set out to be reached."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.meters import describe
from bench.run import Run
from bench.servers import versions

SERVERS = ("consoled", "conman", "conserver", "relay-256k", "relay-256k+log", "relay-8k", "dd", "ssh")
QUIET = {"load CPU": 2.0, "late s": 0.5, "behind s": 1.0, "repeated": 0.0, "missing": 0.0}
"""In the JSON only, unless there is more of it for somebody."""
FULL = 0.9
"""The share of its processor from which the load may be the limit, and not the server."""

Row = dict[str, float]
"""The median of each server."""
Rows = Mapping[tuple[str, str, str], Row]
"""By part, case and key."""


@dataclass(frozen=True)
class Target:
    """What was set out to be reached: `key` of a part's case is at least, or at most, `value`.

    Or `value` times what `peer` has there; or times our own of another case, `than`.
    """

    part: str
    case: str
    key: str
    least: bool
    value: float
    peer: str = ""
    than: str = ""

    def __str__(self) -> str:
        unit = f" x {self.peer or self.than}" if self.peer or self.than else ""
        return f"{'at least' if self.least else 'at most'} {self.value:g}{unit}"

    def found(self, case: str, rows: Rows) -> float | None:
        """What to compare with `value`."""
        row = rows[self.part, case, self.key]
        ours, theirs = row.get("consoled"), row.get(self.peer)
        if self.than:
            theirs = rows.get((self.part, self.than, self.key), {}).get("consoled")
        if ours is None or not (self.peer or self.than):
            return ours
        return ours / theirs if theirs else None

    def met(self, found: float) -> bool:
        return found >= self.value if self.least else found <= self.value


def _targets() -> Iterator[Target]:
    for each, times in (("1", 1.5), ("10", 2), ("100", 3)):
        yield Target("fanout", f"flood, K={each}", "MB/s", True, times, "conserver")
        yield Target("fanout", f"flood, K={each}", "MB/s", True, 0.6, "relay-256k")
    yield Target("fanout", "*", "lost", False, 0)
    yield Target("fanout", "200 KB/s, K=100", "CPU", False, 1, "conserver")
    yield Target("many", "*", "CPU", False, 1, "conserver")
    yield Target("many", "*", "lost", False, 0)
    yield Target("ingest", "200 consoles, flood", "MB/s", True, 1.2, "conserver")
    yield Target("ingest", "200 consoles, flood", "CPU s/MB", False, 1, "conserver")
    yield Target("ingest", "200 consoles, flood", "CPU s/MB", False, 1.1, than="10 consoles, flood")
    yield Target("ingest", "1000 consoles, flood", "CPU s/MB", False, 1.1, than="10 consoles, flood")
    yield Target("ingest", "*", "lost", False, 0)
    yield Target("small reads", "*", "CPU us/line", False, 1.3, "conman")
    yield Target("small reads", "*", "lost", False, 0)
    for count, size in ((4000, 100), (10_000, 200), (9900, 200)):  # the last where 20,000 descriptors are the limit
        yield Target("idle", f"{count} consoles", "MiB", False, size)
        yield Target("idle", f"{count} consoles", "s", False, 1.3, "conman")
        yield Target("idle", f"{count} consoles", "CPU", False, 0.005)
    yield Target("clients", "5000 idle WebSockets", "KiB/client", False, 12)
    yield Target("clients", "5000 idle TLS WebSockets", "KiB/client", False, 70)
    yield Target("echo", "*", "p50 us", False, 1.2, "conman")
    yield Target("echo", "*", "p99 us", False, 1.5, "conman")
    yield Target("stall", "*", "grown MiB", False, 1)
    yield Target("stall", "*", "others", True, 0.95)
    yield Target("stall", "*", "others later", True, 0.95)
    yield Target("stall", "*", "stalled lost", False, 0)
    yield Target("stall", "*", "others lost", False, 0)
    tail = "10,000 lines of a transcript of {} MiB"
    yield Target("attach", tail.format("1,024"), "p50 ms", False, 20)
    yield Target("attach", tail.format("1,024"), "p50 ms", False, 1.5, than=tail.format("1"))
    yield Target("tls", "*", "lost", False, 0)


TARGETS = tuple(_targets())


def medians(bench: Run) -> Rows:
    """Of all rounds."""
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for note in bench.notes:
        for key, value in note.values.items():
            found.setdefault((note.part, note.case, key), {}).setdefault(note.server, []).append(value)
    return {place: {name: median(values) for name, values in row.items()} for place, row in found.items()}


def verdicts(rows: Rows) -> Iterator[tuple[str, Target, float | None]]:
    """Each case that has a target, the target, and what was reached of it."""
    for part, case, key in rows:
        for target in TARGETS:
            if target.part == part and target.key == key and target.case in (case, "*"):
                yield case, target, target.found(case, rows)


def markdown(bench: Run, spent: float) -> str:
    """Everything, to read."""
    rows = medians(bench)
    machine = describe()
    stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        f"# {stamp}",
        "",
        f"{machine['processors']} x {machine['processor']}, {machine['memory_mib']} MiB, {machine['system']}, "
        f"Linux {machine['kernel']}, Python {machine['python']}.  "
        + ", ".join(f"{name} {version}" for name, version in versions())
        + f".  Rounds: {bench.rounds}, of {bench.seconds:g} s each; {spent:.0f} s in all.",
        *bench.remarks,
        "",
        *_set_out(rows),
        "",
        "## What was found",
        "",
        "Medians of the rounds; in brackets what consoled's figure is of theirs.  An asterisk: the load's processor",
        "was busy too, so that the server could perhaps do more.",
    ]
    for part in dict.fromkeys(place[0] for place in rows):
        lines += ["", f"### {part}", "", *_table(part, rows)]
    troubles = dict.fromkeys((note.part, note.case, note.server, note.trouble) for note in bench.notes if note.trouble)
    if troubles:
        lines += ["", "## What could not be measured", ""]
        lines += [f"- {part}, {case}, {server}: {trouble}" for part, case, server, trouble in troubles]
    return "\n".join(lines) + "\n"


def _set_out(rows: Rows) -> Iterator[str]:
    found = list(verdicts(rows))
    met = [reached is not None and target.met(reached) for _, target, reached in found]
    yield f"## What was set out to be reached: {sum(met)} of {len(met)}"
    yield ""
    yield "| | | wanted | found | |"
    yield "|---|---|---|---:|---|"
    for (case, target, reached), good in zip(found, met, strict=True):
        shown, verdict = ("-", "?") if reached is None else (f"{reached:.3g}", "yes" if good else "**no**")
        yield f"| {target.part}: {case} | {target.key} | {target} | {shown} | {verdict} |"


def _table(part: str, rows: Rows) -> Iterator[str]:
    ours = {place: row for place, row in rows.items() if place[0] == part}
    names = [name for name in SERVERS if any(name in row for row in ours.values())]
    yield f"| case | | {' | '.join(names)} |"
    yield f"|---|---|{'---:|' * len(names)}"
    for (_, case, key), row in ours.items():
        if key not in QUIET or max(row.values()) > QUIET[key]:
            load = rows.get((part, case, "load CPU"), {}) if key == "MB/s" else {}
            cells = (_cell(row, name) + "*" * (load.get(name, 0) > FULL) for name in names)
            yield f"| {case} | {key} | {' | '.join(cells)} |"


def _cell(row: Row, name: str) -> str:
    value = row.get(name)
    if value is None:
        return "-"
    ours = row.get("consoled")
    ratio = f" ({ours / value:.2f})" if name != "consoled" and ours is not None and value else ""
    return f"{value:.4g}{ratio}"


def figures(bench: Run, spent: float) -> dict[str, Any]:
    """Everything, for programs: each round's values too."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "versions": dict(versions()),
        "rounds": bench.rounds,
        "seconds": bench.seconds,
        "spent": round(spent),
        "remarks": bench.remarks,
        "notes": [
            {"part": note.part, "case": note.case, "server": note.server}
            | ({"trouble": note.trouble} if note.trouble else {"values": note.values})
            for note in bench.notes
        ],
    }


def show(bench: Run, spent: float, results: Path | None, plot: Path | None) -> None:
    """Print the table, and write what was asked for."""
    text = markdown(bench, spent)
    print(text)
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
        (results / "last.md").write_text(text)
        (results / "last.json").write_text(json.dumps(figures(bench, spent), indent=1) + "\n")
    if plot is not None:
        from bench.plot import draw

        draw(medians(bench), plot)
