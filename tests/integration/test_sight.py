# SPDX-License-Identifier: LGPL-2.1-or-later
"""What domain 0's administrators see of the daemons of their guests: what these let them, and nothing that a guest can make of it.
Guests that lie are link_peer.py."""

import errno
import json
import os
import re
import urllib.request

import pytest

from frames import RELAYS, question_frames
from messaging import EXIT_DENIED, EXIT_ERROR, EXIT_LOST, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_TIMEOUT, EXIT_UNREACHABLE, EXIT_USAGE, FAST, PATIENCE, Holder, deliver, eventually, lost_after, start_all
from protocol import Program
from test_status import validator  # the fixture `valid`  # noqa: F401  pylint: disable=unused-import
from users import User

HIDDEN = ("accounts", "clients", "streams", "denied")


def of(zero, domain):
    done = zero.xenmsg("status", "--domain", domain, "--json")
    assert done.returncode == EXIT_OK, done
    return json.loads(done.stdout)


def settings(sight):
    return f"[daemon]\nhost-sight = {sight}\n" + FAST


def test_domain_0_sees_a_guests_links_and_endpoints(zero, one, valid):
    receiver = one.receiver("inbox")
    zero.send("1:inbox", "hello")
    seen = of(zero, 1)
    valid(seen)
    assert (seen["domid"], seen["instance"], seen["host_sight"], seen["partial"]) == (1, one.instance(), "links", True)
    link, = seen["links"]
    assert (link["peer"]["domid"], link["state"], link["rx"]["messages"]) == (0, "up", 2)  # with the question
    assert [endpoint["name"] for endpoint in seen["endpoints"]] == ["inbox"]
    assert all(seen[name] is None for name in HIDDEN) and "uid" not in seen["endpoints"][0]
    assert seen["limits"] == one.status()["limits"]
    text = zero.xenmsg("status", "--domain", 1).stdout.decode()
    assert "in domain 1" in text and "host-sight = links" in text and "clients" not in text, text
    receiver.stop()


def test_full_sight_is_what_the_guests_root_sees(nodes, valid):
    zero, one = nodes(0, 1, start=False).values()
    one.config = settings("full")
    start_all(zero, one)
    one.set_policy("[rule]\nfrom = 0\nto = inbox\naction = allow\n")
    with Holder(one, "inbox", "other"):
        zero.send("1:other", "x", exit_code=EXIT_DENIED)
        seen, own = of(zero, 1), one.status()
    valid(seen)
    assert (seen["host_sight"], seen["partial"]) == ("full", False)
    assert [entry["name"] for entry in seen["endpoints"]] == [entry["name"] for entry in own["endpoints"]]
    denied, = seen["denied"]
    assert (denied["from"], denied["to"], denied["section"]) == ("0", "other", own["denied"][0]["section"])
    assert {account["kind"] for account in seen["accounts"]} == {"uid", "peer"}


def test_a_guest_may_hide_all(nodes):
    zero, one = nodes(0, 1, start=False).values()
    one.config = settings("none")
    start_all(zero, one)
    done = zero.xenmsg("status", "--domain", 1)
    assert done.returncode == EXIT_DENIED and b"host-sight = none" in done.stderr and done.stdout == b"", done


def test_only_domain_0_asks_and_only_its_administrators(zero, one, two):
    done = one.xenmsg("status", "--domain", 2)
    assert done.returncode == EXIT_DENIED and b"only domain 0" in done.stderr, done
    assert of(one, "self")["domid"] == 1 and of(zero, 0)["domid"] == 0
    assert of(one, "self").keys() == json.loads(one.xenmsg("status", "--json").stdout).keys()
    for words, code in ((("--domain", "9"), EXIT_UNREACHABLE), (("--domain", "a b"), EXIT_USAGE), (("--domain", "1", "--all"), EXIT_USAGE)):
        done = zero.xenmsg("status", *words)
        assert done.returncode == code and len(done.stderr.splitlines()) == 1, done


