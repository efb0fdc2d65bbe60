# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts that talk with each other over NATS: daemons, gateways and nats-servers are the real ones."""

import os
import re
import socket
import time
import types

import pytest

from conftest import wait_for
from gateway_rig import Gateway, Server
from joined_hosts import Hosts, Stream, pour, received
from messaging import EXIT_OK, PATIENCE, eventually, resident
from nats_rig import SlowWay, cluster
from test_resume import abroad, at_work, numbered, size_of

# As in examples/nats: what a host may say and hear, so that its name is vouched for.
USER = ('{{user: "{0}", password: "secret of {0}", permissions: {{\n'
        '  publish: {{allow: ["xenmsg.to.*.{0}", "xenmsg.presence.{0}"]}}\n'
        '  subscribe: {{allow: ["xenmsg.to.{0}.*", "xenmsg.presence.*"]}}}}}}\n')


class HostsOverNats(Hosts):
    def __init__(self, make_host, tmp_path):
        super().__init__(make_host, tmp_path)
        self.servers, self.gateways = [], []
        self.rate = None  # of the network between hosta and the server, in bytes a second

    @property
    def server(self):
        return self.servers[0]

    def make_gateway(self, number):
        name = f"host{'abc'[number]}"
        password = self.tmp_path / f"password-{name}"
        password.write_text(f"secret of {name}\n")
        password.chmod(0o600)
        ways = [SlowWay(self.server, self.rate)] if self.rate and number == 0 else self.servers
        return Gateway(self.tmp_path, name, [way.url for way in ways], nats=f"user = {name}\npassword-file = {password}\n",
                       daemon=types.SimpleNamespace(path=self.path(number)))

    def serve(self, count=1, config=""):
        users = "".join(USER.format(f"host{letter}") for letter in "abc")
        config += f"\nauthorization: {{users: [\n{users}]}}\n"
        self.servers = [Server(self.tmp_path, config=config)] if count == 1 else cluster(self.tmp_path, count, config)

    def join(self):
        if not self.servers:
            self.serve()
        for number in range(len(self.nodes)):
            self.gateways.append(self.make_gateway(number))
        for nodes in self.nodes:
            wait_for(lambda node=nodes.by_domid[0]: re.search("host host[ab] is there", node.log.read_text()),
                     "the hosts know each other")

    def finish(self):
        try:
            super().finish()
        finally:
            for gateway in self.gateways:
                if gateway.process and gateway.process.poll() is None:
                    gateway.kill()
                print(f"---- {gateway.host}\n{gateway.log()[-3000:]}")
            for server in self.servers:
                server.kill()


@pytest.fixture(name="hosts")
def hosts_over_nats(make_host, tmp_path):
    made = HostsOverNats(make_host, tmp_path)
    yield made
    made.finish()


@pytest.mark.parametrize("max_payload", ["1MB", "64KB"])
def test_a_message_is_larger_than_what_nats_takes(hosts, tmp_path, max_payload):
    hosts.serve(config=f"max_payload: {max_payload}")
    here, there = hosts()
    data = bytes(range(256)) * 4096 * 15
    with (tmp_path / "got").open("wb") as got:
        inbox = there.receiver("inbox", "--count", "1", "--raw", stdout=got)
        assert here.xenmsg("send", "hostb/0:inbox", data=data).returncode == EXIT_OK
        assert inbox.process.wait(60 * PATIENCE) == 0
    assert (tmp_path / "got").read_bytes() == data


def test_run_and_ping_lead_to_a_guest_of_another_host(hosts):
    here, there = hosts(guests=1)
    serving = there[1].popen("listen", "--run", "t", "--", "sh", "-c", "cat; echo $XENMSG_SENDER_HOST >&2; exit 7", binds="t")
    data = os.urandom(3_000_000)
    done = here[1].xenmsg("run", "hostb/1:t", data=data)
    assert (done.returncode, done.stdout, done.stderr) == (7, data, b"hosta\n")
    [first] = here[1].json("ping", "--count", "1", "hostb/1")
    assert first["rtt_us"] > 0
    serving.terminate()


def test_a_stream_outlives_a_server_that_is_killed(hosts):
    here, there = hosts()
    data = os.urandom(8_000_000)
    with Stream(here, there, "hostb/0:stream") as stream:
        sending = pour(stream.near, data)
        got = received(stream.far, 2_000_000)
        hosts.server.kill()
        hosts.server.start()
        got += received(stream.far, len(data) - len(got))
        sending.join()
        stream.near.shutdown(socket.SHUT_WR)
        assert stream.far.recv(1) == b"" and got == data


@pytest.mark.parametrize("what", ["server", "here", "there"])
def test_a_killed_server_or_gateway_is_a_pause(hosts, what):
    here, there = hosts()
    killed = hosts.server if what == "server" else hosts.gateways[0 if what == "here" else 1]
    with at_work(*numbered(here, abroad(there, "hostb"), "numbers")) as goes_on:
        for _ in range(3):
            killed.kill()
            killed.start()
            goes_on()


def test_a_server_of_three_is_lost_under_load(hosts):
    hosts.serve(3)
    here, there = hosts()
    lost = None
    with at_work(*numbered(here, abroad(there, "hostb"), "numbers")) as goes_on:
        for _ in range(3):
            if lost:
                lost.start()
            told = eventually(lambda: here.status()["hosts"]["server"], "the gateway has a server", timeout=30)
            lost = next(server for server in hosts.servers if told.endswith(str(server.port)))
            lost.kill()
            goes_on()


def test_a_slow_network_costs_time_and_no_memory(hosts):
    hosts.rate = 4 << 20
    here, there = hosts()
    pids = [here.pid, there.pid] + [gateway.process.pid for gateway in hosts.gateways]
    sending, receiving = numbered(here, abroad(there, "hostb"), "numbers")
    with at_work(sending, receiving):
        first, began, before = receiving.count, time.monotonic(), [resident(pid) for pid in pids]
        most = list(before)
        while receiving.count < first + 4000:
            receiving.goes_on()
            most[:] = map(max, most, map(resident, pids))
        carried = sum(size_of(number) for number in range(first, receiving.count))
        assert time.monotonic() - began > carried / hosts.rate * 0.9
    grown = [(now - then) / (1 << 20) for now, then in zip(most, before)]
    print(f"MiB more in the daemons and gateways: {grown}")
    if PATIENCE == 1:  # sanitizers keep what is freed
        assert max(grown) < 8, grown


def test_a_second_gateway_of_a_host_is_refused_and_waits(hosts):
    hosts()
    second = hosts.make_gateway(0)
    second.says("the daemon refuses this gateway: another gateway is connected")
    hosts.gateways[0].kill()
    hosts.gateways[0] = second
    second.says("host hosta can be reached")
