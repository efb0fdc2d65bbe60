# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts that talk with each other over NATS: daemons, gateways and nats-servers are the real ones."""

import json
import re
import types

import pytest

from conftest import wait_for
from gateway_rig import Gateway, Server
from messaging import EXIT_OK, EXIT_UNREACHABLE, eventually
from test_hosts import Hosts, numbers

# As in examples/nats: what a host may say and hear, so that its name is vouched for.
USER = ('{{user: "{0}", password: "secret of {0}", permissions: {{\n'
        '  publish: {{allow: ["xenmsg.to.*.{0}", "xenmsg.presence.{0}"]}}\n'
        '  subscribe: {{allow: ["xenmsg.to.{0}.*", "xenmsg.presence.*"]}}}}}}\n')


class HostsOverNats(Hosts):
    def __init__(self, make_host, tmp_path):
        super().__init__(make_host, tmp_path)
        self.server, self.gateways = None, []

    def make_gateway(self, number):
        name = f"host{'abc'[number]}"
        password = self.tmp_path / f"password-{name}"
        password.write_text(f"secret of {name}\n")
        return Gateway(self.tmp_path, name, [self.server.url], nats=f"user = {name}\npassword-file = {password}\n",
                       daemon=types.SimpleNamespace(path=self.path(number)))

    def join(self):
        users = "".join(USER.format(f"host{letter}") for letter in "abc")
        self.server = Server(self.tmp_path, config=f"authorization: {{users: [\n{users}]}}\n")
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
            if self.server:
                self.server.kill()


@pytest.fixture(name="hosts")
def hosts_over_nats(make_host, tmp_path):
    made = HostsOverNats(make_host, tmp_path)
    yield made
    made.finish()


def test_guests_of_two_hosts_send_and_call(hosts):
    here, there = hosts(guests=1)
    inbox = there[1].receiver("inbox", "--json", "--count", "1")
    here[1].send("hostb/1:inbox", "across")
    message = json.loads(inbox.output())
    assert (message["text"], message["sender"]["host"], message["sender"]["domid"]) == ("across", "hosta", 1)
    server = here[0].popen("serve", "rev", "--", "rev")
    eventually(lambda: "rev" in here[0].endpoints(), "the server is bound")
    done = there[1].xenmsg("call", "hosta/0:rev", data=b"abc")
    assert done.returncode == EXIT_OK and done.stdout.strip() == b"cba", done
    server.terminate()


def test_a_message_is_larger_than_what_nats_takes(hosts, tmp_path):
    here, there = hosts()
    data = bytes(range(256)) * 4096 * 15
    with (tmp_path / "got").open("wb") as got:
        inbox = there.receiver("inbox", "--count", "1", "--raw", stdout=got)
        assert here.xenmsg("send", "hostb/0:inbox", data=data).returncode == EXIT_OK
        assert inbox.process.wait(60) == 0
    assert (tmp_path / "got").read_bytes() == data


@pytest.mark.parametrize("what", ["server", "here", "there"])
def test_a_killed_server_or_gateway_is_a_pause(hosts, what):
    here, there = hosts()

    def disturb(number):
        if number % 1000 != 500:
            return
        if what == "server":
            hosts.server.kill()
            hosts.server.start()
        else:
            gateway = hosts.gateways[0 if what == "here" else 1]
            gateway.kill()
            gateway.start()

    numbers(here, there, disturb)


def test_a_host_whose_gateway_has_gone_is_unreachable(hosts):
    here, _ = hosts()
    assert hosts.gateways[1].stop() == 0
    wait_for(lambda: not here.status()["hosts"]["others"][0]["up"], "the other host is down")
    here.send("hostb/0:inbox", "nobody", exit_code=EXIT_UNREACHABLE)