@pytest.mark.unless(relayed="direct")
def test_no_other_guest_and_no_lie_about_it_is_answered(zero, one, peer_in):
    """Another guest asks one, and domain 0, as if it were domain 0: the link says who it is. It may ping."""
    for target in (1, 0):
        peer = peer_in(2, "grant", target, RELAYS)
        peer.ask("claim", 0)
        for what in ("status", "status all", "trace *", "peers", "endpoints", "rules", "denied", "policy 1 inbox", "watch *", "endpoints self", "reload", "renew"):
            assert peer.ask("question", what, 3) == f"ok {errno.EACCES}", what
        assert peer.ask("question", "hosts", 3) == f"ok {errno.EACCES if target else errno.EHOSTUNREACH}"
        assert peer.ask("question", "ping", 3) == "ok 0"
        assert peer.ask("close") == "ok closed"
    assert of(zero, 1)["domid"] == 1 and one.alive()


def error_of(done):
    return int(re.search(rb"error (\d+)", done.stderr).group(1)) if done.returncode else 0


@pytest.mark.parametrize("sight, may", [("full", 0), ("links", errno.EACCES), ("none", errno.EACCES)])
def test_a_guests_daemon_answers_as_its_host_sight_says(nodes, sight, may):
    zero, one = nodes(0, 1, start=False).values()
    one.config = settings(sight)
    start_all(zero, one)
    told = {"status": errno.EACCES if sight == "none" else 0, "ping": 0, "peers": may, "endpoints self": may, "rules": may, "denied": may,
            "policy 1 inbox": may, "trace *": may, "hosts": errno.EACCES, "peers hostb": errno.EACCES, "reload": errno.EACCES,
            "renew": errno.EACCES, "renewed": errno.EACCES, "nonsense": errno.EACCES}
    assert {what: error_of(zero.xenmsg("call", "1:xenmsg", what)) for what in told} == told


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users")
def test_users_of_domain_0_may_ping_and_nothing_else(zero, one):
    def ask(path, tell, stopped):
        with Program(path) as program:
            for channel, what in ((2, "status"), (4, "trace *"), (6, "ping")):
                program.send_bytes(question_frames(channel, what, to="1"))
                error, text = program.told(channel)
                tell([error, text.decode()])
            stopped(None)
    user = User(65534, zero, ask)
    for _ in range(2):
        error, why = user.next()
        assert error == errno.EPERM and "administrators may ask other domains" in why, why
    assert user.next() == [0, "{}"]
    user.end()
    assert of(zero, 1)["domid"] == 1 and one.alive()


def whole(**other):
    status = {"version": "9", "domid": 7, "links": [], "endpoints": [], "partial": False, **other}
    return json.dumps(status).encode()


DEEP = b"[" * 60
@pytest.fixture(name="lying")
def domain_that_lies(zero, peer_in, tmp_path):
    """lying(text): domain 1 says this of itself, and can still be talked to at the end."""
    peer = peer_in(1, "grant", 0, RELAYS)

    def start(text, name="lie"):
        (tmp_path / name).write_bytes(text)
        assert peer.ask("lie", tmp_path / name).startswith("ok")
    yield start
    assert peer.ask("close") == "ok closed" and zero.alive()


REFUSED = {
    "nothing": b"", "no json": b"{", "no object": b"[]", "no status": b'{"version":"1"}', "a null": b"null", "more behind": whole() + b"{}",
    "too deep": whole(name=None).replace(b"null", DEEP + b"]" * 60), "too many values": b"[" + b"[]," * 70000 + b"[]]",
    "links is a number": whole(links=3), "a zero": b"\0" + whole(), "no utf-8": b'{"version":"\xff\xfe',
}


@pytest.mark.parametrize("lie", REFUSED)
def test_what_is_no_status_is_refused_as_that(zero, lying, lie):
    lying(REFUSED[lie])
    done = zero.xenmsg("status", "--domain", 1, "--json")
    assert done.returncode == EXIT_ERROR and done.stdout == b"" and len(done.stderr.splitlines()) == 1, done


def test_what_a_guest_says_is_only_its_word(zero, lying):
    """It can't say who it is, put anything on a terminal, or make the command fail by what it leaves out."""
    evil = "\x1b[2J\u202e\n"
    lying(whole(
        name=evil, version=evil, uptime_s={}, grants=[1], store="x", policy=[], totals={"links": -1, "peers": 1 << 62},
        links=[{"peer": 7, "state": evil, "tx": []}, 5, None, {}], endpoints=[{"name": evil, "uid": {"a": [1]}}, "x"],
        accounts=[{"kind": [], "memory": "x", "time": 3}], denied=[{"from": evil}, 1], **{evil: 1}))
    seen = of(zero, 1)
    assert (seen["domid"], seen["name"]) == (1, zero.json("peers")[0]["name"]) and evil not in seen
    for words in ((), ("--json",), ("--metrics",)):
        done = zero.xenmsg("status", "--domain", 1, *words)
        assert done.returncode == EXIT_OK, done
        assert not any(character in done.stdout.decode() for character in ("\x1b", "\u202e")), done


