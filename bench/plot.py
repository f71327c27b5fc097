"""The table's main figures as bars: one SVG for the docs.  Needs matplotlib (the extra `bench`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

COLOURS = {
    "consoled": "#1b6ca8",
    "conserver": "#e08e45",
    "conman": "#7a9e5f",
    "relay-256k": "#b9b9b9",
    "relay-256k+log": "#989898",
    "relay-8k": "#dedede",
}
Rows = Mapping[tuple[str, str, str], Mapping[str, float]]


def draw(rows: Rows, path: Path) -> None:
    """Four panels; what was not measured is left out."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "consoled", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    panels: list[tuple[str, str, str, bool, Mapping[str, tuple[str, str, str]]]] = [
        (
            "One console, K watchers, as fast as it goes",
            "MB/s delivered",
            "more is better",
            True,
            {f"K={each}": ("fanout", f"flood, K={each}", "MB/s") for each in (1, 10, 100, 1000)},
        ),
        (
            "Small reads: 62,500 lines/s, nobody watches",
            "CPU \N{MICRO SIGN}s a line",
            "less is better",
            False,
            {
                f"{count},\n{how}": ("small reads", f"{count} consoles, 62,500 lines/s, {how}", "CPU us/line")
                for count in (200, 1000)
                for how in ("apart", "every 10 ms")
            },
        ),
        (
            "Idle consoles",
            "MiB in all",
            "less is better",
            True,
            {case.split()[0]: ("idle", case, "MiB") for part, case, key in rows if (part, key) == ("idle", "MiB")},
        ),
        (
            "A key's echo",
            "\N{MICRO SIGN}s",
            "less is better",
            True,
            {
                f"{case.partition(' busy')[0]}{' busy' if 'busy' in case else ''},\n{key[:3]}": ("echo", case, key)
                for case in ("idle", "50 busy consoles", "500 busy consoles")
                for key in ("p50 us", "p99 us")
            },
        ),
    ]
    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7))
    for axis, (title, unit, sense, log, cases) in zip(axes.flat, panels, strict=True):
        _bars(axis, {label: rows[place] for label, place in cases.items() if place in rows}, tuple(COLOURS))
        axis.set_title(f"{title} ({sense})", fontsize=9)
        axis.set_ylabel(unit)
        if log:
            axis.set_yscale("log")
            axis.minorticks_off()
            axis.yaxis.set_major_formatter("{x:g}")
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    figure.legend(handles, COLOURS, loc="lower center", ncols=len(COLOURS), frameon=False)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(path, metadata={"Date": None})


def _bars(axis, groups: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    """A group of bars for each label, in it one for each server that has a figure."""
    for place, row in enumerate(groups.values()):
        there = [name for name in names if name in row]
        width = 0.8 / max(1, len(there))
        for index, name in enumerate(there):
            at = place + (index - (len(there) - 1) / 2) * width
            bar = axis.bar(at, row[name], width * 0.92, color=COLOURS[name])
            axis.bar_label(bar, fmt="%.3g", fontsize=6)
    axis.set_xticks(range(len(groups)), groups, fontsize=8)
