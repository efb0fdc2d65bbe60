# SPDX-License-Identifier: LGPL-2.1-or-later
"""xensim order: a seed or a schedule decides what comes next of what Xen leaves open, and again the same."""

import re

from conftest import wait_for
from xen_ends import bound, take

RACE = "/tool/race"
# Who wrote it last is open: each writes and reads twice, by a program of its own each time.
RACER = f"for i in 1 2; do xenstore-write {RACE} $XENSIM_DOMID; xenstore-read {RACE}; done"


def counts(text):
    return tuple(int(number) for number in re.findall(r"\d+", text))


def race(host, *order):
    """Two domains race for a node. What each of them has read, and how many steps were astray."""
    host.run(0, "xenstore-write", RACE, "0")
    host.run(0, "xenstore-chmod", RACE, "b0")
    host.sim("order", "hold")
    racers = [host.spawn(domid, "sh", "-c", RACER, stdout=-1, text=True) for domid in (1, 2)]
    # The shell and its first program, which waits for its connection to be served.
    wait_for(lambda: all(host.domain(domid)["processes"] == 2 for domid in (1, 2)), "the racers")
    host.sim("order", *order)
    read = [racer.communicate(timeout=300)[0].split() for racer in racers]
    steps, restless, astray = counts(host.sim("order", "off").stdout)
    assert steps >= 16 and restless == 0
    return read, astray


def test_a_seed_decides_the_order(host, tmp_path):
    seen = {}
    for seed in (1, 2, 3, 1):
        path = tmp_path / "schedule"
        host.sim("record", tmp_path / "record")
        read, _ = race(host, "seed", seed, path)
        host.sim("record", "off")
        # Connections count on, and transactions.
        steps = re.sub(r":\d+ ", " ", path.read_text())
        record = [line.split("\t")[1:4] for line in (tmp_path / "record").read_text().splitlines() if RACE in line and "\td0\t" not in line]
        assert seen.setdefault(seed, (read, steps, record)) == (read, steps, record)
    assert len({steps for _, steps, _ in seen.values()}) > 1
    assert len({str(read) for read, _, _ in seen.values()}) > 1


def test_a_schedule_is_replayed(make_host, tmp_path):
    path = tmp_path / "schedule"
    first, _ = race(make_host(2), "seed", 7, path)
    again = race(make_host(2), "replay", path)
    assert again == (first, 0)
    # All of the second domain's steps first.
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in sorted(lines, key=lambda line: line.startswith("d1"))))
    other, astray = race(make_host(2), "replay", path)
    assert astray == 0 and other == [["1", "1"], ["2", "2"]]


def test_what_a_schedule_cannot_have_is_told(host, tmp_path):
    path = tmp_path / "schedule"
    path.write_text("d1 store:99 request\n")
    read, astray = race(host, "replay", path)
    assert astray == 1 and all(len(values) == 2 for values in read)


def test_events_wait_for_their_turn(host):
    one, two, port, other = bound(host)
    one.ok("notify", 0, port)
    take(two, other)
    host.sim("order", "hold")
    one.tell("notify", 0, port)  # asks where to notify now, and waits for the answer
    assert two.ok("poll", 0, 0) == 0
    host.sim("order", "seed", 1)
    assert one.answer().startswith("ok")
    take(two, other)
    host.sim("order", "hold")
    one.ok("notify", 0, port)
    assert two.ok("poll", 0, 0) == 0
    host.sim("order", "off")
    take(two, other)
    one.ok("notify", 0, port)
    assert two.ok("pending", 0) == other


def test_a_vchan_works_in_any_order(host):
    server = host.vchan_server(1, 2, left=4096, right=4096)
    host.sim("order", "seed", 3)
    client = host.vchan_client(2, 1)
    assert client.first.startswith("ok"), client.first
    client.tell("write", 20000)
    for _ in range(20):
        assert server.ok("recv", 1000) == 1000
    assert client.answer() == "ok 20000"
    assert counts(host.sim("order", "off").stdout)[0] > 0
    assert server.ok("write", 1000) == 1000 and client.ok("recv", 1000) == 1000
    client.ok("close")
    wait_for(lambda: server.ok("open") == 0, "the vchan's end")


def test_a_domain_dies_while_all_is_held(host):
    host.vchan_server(1, 2)
    host.sim("order", "hold")
    host.spawn(1, "xenstore-read", "domid", stdout=-1)
    wait_for(lambda: host.domain(1)["processes"] == 2, "the program")
    host.sim("destroy", 1)
    host.sim("order", "off")
    assert host.run(2, "xenstore-read", "domid").stdout == "2\n"


def test_a_bad_order_is_refused(host, tmp_path):
    for words in (("seed",), ("seed", "x"), ("replay",), ("sideways",), ("off", "now")):
        assert host.sim("order", *words, check=False).returncode == 2, words
    assert "No such file" in host.sim("order", "replay", tmp_path / "none", check=False).stderr
    assert counts(host.sim("order").stdout) == (0, 0, 0)
    host.sim("order", "seed", 1, "/dev/full")
    assert host.run(1, "xenstore-read", "domid").stdout == "1\n"