HOSTILE_PARTS = {
    "more than there may be": ([(number, 1, b"x" * 32768) for number in range(20)] + [(20, 0, b"")], b"more than a status can be"),
    "a part that isn't the next one": ([(0, 1, b"{"), (2, 0, b"}")], b""),
    "a part of nothing": ([(1, 0, b"{}")], b""),
}


@pytest.mark.parametrize("lie", HOSTILE_PARTS)
def test_parts_that_can_be_no_text_end_the_question(zero, lying, lie):
    parts, why = HOSTILE_PARTS[lie]
    lying(json.dumps([(part, more, data.hex()) for part, more, data in parts]).encode(), "a.parts")
    done = zero.xenmsg("status", "--domain", 1)
    assert done.returncode not in (EXIT_OK, EXIT_TIMEOUT) and why in done.stderr and len(done.stderr.splitlines()) == 1, done
    eventually(lambda: not any(account["queued_bytes"]["used"] for account in zero.status()["accounts"] if account["kind"] == "peer"),
               "nothing is kept for it")


def test_who_is_silent_costs_a_time_out_and_nothing_else(nodes, peer_in):
    zero, = nodes(0, config=lost_after("5s")).values()
    peer = peer_in(1, "grant", 0, RELAYS)
    process = zero.popen("call", "-t", "3s", "1:xenmsg", "status")
    assert peer.ask("asked", 1) == "ok 1"
    assert of(zero, 0)["domid"] == 0
    peer.tell("asked", 2)  # until then it answers PINGs, and nothing else
    _, err = process.communicate(timeout=60 * PATIENCE)
    assert b"timed out" in err and process.returncode == EXIT_LOST, err
    zero.xenmsg("ping", "1", "-n", "1", "-t", "1s")
    assert peer.answer() == "ok 2"


def test_a_status_of_many_endpoints_arrives_whole(zero, one):
    names = [f"n{number:03}" for number in range(100)]
    with Holder(one, *names):
        deliver(zero, one)
        seen = of(zero, 1)
        assert [entry["name"] for entry in seen["endpoints"]] == sorted(names) and seen["totals"]["endpoints"] == 100


def test_it_is_found_by_name_and_after_a_restart(zero, one):
    name = zero.json("peers")[0]["name"]
    assert of(zero, name)["instance"] == one.instance()
    one.stop()
    done = zero.xenmsg("status", "--domain", name)
    assert done.returncode in (EXIT_NO_ENDPOINT, EXIT_UNREACHABLE) and len(done.stderr.splitlines()) == 1, done
    one.start()
    assert of(zero, name)["instance"] == one.instance()


# ---- all of a host at once ----

@pytest.fixture(name="mixed")
def a_host_of_all_kinds(nodes, peer_in, tmp_path):
    """Domain 0, one that shows its links, one that hides all, and one that lies."""
    zero, one, two = nodes(0, 1, 2, start=False).values()
    two.config = settings("none")
    for node in (zero, one, two):
        node.start()
    zero.sees(one, two)
    liar = peer_in(3, "grant", 0, RELAYS)
    (tmp_path / "lie").write_bytes(whole(name="x", links=[
        {"peer": {"domid": "\n7", "name": 'a"} 1'}, "state": "up", "tx": {"bytes": 'x\ny'}, "resumes": 5,
         "round_trips": {"buckets": [{"up_to_us": 1, "count": "1\nevil 1"}], "count": "1\nevil 1"}}]))
    assert liar.ask("lie", tmp_path / "lie").startswith("ok")
    eventually(lambda: {peer["domid"] for peer in zero.json("peers") if peer["up"]} == {1, 2, 3}, "all are there")
    names = {peer["domid"]: peer["name"] or str(peer["domid"]) for peer in zero.json("peers")}
    yield zero, one, names
    assert liar.ask("close") == "ok closed"


