# SPDX-License-Identifier: LGPL-2.1-or-later
"""The same requests to two stores, side by side: random ones from several domains, by a seed.

After each request every connection asks for something harmless, whose reply comes behind all events of the request: so what a
store sends because of one request is known completely, and in order.
"""

import dataclasses
import random
import re

from daemons import (CONTROL, DIRECTORY, DIRECTORY_PART, ERROR, GET_DOMAIN_PATH, GET_PERMS, GUESTS, INTRODUCE, IS_DOMAIN_INTRODUCED,
                     MKDIR, READ, RELEASE, RESET_WATCHES, RESUME, RM, SET_PERMS, SET_TARGET, TRANSACTION_END,
                     TRANSACTION_START, UNWATCH, WATCH, WATCH_EVENT, WRITE)

NAMES = {CONTROL: "CONTROL", DIRECTORY: "DIRECTORY", READ: "READ", GET_PERMS: "GET_PERMS", WATCH: "WATCH", UNWATCH: "UNWATCH",
         TRANSACTION_START: "TRANSACTION_START", TRANSACTION_END: "TRANSACTION_END", INTRODUCE: "INTRODUCE",
         RELEASE: "RELEASE", GET_DOMAIN_PATH: "GET_DOMAIN_PATH", WRITE: "WRITE", MKDIR: "MKDIR", RM: "RM",
         SET_PERMS: "SET_PERMS", WATCH_EVENT: "WATCH_EVENT", ERROR: "ERROR", IS_DOMAIN_INTRODUCED: "IS_DOMAIN_INTRODUCED",
         RESUME: "RESUME", SET_TARGET: "SET_TARGET", RESET_WATCHES: "RESET_WATCHES", DIRECTORY_PART: "DIRECTORY_PART"}
BARRIER = 0x7fff0000
NUDGE = 0x7fff0001
UNKNOWN_TRANSACTION = 0x1234567
PAYLOAD_MAX = 4096


@dataclasses.dataclass(frozen=True)
class Request:
    number: int
    connection: str
    kind: int
    payload: bytes
    transaction: int = 0  # the number of the request that began it; -1: one that never was

    def __str__(self):
        within = f" in transaction {self.transaction}" if self.transaction else ""
        return f"{self.number}: {self.connection} {NAMES.get(self.kind, self.kind)} {self.payload!r}{within}"


class Player:
    """Plays requests to one store, and tells what came of each."""

    def __init__(self, store):
        self.store = store
        self.transactions = {}

    def play(self, request):
        """Per connection, what it got, in order. None if the connection isn't there."""
        connections = self.store.connections
        if request.connection not in connections:
            return None
        begun = self.transactions.get(request.transaction, (None, UNKNOWN_TRANSACTION))
        transaction = begun[1] if request.transaction else 0
        newcomer = guest_of(request) if request.kind == INTRODUCE else None
        if newcomer and newcomer not in connections:
            self.store.prepare_guest(newcomer)
        connections[request.connection].request(request.kind, request.number, transaction, request.payload)
        if not request.payload:
            # By the socket oxenstored looks at such a request only when more has come.
            connections[request.connection].request(GET_DOMAIN_PATH, NUDGE, 0, b"0\0")
        got = {name: [] for name in connections}
        kind, _, echoed, payload = self.receive_until(request.connection, request.number, got)
        if kind == TRANSACTION_START and payload[:-1].isdigit():
            self.transactions[request.number] = request.connection, int(payload[:-1])
            payload = b"an id\0"
        got[request.connection].append((NAMES.get(kind, kind), payload, "its own" if echoed == transaction else echoed))
        if not request.payload:
            self.receive_until(request.connection, NUDGE, got)
        if kind == RELEASE and guest_of(request) in connections:
            # Its kernel has gone with it.
            connections.pop(guest_of(request)).close()
            self.transactions = {number: begun for number, begun in self.transactions.items() if begun[0] != guest_of(request)}
            del got[guest_of(request)]
            for _ in range(2):
                self.barrier({"0b": []})
        self.barrier(got)
        if kind == INTRODUCE and newcomer and newcomer not in connections:
            connections[newcomer] = self.store.guest(newcomer)
        return got

    def receive_until(self, name, number, got):
        while True:
            message = self.store.connections[name].message()
            if message[0] != WATCH_EVENT and message[1] == number:
                return message
            got[name].append((NAMES.get(message[0], message[0]), message[3]))

    def barrier(self, got):
        for name in got:
            self.store.connections[name].request(GET_DOMAIN_PATH, BARRIER, 0, b"0\0")
        for name in got:
            self.receive_until(name, BARRIER, got)


