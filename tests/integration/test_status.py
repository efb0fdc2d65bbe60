# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's account of itself: valid by its schema under traffic, true, and back to zero afterwards."""

import json
import os
import shutil
import socket
import subprocess
import threading

import jsonschema
import pytest

from frames import MUX, STREAM, open_frame
from library import Connection
from messaging import FAST, eventually, read_source, stopped
from mux import Mux, pair, until
from protocol import Program, cut_off


def close(schema):
    """Forbids fields that the schema doesn't have: a reader has to skip those, but each that this daemon prints is described."""
    if isinstance(schema, dict):
        if "properties" in schema and "object" in schema.get("type", ()) and "additionalProperties" not in schema:
            schema["unevaluatedProperties"] = False
        for member in schema.values():
            close(member)
    elif isinstance(schema, list):
        for member in schema:
            close(member)


@pytest.fixture(name="valid", scope="session")
def validator():
    schema = json.loads(read_source("doc", "status.schema.json"))
    jsonschema.Draft202012Validator.check_schema(schema)
    close(schema)
    return jsonschema.Draft202012Validator(schema).validate


@pytest.mark.unless(relayed="zero", strict="zero")
def test_status_of_an_idle_daemon_is_valid(one, valid):
    status = one.status()
    valid(status)
    assert status["domid"] == 1
    assert status["socket"] == one.socket
    assert status["links"] == [] and status["endpoints"] == []


def test_a_program_that_has_not_greeted_has_its_name(one):
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(one.socket)
        names = [client["comm"] for client in one.status()["clients"] if client["pid"] == os.getpid()]
    assert names and all(names)


