"""The chronicle: lines while they are few, a sum when they are many."""

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText

from consoled.backends.chronicle import BEFORE_SUMMARY, LONGEST, WINDOW, Chronicle


def said(logs) -> list[str]:
    return [eventAsText(event, includeTimestamp=False, includeSystem=False) for event in logs]


def test_a_few_changes_are_a_line_each():
    chronicle = Chronicle(Clock())
    with capturedLogs() as logs:
        chronicle.happened("x1", "lost", "lost <bmc1:2001>: {reset}")
        chronicle.happened("x1", "connected", "connected to <bmc1:2001>", bad=False)
    assert said(logs) == ["console x1: lost <bmc1:2001>: {reset}", "console x1: connected to <bmc1:2001>"]
    assert [event["log_level"].name for event in logs] == ["warn", "info"]


def test_many_at_once_are_summed_up():
    clock = Clock()
    chronicle = Chronicle(clock)
    with capturedLogs() as logs:
        for number in range(BEFORE_SUMMARY + 300):
            chronicle.happened(f"x{number}", "lost", "lost it")
        chronicle.happened("y", "connected", "connected to it", bad=False)
        assert len(logs) == BEFORE_SUMMARY
        clock.advance(WINDOW)
        assert said(logs[BEFORE_SUMMARY:]) == ["and more consoles in the same 1 s: 300 lost, 1 connected"]
        chronicle.happened("z", "lost", "lost it")
        clock.advance(2 * WINDOW)
    assert said(logs[BEFORE_SUMMARY + 1 :]) == ["console z: lost it"]
    assert not clock.getDelayedCalls()


def test_a_flood_gets_longer_and_longer_windows_until_a_calm_one():
    clock = Clock()
    chronicle = Chronicle(clock)
    with capturedLogs() as logs:
        for _ in range(1000):  # seconds
            for number in range(30):
                chronicle.happened(f"x{number}", "lost", "lost it")
            clock.advance(1)
        windows = [1, 2, 4, 8, 16, 32, *[64] * 14]  # which are over by then: the last one has begun
        assert len(logs) == len(windows) * (BEFORE_SUMMARY + 1) + BEFORE_SUMMARY
        sums = [line for line in said(logs) if line.startswith("and more")]
        assert sums[1] == f"and more consoles in the same 2 s: {60 - BEFORE_SUMMARY} lost"
        assert sums[-1] == f"and more consoles in the same {LONGEST:.0f} s: {64 * 30 - BEFORE_SUMMARY} lost"
        clock.pump([LONGEST, LONGEST])
        assert not clock.getDelayedCalls()
        before = len(logs)
        for _ in range(BEFORE_SUMMARY + 1):
            chronicle.happened("y", "lost", "lost it")
        clock.advance(WINDOW)
        assert said(logs)[-1] == "and more consoles in the same 1 s: 1 lost"
        assert len(logs) == before + BEFORE_SUMMARY + 1
    chronicle.close()


def test_what_is_counted_is_said_at_the_end():
    clock = Clock()
    chronicle = Chronicle(clock)
    with capturedLogs() as logs:
        for number in range(BEFORE_SUMMARY + 1):
            chronicle.happened(f"x{number}", "lost", "lost it")
        chronicle.close()
        chronicle.close()
    assert said(logs)[-1] == "and more consoles in the same 1 s: 1 lost"
    assert not clock.getDelayedCalls()
