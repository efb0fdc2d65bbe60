# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the presence of many hosts costs: so many gateways on one nats-server, beside what doc/hosts.md says.

The gateways are the real ones. Their daemons are played here: each welcomes its gateway, and notes which hosts that tells of."""

import contextlib
import json
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request
import uuid

from host import Failed, cpu_seconds, free_port, resident

PATIENCE = 120


class Daemons:
    """The daemons' sides of all gateways."""

    def __init__(self, directory):
        self.directory = directory
        self.selector = selectors.DefaultSelector()
        self.up = {}  # host: those that its gateway tells of

    def add(self, host):
        path = os.path.join(self.directory, f"{host}.sock")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(path)
        listener.listen()
        self.up[host] = set()
        self.selector.register(listener, selectors.EVENT_READ, (self.on_connection, host))
        return path

    def on_connection(self, listener, host):
        connection, _ = listener.accept()
        self.selector.register(connection, selectors.EVENT_READ, (self.on_packet, host))

    def on_packet(self, connection, host):
        data = connection.recv(65536)
        if not data:
            self.selector.unregister(connection)
            connection.close()
            return
        packet = json.loads(data)
        if packet["type"] == "hello":
            connection.send(json.dumps({"type": "welcome", "version": 1, "host": host, "instance": str(uuid.uuid4())}).encode())
        elif packet["type"] == "host":
            (self.up[host].add if packet["up"] else self.up[host].discard)(packet["host"])

    def run(self, seconds, condition=lambda: False):
        """For so long, or until the condition holds. Returns whether it does."""
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                return False
            for key, _ in self.selector.select(min(left, 0.1)):
                key.data[0](key.fileobj, key.data[1])
        return True

    def wait(self, condition, what):
        if not self.run(PATIENCE, condition):
            raise Failed(f"waited in vain: {what}")


