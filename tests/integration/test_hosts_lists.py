# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is told of other hosts: hosts, peers, endpoints and watch (doc/protocol.md, 5.11), between the hosts of test_hosts.py."""

import itertools
import json
import os
import re

import jsonschema
import pytest

from library import Connection
from messaging import EXIT_DENIED, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE, FAST, LOST_SOON, eventually
from joined_hosts import IN, OUT, Stream
from renewing import renew


@pytest.mark.unless(renewed="time")
def test_the_hosts_are_listed(hosts):
    here, there = hosts(join=False, config=LOST_SOON)
    own, = here.json("hosts")
    assert (own["host"], own["own"], own["gateway"], own["server"]) == ("hosta", True, "missing", None)
    hosts.join()
    own, other = here.json("hosts")
    assert (own["gateway"], own["server"]) == ("connected", "fake://here")
    assert (other["host"], other["own"], other["up"], other["link"]["state"]) == ("hostb", False, True, "idle")
    assert other["instance"] == there.status()["instance"]
    there.receiver("inbox")
    here.send("hostb/0:inbox", "across")
    assert here.json("hosts")[1]["link"]["state"] == "up"
    rows = here.xenmsg("hosts").stdout.decode().splitlines()
    assert rows[0].split() == ["HOST", "STATE", "LINK", "RTT_US", "INSTANCE", "LAST_ERROR"]
    assert re.match(r"hosta +gateway connected to fake://here since 20", rows[1]) and re.match(r"hostb +up since 20.* up ", rows[2])
    hosts.gateway.close()
    eventually(lambda: here.json("hosts")[1]["link"]["state"] == "away", "the link is away")
    assert "away since" in here.xenmsg("hosts").stdout.decode()
    own, other = here.json("hosts")
    assert own["gateway"] == "missing" and "gone" in own["last_error"]
    eventually(lambda: not here.json("hosts")[1]["up"], "the other host is taken to be down after dead-after")


@pytest.mark.unless(renewed="time")
def test_a_guest_lists_the_hosts_that_rules_let_it_reach(hosts):
    here, _, _ = hosts(count=3, guests=2, policy=IN + "[out]\nfrom = 1\nto = hostb\naction = allow\n"
                       "[out]\nfrom = 0\nto = *\naction = allow\n", join=False, config=LOST_SOON)
    own = {"host": "hosta", "own": True, "gateway": "missing"}
    assert here[1].told("hosts") == [own]
    hosts.join()
    own["gateway"] = "connected"
    eventually(lambda: len(here[0].json("hosts")) == 3, "all are known")
    assert here[1].told("hosts") == [own, {"host": "hostb", "own": False, "up": True}]
    assert here[2].told("hosts") == [own]
    assert [row.split() for row in here[1].xenmsg("hosts").stdout.decode().splitlines()] == [
        ["HOST", "STATE"], ["hosta", "gateway", "connected"], ["hostb", "up"]]
    assert here[0].xenmsg("ping", "--count", "1", "hostb/0").returncode == EXIT_OK
    hosts.gateway.close()
    eventually(lambda: here[1].told("hosts")[1].get("link") == {"state": "away"}, "the link is away")
    rows = here[1].xenmsg("hosts").stdout.decode().splitlines()
    assert (rows[0].split(), rows[2].split()) == (["HOST", "STATE", "LINK"], ["hostb", "up", "away"])
    eventually(lambda: not here[1].json("hosts")[1]["up"], "the other host is taken to be down after dead-after")


def test_without_a_name_there_are_no_hosts(nodes):
    for node in nodes(0, 1).values():
        done = node.xenmsg("hosts")
        assert done.returncode == EXIT_UNREACHABLE
        assert (b"set name under [hosts]" if node.domid == 0 else b"domain 0 needs name") in done.stderr, done


@pytest.mark.unless(relayed="zero", strict="zero")
def test_without_a_daemon_in_domain_0_no_hosts_are_known(nodes):
    done = nodes(1)[1].xenmsg("hosts")
    assert done.returncode == EXIT_UNREACHABLE and b"no xenmsgd runs in domain 0" in done.stderr, done


