# SPDX-License-Identifier: LGPL-2.1-or-later
"""xensim under stock libxenvchan: plain programs in two domains, and what one sees when the other ends."""

import signal

import pytest

from conftest import TIMEOUT, wait_for

QUIET = 0.3  # how long nothing must happen where nothing may


def pair(host, server=1, client=2, **sizes):
    listening = host.vchan_server(server, client, **sizes)
    assert listening.first.startswith("ok"), listening.first
    connected = host.vchan_client(client, server)
    assert connected.first.startswith("ok"), connected.first
    return listening, connected


def wait_until_closed(side):
    wait_for(lambda: side.ok("open") == 0, "the vchan's end")


def test_every_pair_of_domains_can_talk(host):
    for server, client in ((0, 1), (1, 0), (1, 2), (2, 1), (2, 2)):
        listening, connected = pair(host, server, client)
        assert connected.ok("write", 1000) == 1000
        assert listening.ok("recv", 1000) == 1000
        assert connected.ok("close") == 0
        wait_until_closed(listening)
        assert listening.ok("close") == 0


def test_a_reader_blocks_until_data_comes(host):
    server, client = pair(host)
    server.tell("recv", 300)
    assert not server.answers_within(QUIET)
    client.ok("write", 100)
    assert not server.answers_within(QUIET)
    client.ok("write", 200)
    assert server.answer() == "ok 300"


def test_a_writer_blocks_until_there_is_space(host):
    server, client = pair(host, left=4096, right=4096)
    client.tell("write", 10000)
    assert not client.answers_within(QUIET)
    for _ in range(10):
        assert server.ok("recv", 1000) == 1000
    assert client.answer() == "ok 10000"


def test_a_message_can_be_read_in_parts(host):
    server, client = pair(host)
    client.ok("write", 5000)
    for size in (1, 2, 3, 1000, 3994):
        assert server.ok("read", size) == size
    assert server.ok("ready") == 0


def test_large_streams_arrive_unchanged(host):
    server, client = pair(host, left=1 << 20, right=1 << 20)
    client.tell("write", 2 << 20)
    left = 2 << 20
    while left:
        left -= server.ok("read", left)
    assert client.answer() == f"ok {2 << 20}"


def test_every_ring_size_works(host):
    for left, right in ((1024, 2048), (2048, 1024), (1024, 4096), (2048, 65536), (4096, 8192), (1 << 20, 4096)):
        server, client = pair(host, left=left, right=right)
        assert client.ok("write", 1000) == 1000
        assert server.ok("recv", 1000) == 1000
        assert server.ok("write", 1000) == 1000
        assert client.ok("recv", 1000) == 1000
        client.ok("close")
        server.ok("close")


def test_non_blocking_calls_do_not_wait(host):
    server, client = pair(host, left=4096, right=4096)
    for side in (server, client):
        side.ok("blocking", 0)
    assert server.ok("read", 10) == 0
    assert client.ok("write", 10000) == 4096
    assert client.ok("write", 10) == 0


def test_a_clean_close_is_seen_and_removes_the_path(host):
    server, client = pair(host)
    xen = host.xen(2)
    assert xen.ask("xs-read", "/local/domain/1/data/v/ring-ref").startswith("ok")
    client.ok("write", 10)
    client.ok("close")
    wait_until_closed(server)
    # What was sent before can still be read.
    assert server.ok("read", 10) == 10
    server.ok("close")
    assert xen.ask("xs-read", "/local/domain/1/data/v/ring-ref").startswith("error")


def test_nothing_is_left_after_a_clean_close(host):
    def used():
        """What each domain has, without what was ever counted."""
        counts = ("requests", "writes", "events")
        return [dict(domain, xenstore={key: value for key, value in domain["xenstore"].items() if key not in counts})
                for domain in host.list()["domains"]]

    before = used()
    server, client = pair(host)
    during = host.domain(1)
    assert during["grants"]["used_pages"] == 33 and during["grants"]["mapped_by_others"] == 33
    assert host.domain(2)["mapped_pages"] == 33
    assert during["event_channels"]["used"] == host.domain(2)["event_channels"]["used"] == 1
    client.ok("close")
    server.ok("close")
    for side in (client, server):
        side.process.wait()
    wait_for(lambda: host.domain(1)["grants"]["used_pages"] == 0, "the end of the grants")
    # libxenvchan removes the path that it made, not data/ which was there.
    assert used() == before


