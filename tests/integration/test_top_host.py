# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who talks to whom on this host, as domain 0 sees it (top --host). Guests that lie are link_peer.py."""

import json
import shutil

import pytest

from frames import RELAYS
from library import Connection
from messaging import EXIT_OK, EXIT_USAGE, LOST_SOON, deliver, eventually
from test_cli_json import validator  # the fixture `valid`  # noqa: F401  pylint: disable=unused-import
from test_sight import settings, whole
from test_top import terminals, tops  # the fixture `start_top`  # noqa: F401  pylint: disable=unused-import

needs_tmux = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not there")


def printed(zero, *words):
    done = zero.xenmsg(*words)
    assert done.returncode == EXIT_OK and done.stderr == b"", done
    return done.stdout.decode()


def view_of(zero):
    return json.loads(printed(zero, "top", "--host", "--json", "--delay", "0.1"))


def amounts(view):
    """{(from, to): messages}"""
    return {(way["from"]["domid"], way["to"]["domid"]): way["messages"] for way in view["traffic"]}


@pytest.fixture(name="zero")
def domain_0_of_three_that_talk(nodes, one):
    """Domain 0, domain 1, which shows its links, and domain 2, which hides all."""
    zero, two = nodes(0)[0], nodes(2, config=settings("none"))[2]
    one.receiver("inbox")
    two.receiver("hidden")
    for number in range(3):
        one.send("2:hidden", f"message {number}")
    two.send("1:inbox", "back")
    zero.send("1:inbox", "from domain 0")
    return zero


def test_who_talks_to_whom_is_told_by_who_tells(zero, one, valid):
    """Domain 2 tells nothing: what it sends is what the others say they have received."""
    view, = valid("top", [printed(zero, "top", "--host", "--json", "--delay", "0.1")])
    found = amounts(view)
    assert (found[1, 2], found[2, 1], found[0, 1]) == (3, 1, 2), view  # one is the question
    by_number = {domain["domid"]: domain for domain in view["domains"]}
    assert by_number.keys() == {0, 1, 2} and len(view["domains"]) == 3 and list(by_number[1])[:4] == ["domid", "name", "error", "why"]
    assert by_number[1]["version"] == one.status()["version"] and by_number[1]["host_sight"] == "links"
    assert [endpoint["name"] for endpoint in by_number[1]["endpoints"]] == ["inbox"]
    assert by_number[1]["host_policy"] == "obeys" and by_number[1]["links_up"] == 2
    assert by_number[2]["error"] != 0 and "host-sight" in by_number[2]["why"] and by_number[2]["endpoints"] == []
    tellers = {(way["from"]["domid"], way["to"]["domid"]): way["told_by"] for way in view["traffic"]}
    assert (tellers[0, 1], tellers[1, 0], tellers[1, 2], tellers[2, 1]) == (0, 0, 1, 1)


def test_two_looks_give_rates(zero, valid):
    """In which the questions of the command itself have no part."""
    view, = valid("top", [printed(zero, "top", "--host", "--json", "--delay", "0.2")])
    assert all(way["bytes_per_s"] is not None for way in view["traffic"])
    assert {way["messages_per_s"] for way in view["traffic"] if way["told_by"] == 0} == {0}, view


def test_the_text_has_domains_and_what_goes_between_them(zero):
    text = printed(zero, "top", "--host", "--once", "--delay", "0.1")
    for title in ("DOMAIN", "FROM", "BYTES/s_TO", "ENDPOINT"):
        assert title in text, text


def test_the_endpoints_that_a_domain_leaves_out_are_counted(zero, one):
    with Connection(one.socket) as program:
        assert {program.bind(f"name{i}") for i in range(120)} == {0}
        text = printed(zero, "top", "--host", "--once", "--delay", "0.1")
    assert "and 21 more endpoints" in text, text


@needs_tmux
def test_a_host_is_on_one_screen(zero, start_top):
    screen = start_top(zero, "--host", rows=40).shows("this host  domains 3", "tells nothing", "FROM", "BYTES/s_TO", "inbox")
    assert all(len(line) <= 80 for line in screen)


@pytest.mark.unless(relayed="direct")
def test_a_link_that_is_away_says_so(nodes, host):
    zero, one, two = nodes(0, 1, 2, config=LOST_SOON).values()
    deliver(one, two)
    assert view_of(zero)["domains"][1]["away"] == []
    host.sim("pause", 2)
    away = eventually(lambda: [link for link in view_of(zero)["domains"][1]["away"] if link["peer"]["domid"] == 2], "it is away")
    assert away[0]["since"] > 0
    assert "LINK_OF" in printed(zero, "top", "--host", "--once", "--delay", "0.1")
    host.sim("unpause", 2)


def test_what_does_not_go_together_is_wrong_usage(nodes):
    zero = nodes(0, start=False)[0]
    for words in ("top --once", "top --json", "top --host 1"):
        done = zero.xenmsg(*words.split())
        assert done.returncode == EXIT_USAGE and len(done.stderr.splitlines()) == 1 and done.stdout == b"", done


EVIL = ['"]; evil [label="x', '\\', '\\N\\G', '&lt;&#60;', '</text><script>x</script>', '<<b>x</b>>', "\x1b[2J", "\u202e", "a" * 5000, "]]>", "{|}", ""]


def liar(peer_in, tmp_path, links):
    peer = peer_in(1, "grant", 0, RELAYS)
    endpoints = [{"name": name, "kind": name, "queued": 1 << 62, "messages": -5, "bytes_to": "x", "refused": 1 << 62} for name in EVIL]
    (tmp_path / "lie").write_bytes(whole(version=EVIL[0], host_sight=EVIL[4], uptime_s=-1, grants={"used_pages": {}}, links=links,
                                         endpoints=endpoints * 8 + [7, None, []]))
    assert peer.ask("lie", tmp_path / "lie").startswith("ok")
    return peer


def test_what_a_guest_says_stays_a_text_in_every_form(nodes, peer_in, tmp_path):
    zero, two = nodes(0, 2).values()
    links = [{"peer": {"domid": domid, "host": host, "name": EVIL[0]}, "state": EVIL[0], "since": -1,
              "tx": {"bytes": 1 << 62, "messages": -1}, "rx": {"bytes": 9}}
             for domid, host in ((2, None), (0, None), (1, None), (77, None), (2, "evil"), ("2", None), (-3, None), (1 << 40, None))]
    links += [{"peer": {"domid": 2, "host": None}, "state": "away"}] * 3000 + [5, None, {}]
    peer = liar(peer_in, tmp_path, links)
    view = view_of(zero)
    assert {(way["from"]["domid"], way["to"]["domid"]) for way in view["traffic"]} <= {(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)}
    assert all(way["told_by"] == 0 for way in view["traffic"] if 0 in (way["from"]["domid"], way["to"]["domid"]))
    assert not any(way["from"]["host"] or way["to"]["host"] for way in view["traffic"])
    for words in (("top", "--host", "--json"), ("top", "--host", "--once")):
        text = printed(zero, *words, "--delay", "0.1")
        assert not any(character in text for character in ("\x1b", "\u202e")) and len(text) < 200000, words
    assert peer.ask("close") == "ok closed"