def listed(node, domain):
    return [entry["name"] for entry in node.json("endpoints", domain)]


def test_the_endpoints_of_another_host_are_listed(hosts):
    here, there = hosts(guests=1)
    there[0].receiver("print")
    there[0].receiver("scan")
    there[1].popen("serve", "rev", "--", "rev", binds="rev")
    for asker in here.values():
        assert listed(asker, "hostb/0") == ["print", "scan"]
        answer, = asker.told("endpoints", "hostb/1")
        assert answer == {"host": "hostb", "domid": 1, "domain": answer["domain"], "name": "rev", "kind": "call", "address": "hostb/1:rev"}
        assert listed(asker, f"hostb/{answer['domain']}") == ["rev"]
        rows = asker.xenmsg("endpoints", "hostb/0").stdout.decode().splitlines()
        assert rows[0].split() == ["HOST", "DOMID", "DOMAIN", "NAME", "KIND"] and rows[1].split()[0] == "hostb"
    assert listed(here[0], "hosta/0") == []


def test_only_what_rules_allow_the_asker_is_listed(hosts):
    here, there = hosts(guests=2, policy=OUT + "[rule]\nfrom = hosta/1\nto = one, both\naction = allow\n"
                        "[rule]\nfrom = hosta/2\nuid = 77\nto = *\naction = allow\n"
                        "[rule]\nfrom = hosta/*, *\nto = both\naction = allow\n")
    for node in (there[0], there[1]):
        for name in ("one", "both", "none"):
            node.receiver(name)
    for domain in ("hostb/0", "hostb/1"):
        assert listed(here[0], domain) == ["both"]
        assert listed(here[1], domain) == ["both", "one"]
        assert listed(here[2], domain) == ["both"]
    there[1].set_policy("")
    assert listed(here[1], "hostb/1") == [] and listed(here[1], "hostb/0") == ["both", "one"]


def test_domains_of_another_host_are_listed_if_a_rule_shows_them(hosts):
    here, there = hosts(guests=2)
    assert [(peer["host"], peer["domid"]) for peer in here[0].json("peers", "hostb")] == [("hostb", 0)]
    there[0].set_policy(IN + OUT + "[see]\nfrom = hosta/0\ndomain = 2\naction = allow\n")
    eventually(lambda: [peer["domid"] for peer in here[0].json("peers", "hostb")] == [0, 2], "it is shown")
    assert [peer["domid"] for peer in here[1].json("peers", "hostb")] == [0]
    assert here[0].xenmsg("peers", "hostb").stdout.decode().splitlines()[0].split() == ["HOST", "DOMID", "NAME"]
    assert {peer["domid"] for peer in here[0].json("peers", "hosta")} == {1, 2}


def test_what_cannot_be_asked_gets_an_error(hosts):
    here, there = hosts(guests=1, join=False)
    for node in here.values():
        assert node.xenmsg("endpoints", "hostb/0").returncode == EXIT_UNREACHABLE
    hosts.join()
    for node in here.values():
        for wrong, code in (("hostc/0", EXIT_UNREACHABLE), ("hostb/77", EXIT_UNREACHABLE), ("hostb/nobody", EXIT_UNREACHABLE),
                            ("HOST/0", EXIT_USAGE), ("hostb/", EXIT_USAGE), ("a/b/c", EXIT_USAGE)):
            done = node.xenmsg("endpoints", wrong)
            assert done.returncode == code and done.stdout == b"" and wrong.encode() in done.stderr, (wrong, done)
        assert node.xenmsg("peers", "no_host").returncode == EXIT_UNREACHABLE, "it is no domain, either"
    here[0].set_policy(IN)
    for node in here.values():
        assert node.xenmsg("endpoints", "hostb/0").returncode == EXIT_DENIED
    there[1].stop()
    assert there[0].xenmsg("endpoints", "hosta/1").returncode == EXIT_OK
    hosts.gateway.say_down("hostb")
    eventually(lambda: here[0].xenmsg("peers", "hostb").returncode in (EXIT_UNREACHABLE, EXIT_DENIED), "it is down")


