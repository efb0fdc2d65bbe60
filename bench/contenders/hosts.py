# SPDX-License-Identifier: LGPL-2.1-or-later
"""From one host to another over a nats-server: plain NATS, and xenmsg with a gateway on each host, over the same server."""

import os
import shutil
import subprocess

from contenders import Contender, make_with_header, parse
from host import Group, Host, cpu_seconds, free_port, listens_at_port, wait_until

POLICY = "[rule]\nfrom = *, */*\nto = *\naction = allow\n[out]\nfrom = *\nto = *\naction = allow\n"
NATS_SERVER = shutil.which("nats-server", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def nats_url(host):
    """A server for all contenders. Nobody is too slow for it."""
    if not hasattr(host, "nats_port"):
        host.nats_port = free_port()
        path = os.path.join(host.dir, "nats.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(f'listen: "127.0.0.1:{host.nats_port}"\nmax_pending: 1GB\n')
        # It has no CPU of its own: what it takes, it takes from both sides, and from every contender.
        host.background.append(subprocess.Popen([NATS_SERVER, "-c", path], stderr=subprocess.DEVNULL))  # pylint: disable=consider-using-with
        wait_until(lambda: listens_at_port(host.nats_port), "nats-server")
    return f"nats://127.0.0.1:{host.nats_port}"


class Nats(Contender):
    key, label = "nats", "NATS"
    modes = ("rtt", "stream")
    largest = 1 << 20

    def missing(self, build):
        if not NATS_SERVER:
            return "nats-server is not there (package nats-server)"
        return make_with_header(build, "bench-nats", "nats/nats.h", "libnats-dev")

    def measure(self, mode, size, seconds):
        url, subject = nats_url(self.host), os.path.basename(self.host.new_name())
        with Group(self.host) as group:
            group.serve(1, self.host.tool("bench-nats"), "server", url, subject)
            pids = group.pids() + [process.pid for process in self.host.background if process.args[0] == NATS_SERVER]
            return parse(self.host.run(0, self.host.tool("bench-nats"), "client", url, subject, mode, size, seconds, pids=pids))


class Hosts(Contender):
    """Between the domains 0 of two simulated hosts."""

    key, label = "xenmsg-hosts", "xenmsg, between hosts"
    yardstick = "nats"

    def missing(self, build):
        if not os.access(os.path.join(build, "xenmsg-gateway"), os.X_OK):
            return "it was built without NATS"
        return None if NATS_SERVER else "nats-server is not there (package nats-server)"

    def start(self, host, ring):
        super().start(host, ring)
        url = nats_url(host)
        self.hosts = [host.another(domains=1) for _ in range(2)]
        self.gateways, self.daemons = [], []
        for side, (one, name) in enumerate(zip(self.hosts, ("hosta", "hostb"))):
            self.daemons.append(one.start_daemon(0, f"[hosts]\nname = {name}\n", side=side, policy=POLICY))
            path = os.path.join(one.dir, "gateway.conf")
            with open(path, "w", encoding="ascii") as file:
                file.write(f"[nats]\nservers = {url}\n[gateway]\ndaemon-socket = {one.dir}/dom-0/gateway.sock\n")
            with open(os.path.join(one.dir, "gateway.log"), "w", encoding="utf-8") as log:
                self.gateways.append(one.start(side, one.tool("xenmsg-gateway"), "--config", path, stdout=log, stderr=log))
            one.background.append(self.gateways[-1])
        for one in self.hosts:
            wait_until(lambda one=one: any(other["up"] for other in one.status(0)["hosts"]["others"]), "the hosts know each other")
        self.group = Group(self.hosts[1])
        self.group.serve(1, host.tool("bench-chain"), "server", domid=0)
        self.group.others = self.daemons + self.gateways + [process for process in host.background if process.args[0] == NATS_SERVER]
        self.hosts[1].background += self.group.processes

    def measure(self, mode, size, seconds):
        before = cpu_seconds(process.pid for process in self.gateways)
        found = parse(self.hosts[0].run(0, self.host.tool("bench-chain"), "client", "hostb/0", mode, size, seconds, domid=0,
                                        pids=self.group.pids(), timeout=30 + seconds))
        found["gateways"] = cpu_seconds(process.pid for process in self.gateways) - before
        return found


CONTENDERS = [Nats, Hosts]