def test_one_scrape_has_the_metrics_of_all_domains(mixed):
    zero, one, names = mixed
    deliver(zero, one)
    process = zero.popen("exporter", "--host", "--listen", "tcp:127.0.0.1:0")
    port = int(process.stdout.readline().decode().rpartition(":")[2])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60 * PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    process.terminate()
    process.communicate()
    own = zero.status()["name"] or "0"
    up = {line.partition(" ")[0]: line.rpartition(" ")[2] for line in lines if line.startswith("xenmsg_up{")}
    assert up == {f'xenmsg_up{{domain="{name}",of_domid="{domid}"}}': value
                  for domid, name, value in ((0, own, "1"), (1, names[1], "1"), (2, names[2], "0"), (3, names[3], "1"))}
    assert f'xenmsg_link_received_messages_total{{domain="{names[1]}",of_domid="1",domid="0"}} 2' in lines  # with the question
    assert f'xenmsg_link_resumes_total{{domain="{names[3]}",of_domid="3",domid="\\\\u000a7"}} 5' in lines
    samples = [line for line in lines if not line.startswith("#")]
    assert all(line.startswith("xenmsg_") and "domain=" in line for line in samples), samples
    heads = [line for line in lines if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads)) > 50, "each metric is together"


def test_doctor_looks_at_all_domains(mixed):
    zero, _, names = mixed
    done = zero.xenmsg("doctor", "--host", "--json")
    assert done.returncode == EXIT_OK, done
    found = [json.loads(line) for line in done.stdout.splitlines()]
    def of_domain(name):
        return [entry for entry in found if entry["step"].startswith(f"{name}: ")]
    assert [entry["result"] for entry in of_domain(names[2])] == ["left out"]
    assert any("serves domain 1" in entry["text"] for entry in of_domain(names[1]))
    assert of_domain(names[3]) and all(entry["step"].partition(": ")[0] in {*names.values(), zero.status()["name"] or "0"}
                                       for entry in found)


    text = zero.xenmsg("doctor", "--host").stdout.decode().splitlines()
    assert len(text) == 1 + len(found and {entry["step"].partition(": ")[0] for entry in found}), text
    assert re.fullmatch(r"4 domains: \d well, \d with warnings, 0 failed", text[-1]), text
    quiet = zero.xenmsg("doctor", "--host", "--quiet").stdout.decode()
    assert not re.search("^(ok|-) ", quiet, re.M), quiet


@pytest.mark.unless(relayed="zero", strict="zero")
def test_the_matrix_says_who_may_reach_what_over_all_domains(nodes):
    rules = "[rule]\nfrom = 1\nto = both, one\naction = allow\n[rule]\nfrom = 3\nto = bo*\naction = allow\n"
    sight = "[daemon]\nhost-sight = %s\n"
    two, three = nodes(2, config=FAST + sight % "full", policy=rules)[2], nodes(3, config=FAST + sight % "none")[3]
    zero, one = nodes(0, 1, config=FAST + sight % "full").values()
    for name in ("both", "one", "nobody"):
        two.receiver(name)
    three.receiver("secret")
    def pairs():
        lines = zero.xenmsg("policy", "matrix", "--json").stdout.splitlines()
        return {(each["from"], each["endpoint"]): each["answer"] for each in map(json.loads, lines) if each["to"] == 2}
    expected = {(domid, name): "deny" for domid in (0, 1, 3) for name in ("both", "one", "nobody")}
    expected |= {(1, "both"): "allow", (1, "one"): "allow", (3, "both"): "allow"}
    eventually(lambda: pairs() == expected, "all that domain 2 has is there")
    done = zero.xenmsg("policy", "matrix")
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    assert lines[0] == ["TO", "0", "1", "2", "3"] and ["2:both", ".", "yes", "yes"] in [[word for word in line if word != "-"] for line in lines]
    assert b"1 of 4 domains" in done.stderr and "secret" not in done.stdout.decode()
    for (domid, name), said in expected.items():
        assert (two.xenmsg("policy", "check", str(domid), name).returncode == EXIT_OK) == (said == "allow")
    assert one.xenmsg("policy", "matrix").returncode == EXIT_DENIED


@pytest.mark.parametrize("command", ["doctor --host", "top --host --once"])
def test_only_domain_0_looks_at_a_host(one, command):
    done = one.xenmsg(*command.split())
    assert done.returncode == EXIT_DENIED and b"ask from there" in done.stderr and done.stdout == b"", done
