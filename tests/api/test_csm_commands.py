"""What each of ConMan's escapes does and says, alone and between several clients."""

from __future__ import annotations

import pytest

from consoled.auth.gate import Gate
from consoled.auth.roles import ROLES, Role
from consoled.auth.tenants import TenantTable
from consoled.auth.tokens import TokensFile
from consoled.core.faults import LinkDown, NoBreak
from consoled.core.status import Closing, Dialing, Off, Up, Waiting
from tests.api.wire import Client
from tests.api.world import World
from tests.fakes import EPOCH


def says(*texts: str) -> str:
    """What the daemon says to one client."""
    return "".join(f"\r\n<ConMan> {text}.\r\n" for text in texts)


def note(text: str) -> str:
    """What it says in the stream, at the start of a line."""
    return f"<ConMan> Console [x1] {text} at 2026-11-21 23:45:01 UTC.\r\n"


def obey(client: Client, message: str | bytes) -> str:
    client.send(message)
    return client.news()


HARMLESS = ["&?", "&B", "&E", "&I", "&J", "&L", "&M", "&Q", "&R", "&W", "&Z", "&F", "&I&L", "&M&J"]


@pytest.mark.parametrize("end", ["", "\n", "\r", "\r\n"])
@pytest.mark.parametrize("command", HARMLESS)
def test_a_line_of_commands_sends_no_stray_line_feed(world: World, command: str, end: str) -> None:
    assert obey(world.joined(), command + end) != ""
    assert world.x1.heard == b""


@pytest.mark.parametrize(
    ("message", "keys"),
    [
        ("ls&I", b"ls\n"),
        ("&Ils", b"ls\n"),
        ("a&Ib&Ic", b"abc\n"),
        ("&I\n\n", b"\n\n"),
        ("&I&", b"&\n"),
        (b"&I\n", b"\n"),
        ("&D", b"\x7f"),
    ],
)
def test_a_line_with_more_than_commands_keeps_its_end(world: World, message: str | bytes, keys: bytes) -> None:
    obey(world.joined(), message)
    assert world.x1.heard == keys


def test_help(world: World) -> None:
    lines = obey(world.joined(), "&?").split("\r\n")
    assert lines[:4] == [
        "",
        "Supported ConMan Escape Sequences:",
        "  &? -  Display this help message.",
        "  &. -  Terminate the connection.",
    ]
    assert len(lines) == 2 + 15 + 1


def test_break(world: World) -> None:
    first, second = world.joined(), world.joined(user="olga")
    first.news()
    line = note("break sent by <oscar@192.0.2.7>")
    assert obey(first, "&B") == line
    assert second.news() == line
    assert world.x1.link.asked == ["open", "break"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (NoBreak("x1"), "Console [x1] cannot send a break"),
        (LinkDown("x1"), "Console [x1] is currently disconnected; the input was discarded"),
    ],
)
def test_break_refused(world: World, fault: Exception, words: str) -> None:
    client = world.joined()
    world.x1.link.refusal = fault
    assert obey(client, "&B") == says(words)
    assert obey(client, "&B") == says(words)


def test_delete(world: World) -> None:
    obey(world.joined(), b"ab&D")
    assert world.x1.heard == b"ab\x7f"


def test_echo(world: World) -> None:
    client = world.joined()
    assert obey(client, "quiet") == ""
    assert obey(client, "&E") == says("Echoing of your input enabled")
    assert obey(client, "uname") == "uname\n"
    assert obey(client, "é\xff".encode("latin-1")) == "\ufffd\ufffd"
    world.x1.link.refusal = LinkDown("x1")
    assert "gone" not in obey(client, "gone")
    assert obey(client, "&E") == says("Echoing of your input disabled")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Up(EPOCH), "up since 2026-11-21 23:45:01 UTC"),
        (Dialing(EPOCH), "dialing since 2026-11-21 23:45:01 UTC"),
        (Closing(EPOCH), "closing since 2026-11-21 23:45:01 UTC"),
        (Waiting(EPOCH + 4, "refused"), "down (refused), next attempt at 2026-11-21 23:45:05 UTC"),
        (Off(), "off"),
    ],
)
def test_info(world: World, status: Up | Dialing | Closing | Waiting | Off, words: str) -> None:
    client = world.joined()
    world.x1.link.status = status
    size = world.x1.console.head
    assert obey(client, "&I") == says(
        f"Connected R/W to console [x1] on <bmc-x1:2001>: {words}; last output: nothing yet; log: {size} bytes"
    )
    world.x1.says(b"x")
    obey(client, "&M")
    assert "Connected R/O" in obey(client, "&I")
    assert "last output: 2026-11-21 23:45:01 UTC; " in obey(client, "&I")


