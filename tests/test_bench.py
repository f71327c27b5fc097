"""The benchmark's judgement: what it takes for lost, what a server has used, and what it says was reached."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.machine import Tools
from bench.meters import processor
from bench.report import Target, markdown, medians, verdicts
from bench.run import Note

LINE = 64


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("needs a C compiler")
    return Tools(tmp_path_factory.mktemp("tools"))


def line(number: int) -> bytes:
    return b"%08d the quick brown fox jumps over the lazy dog 0123456%02d\r\n" % (number, number % 100)


def stream(first: int, last: int) -> bytes:
    return b"".join(map(line, range(first, last)))


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        ([stream(0, 500)], {"good": 500 * LINE}),
        ([stream(7, 500)], {"good": 493 * LINE}),
        ([stream(0, 100), stream(100, 500)], {"good": 500 * LINE}),
        ([stream(0, 500)[:1000], stream(0, 500)[1000:]], {"good": 500 * LINE}),
        ([stream(65_500, 65_536) + stream(0, 10)], {"good": 46 * LINE}),
        ([stream(0, 100), stream(101, 500)], {"good": 499 * LINE, "lost": LINE}),
        ([stream(0, 100), stream(98, 500)], {"good": 502 * LINE, "again": 2 * LINE}),
        ([stream(0, 100), b"-- logged out --\r\n", stream(100, 500)], {"good": 500 * LINE, "foreign": 18}),
        ([stream(0, 100)[:-20], stream(100, 500)], {"good": 500 * LINE - 20, "lost": 20}),
    ],
)
def test_the_check_of_the_files(tools: Tools, tmp_path: Path, pieces: list[bytes], found: dict[str, int]) -> None:
    paths = []
    for number, piece in enumerate(pieces):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(piece)
    assert tools.verify([paths]) == {"good": 0, "lost": 0, "again": 0, "foreign": 0} | found


def test_the_processor_time_is_that_of_ended_threads_and_children_too() -> None:
    code = """
import subprocess, sys, threading, time
def burn():
    while time.thread_time() < 0.05: pass
thread = threading.Thread(target=burn)
thread.start()
thread.join()
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.1: pass"])
print(time.process_time(), flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        own = float(child.stdout.readline())
        used = processor(child.pid)
        assert used >= own + 0.08  # of ended children, hundredths are counted
        assert child.stdin is not None
        child.stdin.close()


# ------------------------------------------------------------------------------------------- the table


def bench(*notes: Note) -> Any:
    return SimpleNamespace(notes=list(notes), rounds=3, seconds=1.0, remarks=["Only so many descriptors."])


def test_medians_are_of_all_rounds() -> None:
    notes = [Note("p", "c", "consoled", {"MB/s": value}) for value in (1.0, 9.0, 5.0)]
    assert medians(bench(*notes)) == {("p", "c", "MB/s"): {"consoled": 5.0}}


@pytest.mark.parametrize(
    ("target", "reached", "met"),
    [
        (Target("p", "c", "k", True, 2, "peer"), 2.5, True),
        (Target("p", "c", "k", False, 2, "peer"), 2.5, False),
        (Target("p", "c", "k", False, 10), 10.0, True),
        (Target("p", "c", "k", False, 1.1, than="d"), 1.25, False),
        (Target("p", "c", "k", True, 2, "nobody"), None, None),
    ],
)
def test_a_target(target: Target, reached: float | None, met: bool | None) -> None:
    rows = {("p", "c", "k"): {"consoled": 10.0, "peer": 4.0}, ("p", "d", "k"): {"consoled": 8.0}}
    found = target.found("c", rows)
    assert found == reached
    assert met is None or (found is not None and target.met(found) == met)


def test_the_paper_says_what_was_reached_what_not_and_why() -> None:
    slow = Note("fanout", "flood, K=10", "consoled", {"MB/s": 30.0, "lost": 0.0, "load CPU": 0.99})
    peer = Note("fanout", "flood, K=10", "conserver", {"MB/s": 20.0, "load CPU": 0.5})
    failed = Note("fanout", "flood, K=10", "conman", trouble="it is missing")
    run = bench(slow, peer, failed)
    assert [found for _, _, found in verdicts(medians(run))] == [1.5, None, 0.0]
    text = markdown(run, 60.0)
    assert "reached: 1 of 3" in text
    assert "| fanout: flood, K=10 | MB/s | at least 2 x conserver | 1.5 | **no** |" in text
    assert "| flood, K=10 | MB/s | 30* | 20 (1.50) |" in text
    assert "- fanout, flood, K=10, conman: it is missing" in text
    assert "Only so many descriptors." in text
