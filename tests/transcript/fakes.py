"""Disks that die or fail, threads that run when told, and a console's files with everything round them."""

import os
from collections import deque

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from consoled.transcript.archive import Archive
from consoled.transcript.directory import Directory
from consoled.transcript.disk import Disk
from consoled.transcript.reading import Reader, Unpacker
from consoled.transcript.segments import Files
from consoled.transcript.settings import TranscriptSettings

CALLS = [name for name in vars(Disk) if not name.startswith("_")]


class Died(BaseException):
    """The process is no more."""


class FakeDisk(Disk):
    """The real disk, in whose calls something may go wrong.

    `die_at(k)`: the process dies before the k-th call from now (a write comes half through).
    `faults`: what to raise in which call, or a function of the call's arguments that may raise it.
    """

    def __init__(self):
        self.faults = {}
        self.calls = 0
        self.dead = False
        self.deadline = None
        self.most_per_write = None
        self.fds = set()

    def die_at(self, k):
        self.deadline = None if k is None else self.calls + k

    def die(self):
        self.dead = True
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()

    def call(self, name, args):
        if self.dead:
            raise Died
        self.calls += 1
        if self.calls == self.deadline:
            if name == "write":
                os.write(args[0], args[1][: len(args[1]) // 2])
            self.die()
            raise Died
        if fault := self.faults.get(name):
            if callable(fault):
                fault(*args)
            else:
                raise fault
        if name == "write" and self.most_per_write:
            args = (args[0], args[1][: self.most_per_write])
        result = getattr(super(), name)(*args)
        if name == "open":
            self.fds.add(result)
        elif name == "close":
            self.fds.discard(args[0])
        return result


for _name in CALLS:
    setattr(FakeDisk, _name, lambda self, *args, _name=_name: self.call(_name, args))


class Life:
    """One process's view of one console's files."""

    def __init__(self, path, name="x1", max_size=64, max_age=0, wall=lambda: 1000.0):
        self.disk = FakeDisk()
        self.directory = Directory(self.disk, str(path))
        self.files = Files(self.directory, name, max_size, max_age, wall)
        self.reader = Reader(self.disk, Unpacker(lambda: 0.0))

    def open(self):
        self.files.open()
        return self

    def end(self):
        """Exit in good order."""
        self.files.close(self.files.head)
        self.directory.close()

    def pieces(self, end=None):
        """Everything that can be read: `{offset: bytes}`, neighbours joined."""
        end, at, found = self.files.head if end is None else end, 0, []
        while True:
            at, data = self.reader.read(self.files, at, 7, end)
            if not data:
                assert at == end
                return [tuple(piece) for piece in found]
            if found and found[-1][0] + len(found[-1][1]) == at:
                found[-1][1] += data
            else:
                found.append([at, data])
            at += len(data)


class Inline:
    """A worker without a thread.  While `held`, jobs wait for `release`, and nobody waits for them."""

    def __init__(self):
        self.held = False
        self.jobs = deque()
        self.patience = []
        self.stopped = False

    def run(self, job, patience, late):
        self.patience.append(patience)
        if self.held:
            self.jobs.append((job, late))
            return False
        job()
        return True

    def release(self):
        """The disk answers: do what is waiting."""
        self.held = False
        while self.jobs and not self.held:
            job, late = self.jobs.popleft()
            job()
            late()

    def one(self):
        """Do one job, and go on holding."""
        job, late = self.jobs.popleft()
        job()
        late()

    def stop(self):
        self.stopped = True


class Wall:
    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


class Daemon:
    """An archive on a `Clock`, with everything inline."""

    def __init__(self, path, **settings):
        self.clock = Clock()
        self.disk = FakeDisk()
        self.writer = Inline()
        self.keeper = Inline()
        self.wall = Wall()
        self.archive = Archive(
            TranscriptSettings(directory=str(path), **settings),
            self.clock,
            self.writer,
            self.keeper,
            lambda function, *args: maybeDeferred(function, *args),
            self.disk,
            self.wall,
        )

    def turn(self):
        self.clock.advance(0)

    def start(self):
        done = self.archive.start()
        self.turn()
        return result_of(done)

    def open(self, name="x1", on_loss=None, on_written=None):
        opened = self.archive.open(name, on_loss, on_written)
        self.turn()
        return result_of(opened)

    def end(self):
        done = self.archive.close()
        self.turn()
        return result_of(done)


def result_of(deferred: Deferred):
    """What a Deferred has fired with; fails the test if it has not, and raises what it failed with."""
    found = []
    deferred.addBoth(found.append)
    assert found, "the Deferred has not fired"
    if hasattr(found[0], "raiseException"):
        found[0].raiseException()
    return found[0]
