# SPDX-License-Identifier: LGPL-2.1-or-later
"""A minute of chaos: programs send, exit and are killed; daemons are killed and restarted, domains destroyed and made.

Afterwards every message that was reported delivered was received once, every other send ended in one error, a definite error
means that it was not received, and nothing is left over. The seed is printed; --chaos-seed replays its decisions (not its
timing), --chaos-seconds says how long it goes.
"""

import collections
import os
import random
import signal
import struct
import subprocess
import time

import pytest

from messaging import PATIENCE, Node, eventually, tool

STARTED, ENDED, RECEIVED, FAULT, FINISHED, REFUSED = range(1, 7)
RECORD = struct.Struct("<QIi")
ECONNRESET = 104
CONFIG = "[links]\nheartbeat = 500ms\ndead-after = 3s\nsetup-timeout = 3s\nidle-close = 5s\n"


class Slot:
    """A place for a program, one instance after the other, at the endpoint of the same name."""

    def __init__(self, chaos, name, place):
        self.chaos, self.name, self.place = chaos, name, place
        self.process = None
        self.runs = []  # [number, journal, addresses, was killed]

    @property
    def node(self):
        return self.chaos.places[self.place]

    def start(self):
        number = self.chaos.next_number()
        addresses = [f"{slot.node.domid}:{slot.name}" for slot in self.chaos.slots]
        journal = self.chaos.directory / f"journal-{number}"
        log = open(self.chaos.directory / f"program-{number}.log", "wb")  # pylint: disable=consider-using-with
        self.process = self.node.popen_command(
            tool("chaos-program"), journal, number, self.chaos.random.getrandbits(60), self.name, *addresses,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self.runs.append([number, journal, addresses, False])

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.runs[-1][3] = True
        self.process.kill()
        self.process.wait()

    def finish(self):
        self.process.send_signal(signal.SIGTERM)


class Chaos:
    def __init__(self, host, directory, seed):
        self.host, self.directory = host, directory
        self.random = random.Random(seed)
        self.numbers = 0
        self.places = []
        self.retired = []
        self.slots = []
        self.counts = collections.Counter()
        for domid in (1, 2, 3):
            self.places.append(Node(host, domid, directory, CONFIG).start())
        for number in range(6):
            self.slots.append(Slot(self, f"program{number}", number % 3))
        # The sessions that looked at the status may still be closing: the least is what an idle daemon has.
        self.idle_descriptors = min(self.sample() for _ in range(20))
        for slot in self.slots:
            slot.start()

    def sample(self):
        time.sleep(0.02)
        return max(node.descriptors() for node in self.places)

    def next_number(self):
        self.numbers += 1
        return self.numbers

    # ---- what happens ----

    def kill_program(self):
        slot = self.random.choice(self.slots)
        if slot.running():
            slot.kill()

    def end_program(self):
        slot = self.random.choice(self.slots)
        if slot.running():
            slot.finish()

    def kill_daemon(self):
        node = self.random.choice(self.places)
        if node.alive() and node.pid:
            node.kill()

    def stop_daemon(self):
        node = self.random.choice(self.places)
        if node.alive() and node.pid:
            node.stop()

    def destroy_domain(self):
        place = self.random.randrange(3)
        node = self.places[place]
        for slot in self.slots:
            if slot.place == place:
                slot.runs[-1][3] = True
        known = {domain["domid"] for domain in self.host.list()["domains"]}
        self.host.sim("destroy", node.domid)
        if node.daemon:
            node.daemon.wait(20 * PATIENCE)
        node.daemon = node.pid = None
        self.retired.append(node)
        self.host.sim("create", "--name", f"chaos{self.next_number()}")
        fresh, = {domain["domid"] for domain in self.host.list()["domains"]} - known
        self.places[place] = Node(self.host, fresh, self.directory, CONFIG)

    def pause_domain(self):
        node = self.random.choice(self.places)
        self.host.sim("pause", node.domid)
        time.sleep(self.random.random())  # how long, not until when
        self.host.sim("unpause", node.domid)

    def mend(self):
        """Starts again what isn't there."""
        for node in self.places:
            if not node.alive():
                node.start()
        for slot in self.slots:
            if not slot.running():
                slot.start()

    def step(self):
        actions = {self.kill_program: 40, self.end_program: 25, self.kill_daemon: 10, self.stop_daemon: 10,
                   self.destroy_domain: 5, self.pause_domain: 10}
        action, = self.random.choices(list(actions), list(actions.values()))
        self.counts[action.__name__] += 1
        action()
        if self.random.random() < 0.7:
            self.mend()

    def finish(self):
        """Everything comes to rest in order."""
        self.mend()
        eventually(lambda: self.received() > 0, "messages flow at the end")
        for slot in self.slots:
            slot.finish()
        for slot in self.slots:
            slot.process.wait(30 * PATIENCE)

    def received(self):
        return sum(kind == RECEIVED for slot in self.slots for _, kind, _ in records(slot.runs[-1][1]))

    def end(self):
        for slot in self.slots:
            if slot.running():
                slot.process.kill()
                slot.process.wait()
        for node in self.places + self.retired:
            node.end()


def records(journal):
    if not journal.exists():
        return []
    data = journal.read_bytes()
    return RECORD.iter_unpack(data[:len(data) - len(data) % RECORD.size])


def check_journals(slots):
    """Holds what the programs have written down against the promises."""
    received = collections.Counter()
    started, outcomes, finished = {}, collections.defaultdict(list), set()
    kills = collections.Counter()
    killed = set()
    for slot in slots:
        for number, journal, addresses, was_killed in slot.runs:
            if was_killed:
                kills[slot.name] += 1
                killed.add(number)
            for message, kind, value in records(journal):
                if kind == STARTED:
                    assert message not in started
                    started[message] = addresses[value].split(":")[1]
                elif kind in (ENDED, REFUSED):
                    outcomes[message].append(value)
                elif kind == RECEIVED:
                    assert value == 0, f"message {message >> 32}/{message & 0xffffffff} is damaged"
                    received[message] += 1
                elif kind == FAULT:
                    raise AssertionError(f"program {number} met fault {value} ({message} in flight)")
                elif kind == FINISHED:
                    finished.add(number)
    twice = [message for message, count in received.items() if count > 1]
    assert not twice, f"received twice: {twice}"
    assert not set(received) - set(started), "received, but never sent"

    missing = collections.Counter()
    lost = []
    for message, destination in started.items():
        results = outcomes[message]
        assert len(results) <= 1, f"message {message:#x} has the outcomes {results}"
        if not results:
            assert message >> 32 not in finished, f"message {message:#x} has no outcome"
        elif results[0] == 0:
            if not received[message]:
                missing[destination] += 1
                lost.append(message)
        elif results[0] != -ECONNRESET:
            assert not received[message], f"message {message:#x} was received in spite of error {results[0]}"
    # A program that is killed between taking a message and writing it down has taken it: one for each kill at most.
    for destination, count in missing.items():
        assert count <= kills[destination], f"delivered, but not received: {[hex(message) for message in lost]}"
    return started, outcomes, received


@pytest.mark.slow
def test_chaos(host, tmp_path, request):
    seed = request.config.getoption("--chaos-seed")
    if seed is None:
        seed = random.SystemRandom().getrandbits(32)
    seconds = request.config.getoption("--chaos-seconds")
    print(f"chaos: seed {seed}, {seconds} s; replay with --chaos-seed {seed} --chaos-seconds {seconds}")
    chaos = Chaos(host, tmp_path, seed)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            chaos.step()
            time.sleep(chaos.random.uniform(0.02, 0.4))  # the pace of events; nothing is waited for
        chaos.finish()
        started, outcomes, received = check_journals(chaos.slots)
        print(f"chaos: {dict(chaos.counts)}; {len(started)} messages sent, {len(received)} received, outcomes "
              f"{dict(collections.Counter(result for results in outcomes.values() for result in results))}")
        assert received

        for node in chaos.places:
            def zero(node=node):
                status = node.status()
                return (status["endpoints"] == [] and len(status["clients"]) == 1
                        and status["clients"][0]["bytes_queued"] == 0
                        and all(link["channels"] == 0 and link["unacked"] == 0 for link in status["links"]))
            eventually(zero, f"domain {node.domid} shows zero use")
            eventually(lambda node=node: all(link["pages"] == 0 for link in node.status()["links"]), "idle links are closed")
            assert node.status()["grants"]["used_pages"] == 0
        for node in chaos.places:
            eventually(lambda node=node: node.descriptors() <= chaos.idle_descriptors,
                       f"the daemon of domain {node.domid} holds no more than {chaos.idle_descriptors} descriptors")
            node.stop()
        for node in chaos.places:
            domain = host.domain(node.domid)
            assert domain["grants"]["used_pages"] == domain["event_channels"]["used"] == domain["mapped_pages"] == 0, domain
            with node.store() as store:
                assert "xenmsg" not in store.list("data")
        assert host.list()["zombies"] == 0 and host.list()["kernel_log"] == []
    finally:
        chaos.end()
        for path in sorted(tmp_path.glob("*.log")):
            text = path.read_text(errors="replace")
            if text:
                print(f"---- {path.name}\n{text[-3000:]}")
