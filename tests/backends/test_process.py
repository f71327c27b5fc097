"""Kind `process`: real children, from launch to burial."""

import os
import pwd
import resource
import signal
import sys
from pathlib import Path

import msgspec
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from consoled.backends import child as child_module
from consoled.backends import launch, process
from consoled.backends.child import Child
from consoled.backends.process import ProcessBackend, ProcessSettings
from tests.fakes import around

LIMIT = 20.0
PYTHON = [sys.executable, "-I", "-S", "-c"]


class Owner:
    """A link that remembers, and holds the line to the rules of the seam."""

    def __init__(self):
        self.data, self.lost_with, self.dialled, self.waits = bytearray(), [], False, []

    def received(self, data):
        assert self.dialled and data and not self.lost_with
        self.data += data
        self._changed()

    def lost(self, why):
        assert self.dialled and not self.lost_with
        self.lost_with.append(why)
        self._changed()

    def until(self, condition):
        waiting = Deferred().addTimeout(LIMIT, reactor)
        self.waits.append((condition, waiting))
        self._changed()
        return waiting

    def said(self, text):
        return self.until(lambda: text in self.data)

    async def end(self):
        await self.until(lambda: self.lost_with)
        return self.lost_with[0]

    def _changed(self):
        for entry in [entry for entry in self.waits if entry[0]()]:
            self.waits.remove(entry)
            entry[1].callback(None)


def settings(*command, **keys):
    return msgspec.convert({"kind": "process", "name": "n1", "command": list(command)} | keys, ProcessSettings)


async def dialled(*command, clock=reactor, **keys):
    owner = Owner()
    line = await ProcessBackend(settings(*command, **keys), reactor, clock).dial(owner)
    owner.dialled = True
    return owner, line


async def output(*command, **keys):
    owner, _ = await dialled(*command, **keys)
    return bytes(owner.data), await owner.end(), owner


async def says(program, **keys):
    """What a Python program prints, until it ends well."""
    owner, _ = await dialled(*PYTHON, program, **keys)
    assert await owner.end() == "exited with status 0", bytes(owner.data)
    return owner.data.decode()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def exists(pid):
    """As a process or as a zombie."""
    return Path(f"/proc/{pid}").exists()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, and after
        return False


def next_turn():
    turn = Deferred()
    reactor.callLater(0.001, turn.callback, None)
    return turn


async def gone(pid):
    """SIGKILL is quick, and still not done when it is sent."""
    limit = reactor.seconds() + LIMIT
    while alive(pid):
        assert reactor.seconds() < limit
        await next_turn()


@pytest.fixture
def children(monkeypatch):
    """Every child made, each with a Deferred `reaped`."""
    made = []

    class Watched(Child):
        def __init__(self, clock):
            super().__init__(clock)
            self.reaped = Deferred()
            made.append(self)

        def processEnded(self, reason):
            self.reaped.callback(None)

    monkeypatch.setattr(process, "Child", Watched)
    yield made
    for child in made:
        child.kill()  # harmless when it is gone


