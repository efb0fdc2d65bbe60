# SPDX-License-Identifier: LGPL-2.1-or-later
"""Listings of hosts with 500 domains and 5,000 endpoints, whoever reads them: nothing is garbled, slow or silent."""

import itertools
import json
import random
import subprocess

import pytest

from frames import DATA, OPEN, answer_frames, told_frames, u32
from messaging import EXIT_ERROR, EXIT_NO_DAEMON, EXIT_OK, PATIENCE, tool
from test_cli_terminal import HostileDaemon, Terminal

DOMAINS, ENDPOINTS = 500, 5000
PIECE = 30000
LISTED = 8  # a kind of event
NAME = "grüße-€"
PINGS = 30  # at least so many at a time: a domain that is silent costs seconds
LISTS = {"peers": DOMAINS, "endpoints": ENDPOINTS, "hosts": DOMAINS}


class LargeDaemon(HostileDaemon):
    """Answers with long lists, in pieces; `pieces`: it ends behind so many."""

    piece = PIECE
    pieces = None

    def __init__(self, path):
        self.pings, self.pinged, self.asked_of = [], 0, {}
        super().__init__(path)

    def take(self, connection, got):
        if got.kind == OPEN:
            self.asked_of[got.channel] = got.payload[20:].partition(b":")[0]
        if got.kind == DATA and got.payload[8:12] == b"ping":
            self.pings.append(got)
            self.pinged += 1
            if len(self.pings) == PINGS or self.pinged == DOMAINS:
                for each in self.pings:
                    # What is in domain 7 doesn't answer.
                    silent = self.asked_of[each.channel] == b"7"
                    for part in answer_frames(each.channel, 1, b"no daemon runs there" if silent else b"{}", 112 * silent):
                        connection.sendall(part)
                self.pings.clear()
        elif got.kind == DATA and got.payload[8:14] == b"watch ":
            connection.sendall(b"".join(told_frames(got.channel, 1, *self.events())))
        elif got.kind == DATA:
            for part in itertools.islice(self.tell(got), self.pieces):
                connection.sendall(part)
            if self.pieces:
                connection.close()
        else:
            super().take(connection, got)

    def events(self):
        """In an order in which nothing is sorted."""
        events = [u32(1, peer["domid"]) + peer["name"].encode() for peer in self.answer(b"peers")]
        events += [u32(3, each["domid"]) + f"{each['name']}\0{each['domain']}".encode() for each in self.answer(b"endpoints")]
        random.Random(1).shuffle(events)
        return [*events, u32(LISTED, 0)]

    def answer(self, question):
        peers = [{"domid": domid, "name": f"{NAME}-{domid}", "uuid": None, "version": "0.1.0", "up": True, "link": "up", "since": 1,
                  "resumes": 0, "rtt_us": 1.5} for domid in range(DOMAINS)]
        endpoints = [{"domid": number // 10, "domain": (NAME, "plain")[number % 2], "name": f"endpoint-{number}", "kind": "message",
                      "visible_to": ["*"], "uid": 0, "pid": 1, "comm": NAME} for number in range(ENDPOINTS)]
        if question.startswith(b"status"):
            links = [{"peer": peer, "state": "up", "role": "maps", "channels": 1, "rtt_us": 1.5} for peer in peers]
            return {"domid": 1, "version": "0.1.0", "uptime_s": 1, "links": links, "peers": peers, "clients": [], "streams": [],
                    "endpoints": [dict(endpoint, queued=0) for endpoint in endpoints], "accounts": []}
        if question.startswith(b"hosts"):
            return [{"host": f"host{number}", "own": number == 0, "gateway": "connected", "up": True} for number in range(DOMAINS)]
        return peers if question.startswith(b"peers") else endpoints


@pytest.fixture(name="large")
def large_daemon(tmp_path):
    with LargeDaemon(tmp_path / "sock") as daemon:
        yield daemon


