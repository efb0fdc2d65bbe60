# SPDX-License-Identifier: LGPL-2.1-or-later
"""What xensim's XenStore, which follows oxenstored, has in common with C xenstored.

The requests are those of well-behaved programs, and the known differences are a list. Some of them leave the two stores in
different states, so that nothing more can be compared.
"""

from daemons import (GET_DOMAIN_PATH, GUESTS, MKDIR, RM, SET_PERMS, TRANSACTION_END, TRANSACTION_START, UNWATCH, WATCH, WRITE)
from differential import LEAVES, Chance, error_of


class PortableChance(Chance):
    """Requests as libxenstore makes them, about valid paths. Never made, besides:
    - permissions to write for other domains than the owner: what they then make belongs to the parent's owner with oxenstored,
      and to its maker with C xenstored
    - requests beyond a quota: other numbers, counted otherwise
    - what only a toolstack asks
    """

    # A transaction that is disturbed mostly ends the comparison.
    WITHIN = 0.99

    def connection(self):
        busy = [name for name, transactions in self.open.items() if transactions]
        return self.random.choice(busy) if busy and self.random.random() < self.WITHIN else super().connection()

    def random_request(self):
        """Of two transactions at a time one disturbs the other."""
        request = super().random_request()
        while request.kind == TRANSACTION_START and not request.transaction and sum(map(len, self.open.values())) > 1:
            self.open[request.connection].pop()
            request = super().random_request()
        return request

    def any_path(self, connection):
        chance = self.random.random()
        leaf = self.random.choice(LEAVES)
        if chance < 0.5:
            return f"data/{leaf}" if chance < 0.45 else "data"
        if chance < 0.6:
            return f"/common/{leaf}" if chance < 0.58 else "/common"
        domid = connection if connection.isdigit() and chance < 0.75 else self.random.randint(1, GUESTS)
        return f"/local/domain/{domid}/data/{leaf}" if chance < 0.95 else f"/local/domain/{domid}/data"

    def perms(self):
        count = self.random.choice([1, 1, 2, 2, 3])
        return "".join(f"{self.random.choice('nr')}{self.random.randint(0, GUESTS)}\0" for _ in range(count))

    def value(self):
        return self.random.choice(["", "v", "w", "vv"])

    def rare(self, connection, transaction):
        return self.request(connection, GET_DOMAIN_PATH, f"{self.random.randint(0, GUESTS + 1)}\0", transaction)

    def prelude(self):
        yield from list(super().prelude())[:-1]  # /common is domain 0's
        yield self.request("0a", SET_PERMS, "/common\0r0\0")

    def requests(self, count):
        for request in super().requests(count):
            if self.is_portable(request):
                yield request

    @staticmethod
    def is_portable(request):
        strings = request.payload.split(b"\0")
        if request.transaction < 0 or (request.kind in (WATCH, UNWATCH, TRANSACTION_START) and request.transaction):
            return False
        if request.kind == TRANSACTION_END:
            return request.payload in (b"T\0", b"F\0") and request.transaction > 0
        if request.kind in (WATCH, UNWATCH):
            return len(strings) == 3 and strings[0] and not strings[2]
        if request.kind in (WRITE, SET_PERMS):
            return len(strings) > 1 and bool(strings[0])
        return request.kind == TRANSACTION_START or len(strings) == 2 and bool(strings[0]) and not strings[1]


def reply_of(request, got):
    """What the request was answered. Names of a directory are in order: C xenstored has them as they were made."""
    kind, payload, _ = next(message for message in got[request.connection] if len(message) == 3)
    return kind, b"\0".join(sorted(payload.split(b"\0"))) if kind == "DIRECTORY" else payload


def events_of(got):
    """By connection. Their order and number is left out: C xenstored goes through a connection's watches in the order in which
    they were set, fires once for each node in a transaction, and never has one event twice in a queue."""
    return {name: {message[1] for message in messages if message[0] == "WATCH_EVENT"} for name, messages in got.items()}


# What C xenstored refuses with, and what oxenstored does, when both refuse.
ERRORS = {
    (b"EACCES\0", b"ENOENT\0"): "C xenstored doesn't tell who may not know that there is no such node",
    (b"EPERM\0", b"EACCES\0"): "the owner gives a node away",
    (b"ENOENT\0", b"EIO\0"): "there is no such transaction, or no more",
}


def as_xenstored(request, past, real, simulated):
    """Whether all is the same, or a known difference; None after one that leaves the stores in different states."""
    theirs, ours = error_of(request, real), error_of(request, simulated)
    if theirs != ours:
        if theirs and ours:
            return (theirs, ours) in ERRORS
        # C xenstored looks at permissions also when there is nothing to remove.
        if request.kind == RM and theirs == b"EACCES\0":
            return not any(events_of(simulated).values())
        # Its transactions fail if anything has changed that they looked at, also in vain, and if they only read.
        if request.kind == TRANSACTION_END and theirs == b"EAGAIN\0":
            return None
    same = reply_of(request, real) == reply_of(request, simulated)
    # A transaction has no snapshot there: what it hasn't touched it sees as others leave it.
    if not same and request.transaction:
        return None
    ours, theirs = events_of(simulated), events_of(real)
    if request.kind == TRANSACTION_END:
        # Of what was changed and then removed in a transaction, each tells something else.
        return same and (ours == theirs or any(other.kind == RM and other.transaction == request.transaction for other in past))
    if request.kind == RM:
        # In C xenstored only watches on nodes that were in it hear of a removed directory.
        return same and all(theirs[name] <= ours[name] for name in theirs)
    return same and ours == theirs


def messages_of(got):
    """By connection, in order. An event that waits already isn't sent once more by C xenstored, so equal ones are one."""
    return {name: list(dict.fromkeys(message[:2] for message in messages)) for name, messages in got.items()}


def as_imitated(request, past, real, simulated):
    """Whether xensim's imitation of C xenstored does the same, in the same order; None after what it knows to do otherwise: a
    transaction is a snapshot, so it may be refused, or read what was, where others have written since it began."""
    if request.transaction and error_of(request, simulated) == b"EAGAIN\0" and not error_of(request, real):
        return None
    if request.kind == TRANSACTION_END and any(other.kind == RM and other.transaction == request.transaction for other in past):
        # Of what was changed and then removed in a transaction, each tells something else.
        return reply_of(request, real) == reply_of(request, simulated)
    same = messages_of(real) == messages_of(simulated)
    return same or (None if request.transaction and others_wrote(request, past) else False)


def others_wrote(request, past):
    """Whether anything was changed outside of the transaction since it began."""
    since = [other for other in past if other.number > request.transaction]
    return any(other.transaction != request.transaction and other.kind in (WRITE, MKDIR, RM, SET_PERMS, TRANSACTION_END) for other in since)
