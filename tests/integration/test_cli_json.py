# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the commands print with --json is one object a line, and as doc/commands.schema.json says."""

import json
import re

import jsonschema
import pytest

from messaging import EXIT_DENIED, EXIT_NO_ENDPOINT, EXIT_TIMEOUT, EXIT_UNREACHABLE, eventually, read_source, stopped
from test_cli_terminal import HostileDaemon


def schema_of(name):
    return json.loads(read_source("doc", f"{name}.schema.json"))


@pytest.fixture(name="valid")
def validator():
    schema = schema_of("commands")
    jsonschema.Draft202012Validator.check_schema(schema)

    def valid(command, lines):
        """The objects of these lines, each of which is one."""
        found = [json.loads(line) for line in lines]
        for one in found:
            jsonschema.Draft202012Validator({"$ref": f"#/$defs/{command}", "$defs": schema["$defs"]}).validate(one)
        return found
    return valid


def printed(node, *arguments, code=0):
    done = node.xenmsg(*arguments, "--json")
    assert done.returncode == code, done
    return done.stdout.splitlines()


def by_number(peers):
    return {peer["domid"]: peer for peer in peers}


def test_lists(nodes, one, two, valid):
    assert 2 in by_number(valid("peers", printed(one, "peers")))
    one.receiver("log")
    two.receiver("print")
    eventually(lambda: len(printed(one, "endpoints")) == 2, "both are listed")
    assert {entry["name"] for entry in valid("endpoints", printed(one, "endpoints"))} == {"log", "print"}
    one.xenmsg("ping", "2", "--count", "1")
    eventually(lambda: by_number(valid("peers", printed(one, "peers")))[2]["rtt_us"], "the link's heartbeat measures", 60)
    assert printed(nodes(3)[3], "endpoints", "self") == []


def test_round_trips(one, two, valid):
    trips = valid("ping", printed(one, "ping", "2", "--count", "3", "--interval", "0"))
    assert [(trip["to"], trip["number"]) for trip in trips] == [("2", 1), ("2", 2), ("2", 3)]
    assert all(trip["rtt_us"] > 0 for trip in trips)
    with stopped(two.pid):
        trips = valid("ping", printed(one, "ping", "2", "--count", "2", "--interval", "0", "--timeout", "0.1", code=EXIT_TIMEOUT))
    assert [trip["rtt_us"] for trip in trips] == [None, None]


def test_the_doctor(nodes, valid):
    one = nodes(1, 2)[1]
    steps = valid("doctor", printed(one, "doctor"))
    assert {step["step"]: step["result"] for step in steps}["peer 2"] == "ok"
    steps = valid("doctor", printed(one, "doctor", "77", code=EXIT_UNREACHABLE))
    assert [step["step"] for step in steps if step["result"] == "failed"] == ["peer 77"]
    steps = valid("doctor", printed(one, "doctor", "self:none", code=EXIT_NO_ENDPOINT))
    assert [step["step"] for step in steps][-3:] == ["domain", "link", "endpoint"] and "recv none" in steps[-1]["mend"]


def test_decisions(one, valid):
    assert valid("policy", printed(one, "policy", "check", "2", "x"))[0]["allow"]
    one.write_policy("")
    assert one.xenmsg("policy", "reload").returncode == 0
    assert not valid("policy", printed(one, "policy", "check", "2", "x", code=EXIT_DENIED))[0]["allow"]


def test_rules_and_refusals(one, two, valid):
    two.write_policy("[rule]\nfrom = 1\nuid = 0\nto = print\naction = deny\n[see]\nfrom = 1\ndomain = *\naction = allow\n")
    reload, = valid("policy reload", printed(two, "policy", "reload"))
    assert reload["rules"] == 2
    for to in ("print", "other"):
        one.send(f"2:{to}", "x", exit_code=EXIT_DENIED)
    assert [refusal["to"] for refusal in valid("policy denied", printed(two, "policy", "denied"))] == ["other", "print"]
    assert [rule["section"] for rule in valid("policy show", printed(two, "policy", "show"))] == ["rule", "see"]


def test_replies(one, two, valid):
    two.popen("serve", "same", "--", "cat", binds="same")
    reply, = valid("call", printed(one, "call", "2:same", "text"))
    assert reply == {"address": "2:same", "size": 4, "text": "text"}
    done = one.xenmsg("call", "--json", "2:same", data=b"\xff\n")
    reply, = valid("call", done.stdout.splitlines())
    assert reply == {"address": "2:same", "size": 2, "base64": "/wo="}


TYPES = {"text": {"string"}, "number": {"integer", "number"}, "flag": {"boolean"}, "list": {"array"}}


def types_of(schema, schemas):
    """Which types a value may have; of an enum those of its values."""
    if "$ref" in schema:
        return types_of(schemas["$defs"][schema["$ref"].rpartition("/")[2]], schemas)
    if "enum" in schema:
        return {"null" if value is None else "string" for value in schema["enum"]}
    if "anyOf" in schema:
        return set().union(*(types_of(each, schemas) for each in schema["anyOf"]))
    found = schema.get("type", [])
    return {found} if isinstance(found, str) else set(found)


