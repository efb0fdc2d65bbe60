# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg doctor: finds the step that fails, and says how to mend it."""

import json
import os
import re
import subprocess

import pytest

from messaging import (EXIT_DENIED, EXIT_ERROR, EXIT_NO_DAEMON, EXIT_NO_ENDPOINT, EXIT_OK, EXIT_TIMEOUT, EXIT_UNREACHABLE, EXIT_USAGE,
                       advised, eventually, stopped, tool)
from protocol import cut_off
from joined_hosts import IN, OUT


def examine(node, *domains, code):
    done = node.xenmsg("doctor", *domains)
    assert done.returncode == code, done
    assert done.stderr == b""
    return done.stdout.decode()


def results(text):
    """{step: "ok", "warn", "FAIL" or "-"} of the first line about each step."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"(ok|FAIL|warn|-) +(\S+(?: \d+)?)", line)
        if match:
            found.setdefault(match.group(2), match.group(1))
    return found


@pytest.mark.unless(relayed="zero", strict="zero")
@pytest.mark.usefixtures("two")
def test_all_is_well(one):
    before = one.host.domain(1)["grants"], one.host.domain(1)["event_channels"]["used"]
    text = examine(one, code=EXIT_OK)
    assert results(text) == {"xen": "ok", "events": "ok", "grants": "ok", "maps": "ok", "xenstore": "ok", "daemon": "ok",
                             "policy": "ok", "host": "ok", "peer 2": "ok"}, text
    assert "domain 0 hasn't told it yet" in text
    assert f"has the UUID {one.status()['uuid']} and the name {one.status()['name']}" in text
    assert "this is domain 1" in text and "mend" not in text
    assert examine(one, "2", code=EXIT_OK).count("peer 2") == 1
    # It gives back what it has tried, but for the link that it has made.
    eventual = one.host.domain(1)
    assert eventual["event_channels"]["used"] <= before[1] + 1


def test_without_a_daemon_the_rest_is_tried(host, alone):
    text = examine(alone, code=EXIT_NO_DAEMON)
    found = results(text)
    assert found["daemon"] == "FAIL" and found["xenstore"] == "ok" and found["peers"] == "-"
    assert f"xenmsgd --socket {alone.socket}" in text and "access" not in found, "what the unit of another socket needs is no matter"
    assert advised("start", "xenmsgd") in alone.xenmsg("doctor", "--socket", "/run/xenmsg/xenmsg.sock").stdout.decode()
    assert host.domain(1)["grants"]["used_pages"] == 0


def test_a_daemon_that_hangs_is_to_be_restarted(one):
    with stopped(one.pid):
        text = examine(one, code=EXIT_ERROR)
    assert results(text)["daemon"] == "FAIL" and "doesn't answer" in text and advised("restart", "xenmsgd") in text
    assert "mend: " + advised("start", "xenmsgd") not in text


@pytest.mark.unless(renewed="counts")
def test_a_program_that_was_cut_off_is_a_warning_with_its_cure(one):
    cut_off(one)
    text = examine(one, code=EXIT_OK)
    assert results(text)["programs"] == "warn" and "cut off 1 session" in text and advised("log", "xenmsgd") in text
    lines = [json.loads(line) for line in one.xenmsg("doctor", "--json").stdout.splitlines()]
    warning, = (line for line in lines if line["step"] == "programs")
    assert warning["result"] == "warning" and warning["mend"]


def test_a_peer_that_is_not_there_is_named(one, two):
    text = examine(one, "3", code=EXIT_UNREACHABLE)
    assert results(text)["peer 3"] == "FAIL" and "start xenmsgd in that domain" in text
    assert examine(one, "--quiet", code=EXIT_OK) == ""
    quiet = examine(one, "--quiet", "3", code=EXIT_UNREACHABLE)
    assert set(results(quiet)) == {"peer 3"} and "mend: start xenmsgd in that domain" in quiet
    with stopped(two.pid):
        done = one.xenmsg("doctor", "2")
    assert done.returncode != 0 and results(done.stdout.decode()).get("peer 2") == "FAIL", done


def test_grants_that_are_refused_are_found(host, one):
    host.fault("refuse-grant", 1, "on")
    text = examine(one, code=EXIT_ERROR)
    assert results(text)["grants"] == "FAIL" and "xen_gntalloc/parameters/limit" in text
    assert results(text)["events"] == "ok"
    host.fault("refuse-grant", 1, "off")
    assert results(examine(one, code=EXIT_OK))["grants"] == "ok"


def test_a_xenstore_that_does_not_answer_is_found(host, one):
    host.fault("stall-store", 1, "on")
    try:
        text = examine(one, code=EXIT_ERROR)
    finally:
        host.fault("stall-store", 1, "off")
    assert results(text)["xenstore"] == "FAIL" and "hasn't answered within 5 s" in text
    assert results(text)["daemon"] == "ok"


def test_without_xen_it_says_so(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LD_PRELOAD", "XENMSG_SOCKET"))}
    done = subprocess.run([tool("xenmsg"), "doctor", "--socket", tmp_path / "none"], env=environment, capture_output=True,
                          text=True, check=False)
    if os.path.exists("/sys/hypervisor/type"):
        return  # this machine is a Xen domain
    assert done.returncode == EXIT_ERROR, done
    assert results(done.stdout) == {"xen": "FAIL", "devices": "-", "xenstore": "-", "daemon": "FAIL", "peers": "-"}
    assert "xensim start" in done.stdout


def test_a_domain_that_cannot_be_one_is_a_usage_error(alone):
    assert alone.xenmsg("doctor", "a b").returncode == EXIT_USAGE


# ---- the way to an address ----

def seen(node, domid):
    return [entry["name"] for entry in node.json("endpoints", str(domid))]


WAY = ["domain", "link", "endpoint", "kind", "rule"]


def way(node, address, code):
    """What came back of the steps to an address, in their order, and all that was said."""
    text = examine(node, address, code=code)
    steps = re.findall(r"^(ok|FAIL|-) +(host|domain|link|endpoint|kind|rule) +" + re.escape(address) + ": ", text, re.MULTILINE)
    return [(step, result) for result, step in steps], text


@pytest.mark.unless(strict="rules")
def test_the_way_to_an_address_is_tried_step_by_step(one, two):
    two.popen("recv", "box")
    eventually(lambda: "box" in seen(one, 2), "it is seen")
    found, text = way(one, "2:box", EXIT_OK)
    assert [step for step, _ in found] == WAY and {result for _, result in found} <= {"ok", "-"} and "mend" not in text, text
    found, text = way(two, "self:box", EXIT_OK)
    assert found == [(step, "ok") for step in WAY] and "takes messages (xenmsg send)" in text and "50-test.conf:1 allows it" in text, text
    assert way(two, "2:box", EXIT_OK)[0] == found


def test_the_first_step_that_is_wrong_is_the_last_and_has_a_cure(nodes, one):
    two = nodes(2, policy="[rule]\nfrom = self\nto = box\naction = deny\n[rule]\nfrom = *\nto = b*\naction = allow\n")[2]
    for name in ("box", "other"):
        two.receiver(name)
    eventually(lambda: "box" in seen(one, 2), "it is seen")
    for node, address, step, code, said in (
            (one, "2:boxx", "endpoint", EXIT_NO_ENDPOINT, "did you mean 2:box?"),
            (one, "2:other", "endpoint", EXIT_NO_ENDPOINT, "mend: in that domain 'xenmsg endpoints self' says whether it is bound, and "
                                                           "'xenmsg policy check 1 other' whether a rule"),
            (one, "77:box", "domain", EXIT_UNREACHABLE, "mend: start xenmsgd in that domain"),
            (one, "work:box", "domain", EXIT_UNREACHABLE, "mend: start xenmsgd in domain 0, which tells the names of domains"),
            (one, "hostb/2:box", "host", EXIT_UNREACHABLE, "host hostb"),
            (two, "self:nobody", "endpoint", EXIT_NO_ENDPOINT, "bind it: xenmsg recv nobody (or serve, listen), as root, in the socket's group or by a [bind] rule"),
            (two, "self:box", "rule", EXIT_DENIED, "50-test.conf, before line 1")):
        found, text = way(node, address, code)
        assert found[-1] == (step, "FAIL") and "FAIL" not in [result for _, result in found[:-1]] and said in text, text
    with stopped(two.pid):
        found, text = way(one, "2:box", EXIT_TIMEOUT)
        assert found == [("domain", "ok"), ("link", "FAIL")], text


def test_a_bad_address_is_no_way(one):
    for address in ("2:", ":box", "2:a b", "2:" + "x" * 64, "a/b/c:d", "2:x:y", "\x1b:x"):
        done = one.xenmsg("doctor", address)
        assert done.returncode == EXIT_USAGE and b"bad address" in done.stderr and done.stderr.count(b"\n") == 1, done


def test_the_way_leads_to_other_hosts(hosts):
    here, there = hosts(guests=1)
    there[1].popen("serve", "rev", "--", "rev", binds="rev")
    for node in (here[0], here[1]):
        found, text = way(node, "hostb/1:rev", EXIT_OK)
        assert found == [(step, "ok") for step in ("host", *WAY)] and "takes calls (xenmsg call)" in text, text
        assert way(node, "hostb/1:none", EXIT_NO_ENDPOINT)[0][-1] == ("endpoint", "FAIL")
        assert way(node, "hostb/9:rev", EXIT_UNREACHABLE)[0][-1] == ("domain", "FAIL")
        found, text = way(node, "hostc/1:rev", EXIT_UNREACHABLE)
        assert found == [("host", "FAIL")] and "hostc" in text and "mend: " in text, text


def test_without_an_out_the_way_ends_in_domain_0(hosts):
    here, _ = hosts(guests=1, policy=IN + OUT.replace("from = *", "from = 9"))
    for node in (here[0], here[1]):
        found, text = way(node, "hostb/1:rev", EXIT_DENIED)
        assert found[-1][1] == "FAIL" and found[-1][0] in ("host", "rule") and "[out]" in text, text
