# SPDX-License-Identifier: LGPL-2.1-or-later
"""Chaos between two hosts (test_chaos.py says what is checked, and how a run is replayed): gateways, nats-servers and daemons
are killed, stopped and paused, and come back."""

import contextlib
import signal
import time

import pytest

from chaos_checks import ENDED, STARTED
from messaging import eventually
from test_chaos import CONFIG, Chaos, Slot, decide, print_logs, sample
from joined_hosts import IN, OUT
from test_hosts_nats import hosts_over_nats  # the fixture `hosts`  # noqa: F401  pylint: disable=unused-import


@contextlib.contextmanager
def stopped(process):
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


class ChaosOfHosts(Chaos):
    allow_all = IN + OUT

    def __init__(self, hosts, directory, seed):
        super().__init__(directory, seed)
        self.hosts = hosts
        hosts.config = CONFIG
        hosts.serve(2)
        hosts(guests=1)
        for nodes in hosts.nodes:
            for domid, node in nodes.by_domid.items():
                node.name = f"dom{domid}" if domid else "Domain-0"
        for number in range(6):
            self.slots.append(Slot(self, f"program{number}", number % 4))
        self.idle_descriptors = sample(self.nodes)
        for slot in self.slots:
            slot.start()

    @property
    def nodes(self):
        return [node for nodes in self.hosts.nodes for node in nodes.by_domid.values()]

    def host_of(self, node):
        return next(f"host{letter}" for letter, nodes in zip("ab", self.hosts.nodes) if node in nodes.by_domid.values())

    def addresses(self, node):
        def all_of(prefix, slots):
            return [f"{prefix}{domain}:{slot.name}" for slot in slots for domain in (slot.node.domid, slot.node.name)]
        here, there = sorted(("hosta", "hostb"), key=lambda host: host != self.host_of(node))
        near, far = ([slot for slot in self.slots if self.host_of(slot.node) == host] for host in (here, there))
        return all_of(f"{there}/", far) + all_of("", near)

    # ---- what happens ----

    def kill_gateway(self):
        gateway = self.random.choice(self.hosts.gateways)
        if gateway.process.poll() is None:
            gateway.kill()

    def stop_gateway(self):
        gateway = self.random.choice(self.hosts.gateways)
        if gateway.process.poll() is None:
            assert gateway.stop() in (0, -signal.SIGTERM)

    def kill_server(self):
        server = self.random.choice(self.hosts.servers)
        if server.process.poll() is None:
            server.kill()

    def pause_something(self):
        """How long isn't until when: nothing is waited for."""
        process = self.random.choice(self.hosts.gateways + self.hosts.servers).process
        seconds = self.random.random() * self.random.choice([0.1, 2])
        if process.poll() is None:
            with stopped(process):
                time.sleep(seconds)

    def random_policy(self):
        there, something = self.random.choice(["hosta", "hostb"]), self.random.choice(self.slots).name
        rule = "[rule]\nfrom = {}\nto = {}\naction = deny\n"
        return self.random.choice(["", "", rule.format(f"{there}/*", "*"), rule.format("*/*", something + "*"),
                                   rule.format(f"{there}/1, {there}/Domain-0", something),
                                   f"[out]\nfrom = *\nto = {there}\naction = deny\n"]) + self.allow_all

    def actions(self):
        return super().actions() | {self.kill_gateway: 15, self.stop_gateway: 10, self.kill_server: 10, self.pause_something: 10}

    def mend(self):
        for server in self.hosts.servers:
            if server.process.poll() is not None:
                server.start()
        for gateway in self.hosts.gateways:
            if gateway.process.poll() is not None:
                assert gateway.process.returncode in (0, -signal.SIGTERM, -signal.SIGKILL), gateway.log()
                gateway.start()
        super().mend()


def delivered_between_hosts(journals):
    sent = ((number, journals.runs[number >> 32], to) for number, (to, *_) in journals.notes[STARTED].items())
    return sum(journals.notes[ENDED].get(number) == [0] and "/" in run.addresses[to] for number, run, to in sent)


@pytest.mark.slow
def test_chaos_between_hosts(hosts, tmp_path, request):
    seed, seconds = decide(request, 30)
    chaos = ChaosOfHosts(hosts, tmp_path, seed)
    try:
        journals = chaos.play(seconds)
        assert delivered_between_hosts(journals) > 100
        for node in chaos.nodes:
            eventually(lambda node=node: node.descriptors() <= chaos.idle_descriptors,
                       f"{node.name} holds no more than {chaos.idle_descriptors} descriptors")
    finally:
        chaos.end()
        print_logs(tmp_path)