def guest_of(request):
    """The name of the guest that a request to introduce or release one means; None if there is none such."""
    text = request.payload.split(b"\0")[0].decode("latin-1")
    try:
        number = int(text.replace("0u", ""), 0)
    except ValueError:
        return None
    return str(number) if 1 <= number <= GUESTS else None


# ---- requests by chance ------------------------------------------------------------------------------------------------------

LEAVES = ["a", "b", "a/x", "a/y", "a/x/1", "b/x", "b/y/1/2"]
ODD_PATHS = ["/", "/local", "/local/domain", "/tool", "/tool/a", "/a", "/a/b", "@introduceDomain", "@releaseDomain",
             "/@releaseDomain", "@other", "/@other", "@a/b", "", "//", "/a//b", "/a/", "a/", "/a b", "/a.b", ".", "a\x80",
             "/local/domain/1/" + "a" * 1024, "/local/domain/1/" + "a" * 1025, "/" + "b" * 1023, "/" + "b" * 1024,
             "/" + "b" * 2047, "/local/domain/1/" + "c" * 2048, "d" * 1024, "d" * 1025, "d" * 2049, "@" + "e" * 1024]
PERMS = ["n", "r", "w", "b"]
ODD_PERMS = ["n99999", "n-1", "n-1", "r-1", "x1", "n", "", "n1x", "n 1", "n0x2", "n1_0", "n+2", "n65536", "r4294967296", "n01",
             "n99999999999999999999", "b0b11", "rr1"]
NUMBERS = ["0", "1", "2", "3", "4", "99999", "text", "", "-1", "0x1", "1x", "x1", " 1", "1 ", "32752", "4294967297", "1_0", "+1",
           "0u3", "12a34"]
TOKENS = ["s", "t", "u", ""]