@pytest.mark.unless(relayed="direct", small="rings")
def test_status_under_traffic_is_valid_and_true(one, two, valid):
    stop, sent = threading.Event(), threading.Event()
    with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver:
        counts = [0, 0]

        def send():
            try:
                while not stop.is_set():
                    assert sender.send("2:inbox", bytes(3000)) == 0
                    counts[0] += 1
            finally:
                sent.set()

        def receive():
            while not sent.is_set():  # else the last one would wait in vain
                if hasattr(receiver.receive(100), "data"):
                    counts[1] += 1

        threads = [threading.Thread(target=work) for work in (send, receive)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                for node in (one, two):
                    valid(node.status())
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        link, other = one.link(2), two.link(1)
        assert link["tx"]["messages"] >= counts[0] and other["rx"]["messages"] >= counts[0]
        assert link["tx"]["bytes"] >= 3000 * counts[0]
        assert {link["role"], other["role"]} == {"grants", "maps"}
        assert link["ring_bytes"] == 65536 and link["pages"] == 33
        assert link["channels"] == 1
        assert one.xenmsg("ping", "2", "--count", "3", "--interval", "0").returncode == 0
        eventually(lambda: one.link(2)["round_trips"]["count"], "a heartbeat is answered", 60)
        trips = one.link(2)["round_trips"]
        assert trips["sum_us"] > 0
        counts = [bucket["count"] for bucket in trips["buckets"]]
        assert counts == sorted(counts) and counts[-1] <= trips["count"]
        status = two.status()
        endpoint, = status["endpoints"]
        assert (endpoint["name"], endpoint["pid"], endpoint["uid"]) == ("inbox", os.getpid(), os.getuid())
        assert any(client["pid"] == os.getpid() for client in status["clients"])
        assert sum(node.status()["grants"]["used_pages"] for node in (one, two)) == 33


def test_what_is_queued_is_accounted_and_given_back(one, two, valid):
    with Connection(one.socket) as sender:
        with Connection(two.socket, binds="sleeper"):
            ended = []
            while sender.post("2:sleeper", bytes(60000), ended.append) == 0:
                sender.wait(0)
            eventually(lambda: two.status()["endpoints"][0]["queued"] > 60000, "bytes wait for the sleeper")
            valid(two.status())
        eventually(lambda: sender.wait(100) < 0 or len(ended) > 0, "the sends have ended")
    for node in (one, two):
        def zero(node=node):
            status = node.status()
            return (status["endpoints"] == [] and len(status["clients"]) == 1  # the one that asks
                    and all(link["channels"] == 0 and link["unacked"] == 0 for link in status["links"]))
        eventually(zero, f"domain {node.domid} shows zero use")


def test_the_limits_are_the_configured_ones(nodes):
    one = nodes(1, config="[limits]\nmax-message = 123456\nmax-clients = 14\n")[1]
    status = one.status()
    assert status["limits"]["max_message"] == 123456
    assert status["pools"]["clients"]["size"] == 14


@pytest.mark.unless(renewed="counts", relayed="direct")
def test_the_accounts_say_who_has_what_and_what_he_might_have(nodes, valid):
    """How much a user has sent each daemon counts anew."""
    one, two = nodes(1, 2, config=FAST + "[limits]\nmax-channels = 100\n").values()
    with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver:
        thread = threading.Thread(target=receiver.receive)
        thread.start()
        assert sender.send("2:inbox", b"x") == 0
        thread.join()
        for node in (one, two):
            status = node.status()
            valid(status)
            assert status["pools"]["channels"] | {"accounts": 1} == {"size": 100, "used": 1, "accounts": 1}  # the asker is one, too

        def user_of_both():  # once nobody is counted any more who has just left
            user, = (each for each in one.status()["accounts"] if each["kind"] == "uid")
            return user["clients"]["used"] == 2 and user

        user = eventually(user_of_both, "the sender is there, and the asker")
        assert user["id"] == 0 and user["channels"] == {"used": 1, "max": 50, "available": 48, "refused": 0}  # the asker has one
        assert user["queued_bytes"]["used"] == 65536
        assert user["sent"]["messages"] >= 1 and user["sent"]["bytes"] > 64  # questions count
        assert user["descriptors"]["used"] == 5  # with the memory; the asker doesn't share any
        peer, = (each for each in two.status()["accounts"] if each["kind"] == "peer")
        assert peer["id"] == 1 and peer["channels"] == {"used": 1, "max": 50, "available": 32, "refused": 0}  # the asker has some
        assert peer["clients"] is None and peer["sent"]["messages"] == 1
        assert peer["sent"]["bytes"] <= two.link(1)["rx"]["bytes"]
        lines = [line.split() for line in two.xenmsg("status").stdout.decode().splitlines()]
        assert ["ACCOUNT", "CLIENTS", "ENDPOINTS", "CHANNELS", "QUEUED_BYTES", "DESCRIPTORS", "MEMORY", "REFUSED", "RESTS",
                "CUT_OFF"] in lines, lines
        row, = (line for line in lines if line[:2] == ["domain", "1"])
        assert row[2:5] == ["-", "-", "1/50"], row
        assert one.xenmsg("status", "--metrics").stdout.count(b'xenmsg_account_available{kind="uid",id="0",resource="channels"} 48\n') == 1


def test_sessions_that_were_cut_off_are_counted_by_user(one, valid):
    with Connection(one.socket):
        assert one.status()["cut_off"] == 0
        cut_off(one)
        cut_off(one)
        status = one.status()
        valid(status)
        assert status["cut_off"] == 2 and one.account("uid", 0)["cut_off"] == 2
        # To serve it may have taken so long that it rested: on a slow machine it does.
        rests = lambda: one.account("uid", 0)["time"]["rests"]
        before, text, after = rests(), one.xenmsg("status").stdout.decode(), rests()
        assert "\n2 sessions were cut off" in text
        row, = (line.split() for line in text.splitlines() if line.startswith("uid 0"))
        assert before <= int(row[-2]) <= after and row[-1] == "2", (before, row, after)
    assert one.status()["cut_off"] == 2, "also when the user has gone"


def test_a_stalled_xenstore_is_shown_and_stops_no_link(one, two, host):
    with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver:
        answers = []

        def exchange(text):
            thread = threading.Thread(target=lambda: answers.append(receiver.receive()))
            thread.start()
            assert sender.send("2:inbox", text) == 0
            thread.join()

        exchange(b"before")
        host.fault("stall-store", 1, "on")
        try:
            exchange(b"while it is stalled")
            one.status()
        finally:
            host.fault("stall-store", 1, "off")
        exchange(b"after")
    assert [answer.data for answer in answers] == [b"before", b"while it is stalled", b"after"]


def test_metrics_are_prometheus_text(one, two):
    inbox = two.receiver("inbox", "--count", "1")
    one.send("2:inbox", "x")
    inbox.output()
    done = one.xenmsg("status", "--metrics")
    assert done.returncode == 0, done.stderr
    if shutil.which("promtool"):
        linted = subprocess.run(["promtool", "check", "metrics"], input=done.stdout, capture_output=True, check=False)
        assert linted.returncode == 0 and not linted.stderr, linted.stderr.decode()
    names = set()
    for line in done.stdout.decode().splitlines():
        if line.startswith("#"):
            assert line.split()[1] in ("HELP", "TYPE")
            continue
        name, value = line.rsplit(" ", 1)
        float(value)
        names.add(name.split("{")[0])
    assert names and all(name.startswith("xenmsg") for name in names)


def streams(node):
    """What its status says of streams that sessions carry, in their order."""
    return sorted(node.status()["streams"], key=lambda each: each["number"])


@pytest.mark.unless(renewed="memory")
@pytest.mark.parametrize("shared", [False, True], ids=["socket", "shared"])
def test_streams_in_sessions_are_listed_with_what_they_carry(one, two, valid, shared):
    with Mux(one, shared) as client, Mux(two, shared) as server:
        server.listen("t")
        server.listen("u")
        first, far = pair(client, server, "2:t")
        pair(client, server, "2:u")
        first.write(b"hello")
        far.write(b"ok")
        until(lambda: first.data == b"ok" and far.data == b"hello", client, server)
        for node in (one, two):
            valid(node.status())
            assert node.status()["totals"]["streams"] == 2
        here, there = streams(one), streams(two)
        mine = {"uid": os.getuid(), "pid": os.getpid(), "comm": there[0]["comm"], "state": "flowing"}
        assert [{key: each[key] for key in mine} for each in here + there] == [mine] * 4
        assert [each["address"] for each in here] == ["2:t", "2:u"]
        assert [(each["endpoint"], each["from"]) for each in there] == [("t", 1), ("u", 1)]
        assert [(each["bytes_in"], each["bytes_out"]) for each in here + there] == [(5, 2), (0, 0), (2, 5), (0, 0)]
        with Connection(one.socket) as conn:  # and one that is a socket, which has a number of its own
            assert conn.connect("2:nobody") == -2
            assert len({each["number"] for each in streams(one)}) == 2
        first.reads = False  # it takes what comes, but doesn't say so
        far.write(bytes(100))
        eventually(lambda: server.step() or streams(one)[0]["bytes_queued"] == 100, "it waits for the program")
        until(lambda: len(first.data) == 102, client, server)
        left = 0 if shared else 100  # the ring says what was taken, a socket doesn't
        assert streams(one)[0]["bytes_queued"] == one.status()["clients"][0]["bytes_queued"] == left
        first.reads = True
        first.tell()
        first.end()
        far.end()
        until(lambda: first.ended and far.ended, client, server)
        eventually(lambda: [each["address"] for each in streams(one)] == ["2:u"] and len(streams(two)) == 1, "one has ended")
    eventually(lambda: not streams(one) and not streams(two), "and the other with its session")


def test_a_stream_that_is_not_accepted_is_listed_as_calling(one, two):
    with Mux(one, False) as client, Mux(two, False) as server:
        server.listen("t")
        pair(client, server, "2:t")
        with stopped(two.pid):
            client.connect("2:t")
            eventually(lambda: client.step() or [each["state"] for each in streams(one)] == ["flowing", "calling"], "it is listed")
        server.accept(client)
        eventually(lambda: client.step() or [each["state"] for each in streams(one)] == ["flowing"] * 2, "it is accepted")


def test_what_is_no_address_is_shown_to_nobody(one, valid):
    for address in (b"\xff\xfe:t", b"2:\xc3", b"a\nb\x1b[2J:t", b'":{}', b"2:" + b"t" * 300):
        with Program(one.socket, flags=MUX) as session:
            for number in range(0, 1000, 2):  # it doesn't read the refusals
                session.send_bytes(open_frame(number, address, STREAM))
                if number % 100 == 0:
                    status = one.status()
                    valid(status)
                    assert {each["address"] for each in status["streams"]} <= {""}, address
