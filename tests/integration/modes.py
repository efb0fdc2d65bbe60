# SPDX-License-Identifier: LGPL-2.1-or-later
"""Conditions under which all integration tests run, and of which none knows: `pytest --mode=renewed`, or two: `--mode=renewed+relayed`.

A promise is tested once, and holds under each of them. What doesn't says so: @pytest.mark.unless(renewed="kills") means that the test
can't bear this mode, and why, in one word; the run ends with a list of those. Tests without a daemon are left out. Whatever happens by
chance follows from --mode-seed and the name of the test; when it happens is up to the machine.

Words in use: "counts" of what a mode does more often; "direct", a link between two guests; "zero", a domain 0 that isn't there or stands
still; "rules" that the mode adds; "limits" and "rings" that are tested themselves; "memory" that is changed under a program of a test; a
"time" that each hand-over begins anew; a program that is "sleeping", so that it does nothing for the next daemon; "late" answers of who
hands over, for which a list doesn't wait.
"""

import contextlib
import json
import os
import pathlib
import random
import signal
import threading
import time
import zlib

import pytest

from frames import WELCOME, Closed, hello
from protocol import Program, Timeout

EBUSY, EINVAL, ECANCELED = 16, 22, 125


class Mode:
    """What is as it is without any: a mode changes some of it."""

    pause = None  # its disturb() comes after a random time of up to so many seconds, again and again

    def host(self, host):
        """Of a host that has just been started."""

    def settings(self, config):
        """What a daemon is to read in place of this."""
        return config

    def rules(self, node, policy):  # pylint: disable=unused-argument
        """What the policy of a node is in place of this one."""
        return policy

    def disturb(self, node, chance):
        """Does something to one of the nodes of a test, whose daemon runs."""

    def finish(self, host):
        """Looks at what has happened there, once no node is disturbed any more."""


class Renewed(Mode):
    """Each daemon hands over some three times a second."""

    pause = 0.6
    # What is measured; what is looked up when somebody wants it, and paid for; what belongs to a vchan. "memory" is looked at by itself.
    CHANGES = {"answered", "available", "bytes_charged", "descriptors", "grants", "last_error", "memory", "peers", "pools", "queued_bytes", "refused",
               "renewed", "round_trips", "sent", "since", "store", "taken", "time", "totals", "uptime_s"}

    def settings(self, config):
        """A daemon that is killed while the other one hands over is known to be dead when its links aren't resumed in time."""
        return with_keys(config, "links", {"resume-for": "10s"})

    def host(self, host):
        """Where daemons that are built with --enable-invariants leave what they hold, before and after a hand-over."""
        host.environment["XENMSG_DUMPS"] = os.path.join(host.dir, "dumps")
        os.mkdir(host.environment["XENMSG_DUMPS"])

    def finish(self, host):
        less = count = 0
        for before in pathlib.Path(host.environment["XENMSG_DUMPS"]).glob("*.before"):
            after = before.with_suffix(".after")
            if after.exists():  # else it was the last one
                whole = [json.loads(path.read_text(encoding="utf-8")) for path in (before, after)]
                was, now = map(memory, whole)
                assert now <= was, f"a hand-over makes {now} bytes of memory from {was}"
                less, count = less + (now < was), count + 1
                was, now = map(self.kept, whole)
                for what in was.keys() | now.keys():
                    assert was.get(what) == now.get(what), f"a hand-over changes {what}: {was.get(what)} to {now.get(what)}"
        assert less <= 1 + count // 10, f"{less} of {count} hand-overs forget memory"  # the kernel gives some back just then

    def kept(self, held):
        if isinstance(held, dict):
            return {name: self.kept(member) for name, member in held.items() if name not in self.CHANGES}
        if isinstance(held, list):
            return [self.kept(member) for member in held if not (is_empty_account(member) or is_idle_link(member))]
        return held

    def disturb(self, node, chance):
        """Not while XenStore answers nobody, for which all that was handed over would wait."""
        with holding:
            if node.host.stalls:
                return
            node.host.renewing.add(node.domid)
        try:
            with contextlib.suppress(OSError, Closed, Timeout), Program(node.socket, greet=False, timeout=20) as program:
                program.socket.sendall(hello())
                if program.receive_from_socket().kind == WELCOME:  # else this user may have no more
                    error, text = program.ask("renew")
                    assert error in (0, EBUSY, EINVAL, ECANCELED), f"domain {node.domid} doesn't hand over: {text.decode()}"
        finally:
            node.host.renewing.discard(node.domid)


def memory(held):
    return sum(account["memory"]["used"] for account in held["accounts"] if account["memory"])


def is_empty_account(member):
    """It is there for as long as somebody may come back."""
    return isinstance(member, dict) and member.get("kind") in ("uid", "peer") and not any(
        member[name] and member[name]["used"] for name in ("clients", "endpoints", "channels"))


def is_idle_link(member):
    """Nothing is there of it but that somebody wanted it."""
    return isinstance(member, dict) and "ring_bytes" in member and member["state"] == "idle"