class Chance:
    """Makes requests. What they mean to a store it doesn't know, except which transactions may be open."""

    WITHIN = 0.5  # how many of the requests of a connection with a transaction are in it

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.number = 0
        self.open = {}
        self.hot = []

    def request(self, connection, kind, payload, transaction=0):
        self.number += 1
        if isinstance(payload, str):
            payload = payload.encode("latin-1")
        payload = payload[:PAYLOAD_MAX]
        return Request(self.number, connection, kind, payload, transaction)

    def prelude(self):
        """What a toolstack does for its domains."""
        for domid in range(1, GUESTS + 1):
            home = f"/local/domain/{domid}"
            yield self.request("0a", WRITE, f"{home}\0")
            yield self.request("0a", SET_PERMS, f"{home}\0n0\0r{domid}\0")
            yield self.request("0a", WRITE, f"{home}/data\0")
            yield self.request("0a", SET_PERMS, f"{home}/data\0n{domid}\0")
            yield self.request("0a", INTRODUCE, f"{domid}\0{domid + 100}\0{domid + 10}\0")
        yield self.request("0a", WRITE, "/common\0")
        yield self.request("0a", SET_PERMS, "/common\0b0\0")

    def path(self, connection):
        """Half of the time one of three, so that connections meet."""
        if self.number % 64 == 0 or not self.hot:
            self.hot = [self.any_path(connection) for _ in range(3)]
        return self.random.choice(self.hot) if self.random.random() < 0.5 else self.any_path(connection)

    def any_path(self, connection):
        chance = self.random.random()
        if chance < 0.08:
            return self.random.choice(ODD_PATHS)
        leaf = self.random.choice(LEAVES)
        if chance < 0.35:
            return f"data/{leaf}" if chance < 0.33 else "data"
        if chance < 0.55:
            return f"/common/{leaf}" if chance < 0.53 else "/common"
        domid = connection if connection.isdigit() and chance < 0.7 else self.random.randint(1, GUESTS)
        return f"/local/domain/{domid}/data/{leaf}" if chance < 0.95 else f"/local/domain/{domid}"

    def perms(self):
        count = self.random.choice([1, 1, 2, 2, 3, 4, 6]) if self.random.random() < 0.97 else 0
        entries = [self.random.choice(PERMS) + str(self.random.randint(0, GUESTS)) for _ in range(count)]
        if self.random.random() < 0.05 and entries:
            entries[self.random.randrange(len(entries))] = self.random.choice(ODD_PERMS)
        return "\0".join(entries) + ("\0" if self.random.random() < 0.98 else "")

    def value(self):
        chance = self.random.random()
        if chance < 0.9:
            return self.random.choice(["", "v", "v", "w", "v\0", "\0w"])
        return "v" * self.random.choice([10, 500, 2000, 2048, 2049, 3000])

    def connection(self):
        return self.random.choice(["0a", "0a", "0b"] + [str(domid) for domid in range(1, GUESTS + 1)] * 2)

    def random_request(self):
        r = self.random
        connection = self.connection()
        open_here = self.open.setdefault(connection, [])
        transaction = r.choice(open_here) if open_here and r.random() < self.WITHIN else 0
        if r.random() < 0.004:
            transaction = -1
        kind = r.choices([READ, WRITE, MKDIR, RM, DIRECTORY, GET_PERMS, SET_PERMS, WATCH, UNWATCH, TRANSACTION_START,
                          TRANSACTION_END, "rare"], [8, 14, 6, 7, 4, 3, 10, 6, 3, 6, 5, 4])[0]
        if kind == "rare":
            return self.rare(connection, transaction)
        if kind == TRANSACTION_START:
            transaction = transaction if r.random() < 0.05 else 0
            request = self.request(connection, kind, "\0", transaction)
            if not transaction:
                open_here.append(request.number)
                del open_here[:-6]
            return request
        if kind == TRANSACTION_END:
            if not transaction and open_here:
                transaction = r.choice(open_here)
            payload = "T\0" if r.random() < 0.8 else "F\0"
            if r.random() < 0.05:
                payload = r.choice(["T", "F", "", "\0", "x\0", "T\0\0", "TT\0", "T\0x"])
            elif transaction in open_here and r.random() < 0.97:
                open_here.remove(transaction)
            return self.request(connection, kind, payload, transaction)
        path = self.path(connection)
        payload = path + "\0"
        if kind == WRITE:
            payload += self.value()
        elif kind == SET_PERMS:
            payload += self.perms()
        elif kind in (WATCH, UNWATCH):
            payload += r.choice(TOKENS) + "\0"
        if r.random() < 0.01:
            payload = r.choice([payload[:-1], payload + "x", payload + "\0", payload + "x\0", "", "\0"])
        return self.request(connection, kind, payload, transaction)

    def rare(self, connection, transaction):
        r = self.random
        number = r.choice(NUMBERS)
        end = "\0" if r.random() < 0.9 else r.choice(["", "\0\0", "\0x"])
        kind = r.choice([CONTROL, GET_DOMAIN_PATH, IS_DOMAIN_INTRODUCED, INTRODUCE, INTRODUCE, RELEASE, RELEASE, RESUME,
                         SET_TARGET, RESET_WATCHES, DIRECTORY_PART, 15, 16, 20, 23, 1000])
        if kind == RELEASE:
            if number in ("0", "-1"):
                number = "1"
            if connection.isdigit():
                connection, transaction = "0b", 0
        if kind == CONTROL:
            payload = r.choice(["", "\0", "help\0", "print\0x\0", f"quota\0{r.randint(1, GUESTS)}\0", "quota\0"])
        elif kind == SET_TARGET:
            payload = f"{r.choice(['1', '2', '3', number])}\0{r.choice(['0', '1', '2', number])}{end}"
        elif kind == INTRODUCE:
            domid = r.randint(1, GUESTS)
            payload = r.choice([f"{number}{end}", f"{domid}\0{number}{end}"] + 4 * [f"{domid}\0{domid + 100}\0{domid + 10}\0"])
        elif kind == DIRECTORY_PART:
            payload = f"{self.path(connection)}\0{number}{end}"
        elif kind == RESET_WATCHES:
            payload = r.choice(["", "\0", "x"])
            self.open[connection] = []
        else:
            payload = number + end
        return self.request(connection, kind, payload, transaction)

    def requests(self, count):
        yield from self.prelude()
        for _ in range(count):
            yield self.random_request()


