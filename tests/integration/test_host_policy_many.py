# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's policy on a host with fifty guests: whatever is told to whom, all of them decide as a table of the rules says."""

import random

import pytest

from library import Connection
from messaging import EXIT_OK, eventually
from test_host_policy import DENIED, LET_IN, attempt, give_tags, host_rule, rules_of, write_host_policy

GUESTS = 50
ENDPOINTS = "sql", "ping", "other"
WEB, DB, OPS = range(1, 31), range(31, 41), range(41, 44)


class Host:
    """Fifty guests, what domain 0 was told about them, and what follows of that."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.zero = nodes[0]
        self.tags = {"web": set(WEB), "db": set(DB), "ops": set(OPS)}  # by the number that a guest had first
        self.rules = []

    def write(self, rules):
        """rules: from, to, endpoint, action, where a tag or * stands for domains."""
        self.rules = rules
        tags = "".join(f"{tag} = dom{domid}\n" for tag, members in self.tags.items() for domid in sorted(members))
        write_host_policy(self.zero, f"[tags]\n{tags}" + "".join(host_rule(from_, to, action, endpoint) for from_, to, endpoint, action in rules))

    def reload(self, rules):
        self.write(rules)
        assert self.zero.xenmsg("policy", "reload").returncode == EXIT_OK

    def concerns(self, what, guest):
        return what == "*" or guest in self.tags[what[1:]]

    def action(self, sender, receiver, endpoint):
        """Where it is left to the guest, that denies it: none has a policy of its own."""
        return next((action for from_, to, pattern, action in self.rules
                     if self.concerns(from_, sender) and self.concerns(to, receiver) and pattern in ("*", endpoint)), "ask-guest")

    def all_know(self):
        """Each guest has the rules that concern it, and no other."""
        for guest in range(1, GUESTS + 1):
            count = sum(self.concerns(to, guest) for _, to, _, _ in self.rules)
            eventually(lambda guest=guest, count=count: rules_of(self.nodes[guest])[0] == count, f"guest {guest} was told {count} rules", 60)

    def holds(self, seed, pairs):
        """Domain 0 forbids no other pair than it should, and the guests do what it says, of these pairs and others by chance."""
        self.all_know()
        asked = [(sender, receiver, endpoint) for sender in range(1, GUESTS + 1) for receiver in range(1, GUESTS + 1) if sender != receiver
                 for endpoint in ENDPOINTS]
        table = "".join(f"dom{sender} dom{receiver}:{endpoint} {'deny' if self.action(sender, receiver, endpoint) == 'deny' else 'allow'}\n"
                        for sender, receiver, endpoint in asked)
        done = self.zero.xenmsg("policy", "test", "-", data=table.encode())
        assert done.returncode == EXIT_OK, done.stdout[-400:]
        chance = random.Random(seed)
        pairs = [(sender, receiver, endpoint) for sender, receiver in pairs for endpoint in ENDPOINTS]
        for sender, receiver, endpoint in pairs + chance.sample(asked, 20):
            expected = LET_IN if self.action(sender, receiver, endpoint) == "allow" else DENIED
            eventually(lambda: attempt(self.nodes[sender], f"{self.nodes[receiver].domid}:{endpoint}") == expected,  # noqa: B023
                       f"{sender} to {receiver}:{endpoint} ends with {expected}")


RULES = [("@ops", "*", "ping", "allow"), ("@web", "@db", "sql", "allow"), ("*", "@db", "*", "deny"), ("@web", "@web", "other", "allow")]


@pytest.fixture(name="guests")
def fifty_guests(many):
    every = many(GUESTS).by_domid
    for node in every.values():
        node.policy = None
    guests = Host(every)
    guests.write(RULES)
    for node in every.values():
        node.start(wait=node.domid == 0)
    for node in every.values():
        node.wait_ready()
    return guests


def test_fifty_guests_do_what_domain_0_says(guests):
    guests.holds(1, [(1, 31), (2, 3), (31, 1), (41, 40), (44, 31)])
    # the toolstack gives a tag
    give_tags(guests.zero, 44, "web")
    give_tags(guests.zero, 45, "db")
    guests.tags["web"].add(44)
    guests.tags["db"].add(45)
    guests.holds(2, [(44, 31), (44, 45), (1, 45), (46, 45)])
    # other rules
    guests.reload([("*", "@ops", "other", "allow"), ("@web", "@db", "sql", "deny"), ("@db", "*", "*", "allow")])
    guests.holds(3, [(1, 31), (2, 3), (31, 1), (50, 41), (45, 44)])
    # a guest's new daemon is told again, as a new one of domain 0 tells all
    guests.reload(RULES)
    for guest in (1, 31, 50):
        guests.nodes[guest].stop()
        guests.nodes[guest].start()
    guests.holds(4, [(1, 31), (31, 1), (50, 32)])
    guests.zero.stop()
    guests.write(RULES[1:])
    guests.zero.start()
    guests.holds(5, [(1, 31), (41, 40), (2, 3)])


def test_a_reload_ends_what_many_guests_send_and_no_more(guests):
    """Twenty guests send to one that takes nothing; ten of them may no longer."""
    guests.all_know()
    receiver = guests.nodes[31]
    senders = [guests.nodes[domid] for domid in range(1, 21)]
    ended = {node.domid: [] for node in senders}
    programs = {}
    try:
        with Connection(receiver.socket, binds="sql") as taker:
            for node in senders:
                programs[node.domid] = program = Connection(node.socket).__enter__()
                eventually(lambda program=program, node=node: program.post("31:sql", bytes(40000), ended[node.domid].append) == 0, "there is room")
            eventually(lambda: all(program.wait(0) >= 0 for program in programs.values()) and
                       sum(link["channels"] > 0 for link in receiver.status()["links"]) == len(senders), "all are under way", 60)
            guests.tags["web"] -= set(range(1, 11))
            guests.reload(RULES)
            eventually(lambda: all(program.wait(10) >= 0 for program in programs.values()) and all(ended[domid] for domid in range(1, 11)),
                       "ten have ended", 60)
            assert not any(ended[domid] for domid in range(11, 21))
    finally:
        for program in programs.values():
            program.close()
