# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hosts that talk with each other through a gateway (doc/protocol.md, 5.10 and 7). The gateway is a fake one, which joins
two daemons' sockets: what is tested here is the daemons' part."""

import errno
import json
import os
import re
import shlex
import socket
import subprocess

import pytest

from conftest import wait_for
from joined_hosts import IN, LISTEN_HOSTS, OUT, Stream, pour, received
from library import Connection, Posts
from messaging import (EXIT_DENIED, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_TIMEOUT, EXIT_UNREACHABLE, EXIT_USAGE, FAST, LOST_SOON, PATIENCE,
                       Holder, eventually, tool)
from polling import writable
from test_resume import abroad, at_work, calling, numbered, resumes
from test_topics import publish, subscriber, topic
from test_topics_moving import take_for, who_says_hello


def test_a_message_goes_from_host_to_host(hosts):
    here, there = hosts()
    receiver = there.receiver("inbox", "--json", "--count", "1")
    here.send("hostb/0:inbox", "across")
    message = json.loads(receiver.output())
    assert message["text"] == "across"
    assert message["sender"]["host"] == "hosta" and message["sender"]["domid"] == 0, message


def test_guests_of_two_hosts_talk_through_their_domains_0(hosts):
    here, there = hosts(guests=1)
    for sender, receiver, address in ((here[1], there[1], "hostb/1:inbox"), (there[1], here[0], "hosta/0:inbox"),
                                      (here[0], there[1], "hostb/1:inbox")):
        inbox = receiver.receiver("inbox", "--json", "--count", "1")
        sender.send(address, "across")
        message = json.loads(inbox.output())
        assert message["sender"]["host"] == ("hosta" if sender in here.values() else "hostb")
        assert message["sender"]["domid"] == sender.domid, message


def test_a_call_comes_back_from_another_host(hosts):
    here, there = hosts(guests=1)
    server = there[1].popen("serve", "rev", "--", "rev", binds="rev")
    done = here[1].xenmsg("call", "hostb/1:rev", data=b"abc")
    assert done.returncode == EXIT_OK and done.stdout.strip() == b"cba", done
    server.terminate()


@pytest.mark.parametrize("far", (0, 1))
def test_a_renamed_domain_is_named_so_over_open_channels(hosts, far):
    """And rules about its name are asked again: they let go on what they let begin under the new one, and nothing else."""
    rules = "[rule]\nfrom = hosta/dom1, hosta/work\nto = *\naction = allow\n"
    here, there = hosts(guests=1, policy=rules + OUT if far == 0 else (IN + OUT, rules))
    address = f"hostb/{far}:inbox"
    with Connection(here[1].socket) as sender, Connection(there[far].socket, binds="inbox") as receiver:
        eventually(lambda: who_says_hello(sender, receiver, address) == (1, "dom1"), "the first name is known")
        hosts.nodes[0].host.sim("rename", 1, "work")
        eventually(lambda: who_says_hello(sender, receiver, address) == (1, "work"), "it is known anew")
        hosts.nodes[0].host.sim("rename", 1, "play")
        eventually(lambda: sender.send(address, b"hello") == -errno.EACCES, "the name that it has now is denied")


def test_a_topic_elsewhere_names_its_publisher_s_number_of_now(hosts):
    here, there = hosts(guests=1)
    publisher = topic(there[1])
    subscribers = [subscriber(here[domid], "hostb/1:news") for domid in (0, 1)]

    def numbers():
        publish(publisher, b"hello")
        return [take_for(conn, b"hello")[-1][1] for conn in subscribers]
    assert numbers() == [1, 1]
    there[1].save_and_restore()
    eventually(lambda: numbers() == 2 * [there[1].domid], "it is known anew")


def test_names_of_the_greatest_length_are_kept_whole_everywhere(hosts):
    """HOST/DOMAIN:ENDPOINT of 63, 127 and 63 bytes: in programs, in both daemons, in what is listed, and in what is denied."""
    hosts.names = tuple(letter * 63 for letter in "abc")
    here, there = hosts(guests=1)
    domain, endpoint = "d" * 127, "e" * 63
    for nodes, name in zip(hosts.nodes, ("s" * 127, domain)):
        with nodes.by_domid[0].store() as store:
            store.write("/local/domain/1/name", name)
    address = f"{hosts.names[1]}/{domain}:{endpoint}"
    assert len(address) == 255
    for nodes, name in ((here, "s" * 127), (there, domain)):
        for node in nodes.values():  # the domain itself, and its domain 0
            eventually(lambda node=node, name=name: name in json.dumps(node.status_with_all_peers()), "the name is known")
    inbox = there[1].receiver(endpoint, "--json", "--count", "2")
    eventually(lambda: here[1].xenmsg("send", address, "one").returncode == EXIT_OK, "the name is known")
    eventually(lambda: there[1].xenmsg("send", f"{domain}:{endpoint}", "two").returncode == EXIT_OK, "there, too")
    one, two = map(json.loads, inbox.output().splitlines())
    assert (one["sender"]["host"], one["sender"]["domain"]) == (hosts.names[0], "s" * 127), one
    assert (two["sender"]["domain"], two["endpoint"]) == (domain, endpoint), two

    with Connection(here[1].socket) as client, Connection(there[1].socket) as server:
        assert server.listen(endpoint, LISTEN_HOSTS) == 0
        watch = here[1].popen("watch", "--json", f"{hosts.names[1]}/{domain}:{endpoint}")
        event = next(event for event in map(json.loads, watch.stdout) if event["kind"] == "endpoint")
        assert (event["host"], event["name"], event["domain"]) == (hosts.names[1], endpoint, domain), event
        watch.terminate()
        stream = client.connect(address)
        assert stream >= 0
        taken, host, *_ = server.accept_peer()
        assert host == hosts.names[0]
        listed, = here[1].status()["streams"]
        assert listed["address"] == address
        assert [listed["name"] for listed in here[1].json("endpoints", f"{hosts.names[1]}/{domain}")] == [endpoint]
        os.close(stream)
        os.close(taken)
        assert server.unbind(endpoint) == 0
        eventually(lambda: client.send(address, b"x") == -errno.ENOENT, "it is gone")
        assert client.call(address, b"x") == -errno.ENOENT
        assert client.connect(address) == -errno.ENOENT

    assert here[1].xenmsg("ping", "--count", "1", f"{hosts.names[1]}/{domain}").returncode == EXIT_OK
    here[0].policy = "[out]\nfrom = *\nto = *\naction = deny\n"
    here[0].set_policy(here[0].policy)
    here[1].send(address, "x", exit_code=EXIT_DENIED)
    assert address in json.dumps(here[0].status()["denied"])


def test_the_own_host_needs_no_gateway(hosts):
    here, _ = hosts(join=False)
    receiver = here.receiver("inbox", "--count", "1")
    here.send("hosta/0:inbox", "at home")
    assert b"at home" in receiver.output()
    assert here.xenmsg("ping", "--count", "1", "hosta/0").returncode == EXIT_OK


def test_without_a_way_a_message_ends_with_one_error(hosts):
    here, _ = hosts(join=False)
    here.send("hostb/0:inbox", "nobody", exit_code=EXIT_UNREACHABLE)
    hosts.join()
    here.send("hostc/0:inbox", "nobody", exit_code=EXIT_UNREACHABLE)
    here.send("hostb/0:inbox", "nobody", exit_code=EXIT_NO_ENDPOINT)


@pytest.mark.parametrize("policy", (IN, OUT, "[rule]\nfrom = *\nto = *\naction = allow\n" + OUT,
                                    IN + OUT.replace("to = *", "to = hostc"),
                                    "[rule]\nfrom = hostb/*, hosta/5\nto = *\naction = allow\n" + OUT))
def test_nothing_goes_from_host_to_host_without_rules_at_both(hosts, policy):
    here, there = hosts(policy=policy)
    there.receiver("inbox")
    here.send("hostb/0:inbox", "forbidden", exit_code=EXIT_DENIED)


def test_the_rules_and_the_first_message_of_hosts_md(hosts):
    with open(os.path.join(os.path.dirname(__file__), "../../doc/hosts.md"), encoding="utf-8") as file:
        section, = re.findall("^### 4[.](.*?)^## ", file.read(), re.M | re.S)
    out, rule, see, receive, send = (block.replace("work", "1") for block in re.findall(r"^```\n(.*?)^```$", section, re.M | re.S))
    here, there = hosts(guests=1, policy="")
    first_word, *words = shlex.split(send)
    assert first_word == "xenmsg" and here[1].xenmsg(*words).returncode == EXIT_DENIED
    for node, rules in ((here[0], out), (there[1], rule), (there[0], see)):
        node.set_policy(rules)
    receiver = there[1].popen(*shlex.split(receive)[1:])
    eventually(lambda: here[1].xenmsg(*words).returncode == EXIT_OK, "it may go, and has been taken")
    assert receiver.communicate(timeout=60)[0] == b"hello from the other host\n"
    assert here[1].xenmsg("ping", "--count", "1", "hostb/0").returncode == EXIT_OK
    assert [peer["domid"] for peer in here[1].json("peers", "hostb")][-1] == 1


def why_refused(node, address, code):
    done = node.xenmsg("send", address, "x")
    assert done.returncode == code, done
    return done.stderr.decode()


def test_what_keeps_a_message_from_another_host_is_named(hosts):
    here, _ = hosts(guests=1, policy=OUT.replace("to = *", "to = hostb"))
    text = why_refused(here[1], "hostc/0:inbox", EXIT_DENIED)
    assert "an [out] in /etc/xenmsg/policy.d of domain 0 here" in text and "from = 1, to = hostc, action = allow" in text
    text = why_refused(here[0], "hostc/0:inbox", EXIT_DENIED)
    assert "no [out] lets it leave this host: add one to /etc/xenmsg/policy.d/50-test.conf, with from = 0, to = hostc, action = allow" in text
    for node in here.values():
        assert "there a [rule] of the receiving domain" in why_refused(node, "hostb/0:inbox", EXIT_DENIED)
    # Either names the command that prints it.
    for node in here.values():
        command, = re.findall("'xenmsg (policy check [^']*)' prints it", why_refused(node, "hostc/0:inbox", EXIT_DENIED))
        done = here[0].xenmsg(*command.split())
        assert done.returncode == EXIT_DENIED and f"[out]\nfrom = {node.domid}\nto = hostc\naction = allow\n" in done.stdout.decode()
    # A rule that denies stands before others.
    here[0].set_policy("[out]\nfrom = *\nto = *\naction = deny\n", "10-no.conf")
    assert "add one to /etc/xenmsg/policy.d/10-no.conf, before line 1, with" in why_refused(here[0], "hostb/0:inbox", EXIT_DENIED)


def ends_as_unreachable(node, where, *more):
    for line in ("endpoints {}", "ping --count 1 {}", "send {}:x x", "call {}:x x", "connect {}:x", "run {}:x", "bench {}:x", *more):
        done = node.xenmsg(*line.format(where).split())
        assert done.returncode == (255 if line.startswith("run") else EXIT_UNREACHABLE), (line, done)


@pytest.mark.parametrize("others", ("without a name", "alone", "joined"))
def test_what_is_not_there_gets_one_answer_from_all_commands(hosts, nodes, others):
    for node in (nodes(0, 1) if others == "without a name" else hosts(guests=1, count=1 + (others == "joined"), join=others == "joined")[0]).values():
        ends_as_unreachable(node, "hostc/1", "peers hostc", "peers hostc/1", "watch hostc/*", *["doctor {}:x"][others == "alone":])  # there the gateway comes first
        ends_as_unreachable(node, "nobody", "peers nobody", "trace nobody:x")
        ends_as_unreachable(node, "77", "peers 77")
        assert others != "without a name" or "name under [hosts] in xenmsgd.conf(5)" in why_refused(node, "hostb/0:x", EXIT_UNREACHABLE)


@pytest.mark.parametrize("sender", ("hosta/0", "hosta/Domain-0", "*/0", "hosta/*"))
def test_a_rule_names_the_senders_host(hosts, sender):
    here, there = hosts(policy=f"[rule]\nfrom = {sender}\nto = *\naction = allow\n" + OUT)
    receiver = there.receiver("inbox", "--count", "1")
    here.send("hostb/0:inbox", "allowed")
    assert b"allowed" in receiver.output()


def test_policy_check_answers_for_other_hosts(hosts):
    here, _ = hosts(policy="[rule]\nfrom = hostb/work, hostc/*, *\nto = in*\naction = allow\n", join=False)
    for sender, code in (("hostb/work", EXIT_OK), ("hostb/play", EXIT_DENIED), ("hostc/7/1000", EXIT_OK),
                         ("hostd/work", EXIT_DENIED), ("hostb/work/x", EXIT_USAGE),
                         ("hosta/Domain-0", EXIT_OK), ("hosta/0/1000", EXIT_OK)):  # this one
        done = here.xenmsg("policy", "check", sender, "inbox")
        assert done.returncode == code, (sender, done)


def test_status_tells_of_gateway_and_hosts(hosts):
    here, _ = hosts(join=False)
    assert here.status()["hosts"]["gateway"] == "missing"
    hosts.join()
    told = here.status()["hosts"]
    assert (told["name"], told["gateway"], told["server"]) == ("hosta", "connected", "fake://here")
    assert [(other["host"], other["up"]) for other in told["others"]] == [("hostb", True)]
    hosts.gateway.say_down("hostb")
    wait_for(lambda: not here.status()["hosts"]["others"][0]["up"], "the other host is down")
    here.send("hostb/0:inbox", "nobody", exit_code=EXIT_UNREACHABLE)


def test_status_in_words_names_hosts(hosts):
    here, there = hosts()
    inbox = there.receiver("inbox", "--count", "1")
    here.send("hostb/0:inbox", "x")
    assert b"x" in inbox.output()
    with Holder(there, "held"), Connection(here.socket) as conn:  # an account that holds nothing isn't shown
        assert conn.post("hostb/0:held", b"x", lambda result: None) == 0 and conn.wait(100) >= 0
        said = eventually(lambda: (text := there.xenmsg("status").stdout.decode()) and re.search(r"^host hosta +", text, re.M) and text,
                          "the message waits")
    assert re.search(r"^host +hosta +up ", said, re.M), said
    assert "65536" not in said


def test_a_lost_conversation_is_a_pause(hosts):
    here, there = hosts(config=LOST_SOON)
    with at_work(*numbered(here, abroad(there, "hostb"), "numbers")) as goes_on:
        for _ in range(10):
            hosts.gateway.lose()
            goes_on()
    assert hosts.gateway.made > 2


# ---- pings ----

@pytest.mark.parametrize("near, domain", ((0, "0"), (0, "1"), (1, "0"), (1, "1"), (1, "dom1")))
def test_a_ping_is_answered_from_another_host(hosts, near, domain):
    here, there = hosts(guests=1)
    eventually(lambda: any(peer["name"] == "dom1" and peer["up"] for peer in there[0].status_with_all_peers()["peers"]), "its name is known")
    [first, _] = here[near].json("ping", "--json", "--count", "2", "--interval", "0", f"hostb/{domain}")
    assert first["to"] == f"hostb/{domain}" and first["rtt_us"] > 0


def test_another_host_is_answered_a_ping_and_what_it_may_see(hosts):
    """Also its domain 0, and one with the number of a guest here."""
    here, there = hosts(guests=1)
    for node in here.values():
        for domain in (0, 1):
            address = f"hostb/{domain}:xenmsg"
            assert node.xenmsg("call", address, "endpoints self").stdout == b"[]"
            for what in ("status", "trace *", "rules", "reload", "renew", "endpoints", "endpoints 1", "hosts", *(("peers",) if domain else ())):
                done = node.xenmsg("call", address, what)
                assert done.returncode != EXIT_OK and b"error 13" in done.stderr, (address, what, done)
            assert node.xenmsg("call", address, "ping").stdout == b"{}"
    assert all(node.alive() for node in there.values())


def test_a_ping_of_another_host_fails_as_a_message_does(hosts):
    here, there = hosts(guests=1, policy=IN + OUT.replace("to = *", "to = hostb"))
    for domain, code in (("hostb/7", EXIT_UNREACHABLE), ("hostb/nobody", EXIT_UNREACHABLE), ("hostc/0", EXIT_DENIED),
                         ("hostb/", EXIT_USAGE), ("host_b/0", EXIT_USAGE)):
        for node in here.values():
            assert node.xenmsg("ping", "--count", "1", domain).returncode == code, (domain, node.domid)
    there[0].set_policy(IN + OUT + "[relay]\nfrom = hosta/1\nto = *\naction = deny\n")
    assert here[1].xenmsg("ping", "--count", "1", "hostb/1").returncode == EXIT_DENIED
    assert here[0].xenmsg("ping", "--count", "1", "hostb/1").returncode == EXIT_OK


# ---- streams ----

@pytest.mark.parametrize("near, far", ((0, 0), (1, 1)))
def test_a_stream_goes_both_ways_and_each_way_ends_by_itself(hosts, near, far):
    here, there = hosts(guests=1)
    data = os.urandom(3_000_001)
    with Stream(here[near], there[far], f"hostb/{far}:stream") as stream:
        assert (stream.host, stream.domid) == ("hosta", near)
        sending = pour(stream.near, data)
        assert received(stream.far, len(data)) == data
        sending.join()
        stream.near.shutdown(socket.SHUT_WR)
        assert stream.far.recv(1) == b""
        sending = pour(stream.far, data)
        assert received(stream.near, len(data)) == data
        sending.join()
        stream.far.close()
        assert stream.near.recv(1) == b""


def test_a_stream_of_the_own_host_names_no_host(hosts):
    here, _ = hosts(join=False)
    with Stream(here, here, "hosta/0:stream") as stream:
        assert (stream.host, stream.domid) == ("", 0)


def test_status_tells_where_a_stream_is_from(hosts):
    here, there = hosts()
    with Stream(here, there, "hostb/0:stream"):
        [out] = here.status()["streams"]
        assert out["address"] == "hostb/0:stream"
        [come] = there.status()["streams"]
        assert (come["endpoint"], come["host"], come["from"]) == ("stream", "hosta", 0)


def test_without_asking_for_hosts_there_is_no_stream_of_one(hosts):
    here, there = hosts()
    with Connection(there.socket) as server, Connection(here.socket) as client:
        assert server.listen("stream") == 0
        assert client.connect("hostb/0:stream") == -errno.EOPNOTSUPP
        assert server.accept(0) == -errno.EAGAIN
    assert [end["kind"] for end in there.status()["endpoints"]] in ([], ["stream"])


def test_between_hosts_all_goes_on_when_either_guest_is_restored(hosts):
    here, there = hosts(guests=1)
    near, far = here[1], there[1]
    target = abroad(far, "hostb")
    with at_work(*numbered(near, target, "numbers"), *calling(near, target, "calls")) as goes_on:
        for zero, node in (here[0], near), (there[0], far), (here[0], near):
            before = zero.link(node.domid)["resumes"]
            node.save_and_restore()
            eventually(lambda zero=zero, node=node, before=before: (resumes(zero, node.domid) or 0) > before, "its link is resumed")
            goes_on()


def test_what_another_host_opens_to_a_saved_guest_waits_for_it(hosts):
    here, there = hosts(guests=1, config=LOST_SOON)
    zero, far = there[0], there[1]
    eventually(lambda: zero.link_state(1) == "up", "domain 0 has a session with it")
    addresses = [f"hostb/{name}" for name in ("dom1", far.host.domain(1)["uuid"], "1")]
    with Connection(here[1].socket) as sender, Connection(far.socket, binds="inbox") as receiver:
        posts = Posts(sender, receiver)
        far.host.sim("suspend", 1)
        eventually(lambda: zero.link_state(1) == "away", "it is away")
        eventually(lambda: not any(peer["name"] == "dom1" for peer in zero.status()["peers"]), "the name is forgotten")
        posts.post(*addresses)
        assert sender.send("hostb/dom1:inbox", b"in vain", 200) == -errno.ETIMEDOUT
        assert here[1].xenmsg("ping", "--timeout", "0.1", "hostb/dom1").returncode == EXIT_TIMEOUT
        far.resume()
        posts.are_delivered()


def test_a_lost_conversation_is_a_pause_for_streams(hosts):
    here, there = hosts()
    data = os.urandom(20_000_000)
    with Stream(here, there, "hostb/0:stream") as stream:
        sending, got = pour(stream.near, data), b""
        for _ in range(5):
            got += received(stream.far, 3_000_000)
            hosts.gateway.lose()
        got += received(stream.far, len(data) - len(got))
        sending.join()
        stream.near.shutdown(socket.SHUT_WR)
        assert stream.far.recv(1) == b"" and got == data
    assert hosts.gateway.made > 3


def test_a_stream_to_a_host_that_is_lost_for_good_breaks(hosts):
    here, there = hosts()
    with Stream(here, there, "hostb/0:stream") as stream:
        stream.far.sendall(b"before")
        assert received(stream.near, 6) == b"before"
        there.kill()
        hosts.gateway.close()
        there.start()
        hosts.join()
        with pytest.raises(ConnectionResetError):
            stream.near.recv(1)


def test_a_stream_that_is_not_read_holds_only_its_sender(hosts):
    here, there = hosts()
    with Stream(here, there, "hostb/0:stream") as slow, Stream(here, there, "hostb/0:stream") as other:
        slow.near.setblocking(False)
        sent, quiet = 0, 0
        while quiet < 20:  # until all windows are full
            try:
                sent += slow.near.send(bytes(65536))
                quiet = 0
            except BlockingIOError:
                quiet += 1
                writable(slow.near, 0.05)
        assert sent < 16 << 20
        data = os.urandom(5_000_000)
        sending = pour(other.near, data)
        assert received(other.far, len(data)) == data
        sending.join()
        receiver = there.receiver("inbox", "--count", "1")
        here.send("hostb/0:inbox", "passes")
        assert b"passes" in receiver.output()
        assert received(slow.far, sent) == bytes(sent)


def test_connect_and_listen_carry_standard_input_and_output(hosts):
    here, there = hosts(guests=1)
    listening = there[1].popen("listen", "stream", "--", "sh", "-c",
                               "echo $XENMSG_SENDER_HOST/$XENMSG_SENDER_DOMID; cat", binds="stream")
    done = here[1].xenmsg("connect", "hostb/1:stream", data=b"data")
    assert (done.returncode, done.stdout) == (EXIT_OK, b"hosta/1\ndata"), done
    done = here[1].xenmsg("connect", "hostb/1:nobody")
    assert done.returncode == EXIT_NO_ENDPOINT, done
    listening.terminate()


def test_another_host_with_many_commands_leaves_room_for_others(hosts):
    here, there = hosts(guests=1)
    serving = there[0].popen_command("sh", "-c", 'ulimit -n 64; exec "$@"', "sh", tool("xenmsg"), "listen", "--run", "t", "--",
                                     "cat", stdout=subprocess.PIPE, stderr=subprocess.PIPE, binds="t")
    callers = [here[number].popen("run", "hostb/0:t", stdin=subprocess.PIPE) for number in (0, 1, 0)]
    eventually(lambda: [caller.poll() for caller in callers].count(255) == 1, "one is refused")
    assert b"of host hosta is refused: too many are open" in serving.stderr.readline()
    assert there[1].xenmsg("run", "0:t", data=b"x").stdout == b"x"
    for caller in callers:
        if caller.poll() is None:
            caller.stdin.close()
            assert caller.wait(timeout=30 * PATIENCE) == 0


def test_a_stream_from_another_host_starts_its_program(hosts, tmp_path):
    for name, command in (("echo", f"{tool('xenmsg')} listen echo -- cat"), ("inbox", f"{tool('xenmsg')} recv inbox")):
        script = tmp_path / f"{name}.sh"
        script.write_text(f"#!/bin/sh\nexec {command}\n")
        script.chmod(0o755)
        (tmp_path / f"{name}.conf").write_text(f"[activate]\nendpoint = {name}\nuser = root\nexec = {script}\n")
    here, _ = hosts(config=FAST + f"[daemon]\nactivation-dir = {tmp_path}\n")
    done = here.xenmsg("connect", "hostb/0:echo", data=b"stream")
    assert (done.returncode, done.stdout) == (EXIT_OK, b"stream"), done
    here.send("hostb/0:inbox", "x")
    with Connection(here.socket) as client:
        assert client.connect("hostb/0:inbox") == -errno.EPROTOTYPE