def watching(node, pattern):
    """Starts to watch. A function that returns the next line, without what isn't in an address."""
    process = node.popen("watch", pattern)
    return lambda: " ".join(process.stdout.readline().decode().split()[:3])


@pytest.mark.parametrize("asker", (0, 1))
def test_endpoints_of_another_host_are_watched(hosts, asker):
    here, there = hosts(guests=1)
    first = there[1].receiver("print")
    there[1].receiver("other")
    next_line = watching(here[asker], f"hostb/{there[1].status()['uuid'] if asker else 1}:pr*")
    assert [next_line(), next_line()] == ["up host hostb", "up endpoint hostb/1:print"]
    first.stop()
    assert next_line() == "down endpoint hostb/1:print"
    there[1].receiver("print")
    assert next_line() == "up endpoint hostb/1:print"
    there[1].set_policy("")
    assert next_line() == "down endpoint hostb/1:print"


def test_domains_of_another_host_are_watched(hosts):
    here, there = hosts(guests=1, policy=IN + OUT + "[see]\nfrom = hosta/*\ndomain = *\naction = allow\n")
    there[0].receiver("zero")
    next_line = watching(here[0], "hostb/*")
    lines = [next_line() for _ in range(4)]
    assert lines[0] == "up host hostb" and set(lines) == {lines[0], "up domain hostb/0", "up endpoint hostb/0:zero", "up domain hostb/1"}
    there[1].receiver("one")
    assert next_line() == "up endpoint hostb/1:one"
    there[1].stop()
    assert [next_line(), next_line()] == ["down endpoint hostb/1:one", "down domain hostb/1"]


@pytest.mark.parametrize("domain", ("*", "1", "dom1"))
def test_a_domain_of_another_host_that_is_renamed_goes_and_comes(hosts, domain):
    here, there = hosts(guests=1, policy=IN + OUT + "[see]\nfrom = hosta/*\ndomain = 1\naction = allow\n")
    there[1].receiver("print")
    lines = iter(watching(here[0], f"hostb/{domain}"), "")
    assert "up endpoint hostb/1:print" in lines
    hosts.nodes[1].host.sim("rename", 1, "fresh")
    assert "down domain hostb/1" in lines
    assert domain == "dom1" or next(lines) == "up domain hostb/1"


@pytest.mark.parametrize("asker", (0, 1))
def test_a_host_that_goes_is_told_and_so_is_that_it_comes_back(hosts, asker):
    here, there = hosts(guests=1)
    there[0].receiver("print")
    next_line = watching(here[asker], "hostb/0:print")
    assert [next_line(), next_line()] == ["up host hostb", "up endpoint hostb/0:print"]
    hosts.gateway.say_down("hostb")
    assert {next_line(), next_line()} == {"down host hostb", "down endpoint hostb/0:print"}
    hosts.gateway.say_down("hostb", False)
    assert {next_line(), next_line()} == {"up host hostb", "up endpoint hostb/0:print"}


def test_a_link_between_hosts_that_is_resumed_is_no_event(hosts):
    here, there = hosts()
    there.receiver("print")
    next_line = watching(here, "hostb/0")
    assert [next_line() for _ in range(3)] == ["up host hostb", "up domain hostb/0", "up endpoint hostb/0:print"]
    for count in (1, 2, 3):
        hosts.gateway.close()
        hosts.join()
        there.receiver(f"scan{count}")
        assert next_line() == f"up endpoint hostb/0:scan{count}"


@pytest.mark.parametrize("asker", (0, 1))
def test_what_is_watched_is_told_once_whoever_hands_over(hosts, asker):
    here, there = hosts(guests=1)
    there[1].receiver("print")
    next_line = watching(here[asker], "hostb/1")
    assert [next_line() for _ in range(3)] == ["up host hostb", "up domain hostb/1", "up endpoint hostb/1:print"]
    for count, node in enumerate((here[0], here[1], there[0], there[1])):
        renew(node)
        there[1].receiver(f"scan{count}")
        assert next_line() == f"up endpoint hostb/1:scan{count}"