# ------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"command": []}, "command"),
        ({"command": "ipmitool sol activate"}, "command"),
        ({"command": [""]}, "command: the program's name is empty"),
        ({"command": ["a", "b\0"]}, "command: .*NUL"),
        ({"directory": "\0"}, "directory: .*NUL"),
        ({"environment": {"A=B": "c"}}, "environment: 'A=B'"),
        ({"environment": {"": "c"}}, "environment: ''"),
        ({"environment": {"A": "\0"}}, "environment: 'A'"),
        ({"environment": {"A": 1}}, "environment"),
        ({"rows": 0}, "rows"),
        ({"columns": 65536}, "columns"),
        ({"raw": "yes"}, "raw"),
        ({"break_sequence": "\u20ac"}, "break_sequence"),
        ({"comand": ["x"]}, "comand"),
    ],
)
def test_a_wrong_value_is_refused_and_its_key_named(keys, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        settings("cat", **keys)


def test_no_text_of_the_settings_shows_the_environments_values():
    made = settings("cat", environment={"IPMI_PASSWORD": "canary"})
    for text in (repr(made), str(made), f"{made}", repr(made.__rich_repr__()), repr([made])):
        assert "IPMI_PASSWORD" in text and "canary" not in text
    with pytest.raises(msgspec.ValidationError) as caught:
        settings("cat", environment={"IPMI_PASSWORD": "canary\0"})
    assert "canary" not in str(caught.value)


def test_equal_settings_are_equal_and_the_address_is_in_conmans_form():
    assert settings("cat", environment={"A": "b"}) == settings("cat", environment={"A": "b"})
    assert settings("cat", environment={"A": "b"}) != settings("cat", environment={"A": "c"})
    assert settings("/usr/bin/ipmitool", "-E").backend(around(reactor)).address == '"/usr/bin/ipmitool"'


# ------------------------------------------------------------------------------------------------------- bytes


@pytest_twisted.ensureDeferred
async def test_all_256_byte_values_pass_both_ways_and_nothing_is_echoed():
    everything = bytes(range(256)) * 64
    owner, line = await dialled("cat")
    assert line.write(everything)
    await owner.until(lambda: len(owner.data) >= len(everything))
    assert owner.data == everything
    line.close()
    assert await owner.end() == "killed by signal SIGHUP"
    assert owner.data == everything


@pytest_twisted.ensureDeferred
async def test_a_cooked_terminal_echoes_and_knows_control_c():
    owner, line = await dialled("cat", raw=False)
    line.write(b"hello\n")
    await owner.said(b"hello\r\nhello\r\n")
    line.write(b"\x03")
    assert await owner.end() == "killed by signal SIGINT"


@pytest_twisted.ensureDeferred
async def test_the_last_output_of_a_program_comes_before_its_end():
    owner, _ = await dialled(*PYTHON, "import os; os.write(1, b'x' * 200_000); os.write(1, b'last words'); os._exit(3)")
    assert await owner.end() == "exited with status 3"
    assert owner.data == b"x" * 200_000 + b"last words"


@pytest_twisted.ensureDeferred
async def test_a_program_that_does_not_read_fills_a_bounded_queue():
    owner, line = await dialled("sleep", "600")
    taken = 0
    while line.write(b"x" * 4096):
        taken += 4096
        assert taken < 128 * 1024, "no bound"
    line.abort()
    assert await owner.end() == "killed by signal SIGKILL"


@pytest_twisted.ensureDeferred
async def test_break_is_a_sequence_or_refused():
    owner, line = await dialled("cat", break_sequence="\r~B\u00ff")
    assert line.send_break()
    await owner.said(b"\r~B\xff")
    line.abort()
    await owner.end()
    assert not line.send_break()
    owner, line = await dialled("cat")
    assert not line.send_break()
    line.abort()
    await owner.end()


# ------------------------------------------------------------------------------------------------------- launch


@pytest_twisted.ensureDeferred
async def test_what_cannot_run_fails_the_dial_with_path_and_reason(tmp_path):
    def made(name, text, mode):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    missing, plain = str(tmp_path / "missing"), made("plain", "", 0o644)
    orphan, junk = made("orphan", "#!/no/such/shell\n", 0o755), made("junk", "\x01\x02\x03", 0o755)
    for command, keys, text in (
        ([missing], {}, f"{missing}: No such file or directory"),
        (["no-such-program"], {}, "no-such-program: not found on the PATH"),
        (["junk"], {"environment": {"PATH": str(tmp_path)}}, f"{junk}: Exec format error"),
        ([plain], {}, f"{plain}: Permission denied"),
        ([str(tmp_path)], {}, f"{tmp_path}: Permission denied"),
        ([orphan], {}, f"{orphan}: its interpreter does not exist"),
        (["cat"], {"directory": missing}, f"directory {missing}: No such file or directory"),
        (["cat"], {"directory": plain}, f"directory {plain}: Not a directory"),
        (["cat"], {"user": "nobody-here"}, "user 'nobody-here': no such user"),
    ):
        with pytest.raises(ConnectionError) as caught:
            await dialled(*command, **keys)
        assert str(caught.value) == text


@pytest_twisted.ensureDeferred
async def test_the_child_sees_its_terminal_and_nothing_else_of_ours(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/secret")
    monkeypatch.setenv("LANG", "C.UTF-8")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    inherited = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        seen = await says(
            "import os, sys\n"
            "print(sorted(os.environ.items()))\n"
            "print([os.readlink(f'/proc/self/fd/{n}')[:9] for n in os.listdir('/proc/self/fd')[:3]], "
            "len(os.listdir('/proc/self/fd')))\n"
            "print(os.getpid() == os.getsid(0) == os.getpgrp() == os.tcgetpgrp(0), os.get_terminal_size())\n"
            "print(os.ttyname(os.open('/dev/tty', os.O_RDWR)) == os.ttyname(0) or os.ttyname(0), os.getcwd())\n"
            "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n",
            environment={"TERM": "xterm", "BMC": "b1"},
            directory="/usr",
            rows=50,
            columns=132,
        )
        status = await output("cat", "/proc/self/status")
    finally:
        signal.signal(signal.SIGUSR2, inherited)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        os.close(leak)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment, files, session, tty, limit = seen.splitlines()
    assert environment == str(sorted({"BMC": "b1", "TERM": "xterm"}.items() | kept.items()))
    assert files == "['/dev/pts/', '/dev/pts/', '/dev/pts/'] 4"  # the fourth is the listing itself
    assert session == "True os.terminal_size(columns=132, lines=50)"
    assert tty.endswith(" /usr")
    assert int(limit) == min(hard, 1024)
    masks = dict(line.split(":", 1) for line in status[2].data.decode().splitlines())
    for mask in "SigBlk", "SigIgn", "SigCgt":
        # 32 and 33 are the C library's own; its posix_spawn ignores them in every child.
        assert int(masks[mask], 16) & ~(0b11 << 31) == 0, mask


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as another user")
@pytest_twisted.ensureDeferred
async def test_run_as_another_user_for_good():
    entry = pwd.getpwnam("nobody")
    program = "grep -E '^(Uid|Gid|Groups)' /proc/self/status; stat -c %u $(tty); echo $HOME $USER $LOGNAME"
    _, why, owner = await output("sh", "-c", program, user="nobody")
    assert why == "exited with status 0", bytes(owner.data)
    uid, gid = [str(entry.pw_uid)] * 4, [str(entry.pw_gid)] * 4
    assert owner.data.decode().split() == [
        *("Uid:", *uid, "Gid:", *gid, "Groups:", gid[0]),
        *(uid[0], entry.pw_dir, "nobody", "nobody"),
    ]


def test_run_as_another_user_needs_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(launch.Failed, match="user 'nobody': only root can run a program as another user"):
        launch.become("nobody")


@pytest_twisted.ensureDeferred
async def test_failed_dials_cost_no_descriptor_and_leave_no_process(monkeypatch, children):
    await gatherResults([Deferred.fromCoroutine(failing()) for _ in range(5)])
    before = descriptors()
    for _ in range(20):
        await gatherResults([Deferred.fromCoroutine(failing()) for _ in range(5)])
    await gatherResults([each.reaped for each in children]).addTimeout(LIMIT, reactor)
    assert descriptors() == before
    assert not any(exists(each.pid) for each in children)
    monkeypatch.setattr(child_module.sys, "executable", "/no/such/python")
    for _ in range(300):
        await failing('cannot start "/no/such": No such file or directory')
    assert descriptors() == before


async def failing(text="/no/such: No such file or directory"):
    with pytest.raises(ConnectionError, match=text):
        await dialled("/no/such")


@pytest_twisted.ensureDeferred
async def test_no_pty_is_a_failed_dial(monkeypatch):
    def none():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "openpty", none)
    with pytest.raises(ConnectionError, match='no pty for "cat": No space left'):
        await dialled("cat")


@pytest_twisted.ensureDeferred
async def test_cancelling_a_dial_leaves_nothing(children):
    before = descriptors()
    owner = Owner()
    dialling = settings("sleep", "600").backend(around(reactor)).dial(owner)
    dialling.cancel()
    with pytest.raises(CancelledError):
        await dialling
    await children[0].reaped.addTimeout(LIMIT, reactor)
    assert children[0].epitaph == "killed by signal SIGKILL"
    assert descriptors() == before
    assert not owner.lost_with


# ------------------------------------------------------------------------------------------------------- end


@pytest_twisted.ensureDeferred
async def test_every_end_has_its_words():
    for program, why in (
        ("exit 0", "exited with status 0"),
        ("exit 3", "exited with status 3"),
        ("kill -KILL $$", "killed by signal SIGKILL"),
        ("kill -SEGV $$", "killed by signal SIGSEGV"),
        ("kill -40 $$", "killed by signal 40"),
    ):
        owner, line = await dialled("sh", "-c", program)
        assert await owner.end() == why
        assert not line.write(b"x")
        line.abort()  # harmless
    owner, line = await dialled("true")
    assert await owner.end() == "exited with status 0"


@pytest_twisted.ensureDeferred
async def test_close_asks_then_insists_then_kills_the_whole_group():
    clock = Clock()
    program = "trap 'echo hup' HUP; trap 'echo term' TERM; (trap '' HUP TERM; exec sleep 600) & echo pid $!.; "
    owner, line = await dialled("sh", "-c", program + "while :; do wait; done", clock=clock)
    await owner.said(b".\n")
    grandchild = int(owner.data.split()[1].rstrip(b"."))
    line.close()
    assert not line.write(b"too late")
    await owner.said(b"hup")
    assert b"term" not in owner.data
    clock.advance(2)
    await owner.said(b"term")
    assert alive(grandchild) and not owner.lost_with
    clock.advance(2)
    assert await owner.end() == "killed by signal SIGKILL"
    await gone(grandchild)
    assert not clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_what_a_program_leaves_behind_in_its_group_goes_with_it():
    owner, _ = await dialled("sh", "-c", "trap '' HUP TERM; sleep 600 & echo $!; exit 5")
    assert await owner.end() == "exited with status 5"
    await gone(int(owner.data))


@pytest_twisted.ensureDeferred
async def test_a_stopped_program_goes_too():
    owner, line = await dialled(
        "sh", "-c", "trap 'echo bye; exit 4' HUP; echo ready; kill -STOP $$; while :; do sleep 1; done"
    )
    await owner.said(b"ready")
    line.close()
    assert await owner.end() in ("exited with status 4", "killed by signal SIGHUP")


@pytest_twisted.ensureDeferred
async def test_abort_kills_at_once_whatever_it_ignores(children):
    owner, line = await dialled("sh", "-c", "trap '' HUP TERM INT; echo ready; sleep 600")
    await owner.said(b"ready")
    line.close()
    line.abort()
    assert await owner.end() == "killed by signal SIGKILL"
    await children[0].reaped.addTimeout(LIMIT, reactor)
    assert not exists(children[0].pid)


@pytest_twisted.ensureDeferred
async def test_a_program_that_closes_its_terminal_and_lives_on_is_ended():
    clock = Clock()
    program = "trap '' HUP; echo ready; exec <&- >&- 2>&-; sleep 600"
    owner, _ = await dialled("sh", "-c", program, clock=clock)
    await owner.said(b"ready")
    while not clock.getDelayedCalls():  # its terminal is gone when the grace begins
        await next_turn()
    clock.advance(process.GRACE)
    assert not owner.lost_with
    clock.advance(2)
    assert await owner.end() == "the program closed its terminal"
    assert not clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_the_end_of_a_program_does_not_wait_for_a_daemon_that_it_left_behind():
    clock = Clock()
    program = (
        "import os, time\nif os.fork() == 0: os.setsid(); print(os.getpid(), flush=True); time.sleep(600)\ninput()\n"
    )
    owner, line = await dialled(*PYTHON, program, clock=clock)
    await owner.said(b"\n")
    daemon = int(owner.data)
    try:
        line.write(b"\n")
        while not clock.getDelayedCalls():
            await next_turn()
        assert not owner.lost_with
        clock.advance(process.LAST_WORDS)
        clock.advance(0)
        assert await owner.end() == "exited with status 0"
        assert alive(daemon)
    finally:
        os.kill(daemon, signal.SIGKILL)


# -------------------------------------------------------------------------------------------------- the child alone


class Group:
    """Stands for the kernel: a process group that may not be there yet, or not be ours to signal."""

    def __init__(self, monkeypatch, refuses=None):
        self.sent, self.refuses = [], refuses
        monkeypatch.setattr(os, "killpg", self.killpg)
        monkeypatch.setattr(os, "kill", lambda pid, number: self.sent.append(("kill", pid, number)))

    def killpg(self, pid, number):
        if self.refuses:
            raise self.refuses
        self.sent.append(("killpg", pid, number))


def test_a_child_without_a_number_signals_nobody(monkeypatch):
    group = Group(monkeypatch)
    Child(Clock()).kill()
    assert group.sent == []


def test_before_it_leads_a_group_the_child_alone_is_signalled(monkeypatch):
    group = Group(monkeypatch, ProcessLookupError())
    child = Child(Clock())
    child.pid = 7
    child.kill()
    assert group.sent[0] == ("kill", 7, signal.SIGKILL)


def test_a_child_with_more_rights_than_ours_is_no_crash(monkeypatch):
    Group(monkeypatch, PermissionError())
    child = Child(Clock())
    child.pid = 7
    child.hang_up()


def test_once_reaped_its_number_is_never_used_again(monkeypatch):
    group = Group(monkeypatch)
    clock = Clock()
    child = Child(clock)
    child.pid = 7
    child.hang_up()
    child.hang_up()
    child.processExited(Failure(ProcessTerminated(signal=1, status=1)))
    child.kill()
    clock.advance(10)
    assert [number for _, _, number in group.sent] == [signal.SIGHUP, signal.SIGCONT, signal.SIGKILL]


def test_an_unkillable_child_does_not_keep_the_line(monkeypatch):
    Group(monkeypatch)
    clock = Clock()
    child = Child(clock)
    child.pid = 7
    owner = Owner()
    owner.dialled = True
    line = process.ProcessLine(owner, child, b"", clock)

    class Transport:
        def registerProducer(self, producer, streaming): ...
        def abortConnection(self):
            clock.callLater(0, line.connectionLost)

    line.makeConnection(Transport())
    line.abort()
    clock.advance(0)
    assert not owner.lost_with
    clock.advance(process.UNKILLABLE)
    assert owner.lost_with == ["process 7 does not die"]
    child.processExited(Failure(ProcessTerminated(signal=9, status=9)))
    assert len(owner.lost_with) == 1
