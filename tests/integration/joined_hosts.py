# SPDX-License-Identifier: LGPL-2.1-or-later
"""Simulated hosts that are joined by a gateway, and what goes between them."""

import os
import re
import socket
import threading

import pytest

from fake_gateway import FakeGateway
from library import Connection
from messaging import FAST, PATIENCE, Nodes, eventually

IN = "[rule]\nfrom = *, */*\nto = *\naction = allow\n"
OUT = "[out]\nfrom = *\nto = *\naction = allow\n"
# Of domain 0 and of guests: no more than what dom1 of each host needs to reach the other.
STRICT = "[out]\nfrom = dom1\nto = *\naction = allow\n", "[rule]\nfrom = */dom1\nto = *\naction = allow\n"
LISTEN_HOSTS = 512  # a flag of xenmsg_listen()


class Hosts:
    """Simulated hosts hosta, hostb, ... whose domain 0's daemons run, joined by a gateway."""

    config = FAST
    names = ("hosta", "hostb", "hostc")

    def __init__(self, make_host, tmp_path):
        self.make_host, self.tmp_path = make_host, tmp_path
        self.nodes, self.gateway = [], None

    def __call__(self, count=2, guests=0, policy=IN + OUT, join=True, config=None):
        for number in range(count):
            directory = self.tmp_path / f"host{number}"
            directory.mkdir()
            nodes = Nodes(self.make_host(max(guests, 1)), directory)
            self.nodes.append(nodes)
            settings = config[number] if isinstance(config, tuple) else config or self.config
            for domid in range(guests + 1):
                name = f"[hosts]\nname = {self.names[number]}\n" if domid == 0 else ""
                node = nodes(domid, start=False, config=settings + name)[domid]
                node.policy = policy[min(domid, 1)] if isinstance(policy, tuple) else policy
                node.start(wait=False)
            for node in nodes.by_domid.values():
                node.wait_ready()
        if join:
            self.join()
        return [nodes.by_domid[0] for nodes in self.nodes] if not guests else [nodes.by_domid for nodes in self.nodes]

    def path(self, number):
        return os.path.join(os.path.dirname(self.nodes[number].by_domid[0].socket), "gateway.sock")

    def join(self):
        self.gateway = FakeGateway(*map(self.path, range(len(self.nodes))))
        for nodes in self.nodes:
            eventually(lambda node=nodes.by_domid[0]: re.search(f"host ({'|'.join(self.names[:2])}) is there", node.log.read_text()),
                       "the hosts know each other", timeout=30)
        return self.gateway

    def finish(self):
        try:
            for nodes in self.nodes:
                nodes.finish()
        finally:
            if self.gateway:
                self.gateway.close()
            for nodes in self.nodes:
                nodes.logs()


@pytest.fixture(name="hosts")
def joined_hosts(make_host, tmp_path):
    made = Hosts(make_host, tmp_path)
    yield made
    made.finish()


class Stream:
    """Both ends of a stream from a program of one node to a program of another one."""

    def __init__(self, client, server, address):
        with Connection(server.socket) as listening, Connection(client.socket) as calling:
            assert listening.listen("stream", LISTEN_HOSTS) == 0
            fd = calling.connect(address)
            assert fd >= 0, (fd, calling.reason())
            self.near = socket.socket(fileno=fd)
            fd, self.host, self.domid, _ = listening.accept_peer()
            self.far = socket.socket(fileno=fd)
        self.near.settimeout(20 * PATIENCE)
        self.far.settimeout(20 * PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.near.close()
        self.far.close()


def pour(source, data):
    """Sends all of it in a thread."""
    thread = threading.Thread(target=source.sendall, args=(data,))
    thread.start()
    return thread


def received(source, size):
    data = bytearray()
    while len(data) < size:
        piece = source.recv(size - len(data))
        assert piece, len(data)
        data += piece
    return bytes(data)