class Relayed(Mode):
    """Xen lets guests share no memory (SILO): whatever goes from one to another is relayed by domain 0's daemon."""

    def host(self, host):
        host.sim("xsm", "silo")


class Still(Mode):
    """Daemons stand still for 1 to 300 ms."""

    pause = 1

    def disturb(self, node, chance):
        pid = node.pid
        signal_unless_held(node, pid, signal.SIGSTOP)
        time.sleep(chance.uniform(0.001, 0.3))
        signal_unless_held(node, pid, signal.SIGCONT)


class Strict(Mode):
    """Nobody has rules that allow all. Domain 0 has none of its own, but for its own endpoints where a test uses these; a guest has one
    for the domains of a test alone, or none, and the host's policy has it. What a test sets itself stays."""

    ALLOW_ALL = "[rule]\nfrom = *\nto = *\naction = allow\n"
    OTHERS = "[rule]\nfrom = {}\nto = {}\naction = allow\n"
    NUMBERS = range(20)  # also those that domains of a test get when they are restored

    def rules(self, node, policy):
        if policy != self.ALLOW_ALL:
            return policy
        if node.domid == 0:
            return None if node.only_relays else self.OTHERS.format("*", "[a-z]*")
        zero = node.nodes and node.nodes.by_domid.get(0)
        written = zero and os.path.join(zero.environment["XENSIM_DIR"], "dom-0/root/etc/xenmsg/host-policy.d/50-host.conf")
        if zero and zero.alive() and not os.path.exists(written) and chance_of("strict", node).random() < 0.5:
            self.ask_host(node, zero)
            return None
        return self.OTHERS.format(", ".join(str(number) for number in self.NUMBERS if number != node.domid), "*")

    def ask_host(self, node, zero):
        name = node.host.domain(node.domid)["name"]
        zero.write_policy(f"[rule]\nfrom = *\nto = {name}\naction = allow\n", f"60-{name}.conf", "host-policy.d")
        zero.wait_ready()
        assert zero.xenmsg("policy", "reload").returncode == 0
        node.asks_host = True


class Away(Mode):
    """Links are lost, and resumed: the hello of one of their ends is taken away."""

    pause = 1

    def disturb(self, node, chance):
        # A test may kill it meanwhile; or its user has all that he may have, and nobody answers him.
        with contextlib.suppress(OSError, Closed, Timeout, AssertionError):
            links = [link["peer"]["domid"] for link in node.status()["links"] if link["state"] == "up" and not link["peer"]["host"]]
            if links:
                with node.store() as store:
                    store.take_away_hello(node, chance.choice(links))


class Small(Mode):
    """Rings, descriptors and what a user or domain may have are at their least."""

    def settings(self, config):
        config = with_keys(config, "links", {"ring-size": "1K", "min-ring-size": "1K", "max-ring-size": "1K"})
        return with_keys(config, "limits", {"max-clients": 64, "max-endpoints": 64, "max-channels": 128})


class Idle(Mode):
    """Links are closed when they were idle for a second."""

    def settings(self, config):
        return with_keys(config, "links", {"idle-close": "1s"})


MODES = {"renewed": Renewed, "strict": Strict, "idle": Idle, "away": Away, "relayed": Relayed, "still": Still, "small": Small}
chosen = {}
seed = 0
held = set()  # processes that a test has stopped
holding = threading.Lock()


def hold(pid):
    """Stops a process, which no mode lets go on before let_go()."""
    with holding:
        held.add(pid)
        os.kill(pid, signal.SIGSTOP)


def let_go(pid):
    with holding:
        held.discard(pid)
        os.kill(pid, signal.SIGCONT)


def signal_unless_held(node, pid, number):
    with holding:
        if pid not in held and str(node.domid) not in node.host.stopped:
            os.kill(pid, number)


@contextlib.contextmanager
def stopping(host, command="", *words):
    """While xensim does this. Whose domain stands still goes on with it alone, which is by SIGCONT, too."""
    if command in ("pause", "suspend", "migrate"):
        with holding:
            host.stopped.update(map(str, words[:1]))
    if command == "fault" and words[:1] == ("stall-store",):
        with holding:
            host.stalls = words[2:3] == ("on",)
        while host.stalls and host.renewing:
            time.sleep(0.01)
    yield
    if command in ("unpause", "resume", "migrate"):
        with holding:
            host.stopped.difference_update(map(str, words[:1]))


def with_keys(config, section, keys):
    """A configuration with these keys, but for those that it sets itself."""
    missing = [f"{key} = {value}\n" for key, value in keys.items() if f"\n{key} =" not in config]
    return config + (f"[{section}]\n" + "".join(missing) if missing else "")


def need_domain_0():
    """Whether domain 0's daemon has a part in them."""
    return not {"relayed", "strict"}.isdisjoint(chosen)