# ---- comparing ---------------------------------------------------------------------------------------------------------------

# What oxenstored can do again, when it tries a transaction on what others have changed.
REPEATABLE = {READ, DIRECTORY, GET_PERMS, GET_DOMAIN_PATH, WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR}


def einval_for_what_cannot_be_repeated(request, past, real, simulated):
    """A transaction that conflicts, and had another kind of request in it, ends in EAGAIN here. In oxenstored the search for
    whom to blame for it may stumble over that request, and the answer is EINVAL instead."""
    return (request.kind == TRANSACTION_END and error_of(request, real) == b"EINVAL\0"
            and error_of(request, simulated) == b"EAGAIN\0"
            and any(other.transaction == request.transaction and other.kind not in REPEATABLE for other in past))


# Differences that are known. Requests that are never made, and why:
# - RELEASE of domain 0, after which oxenstored has no source of special events, and of itself by a domain, which then has no ring
#   for the answer
# - messages of more than 4096 bytes, of which oxenstored takes the first 4096 for a message, and reads on within
# - special nodes with characters that other paths can't have, of which it tells a watch on / by a second answer, EIO
# - READ of /tool/xenstored, which is the daemon's path
ACCEPTED = [einval_for_what_cannot_be_repeated]


def error_of(request, got):
    """What the request was refused with, if it was."""
    return next((message[1] for message in got[request.connection] if message[0] == "ERROR" and len(message) == 3), None)


def shown(got):
    return {name: messages for name, messages in (got or {}).items() if messages}


def as_oxenstored(request, past, real, simulated):
    """Whether all is the same, or the difference a known one."""
    return real == simulated or any(accepts(request, past, real, simulated) for accepts in ACCEPTED)


def first_difference(make_stores, requests, compare=as_oxenstored):
    """Plays to the real one and to the simulated one until they differ. Returns the position and both outcomes; None if they
    never do, or if the comparison has said by None that nothing is to be compared from here."""
    with make_stores[0]() as one, make_stores[1]() as other:
        players = Player(one), Player(other)
        for position, request in enumerate(requests):
            outcomes = []
            for player in players:
                try:
                    outcomes.append(player.play(request))
                except (TimeoutError, OSError, EOFError) as error:
                    outcomes.append(repr(error))
            if outcomes == [None, None]:
                continue
            if any(isinstance(outcome, str) for outcome in outcomes):
                return position, outcomes
            verdict = compare(request, requests[:position], *outcomes)
            if verdict is None:
                return None
            if not verdict:
                return position, outcomes
    return None


def minimised(make_stores, requests, compare=as_oxenstored, budget=200):
    """The fewest of the requests, as far as the budget of trials goes, that still end in a difference."""
    found = first_difference(make_stores, requests, compare)
    if not found:
        return None
    requests = requests[:found[0] + 1]
    step = max(1, len(requests) // 2)
    while budget > 0:
        position, shorter = 0, False
        while position < len(requests) - 1 and budget > 0:
            fewer = requests[:position] + requests[position + step:]
            budget -= 1
            again = first_difference(make_stores, fewer, compare) if fewer else None
            if again and fewer[again[0]] == requests[-1]:
                requests, found, shorter = fewer[:again[0] + 1], again, True
            else:
                position += step
        if step == 1 and not shorter:
            break
        step = max(1, step // 2)
    return requests, found[1]


def report(requests, outcomes, names):
    lines = [str(request) for request in requests]
    for name, outcome in zip(names, outcomes):
        lines.append(f"{name}: {outcome if isinstance(outcome, str) else shown(outcome)}")
    return "\n".join(re.sub(r"(.)\1{60,}", lambda m: f"{m[1]}*{len(m[0])}", line) for line in lines)
