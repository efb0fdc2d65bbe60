# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two minutes of chaos: programs send, call, open streams, exit and are killed, by domid and by name; daemons, domain 0's too, are
killed, restarted, renewed and given other policies, domains destroyed and made, renamed, paused, saved and restored, migrated and
checkpointed; XenStore stalls, events get lost, grants and mappings are refused, rings damaged.

Afterwards every message that was reported delivered was received once and in the order of its sender's, every other send ended
in one error, a definite error means that it was not received; the same of calls and their replies; every stream's bytes are the first of those that were
written, and its end of file comes after all of them; and nothing is left over. The seed is printed; --chaos-seed replays its
decisions (not its timing), --chaos-seconds says how long it goes.
"""

import collections
import os
import random
import signal
import subprocess
import time

import pytest

from chaos_checks import CALL_ENDED, READ_END, RECEIVED, Journals, Run
from messaging import ALLOW_ALL, PATIENCE, Node, eventually, tool

# A domain that was destroyed is away for as long as resume-for says: less than the test waits for its channels to end.
CONFIG = "[links]\nheartbeat = 500ms\ndead-after = 3s\nsetup-timeout = 3s\nidle-close = 5s\nresume-for = 10s\n"


class Slot:
    """A place for a program, one instance after the other, at the endpoint of the same name."""

    def __init__(self, chaos, name, place):
        self.chaos, self.name, self.place = chaos, name, place
        self.process = None
        self.runs = []

    @property
    def node(self):
        return self.chaos.nodes[self.place]

    def start(self):
        number = self.chaos.next_number()
        addresses = self.chaos.addresses(self.node)
        journal = self.chaos.directory / f"journal-{number}"
        log = open(self.chaos.directory / f"program-{number}.log", "wb")  # pylint: disable=consider-using-with
        # When programs start depends on timing, so their decisions are drawn apart from those of the test.
        decisions = random.Random(f"{self.chaos.seed} {number}")
        # Some share no memory with their daemon. env becomes the program, which keeps its pid.
        how = ["env", "XENMSG_NO_SHARED_MEMORY=1"] if decisions.random() < 0.3 else []
        self.process = self.node.popen_command(
            *how, decisions.choice(self.chaos.programs or [tool("chaos-program")]), journal, number, decisions.getrandbits(60), self.name, *addresses,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self.runs.append(Run(number, self.name, journal, addresses))

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.runs[-1].was_killed = True
        self.process.kill()
        self.process.wait()

    def finish(self):
        self.process.send_signal(signal.SIGTERM)


def sample(nodes):
    """How many descriptors an idle daemon has. The sessions that looked at the status may still be closing: it's the least."""
    def once():
        time.sleep(0.02)
        return max(node.descriptors() for node in nodes)
    return min(once() for _ in range(20))