class Network:
    def __init__(self, gateway, interval, directory):
        self.gateway, self.interval, self.directory = gateway, interval, directory
        self.daemons = Daemons(directory)
        self.port, self.monitor = free_port(), free_port()
        config = os.path.join(directory, "nats.conf")
        with open(config, "w", encoding="ascii") as file:
            file.write(f'listen: "127.0.0.1:{self.port}"\nhttp: "127.0.0.1:{self.monitor}"\n')
        server = shutil.which("nats-server", path=os.environ["PATH"] + ":/usr/sbin") or "nats-server"
        self.server = subprocess.Popen([server, "-c", config], stderr=subprocess.DEVNULL)
        self.gateways = {}
        self.daemons.wait(self.varz, "nats-server listens")
        self.subscriptions = self.varz()["subscriptions"]  # its own

    def varz(self):
        """What the server has counted, or None."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/varz") as answer:
            return json.load(answer)

    def start(self, host):
        path = os.path.join(self.directory, f"{host}.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"[nats]\nservers = nats://127.0.0.1:{self.port}\n[gateway]\ndaemon-socket = {self.daemons.add(host)}\n"
                       f"presence-interval = {self.interval}s\ndead-after = {3 * self.interval}s\nlog-level = warning\n")
        self.gateways[host] = subprocess.Popen([self.gateway, "--config", path], stderr=subprocess.DEVNULL)

    def all_up(self):
        return all(len(up) == len(self.gateways) - 1 for up in self.daemons.up.values())

    def stop(self):
        for process in [*self.gateways.values(), self.server]:
            process.kill()
        for process in [*self.gateways.values(), self.server]:
            process.wait()


def count(network, seconds):
    """What the server has taken and delivered in this time, and what all have used of a CPU."""
    pids = [process.pid for process in network.gateways.values()]
    before, used = network.varz(), [cpu_seconds([pid]) for pid in [network.server.pid, *pids]]
    began = time.monotonic()
    network.daemons.run(seconds)
    took, after = time.monotonic() - began, network.varz()
    used = [100 * (cpu_seconds([pid]) - b) / took for pid, b in zip([network.server.pid, *pids], used)]
    return {"seconds": took, "cpu_percent": {"server": used[0], "gateway": statistics.median(used[1:])},
            **{what: after[what] - before[what] for what in ("in_msgs", "out_msgs", "in_bytes", "out_bytes")}}


@contextlib.contextmanager
def network_of(gateway, hosts, interval):
    """So many hosts that know each other."""
    with tempfile.TemporaryDirectory(prefix="xenmsg-hosts-") as directory:
        network = Network(gateway, interval, directory)
        try:
            for number in range(hosts):
                network.start(f"host{number:05d}")
            network.daemons.wait(network.all_up, f"{hosts} hosts know each other")
            network.daemons.run(2)  # until all greetings are over
            yield network
        finally:
            network.stop()


def measure_newcomer(gateway, hosts):
    """What one more costs, while nobody else has anything to say."""
    with network_of(gateway, hosts, 120) as network:
        before, began = network.varz()["out_msgs"], time.monotonic()
        network.start("newcomer")
        network.daemons.wait(network.all_up, "one more is known to all")
        known = time.monotonic() - began
        network.daemons.run(2)
        return {"newcomer_messages": network.varz()["out_msgs"] - before, "newcomer_known_s": known}


def measure(gateway, hosts, interval, seconds):
    """The numbers for so many hosts."""
    with network_of(gateway, hosts, interval) as network:
        steady = count(network, seconds)
        rate = steady["out_msgs"] / steady["seconds"]
        found = {
            "hosts": hosts, "interval_s": interval, "to_a_host_per_s": rate / hosts, "delivered_per_s": rate,
            "bytes_per_message": steady["out_bytes"] / steady["out_msgs"], "cpu_percent": steady["cpu_percent"],
            "subscriptions_per_host": (network.varz()["subscriptions"] - network.subscriptions) / hosts,
            "memory": {"server": resident(network.server.pid),
                       "gateway": int(statistics.median(resident(process.pid) for process in network.gateways.values()))},
        }
        network.gateways["host00000"].kill()
        began = time.monotonic()
        network.daemons.wait(lambda: not any("host00000" in up for up in network.daemons.up.values()), "a killed one is down")
        found["killed_down_s"] = time.monotonic() - began
    return found | measure_newcomer(gateway, hosts)


# What NATS adds to a presence: "MSG xenmsg.presence.host00000 1 150", and two line ends.
ADDED = len("MSG xenmsg.presence.host00000 1 150") + 4


def show(results):
    print(f"{'hosts':>6}{'every':>7}{'to a host/s':>13}{'said':>8}{'delivered/s':>13}{'said':>9}{'bytes':>7}{'MB/s':>7}"
          f"{'subs':>6}{'newcomer':>10}{'known':>8}{'down':>8}{'CPU server':>12}{'gateway':>9}{'MiB server':>12}{'gateway':>9}")
    for one in results:
        hosts, interval = one["hosts"], one["interval_s"]
        size = one["bytes_per_message"] + ADDED
        cpu, memory = one["cpu_percent"], one["memory"]
        print(f"{hosts:>6}{interval:>6}s{one['to_a_host_per_s']:>13.2f}{(hosts - 1) / interval:>8.1f}{one['delivered_per_s']:>13.1f}"
              f"{hosts * (hosts - 1) / interval:>9.0f}{size:>7.0f}{size * one['delivered_per_s'] / 1e6:>7.3f}"
              f"{one['subscriptions_per_host']:>6.1f}{one['newcomer_messages'] / hosts:>8.1f} n{one['newcomer_known_s']:>7.1f}s"
              f"{one['killed_down_s']:>7.1f}s{cpu['server']:>11.2f}%{cpu['gateway']:>8.3f}%{memory['server'] / (1 << 20):>12.1f}"
              f"{memory['gateway'] / (1 << 20):>9.1f}")
