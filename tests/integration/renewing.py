# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of hand-overs share: daemons that hand over while programs go on, and what is installed for them meanwhile."""

import contextlib
import errno
import signal
import subprocess

import pytest

from library import Connection
from messaging import EXIT_OK, PATIENCE, eventually, stopped, tool


def took_over(node):
    return node.log.read_text().count("took over from")


MAY_SAY = (b"doesn't answer; the daemon goes on as it was", b"xenmsgd is being renewed already",
           b"can't hand over: XenStore doesn't answer")


def renew(node):
    before = took_over(node)

    def is_renewed():
        """A program that takes longer to start than the daemon waits for it is ended, which harms nobody; and a mode may be renewing it."""
        done = node.xenmsg("daemon", "renew")
        assert done.returncode == EXIT_OK or any(words in done.stderr for words in MAY_SAY), done.stderr
        return done.returncode == EXIT_OK

    eventually(is_renewed, "the daemon hands over")
    eventually(lambda: took_over(node) > before, f"the next daemon has taken over: {node.log.read_text()}")


def renew_while(node, go_on, got):
    """Goes on while the node hands over, and until each has got something since, of which got() tells."""
    before, since = took_over(node), None
    command = node.popen("daemon", "renew")

    def handed_over():
        nonlocal since
        go_on()
        if since is None and command.poll() is not None and took_over(node) == before + 1:
            since = list(got())
        return since and all(now > was for now, was in zip(got(), since))
    eventually(handed_over, f"the next daemon goes on: {node.log.read_text()[-2000:]}", timeout=60)
    assert command.communicate()[1] == b"" and command.returncode == EXIT_OK


def ended(process, how=signal.SIGTERM):
    process.send_signal(how)
    out, err = process.communicate(timeout=20 * PATIENCE)
    assert err == b"", err
    return out and out.decode()


def process_until(condition, what, *connections):
    def processed():
        for connection in connections:
            connection.wait(0)
        return condition()
    eventually(processed, what)


def post(address, data, outcomes, sender, *others):
    """Its queue takes no more than some, so it and the others go on until it does."""
    def posted():
        result = sender.post(address, data, outcomes.append)
        assert result in (0, -errno.EAGAIN), (result, len(outcomes))
        return result == 0
    process_until(posted, "it is posted", sender, *others)


def all_are_delivered(outcomes, count, *connections):
    process_until(lambda: len(outcomes) == count, "all have ended", *connections)
    assert outcomes == [0] * count


def posted(sender, address, count):
    """Their outcomes, which are still to come."""
    outcomes = []
    for number in range(count):
        assert sender.post(address, b"%d" % number, outcomes.append) == 0
    sender.wait(0)
    return outcomes


def crashes(receiver):
    """Its connection ends."""
    error = receiver.receive()
    assert error == -errno.ENOTCONN, error
    receiver.close()


def held_by(*some):
    """What domains hold that hand-overs could leave behind."""
    held = []
    for node in some:
        domain = node.host.domain(node.domid)
        held.append((node.descriptors(), domain["grants"]["used_pages"], domain["mapped_pages"], domain["event_channels"]["used"]))
    return held


def hold_no_more_than(before, *some):
    """But for a descriptor: the kernel has few inotify(7) instances for all of a user, so a daemon may get none."""
    may_differ = (1, 0, 0, 0)
    eventually(lambda: all(now <= was + more for held, had in zip(held_by(*some), before) for now, was, more in zip(held, had, may_differ)),
               f"they hold no more than {before}: {held_by(*some)}")


class Installer:
    """Lets a node that isn't started have its programs in a folder of its own. Called, it installs something else as its xenmsgd:
    the right one, or a script."""

    def __init__(self, node, tmp_path):
        self.node, self.folder = node, tmp_path / "programs"
        node.programs = self.folder
        self.folder.mkdir()
        for name in ("xenmsg", "xenmsgd"):
            (self.folder / name).symlink_to(tool(name))

    def __call__(self, script=None):
        if script is None:
            self.link(tool("xenmsgd"))
            return
        new = self.folder / "new"
        new.write_text(f"#!/bin/sh\n{script}\n")
        new.chmod(0o755)
        new.rename(self.folder / "xenmsgd")

    def link(self, path):
        new = self.folder / "new"
        new.symlink_to(path)
        new.rename(self.folder / "xenmsgd")

    def first(self, option, script):
        """The right one, which does this before it begins with such an option."""
        self(f"""case $1 in {option}) {script} ;; esac; exec {tool("xenmsgd")} "$@" """)

    def renews(self):
        """The hand-over begins; what becomes of it is for the caller to see. Returns the command, which ends when that is known."""
        before = self.node.log.read_text()
        command = self.node.popen("daemon", "renew", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        eventually(lambda: "handing over to" in self.node.log.read_text()[len(before):], "the hand-over begins")
        return command

    @contextlib.contextmanager
    def waiting(self, option, then=False):
        """What is installed next waits when it begins with such an option, or `then`, when it has done that. Yields what waits for that."""
        waits, go = self.folder / "waits", self.folder / "go"
        for each in (waits, go):
            each.unlink(missing_ok=True)
        wait = f": >{waits}; while [ ! -e {go} ]; do sleep 0.05; done"
        if then:  # also at the next hand-over
            self(f"""case $1 in {option}) {tool("xenmsgd")} "$@"; done=$?; {wait}; exit $done ;; esac
                     over=$2; shift 2; exec {tool("xenmsgd")} --take-over "$over" --program {self.folder / "xenmsgd"} "$@" """)
        else:
            self.first(option, wait)
        yield lambda: eventually(waits.exists, "it waits")
        go.touch()

    @contextlib.contextmanager
    def nobody_reads(self):
        """The daemon has handed over, and the next one doesn't begin before the end of this."""
        with self.waiting("--take-over") as it_waits:
            self.renews()
            it_waits()
            self.node.reads = False
            yield
            self.node.reads = True


@pytest.fixture(name="installed")
def daemon_of_a_folder_of_its_own(nodes, tmp_path):
    """(node, what installs something else as its xenmsgd)"""
    node = nodes(1, start=False)[1]
    install = Installer(node, tmp_path)
    node.start()
    return node, install


class Waiting:
    """Messages that wait for a program that stands still, and come to it, once and in order, when it goes on."""

    def __init__(self, node, count=12):
        self.count, self.outcomes = count, []
        self.path = node.directory / "waited"
        with open(self.path, "wb") as file:
            self.receiver = node.receiver("waits", "--count", count, stdout=file)
        self.sender = Connection(node.socket)
        self.stopped = stopped(self.receiver.process.pid)
        self.stopped.__enter__()
        for number in range(count):
            post("self:waits", b"%d " % number + b"x" * 9000, self.outcomes, self.sender)
        assert not self.outcomes

    def come(self):
        self.stopped.__exit__(None, None, None)
        all_are_delivered(self.outcomes, self.count, self.sender)
        assert self.receiver.process.wait(timeout=20 * PATIENCE) == 0
        assert [int(line.split()[0]) for line in self.path.read_text().splitlines()] == list(range(self.count))
        self.sender.close()