def fields_of(schema, schemas, where):
    """Each field of an object, and of those in it, with the object's place. A rule has the keys of a policy's file."""
    for name, member in schema.get("properties", {}).items():
        if isinstance(member, dict) and types_of(member, schemas):
            yield name, where, types_of(member, schemas) - {"null"}
        yield from fields_of(member, schemas, f"{where}/{name}") if isinstance(member, dict) else ()
    for name, member in schema.items():
        if name in ("items", "additionalProperties") and isinstance(member, dict):
            yield from fields_of(member, schemas, where)
        elif name in ("anyOf", "allOf", "oneOf"):
            for each in member:
                yield from fields_of(each, schemas, where)
    for name, member in schema.get("$defs", {}).items():
        if name != "rule":
            yield from fields_of(member, schemas, f"{where}/{name}")


def test_a_field_means_the_same_wherever_it_is():
    table = {name: field["kind"] for name, field in schema_of("commands")["fields"].items()}
    assert len(table) > 25
    places = {}
    for name in ("commands", "status"):
        schema = schema_of(name)
        for field, where, types in fields_of(schema, schema, name):
            places.setdefault(field, set()).add(where)
            assert field not in table or types <= TYPES[table[field]], (where, field, types)
    assert table.keys() <= {field for field, where in places.items() if len(where) > 1} | {"gid"}
    # Those by which people and domains are known are in it wherever they are.
    assert {"host", "domid", "domain", "name", "address", "uid", "pid", "comm", "uuid"} <= table.keys()


# What others have written passes through these as it is; send says nothing; daemon says what it has done; the exporter is for
# Prometheus.
WITHOUT = {"daemon", "publish", "send", "connect", "listen", "run", "forward", "serve", "exporter", "vchan"}


def test_every_command_that_prints_has_it_and_is_described(one):
    described = schema_of("commands")["$defs"]
    commands = re.findall(r"^  ([a-z]+) +", one.xenmsg("--help").stdout.decode().partition("Commands")[2].partition("\n\n")[0], re.M)
    assert len(commands) > 10
    for command in commands:
        has = "--json" in one.xenmsg(command, "--help").stdout.decode()
        assert has == (command not in WITHOUT), command
        assert not has or command in described or command == "status"


def test_messages_and_events(one, two, valid):
    watch = one.popen("watch", "--json")
    assert valid("watch", [watch.stdout.readline()])[0]["kind"] == "domain"
    inbox = two.receiver("inbox", "--json", "--count", "2")

    def next_of_inbox():
        while True:
            event, = valid("watch", [watch.stdout.readline()])
            if event.get("name") == "inbox":
                return event["event"]
    # Read before it goes: a watcher that sees nothing in between sees neither.
    assert next_of_inbox() == "up"
    one.send("2:inbox", "text")
    one.send("2:inbox", None, data=b"\xff")
    assert [set(message) & {"text", "base64"} for message in valid("recv", inbox.output().splitlines())] == [{"text"}, {"base64"}]
    assert next_of_inbox() == "down"


def listed_by(watch, valid):
    """What a watch prints up to the end of what was there."""
    events = []
    while not events or events[-1]["event"] != "listed":
        events += valid("watch", [watch.stdout.readline()])
    return events[:-1]


def test_a_watch_says_where_its_first_list_ends(one, two, valid):
    for number in range(20):
        two.receiver(f"print{number}")
    eventually(lambda: len(two.endpoints()) == 20, "all are bound")
    eventually(lambda: len(one.json("endpoints", "2")) == 20, "domain 1 knows them")
    for pattern, domains, endpoints in (("*", [1, 2], 20), ("2", [2], 20), ("*:print1*", [], 11), ("dom1:*", [], 0), ("*:none", [], 0)):
        watch = one.popen("watch", "--json", pattern)
        events = listed_by(watch, valid)
        assert [event["domid"] for event in events if event["kind"] == "domain" and event["domid"]] == domains, (pattern, events)
        assert sum(event["kind"] == "endpoint" for event in events) == endpoints, (pattern, events)
        # Each domain before its endpoints, in one order.
        assert events == sorted(events, key=lambda event: (event["domid"], event["kind"], event["name"] if event["kind"] == "endpoint" else ""))
        inbox = two.receiver("print1000")
        if pattern in ("*", "2", "*:print1*"):
            assert valid("watch", [watch.stdout.readline()])[0]["name"] == "print1000"
        inbox.stop()
        eventually(lambda: len(one.json("endpoints", "2")) == 20, "it is gone")
        watch.terminate()


def test_a_list_that_takes_long_keeps_nothing_back(alone, valid, tmp_path):
    """A daemon may be slow, or so old that it never says that this was all."""
    with HostileDaemon(tmp_path / "sock") as daemon:
        daemon.name = "x"
        watch = alone.popen("watch", "--json", "--socket", daemon.path)
        assert valid("watch", [watch.stdout.readline()])[0]["domid"] == 2
