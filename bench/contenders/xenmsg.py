# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg, by the functions in C: messages, calls, streams, and connections that `xenmsg forward` carries."""

from contenders import Contender, Piped, parse
from host import Group, free_port, listens_at_port, wait_until

CONFIG = "[links]\nring-size = {ring}\nmax-ring-size = {ring}\nbusy-poll = {poll}\n"


def daemons(host, ring, poll="100us"):
    """The pair of domains with these daemons, and the daemons; those that run are used again."""
    running = host.__dict__.setdefault("xenmsg_daemons", {})
    if (ring, poll) not in running:
        pair = host.new_pair()
        running[ring, poll] = pair, [host.start_daemon(domid, CONFIG.format(ring=ring, poll=poll)) for domid in pair]
    return running[ring, poll]


def own_daemons(host, ring, poll):
    """A pair that nobody else uses."""
    pair = host.new_pair()
    config = CONFIG.format(ring=ring, poll=poll) if ring else ""
    return pair, [host.start_daemon(domid, config) for domid in pair]


class Messages(Contender):
    key, label = "xenmsg", "xenmsg"
    has_rings = short = True
    poll = "100us"
    role = "client"

    def start(self, host, ring):
        super().start(host, ring)
        (self.client, self.server), self.daemons = self.find_daemons()
        self.group = Group(host)
        self.group.others = self.daemons
        self.group.serve(1, self.program("bench-chain"), "server", domid=self.server)
        host.background += self.group.processes

    def find_daemons(self):
        return daemons(self.host, self.ring, self.poll)

    def measure(self, mode, size, seconds):
        return parse(self.host.run(0, self.program("bench-chain"), self.role, self.server, mode, size, seconds,
                                   domid=self.client, pids=self.group.pids()))


class Default(Messages):
    """As it is installed: its rings grow when they are used. Compared with raw's 64 KiB, with which they begin."""

    key, label = "xenmsg-default", "xenmsg, default settings"
    has_rings = False

    def find_daemons(self):
        return own_daemons(self.host, None, self.poll)


class Lending(Messages):
    """The messages are written where they are sent from, and read where they arrive. One of 64 KiB is too large for that by 16
    bytes, so it is smaller by so many."""

    key, label = "xenmsg-lend", "xenmsg, lending"
    short = False
    role = "lend"

    def find_daemons(self):
        return own_daemons(self.host, self.ring, self.poll)  # the server binds what that of Messages does

    def measure(self, mode, size, seconds):
        return super().measure(mode, 65520 if size == 65536 else size, seconds)


class Granting(Messages):
    """Of two guests the lower one maps what the other one grants, and keeps a copy of what it writes there (for a restore): in
    Messages the sender's, here the receiver's."""

    key, label = "xenmsg-grant", "xenmsg, a granter sends"
    short = False

    def find_daemons(self):
        server, client = self.host.new_pair()
        config = CONFIG.format(ring=self.ring, poll=self.poll)
        return (client, server), [self.host.start_daemon(domid, config, side=side) for side, domid in enumerate((client, server))]


class Zero(Messages):
    """Domain 0 maps, and makes no copy, since it is never restored. It is that of a host of its own."""

    key, label = "xenmsg-zero", "xenmsg, domain 0 sends"
    short = False

    def start(self, host, ring):
        super().start(host.another(1), ring)

    def find_daemons(self):
        config = CONFIG.format(ring=self.ring, poll=self.poll)
        return (0, 1), [self.host.start_daemon(domid, config, side=domid) for domid in (0, 1)]


class Quiet(Messages):
    key, label = "xenmsg-quiet", "xenmsg, busy-poll = 0"
    short = False
    poll = "0"


class Relayed(Messages):
    """Two PV guests, which can have no link with each other. They grant, so their rings have the size that they say."""

    key, label = "xenmsg-relay", "xenmsg, through domain 0"
    short = False

    def find_daemons(self):
        if not hasattr(self.host, "xenmsg_relay"):
            self.host.xenmsg_relay = self.host.start_daemon(0, CONFIG.format(ring="64K", poll=self.poll), side=1)
        pair = [self.host.create("--type", "pv") for _ in range(2)]
        config = CONFIG.format(ring=self.ring, poll=self.poll)
        return pair, [self.host.xenmsg_relay] + [self.host.start_daemon(domid, config, side=side)
                                                 for side, domid in enumerate(pair)]


class Streamed(Piped):
    has_rings = True

    def start(self, host, ring):
        super().start(host, ring)
        (self.client, self.server), self.daemons = daemons(host, ring)


class Streams(Streamed):
    key, label = "xenmsg-stream", "xenmsg, a stream"

    def build_group(self, group):
        tool = self.host.tool("bench-socket")
        endpoint = self.host.new_name().rpartition("/")[2]
        group.serve(1, tool, "server", f"xenmsg:{endpoint}", domid=self.server)
        group.others = self.daemons
        return (tool, "client", f"xenmsg:{self.server}:{endpoint}"), self.client

    def carry(self, group, port):
        """Starts what carries TCP connections from the client's side to this port of the server's. Returns the port there."""
        endpoint, entry = self.host.new_name().rpartition("/")[2], free_port()
        xenmsg = self.host.tool("xenmsg")
        # redis-benchmark resets its connections at the end, and of each there is a line
        with open(f"{self.host.dir}/forward-{endpoint}.log", "a", encoding="utf-8") as log:
            group.start(1, xenmsg, "forward", f"xen:{endpoint}", f"tcp:127.0.0.1:{port}", domid=self.server, stderr=log)
            group.start(0, xenmsg, "forward", f"tcp:127.0.0.1:{entry}", f"xen:{self.server}:{endpoint}", domid=self.client, stderr=log)
        wait_until(lambda: listens_at_port(entry), "xenmsg forward")
        wait_until(lambda: endpoint in self.host.run(1, xenmsg, "endpoints", "self", domid=self.server), "its endpoint")
        group.others = self.daemons
        return entry


class Mux(Streamed):
    """A stream of a session that may carry many."""

    key, label = "xenmsg-mux", "xenmsg, a stream in a session"

    def build_group(self, group):
        tool = self.host.tool("bench-mux")
        endpoint = self.host.new_name().rpartition("/")[2]
        group.serve(1, tool, "server", endpoint, domid=self.server)
        group.others = self.daemons
        return (tool, "client", f"{self.server}:{endpoint}"), self.client


CONTENDERS = [Default, Messages, Granting, Zero, Lending, Quiet, Relayed, Streams, Mux]