# ----------------------------------------------------------------------------------------------------- replay


def replay(text: str) -> str:
    return says("Begin log replay of console [x1]") + text + says("End log replay of console [x1]")


@pytest.mark.parametrize("ring", [50, 3000, 100_000])
def test_replay_is_the_newest_4096_bytes_from_wherever_they_are(empty: World, ring: int) -> None:
    world = empty.begin(kept=b"0123456789" * 300, noted=False, console={"ring": ring})
    client = world.joined()
    assert obey(client, "&L") == replay("0123456789" * 300)
    world.x1.says(b"abcdefghij" * 200)
    client.news()
    assert obey(client, "&L") == replay(("0123456789" * 300 + "abcdefghij" * 200)[-4096:])


def test_replay_of_an_empty_log(empty: World) -> None:
    assert obey(empty.begin(noted=False).joined(), "&L") == replay("")


def test_replay_over_segments_and_holes(empty: World) -> None:
    world = empty.begin(kept=b"a" * 1000 + b"b" * 500 + b"c" * 500, noted=False)
    world.x1.transcript.holes = set(range(1000, 1500))
    assert obey(world.joined(), "&L") == replay("a" * 1000 + "c" * 500)


def test_replay_begins_in_the_middle_of_a_character(empty: World) -> None:
    world = empty.begin(noted=False)
    world.x1.says("€".encode() * 1366)
    assert obey(world.joined(), "&L") == replay("\ufffd" + "€" * 1365)


def test_replay_while_the_disk_is_slow_or_failing(empty: World) -> None:
    world = empty.begin(kept=b"old ", noted=False)
    client = world.joined()
    world.x1.transcript.late = True
    assert obey(client, "&L") == ""
    world.x1.says(b"new")
    world.x1.transcript.answer()
    assert client.news() == "new" + replay("old ")
    assert obey(client, "&L") == ""
    world.x1.transcript.failing = True
    world.x1.transcript.answer()
    assert client.news() == says("The log of console [x1] cannot be read now")


def test_replay_for_a_client_that_has_left(empty: World) -> None:
    world = empty.begin(kept=b"old", noted=False)
    client = world.joined()
    world.x1.transcript.late = True
    client.send("&L", "&.")
    world.x1.transcript.answer()
    assert "replay" not in client.news()


# ------------------------------------------------------------------------------------------------- quiet, suspend


def test_quiet_mode_leaves_out_the_daemons_lines_and_notes(world: World) -> None:
    client = world.joined()
    assert obey(client, "&Q") == says("Quiet-mode enabled -- info msgs will be suppressed")
    world.x1.says(b"before\r\n")
    world.x1.console.note("rebooted")
    other = world.joined(user="olga")
    world.x1.says(b"after\r\n")
    assert client.news() == "before\r\nafter\r\n"
    other.close()
    assert obey(client, "&Q") == says("Quiet-mode disabled -- info msgs will be displayed")
    world.x1.console.note("rebooted")
    assert client.news() == note("rebooted")