def ask_host_no_more(node):
    """The host's policy lets nobody in there any more."""
    node.asks_host = False
    zero = node.nodes.by_domid[0]
    os.unlink(os.path.join(zero.environment["XENSIM_DIR"], f"dom-0/root/etc/xenmsg/host-policy.d/60-{node.host.domain(node.domid)['name']}.conf"))
    if zero.alive():
        assert zero.xenmsg("policy", "reload").returncode == 0
        while node.reads and node.alive() and node.status()["policy"]["of_host"]["rules"]:
            time.sleep(0.01)


def chance_of(mode, node):
    file, _, test = os.environ["PYTEST_CURRENT_TEST"].partition(" (")[0].partition("::")
    return random.Random(f"{seed} {os.path.basename(file)} {test} {mode} {node.domid}")


def made(host):
    for mode in chosen.values():
        mode.host(host)


def settings(config):
    for mode in chosen.values():
        config = mode.settings(config)
    return config


def rules(node):
    policy = node.policy
    for mode in chosen.values():
        policy = mode.rules(node, policy)
    return policy


class Disturber:
    """Disturbs the nodes of one host, each in its own thread. stop() fails if something has gone wrong."""

    def __init__(self, host):
        self.host = host
        self.over = threading.Event()
        self.threads = []
        self.wrong = []

    def follow(self, node):
        for name, mode in chosen.items():
            if mode.pause:
                self.threads.append(threading.Thread(target=self.run, args=(mode, node, chance_of(name, node)), daemon=True))
                self.threads[-1].start()

    def run(self, mode, node, chance):
        took = 0  # what takes a busy machine long comes less often, or nothing else would be done
        while not self.over.wait(chance.uniform(0, mode.pause) + 3 * took):
            began = time.monotonic()
            try:
                if node.alive() and node.pid and node.pid not in held:
                    mode.disturb(node, chance)
            except ProcessLookupError:
                pass  # it has ended meanwhile
            except Exception as error:  # pylint: disable=broad-exception-caught
                self.wrong.append(error)
                return
            took = time.monotonic() - began

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        self.threads = []
        assert not self.wrong, self.wrong
        for mode in chosen.values():
            mode.finish(self.host)


# ---- pytest ----

def add_options(parser):
    parser.addoption("--mode", default="", help=f"conditions of all tests, joined by +: {', '.join(MODES)}")
    parser.addoption("--mode-seed", type=int, default=None, help="what happens in it by chance")
    parser.addoption("--half", type=int, default=None, help="of tests that differ in their parameters, which half has the mark `more`: a seed")
    parser.addoption("--shard", default="1/1", help="K/N: of N parts of the tests the one with number K")


def configure(config):
    global seed  # pylint: disable=global-statement
    config.addinivalue_line("markers", "unless(MODE='why'): this test can't bear the mode, for a reason in one word")
    if config.option.mode_seed is None:
        config.option.mode_seed = random.randrange(1 << 31)  # also of xdist's workers, which come later
    seed = config.option.mode_seed
    for name in filter(None, config.option.mode.split("+")):
        if name not in MODES:
            raise pytest.UsageError(f"there is no mode {name}, but {', '.join(MODES)}")
        chosen[name] = MODES[name]()


def has_daemons(item):
    return not {"nodes", "hosts", "many", "way", "far"}.isdisjoint(item.fixturenames)


def mark_half(items, half):
    """Of each function's tests, which differ in their parameters, one half, by chance, is left to runs for other changes."""
    functions = {}
    for item in items:
        if not (item.get_closest_marker("slow") or item.get_closest_marker("more")):
            functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for function, tests in functions.items():
        for item in random.Random(f"{half} {function}").sample(tests, len(tests) // 2):
            item.add_marker(pytest.mark.more)


def choose(config, items):
    """Leaves those that are a part of this run, and marks those that can't bear a mode."""
    if config.option.half is not None:
        mark_half(items, config.option.half)
    number, count = map(int, config.option.shard.split("/"))
    kept = [item for item in items
            if (not chosen or has_daemons(item)) and zlib.crc32(f"{item.path.name} {item.name}".encode()) % count == number - 1]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
    for item in items:
        for mark in item.iter_markers("unless"):
            for mode, reason in mark.kwargs.items():
                assert mode in MODES and reason.isidentifier(), f"{item.name}: {mode}, {reason}"
                if mode in chosen:
                    item.add_marker(pytest.mark.skip(f"unless {mode}: {reason}"))


def summary(terminal):
    """What has chosen what happened, and who can't bear the mode, by the reason."""
    if not chosen:
        return
    terminal.write_line(f"under --mode={'+'.join(chosen)} --mode-seed={seed}")
    reasons = {}
    for report in terminal.stats.get("skipped", ()):
        said = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        if said.startswith("unless "):
            reasons.setdefault(said, set()).add(report.nodeid.split("::")[-1].split("[")[0])
    for said, names in sorted(reasons.items()):
        terminal.write_line(f"{said}: {', '.join(sorted(names))}")