@pytest.mark.parametrize("command, count", LISTS.items())
def test_long_lists_are_whole_and_take_no_time(large, command, count):
    done = large.asked(command)
    head, *rows = done.stdout.decode().splitlines()
    assert done.returncode == EXIT_OK and done.stderr == b"" and len(rows) == count and head.isupper()
    assert all(len(row.split()) == len(rows[1].split()) for row in rows[1:])
    if command == "endpoints":
        assert len({row.index("endpoint-") for row in rows}) == 1  # names of more bytes than letters move no column
    entries = [json.loads(line) for line in large.asked(command, "--json").stdout.splitlines()]
    assert len(entries) == count
    field = {"endpoints": "address"}.get(command, "host" if command == "hosts" else "name")
    assert large.asked(command, "--format", f"%{{{field}}}").stdout.decode().splitlines() == [entry[field] for entry in entries]


def test_a_long_status_is_whole(large):
    lines = large.asked("status").stdout.decode().splitlines()
    assert sum(line.endswith(" 0") or " endpoint-" in line for line in lines) >= ENDPOINTS
    assert f"{DOMAINS} peers, {DOMAINS} links, {ENDPOINTS} endpoints, 0 clients" in lines
    assert len(json.loads(large.asked("status", "--json").stdout)["endpoints"]) == ENDPOINTS


@pytest.mark.parametrize("command", [*LISTS, "status", "peers --json", "endpoints --format %{name}", "status --json", "status --metrics"])
def test_what_cannot_be_written_is_told_in_one_line(large, command):
    with open("/dev/full", "wb") as full:
        done = large.asked(*command.split(), stdout=full)
    assert done.returncode == EXIT_ERROR and done.stderr == b"xenmsg: can't write to standard output: No space left on device\n", done
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", tool("xenmsg"), "--socket", large.path, *command.split()],
                          stderr=subprocess.PIPE, timeout=20 * PATIENCE, check=False)
    assert done.returncode == EXIT_ERROR and done.stderr == b"xenmsg: can't write to standard output: Bad file descriptor\n", done
    # Who has read enough hears nothing.
    done = subprocess.run(["bash", "-c", '"$@" | head -n 1; exit ${PIPESTATUS[0]}', "bash", tool("xenmsg"), "--socket", large.path,
                           *command.split()], capture_output=True, timeout=20 * PATIENCE, check=False)
    assert done.returncode in (EXIT_OK, EXIT_ERROR) and done.stderr == b"" and done.stdout.count(b"\n") == 1, done


@pytest.mark.parametrize("command", [*LISTS, "status"])
def test_a_daemon_that_stops_in_the_middle_is_told(large, command):
    large.pieces = 1
    done = large.asked(command)
    assert done.returncode == EXIT_NO_DAEMON and done.stdout == b"" and done.stderr.count(b"\n") == 1, done
    assert b"xenmsgd has gone away" in done.stderr


@pytest.mark.parametrize("columns", [40, 1])
def test_narrow_terminals_get_every_line(alone, large, columns):
    for command, count in LISTS.items():
        terminal = Terminal(alone, "--socket", large.path, command, columns=columns)
        rows = [line.split()[0] for line in terminal.end().splitlines() if line and not line.isspace()]
        assert len(rows) % (count + 1) == 0 and len(rows) // (count + 1) <= 3, "in parts of the same rows"
        assert terminal.process.returncode == EXIT_OK


def test_watch_lists_many_in_order_and_takes_no_time(large):
    process = subprocess.Popen([tool("xenmsg"), "--socket", large.path, "watch", "--json"], stdout=subprocess.PIPE)
    events = [json.loads(process.stdout.readline()) for _ in range(DOMAINS + ENDPOINTS + 1)]
    process.terminate()
    process.communicate(timeout=20 * PATIENCE)
    assert [event["event"] for event in events] == (DOMAINS + ENDPOINTS) * ["up"] + ["listed"]
    seen = set()
    for event in events[:-1]:
        if event["kind"] == "domain":
            seen.add(event["domid"])
        else:
            assert event["domid"] in seen
    assert {event["address"] for event in events} == {f"{n // 10}:endpoint-{n}" for n in range(ENDPOINTS)} | {None}


def test_doctor_asks_many_domains_at_once(alone, large):
    done = alone.xenmsg("doctor", "--socket", large.path, "--json", timeout=20)
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    peers = [step for step in steps if step["step"].startswith("peer ")]
    assert [step["step"] for step in peers] == [f"peer {domid}" for domid in range(DOMAINS)]
    assert [step["step"] for step in peers if step["result"] != "ok"] == ["peer 7"] and done.stderr == b""