class Chaos:
    """Programs and daemons, and what happens to them. Others say what else there is, and what happens to that."""

    allow_all = ALLOW_ALL
    programs = ()  # if not the one in C

    def __init__(self, directory, seed):
        self.directory, self.seed = directory, seed
        self.random = random.Random(seed)
        self.numbers = 0
        self.slots = []
        self.counts = collections.Counter()

    @property
    def nodes(self):
        raise NotImplementedError

    def addresses(self, node):
        """Of all programs, as seen from a node."""
        raise NotImplementedError

    def random_policy(self):
        """Rules that deny something, or no rules."""
        raise NotImplementedError

    def actions(self):
        """How often each of them happens among the others."""
        return {self.kill_program: 40, self.end_program: 25, self.kill_daemon: 10, self.stop_daemon: 10, self.renew_daemon: 15,
                self.change_policy: 15}

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
        """Not one whose domain was restored a moment ago: until it knows, only a keeper could hold its event channels."""
        node = self.random.choice(self.nodes)
        if node.alive() and node.pid and knows_its_number(node):
            node.kill()

    def stop_daemon(self):
        node = self.random.choice(self.nodes)
        if node.alive() and node.pid:
            node.stop()

    def renew_daemon(self):
        """It may be refused, or the daemon be killed meanwhile."""
        node = self.random.choice(self.nodes)
        if node.alive() and node.pid:
            node.renewal = node.popen("daemon", "renew", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def change_policy(self):
        """The daemon keeps its rules if the new file is no good; but the next one, which has found the old one good, ends with it."""
        node, policy, is_bad = self.random.choice(self.nodes), self.random_policy(), self.random.random() < 0.2
        if not node.alive() or not node.pid:
            return
        if is_bad and not is_renewed(node):
            node.write_policy("[rule]\nfrom = nowhere at all\naction = maybe\n")
        else:
            node.policy = policy
            node.write_policy(node.policy)
        os.kill(node.pid, signal.SIGHUP)

    def mend(self):
        """Starts again what isn't there."""
        self.check_lives()
        for node in self.nodes:
            if not node.alive():
                node.start()
        for slot in self.slots:
            if not slot.running():
                slot.start()

    def check_lives(self):
        """Nothing has ended but what was told to, and in the way that it was told to."""
        for node in self.nodes:
            assert node.daemon is None or node.alive(), f"xenmsgd of domain {node.domid} has ended: {node.daemon.poll()}"
        for slot in self.slots:
            if slot.process and not slot.runs[-1].was_killed:
                # SIGTERM may come before the program minds it
                assert slot.process.poll() in (None, 0, -signal.SIGTERM), f"program {slot.runs[-1].number} has ended: {slot.process.poll()}"

    def step(self):
        actions = self.actions()
        action, = self.random.choices(list(actions), list(actions.values()))
        self.counts[action.__name__] += 1
        action()
        if self.random.random() < 0.7:
            self.mend()

    def finish(self):
        """All is allowed again, programs that know all the domains do all kinds of things, and come to rest in order."""
        self.mend()
        for node in self.nodes:
            node.policy = self.allow_all
            node.write_policy(self.allow_all)
            os.kill(node.pid, signal.SIGHUP)
        self.rest()
        self.mend()
        eventually(self.flows, "messages, calls and streams flow at the end", timeout=40)
        self.rest()

    def rest(self):
        for slot in self.slots:
            slot.finish()
        for slot in self.slots:
            slot.process.wait(30 * PATIENCE)
        self.check_lives()

    def flows(self):
        """Every program has received something, has got a reply, and has read a stream to its end."""
        for slot in self.slots:
            good = {kind for _, kind, value in slot.runs[-1].records() if value == 0}
            if not good >= {RECEIVED, CALL_ENDED, READ_END}:
                return False
        return True

    def end(self):
        for slot in self.slots:
            if slot.running():
                slot.process.kill()
                slot.process.wait()

    def play(self, seconds):
        """Lets it all happen, and checks what was promised. Returns what the programs have written down."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()
            time.sleep(self.random.uniform(0.02, 0.4))  # the pace of events; nothing is waited for
        self.finish()
        journals = Journals(run for slot in self.slots for run in slot.runs)
        outcomes = journals.check()
        print(f"chaos: {dict(self.counts)}; {dict(sorted(outcomes.items()))}")
        assert outcomes["messages received"] and outcomes["calls answered"] and outcomes["stream read to: 0"]
        for node in self.nodes:
            eventually(lambda node=node: is_unused(node.status()), f"{node.name} shows zero use")
        return journals


class ChaosOfDomains(Chaos):
    def __init__(self, host, directory, seed):
        super().__init__(directory, seed)
        self.host = host
        self.retired = []
        self.places = [self.make_node(domid, f"dom{domid}").start() for domid in (1, 2, 3)]
        for number in range(7):
            self.slots.append(Slot(self, f"program{number}", number % 3 if number < 6 else 3))
        self.idle_descriptors = sample(self.places)
        self.zero = self.make_node(0, "Domain-0").start()
        for slot in self.slots:
            slot.start()

    def make_node(self, domid, name):
        node = Node(self.host, domid, self.directory, CONFIG)
        node.name = name
        return node

    @property
    def nodes(self):
        """The guests, and domain 0 behind them, which isn't destroyed, paused or saved."""
        return self.places + [self.zero]

    def addresses(self, node):
        return [f"{domain}:{slot.name}" for slot in self.slots for domain in (slot.node.domid, slot.node.name)]

    def actions(self):
        return super().actions() | {
            self.destroy_domain: 5, self.pause_domain: 10, self.save_domain: 5, self.rename_domain: 10, self.stall_store: 3,
            self.refuse_something: 8, self.lose_events: 8, self.damage_rings: 4}

    def destroy_domain(self):
        place = self.random.randrange(3)
        node = self.places[place]
        for slot in self.slots:
            if slot.place == place:
                slot.runs[-1].was_killed = True
        known = {domain["domid"] for domain in self.host.list()["domains"]}
        self.host.sim("destroy", node.domid)
        if node.daemon:
            node.daemon.wait(20 * PATIENCE)
        node.daemon = node.pid = None
        self.retired.append(node)
        name = f"chaos{self.next_number()}"
        self.host.sim("create", "--name", name, "--type", self.random.choice(["pvh", "pvh", "pv"]))
        fresh, = {domain["domid"] for domain in self.host.list()["domains"]} - known
        self.places[place] = self.make_node(fresh, name)

    def pause_domain(self):
        node = self.random.choice(self.places)
        self.host.sim("pause", node.domid)
        time.sleep(self.random.random())  # how long, not until when
        self.host.sim("unpause", node.domid)

    def save_domain(self):
        node = self.random.choice(self.places)
        how = self.random.choice(["save", "migrate", "checkpoint"])
        if how == "save":
            self.host.sim("suspend", node.domid)
            node.domid = int(self.host.sim("resume", node.domid).stdout)
        elif how == "migrate":
            node.domid = int(self.host.sim("migrate", node.domid).stdout)
        else:
            self.host.sim("checkpoint", node.domid, "--stall", self.random.randrange(1000))

    def rename_domain(self):
        """To a name that another one may have had."""
        node, name = self.random.choice(self.places), f"name{self.random.randrange(4)}"
        if name not in [other.name for other in self.places]:
            self.host.sim("rename", node.domid, name)
            node.name = name

    def stall_store(self):
        self.host.fault("stall-store", 0, "on")
        time.sleep(self.random.random())  # how long, not until when
        self.host.fault("stall-store", 0, "off")

    def refuse_something(self):
        kind, node, count = self.random.choice(["refuse-grant", "refuse-map"]), self.random.choice(self.nodes), self.random.randint(1, 3)
        self.host.fault(kind, node.domid, count)

    def lose_events(self):
        self.host.fault("lose-event", self.random.choice(self.nodes).domid, self.random.randint(1, 3))

    def damage_rings(self):
        """Indices that can't be: possible ones would only be other data."""
        node, index = self.random.choice(self.nodes), self.random.choice(["left-cons", "left-prod", "right-cons", "right-prod"])
        self.host.fault("corrupt-ring-index", node.domid, f"{index}={self.random.choice([0x7fffffff, 0x80000000])}")

    def end_faults(self):
        for node in self.nodes:
            for kind in ("refuse-grant", "refuse-map"):
                self.host.fault(kind, node.domid, "off")

    def random_policy(self):
        someone, something = self.random.choice(self.nodes), self.random.choice(self.slots).name
        someone = self.random.choice([someone.domid, someone.name])
        bind = "[bind]\nname = {}\nuid = *\naction = deny\n"
        rule = "[rule]\nfrom = {}\nto = {}\naction = deny\n"
        return self.random.choice(["", "", rule.format(someone, "*"), rule.format("*", something + "*"),
                                   rule.format(someone, "*-s"), rule.format("self", something),
                                   bind.format(something), bind.format("*-s")]) + ALLOW_ALL

    def finish(self):
        self.end_faults()
        super().finish()

    def end(self):
        super().end()
        for node in self.nodes + self.retired:
            node.end()


def knows_its_number(node):
    log = node.log.read_text()
    return f"domain {node.domid}: listening" in log or f"is domain {node.domid}\n" in log


def is_renewed(node):
    """Whether a hand-over may be under way."""
    log = node.log.read_text()
    asks = node.renewal is not None and node.renewal.poll() is None
    return asks or log.count("handing over to") > log.count("took over from") + log.count("this daemon goes on")


def is_unused(status):
    """But by who asks, on a channel."""
    return (status["endpoints"] == [] and [(client["channels"], client["bytes_queued"]) for client in status["clients"]] == [(1, 0)]
            and all(link["channels"] == 0 and link["unacked"] == 0 for link in status["links"])
            and all(link["usage"]["channels_charged"] == link["usage"]["bytes_charged"] == 0 for link in status["links"]))


def decide(request, seconds):
    """The seed, and how long it goes on."""
    seed = request.config.getoption("--chaos-seed")
    if seed is None:
        seed = random.SystemRandom().getrandbits(32)
    seconds = request.config.getoption("--chaos-seconds") or seconds
    print(f"chaos: seed {seed}, {seconds} s; replay with --chaos-seed {seed} --chaos-seconds {seconds}")
    return seed, seconds


def print_logs(directory):
    for path in sorted(directory.glob("**/*.log")):
        text = path.read_text(errors="replace")
        if text:
            print(f"---- {path.name}\n{text[-3000:]}")


@pytest.mark.slow
def test_chaos(host, tmp_path, request):
    play_of_domains(ChaosOfDomains, host, tmp_path, request, 120)


def play_of_domains(kind, host, tmp_path, request, seconds):
    seed, seconds = decide(request, seconds)
    chaos = kind(host, tmp_path, seed)
    try:
        chaos.play(seconds)
        chaos.zero.stop()  # with whom the guests keep their links
        for node in chaos.places:
            eventually(lambda node=node: all(link["pages"] == 0 for link in node.status()["links"]), "idle links are closed")
            eventually(lambda node=node: node.status()["grants"]["used_pages"] == 0, "nobody maps what it has kept for a peer")
        for node in chaos.places:
            eventually(lambda node=node: host.domain(node.domid)["event_channels"]["used"] == 0, "no port is bound, not even by a keeper")
            eventually(lambda node=node: node.descriptors() <= chaos.idle_descriptors,
                       f"the daemon of domain {node.domid} holds no more than {chaos.idle_descriptors} descriptors")
            node.stop()
        for node in chaos.nodes:
            domain = host.domain(node.domid)
            assert domain["grants"]["used_pages"] == domain["event_channels"]["used"] == domain["mapped_pages"] == 0, domain
            with node.store() as store:
                assert "xenmsg" not in store.list("data")
        assert host.list()["zombies"] == 0 and host.list()["kernel_log"] == []
    finally:
        chaos.end()
        print_logs(tmp_path)