@pytest.mark.parametrize("quiet", [False, True])
def test_suspend_and_resume_lose_nothing(world: World, quiet: bool) -> None:
    client, other = world.joined(), world.joined(user="olga")
    if quiet:
        obey(client, "&Q")
    client.news()
    world.x1.says(b"one ")
    assert obey(client, "&Z") == "one " + says("Connection to console [x1] suspended -- type anything to resume")
    for number in range(1000):
        world.x1.says(b"%d " % number * 100)
    assert client.news() == ""
    assert other.news() != ""
    client.socket.stop_reading()
    for _ in range(600):
        client.ping(b"x" * 125)
    client.socket.start_reading()  # that its transport was full and has room again does not resume it
    assert client.news() == ""
    everything = "".join(f"{number} " * 100 for number in range(1000))
    assert obey(client, "") == says("Connection to console [x1] resumed") + everything
    world.x1.says(b"live")
    assert client.news() == "live"
    assert world.x1.heard == b""


@pytest.mark.parametrize(
    ("message", "keys"), [("", b""), ("\n", b""), (b"\r", b""), ("ls", b"ls\n"), (b"q", b"q"), ("&I", b"")]
)
def test_what_resumes_is_typed_unless_it_is_a_bare_enter(world: World, message: str | bytes, keys: bytes) -> None:
    client = world.joined()
    obey(client, "&Z")
    assert "resumed" in obey(client, message)
    assert world.x1.heard == keys


def test_a_suspended_client_may_leave(world: World) -> None:
    client = world.joined()
    client.send("&Z", "&.")
    assert client.news().endswith(says("Connection to console [x1] closed"))
    assert client.close_code == 1000


# ---------------------------------------------------------------------------------------------------- the keyboard


def test_take_watch_and_join_between_three(world: World) -> None:
    oscar, olga, ada = world.joined(), world.joined(user="olga"), world.joined(user="ada")
    for client in (oscar, olga, ada):
        client.news()
    stolen = "Console [x1] stolen by <olga@192.0.2.7> at 11-21 23:45; you may only watch"
    assert obey(olga, "&F") == says(
        "Console [x1] stolen from <oscar@192.0.2.7>", "Console [x1] stolen from <ada@192.0.2.7>"
    )
    assert (oscar.news(), ada.news()) == (says(stolen), says(stolen))
    assert obey(oscar, "a") == says("This session may only watch")
    assert obey(oscar, "b") == ""
    assert obey(oscar, "&B") == says("This session may only watch")
    assert obey(oscar, "&J") == says("The keyboard is held by olga@192.0.2.7")
    olga.send("mine")
    assert world.x1.heard == b"mine\n"
    late = world.interact(user="bob")
    assert late.text().endswith(says("Console [x1] is held by <olga@192.0.2.7>; you may only watch"))
    for client in (oscar, olga, ada):
        client.news()

    released = says("Console [x1] released by <olga@192.0.2.7> at 11-21 23:45")
    assert obey(olga, "&J") == says("Connected R/W to console [x1]")
    assert [client.news() for client in (oscar, ada, late)] == [released] * 3
    obey(oscar, "still only watching")
    assert world.x1.heard == b"mine\n"
    assert obey(oscar, "&J") == says("Connected R/W to console [x1]")
    oscar.send("back")
    assert world.x1.heard == b"mine\nback\n"


@pytest.mark.parametrize("how", ["&.", "&M", "vanish"])
def test_the_holder_goes_and_nobody_is_promoted(world: World, how: str) -> None:
    holder, other = world.joined(), world.joined(user="olga")
    obey(holder, "&F")
    other.news()
    if how == "vanish":
        holder.socket.hang_up()
    else:
        holder.send(how)
    assert says("Console [x1] released by <oscar@192.0.2.7> at 11-21 23:45") in other.news()
    assert obey(other, "x") == says("This session may only watch")
    assert world.x1.heard == b""


def test_the_keyboard_is_free_as_soon_as_its_holder_says_goodbye(world: World) -> None:
    holder, other = world.joined(), world.joined(user="olga")
    obey(holder, "&F")
    holder.socket.stop_reading()  # so it never answers the close frame
    holder.send("&.")
    other.news()
    assert obey(other, "&J") == says("Connected R/W to console [x1]")


def test_taking_it_from_the_holder(world: World) -> None:
    first, second = world.joined(), world.joined(user="olga")
    obey(first, "&F")
    first.news()
    assert "stolen from <oscar" in obey(second, "&F")
    assert "stolen by <olga" in first.news()
    assert obey(first, "x") == says("This session may only watch")