@pytest.mark.parametrize("killed", ["client", "server"])
def test_who_is_killed_is_missed_at_once(host, killed):
    server, client = pair(host)
    other, gone = (server, client) if killed == "client" else (client, server)
    other.tell("read", 1)
    assert not other.answers_within(QUIET)
    gone.kill()
    assert other.answer().startswith("error")
    assert other.ok("open") == 0
    if killed == "client":
        assert host.domain(2)["mapped_pages"] == host.domain(2)["event_channels"]["used"] == 0
    else:
        assert host.xen(2).ask("xs-read", "/local/domain/1/data/v/ring-ref").startswith("ok")  # it leaves its path
        # Its pages live on for the client alone.
        assert host.domain(1)["grants"]["used_pages"] == 0
        assert client.ok("byte", 0) == 0


def test_a_new_client_can_bind_to_a_living_server(host):
    server, client = pair(host)
    client.kill()
    wait_until_closed(server)
    second = host.vchan_client(2, 1)
    assert second.first.startswith("ok")
    server.ok("write", 10)
    assert second.ok("recv", 10) == 10


def test_only_the_named_domain_can_connect(host):
    server = host.vchan_server(1, 2)
    assert server.first.startswith("ok")
    assert host.vchan_client(3, 1).first.startswith("error")


def test_the_other_side_of_a_destroyed_domain_hears_nothing(host):
    """XEN-FACTS: no event, is_open stays 1, sends go on succeeding; only XenStore tells."""
    server, client = pair(host)
    xen = host.xen(2)
    leaf = "/local/domain/1/data/v/ring-ref"
    assert xen.ok("xs-watch", leaf) == 0
    assert xen.ask("xs-event", 5000) == f"ok {leaf}"
    while client.ok("wait", 100):
        pass
    host.sim("destroy", 1)
    assert server.process.wait(timeout=TIMEOUT) == -signal.SIGKILL
    assert client.ok("wait", int(QUIET * 1000)) == 0
    assert client.ok("open") == 1
    assert client.ok("write", 100) == 100
    assert xen.ask("xs-event", 5000) == f"ok {leaf}"
    assert xen.ask("xs-read", leaf).startswith("error")
    # The domain stays as a zombie until its last mapper has unmapped.
    zombie = host.domain(1)
    assert (zombie["name"], zombie["state"]) == ("(null)", "zombie")
    assert host.list()["zombies"] == 1
    client.ok("close")
    assert host.domain(1) is None and host.list()["zombies"] == 0


def test_the_server_side_of_a_destroyed_client_hears_nothing(host):
    server, client = pair(host)
    while server.ok("wait", 100):
        pass
    host.sim("destroy", 2)
    assert client.process.wait(timeout=TIMEOUT) == -signal.SIGKILL
    assert server.ok("wait", int(QUIET * 1000)) == 0
    assert server.ok("open") == 1
    assert server.ok("write", 100) == 100
    # The dead domain maps nothing any longer, so nothing of it stays.
    assert host.domain(2) is None
    assert host.domain(1)["grants"]["mapped_by_others"] == 0


def test_a_paused_domain_is_a_slow_peer(host):
    server, client = pair(host)
    host.sim("pause", 1)
    assert host.domain(1)["state"] == "paused"
    assert client.ok("write", 1000) == 1000
    assert client.ok("open") == 1
    server.tell("recv", 1000)
    assert not server.answers_within(QUIET)
    host.sim("unpause", 1)
    assert server.answer() == "ok 1000"


def test_31_links_fit_into_the_default_limit(host):
    servers = [host.vchan_server(1, 2, path=f"data/v{i}") for i in range(31)]
    assert all(server.first.startswith("ok") for server in servers)
    assert host.domain(1)["grants"]["used_pages"] == 31 * 33
    assert host.vchan_server(1, 2, path="data/one-more").process.wait() != 0
    # One that ends makes room for another.
    servers[0].kill()
    wait_for(lambda: host.domain(1)["grants"]["used_pages"] == 30 * 33, "the pages of the dead server")
    assert host.vchan_server(1, 2, path="data/again").first.startswith("ok")


def test_a_corrupted_ring_index_locks_the_ring_as_on_xen(host):
    server, client = pair(host)
    client.ok("write", 10)
    assert host.fault("corrupt-ring-index", 1, "left-prod=0x80000000").stdout == "1\n"
    server.ok("blocking", 0)
    assert server.ok("read", 10) == 0
    assert server.ok("open") == 1


def test_a_lost_event_leaves_the_reader_asleep(host):
    server, client = pair(host)
    server.tell("recv", 10)
    assert not server.answers_within(QUIET)
    host.fault("lose-event", 1, 1)
    client.ok("write", 10)
    assert not server.answers_within(QUIET)
    # Its next sign of life is an event of another kind.
    client.kill()
    assert server.answer() == "ok 10"