def test_what_cannot_be_watched_gets_an_error(hosts):
    here, _ = hosts(guests=1)
    for node in here.values():
        for pattern, code in (("hostc/*", EXIT_UNREACHABLE), ("hostb/", EXIT_USAGE), ("h*/1:x", EXIT_USAGE), ("hostb/1:", EXIT_USAGE)):
            done = node.xenmsg("watch", pattern)
            assert done.returncode == code and done.stdout == b"" and done.stderr.count(b"\n") == 1, (pattern, done)
    hosts.gateway.say_down("hostb")
    for node in here.values():
        eventually(lambda node=node: node.xenmsg("watch", "hostb/*", timeout=20).returncode == EXIT_UNREACHABLE, "it is down")


def test_lists_are_as_their_schema_says(hosts):
    here, there = hosts(guests=1)
    there[0].receiver("print")
    with open(os.path.join(os.path.dirname(__file__), "../../doc/commands.schema.json"), encoding="utf-8") as file:
        described = json.load(file)["$defs"]
    for node, (command, *arguments) in itertools.product(
            here.values(), (("hosts",), ("peers", "hostb"), ("endpoints", "hostb/0"))):
        answer = node.json(command, *arguments)
        assert answer
        for entry in answer:
            jsonschema.Draft202012Validator({"$ref": f"#/$defs/{command}", "$defs": described}).validate(entry)


@pytest.mark.unless(relayed="direct")
def test_a_guest_may_name_its_own_host(hosts):
    """It works as without the host, and asks no [out]: what it means never leaves the host."""
    here, = hosts(count=1, guests=2, policy="[rule]\nfrom = *\nto = *\naction = allow\n", join=False)
    guest = here[1]
    eventually(lambda: "dom2" in {peer["name"] for peer in guest.json("peers")}, "the guests know each other")
    for domain, receiver in (("1", guest), ("2", here[2]), ("0", here[0]), ("dom2", here[2])):
        inbox = receiver.receiver("inbox", "--json", "--count", "1")
        eventually(lambda domain=domain: guest.json("endpoints", f"hosta/{domain}"), "the endpoint is known")
        assert guest.json("endpoints", f"hosta/{domain}") == guest.json("endpoints", domain)
        guest.send(f"hosta/{domain}:inbox", "at home")
        message = json.loads(inbox.output())
        assert (message["text"], message["sender"]["domid"], message["sender"].get("host")) == ("at home", 1, None), message
        assert guest.xenmsg("ping", "--count", "1", f"hosta/{domain}").returncode == EXIT_OK
    peers = [{key: peer[key] for key in ("domid", "name", "uuid")} for peer in guest.json("peers", "hosta")]
    assert peers == [{key: peer[key] for key in ("domid", "name", "uuid")} for peer in guest.json("peers")]
    with Stream(guest, here[2], "hosta/2:stream") as stream:
        assert (stream.host, stream.domid) == ("", 1)
    next_line = watching(guest, "hosta/2:pr*")
    here[2].receiver("print")
    assert next_line() == "up endpoint 2:print"
    done = guest.xenmsg("call", "hosta/2:nothing", data=b"")
    assert done.returncode == EXIT_NO_ENDPOINT, done
    here[0].stop()  # its name is still known, as those of domains are
    guest.send("hosta/2:nothing", "x", exit_code=EXIT_NO_ENDPOINT)


@pytest.mark.unless(small="limits")
def test_a_long_list_is_whole(hosts):
    here, there = hosts()
    with Connection(there.socket) as program:
        assert {program.bind(f"{'n' * 58}{i:03}") for i in range(300)} == {0}
        eventually(lambda: len(here.json("endpoints", "hostb/0")) == 300, "all are told")
        assert len(here.json("endpoints", "hostb/0:*299")) == 1
        watch = here.popen("watch", "--json", "hostb/0:*299")
        rows = map(json.loads, iter(watch.stdout.readline, b""))
        assert [(row["event"], row["kind"]) for row in itertools.islice(rows, 2)] == [("up", "host"), ("up", "endpoint")]
        row = next(rows)
        assert (row["event"], row["name"]) == ("listed", None)
    row = next(rows)
    assert (row["event"], row["kind"]) == ("down", "endpoint")
