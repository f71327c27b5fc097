"""What was found, as a table of medians and ratios, as JSON, and judged by what was set out to be reached."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import describe
from bench.run import Run
from bench.servers import versions

SERVERS = ("consoled", "conman", "conserver", "relay-256k", "relay-8k", "dd", "ssh")
HIDDEN = ("load CPU", "late s", "repeated", "missing")
"""In the JSON only, unless something is wrong with them."""

Row = dict[str, float]
"""The median of each server."""


@dataclass(frozen=True)
class Target:
    """`key` of the rows whose part and case begin so: at least, or at most, `value`; times `peer`'s if there is one."""

    part: str
    case: str
    key: str
    least: bool
    value: float
    peer: str = ""

    def __str__(self) -> str:
        unit = f" x {self.peer}" if self.peer else ""
        return f"{'at least' if self.least else 'at most'} {self.value:g}{unit}"

    def found(self, row: Row) -> float | None:
        """What to compare with `value`."""
        ours, theirs = row.get("consoled"), row.get(self.peer)
        if ours is None or not self.peer:
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
    yield Target("ingest", "*", "MB/s", True, 1.2, "conserver")
    yield Target("ingest", "*", "CPU s/MB", False, 1, "conserver")
    yield Target("ingest", "*", "lost", False, 0)
    yield Target("small reads", "*", "CPU us/line", False, 1.3, "conman")
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
    yield Target("attach", "10000 lines of a transcript of 1024 MiB", "p50 ms", False, 20)


TARGETS = tuple(_targets())


def medians(bench: Run) -> dict[tuple[str, str, str], Row]:
    """Of all rounds, by part, case and key."""
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for note in bench.notes:
        for key, value in note.values.items():
            found.setdefault((note.part, note.case, key), {}).setdefault(note.server, []).append(value)
    return {place: {name: median(values) for name, values in row.items()} for place, row in found.items()}


def verdicts(rows: Mapping[tuple[str, str, str], Row]) -> Iterator[tuple[str, str, str, Target, float | None]]:
    """Each row that has a target, the target, and what was reached of it."""
    for (part, case, key), row in rows.items():
        for target in TARGETS:
            if target.part == part and target.key == key and target.case in (case, "*"):
                yield part, case, key, target, target.found(row)


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
        "",
        "Medians; in brackets what consoled's figure is of theirs.",
    ]
    for part in dict.fromkeys(place[0] for place in rows):
        names = [name for name in SERVERS if any(name in row for place, row in rows.items() if place[0] == part)]
        lines += ["", f"## {part}", "", f"| case | | {' | '.join(names)} |", f"|---|---|{'---:|' * len(names)}"]
        for (where, case, key), row in rows.items():
            if where == part and (key not in HIDDEN or (key in ("repeated", "missing") and any(row.values()))):
                lines.append(f"| {case} | {key} | {' | '.join(_cell(row, name) for name in names)} |")
    lines += ["", "## What was set out to be reached", "", "| | | wanted | found | |", "|---|---|---|---:|---|"]
    for part, case, key, target, found in verdicts(rows):
        shown = "-" if found is None else f"{found:.3g}"
        verdict = "?" if found is None else "yes" if target.met(found) else "**no**"
        lines.append(f"| {part}: {case} | {key} | {target} | {shown} | {verdict} |")
    troubles = dict.fromkeys((note.part, note.case, note.server, note.trouble) for note in bench.notes if note.trouble)
    if troubles:
        lines += ["", "## What could not be measured", ""]
        lines += [f"- {part}, {case}, {server}: {trouble}" for part, case, server, trouble in troubles]
    return "\n".join(lines) + "\n"


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