def test_taking_it_when_alone(world: World) -> None:
    assert obey(world.joined(), "&F") == says("Console [x1] is yours alone")


def test_a_watcher_types_nothing(world: World) -> None:
    client = world.joined()
    assert obey(client, "&M") == says("Connected R/O to console [x1]")
    assert obey(client, "rm -rf /") == says("This session may only watch")
    assert obey(client, "&D") == says("This session may only watch")
    assert obey(client, "&R") == says("This session may only watch")
    world.x1.says(b"output")
    assert client.news() == "output"
    assert world.x1.heard == b""


@pytest.mark.parametrize("binary", [False, True])
def test_a_message_of_nothing_but_commands_is_obeyed_in_part(world: World, binary: bool) -> None:
    client, other = world.joined(), world.joined(user="olga")
    client.news()
    other.news()
    message = "&F&J" * 10_000 + "x"
    news = obey(client, message.encode() if binary else message)
    assert news.endswith(says("More than 16 escapes in one message; what followed was discarded"))
    assert other.news().count("stolen by") == 8
    assert world.x1.heard == b""
    assert obey(client, "y") == ""
    assert world.x1.heard == b"y\n"


def test_who_is_here(world: World) -> None:
    me, other = world.joined(), world.joined(user="olga")
    slow = world.tail(follow=True, lines=0)
    obey(other, "&F")
    slow.socket.stop_reading()
    for _ in range(3):
        world.x1.says(b"x" * 65536)
    world.clock.advance(61)
    me.news()
    behind = world.x1.console.head - world.x1.clients[2].cursor
    since = "by csm since 2026-11-21 23:45:01 UTC"
    assert behind > 0
    assert obey(me, "&W") == (
        "\r\n<ConMan> Console [x1] has 3 clients:\r\n"
        f"  R/O <oscar@192.0.2.7> {since} (you)\r\n"
        f"  R/W <olga@192.0.2.7> {since}, holds the keyboard\r\n"
        f"  R/O <vera@192.0.2.7> {since}, {behind} bytes behind\r\n"
    )


# ------------------------------------------------------------------------------------------------------- reset


def test_reset(world: World) -> None:
    me, other = world.joined(), world.joined(user="olga")
    me.news()
    line = note("reset by <oscar@192.0.2.7>")
    assert (obey(me, "&R"), other.news()) == (line, line)
    assert obey(other, "&R") == says("Console [x1] cannot be reset: its reset_command is still running")
    world.x1.resets[0].callback("ended with exit status 3")
    assert me.news() == says("The reset command of console [x1] ended with exit status 3")
    assert obey(other, "&R") == note("reset by <olga@192.0.2.7>")
    world.x1.resets[1].errback(OSError("no such file"))
    assert "no such file" in other.news()


def test_reset_by_somebody_who_leaves(world: World) -> None:
    me = world.joined()
    me.send("&R", "&.")
    world.x1.resets[0].callback("succeeded")
    assert "succeeded" not in me.news()


def test_no_reset_command(empty: World) -> None:
    client = empty.begin(console={"reset": None}).joined()
    assert obey(client, "&R") == says("Console [x1] cannot be reset: no reset_command is configured")


def test_a_verb_that_the_role_has_not(empty: World) -> None:
    roles = {**ROLES, "operator": Role(ROLES["operator"].verbs - {"take", "break", "reset"})}
    tokens = TokensFile(empty.directory / "tokens.toml", roles, empty.clock)
    world = empty.begin(gate=Gate([tokens], roles, TenantTable({}), empty.audit, empty.now))
    client = world.joined()
    assert obey(client, "&F") == says("User does not have permission to take")
    assert obey(client, "&B") == says("User does not have permission to break")
    assert obey(client, "&R") == says("User does not have permission to reset")
    assert not world.x1.resets
    assert world.x1.link.asked == ["open"]
    assert [record["verb"] for record in world.audited("refused")] == ["take", "break", "reset"]
