# SPDX-License-Identifier: LGPL-2.1-or-later
"""The host's policy: what domain 0 says of who may reach what, and what the domains make of it."""

import errno
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

from frames import OBEYS, RELAYS
from library import Connection
from messaging import (EXIT_DENIED, EXIT_ERROR, EXIT_UNREACHABLE, EXIT_USAGE, FAST, PATIENCE, SOURCES, Node, eventually, open_to_others, stopped,
                       tool)
from renewing import all_are_delivered, ended, posted, renew
from test_cli_json import validator  # the fixture `valid`  # noqa: F401  pylint: disable=unused-import
from test_policy import rule
from test_views import NOBODY, As


def host_rule(from_, to, action, endpoint="*"):
    return f"[rule]\nfrom = {from_}\nto = {to}\nendpoint = {endpoint}\naction = {action}\n"


def write_host_policy(zero, text):
    path = os.path.join(zero.environment["XENSIM_DIR"], "dom-0/root/etc/xenmsg/host-policy.d/50-host.conf")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def rules_of(node):
    """How many rules of the host's policy are in force there, and since when."""
    host = node.status()["policy"]["of_host"]
    return host["rules"], host["since"]


@pytest.fixture(name="hosted")
def nodes_with_a_host_policy(nodes):
    """hosted("rules of the host", {1: own rules, 2: None}): domain 0 and these, once they were told."""
    def start(host_policy, policies, config=FAST):
        made = nodes(0, *policies, start=False, config=config)
        made[0].policy, made[0].config = None, FAST
        write_host_policy(made[0], host_policy)
        for domid, text in policies.items():
            made[domid].policy = text
        for node in made.values():
            node.start(wait=False)
        for node in made.values():
            node.wait_ready()
        for node in made.values():
            node.sees(*made.values())
        for domid in policies:
            if "host-policy = ignore" not in made[domid].config:
                eventually(lambda domid=domid: rules_of(made[domid])[0] is not None, f"domain {domid} was told")
        return list(made.values())
    return start


def reload_host(zero, text, *told):
    """Changes the host's policy, and waits until these have been told."""
    before = {node: node.log.read_text().count("rules of the host's policy") for node in told}
    write_host_policy(zero, text)
    assert zero.xenmsg("policy", "reload").returncode == 0
    for node in told:
        eventually(lambda node=node: node.log.read_text().count("rules of the host's policy") > before[node], "it was told")


def attempt(node, address, timeout=20000):
    """Tries to send. The errno: what isn't decided is tried again until the time is up."""
    with Connection(node.socket) as program:
        return -program.send(address, b"x", int(timeout * PATIENCE))


# Nobody has bound it, or nobody may know; and it isn't decided yet.
LET_IN, DENIED, UNDECIDED = errno.ENOENT, errno.EACCES, errno.ENODATA


def test_the_host_lets_in_who_no_file_in_the_guest_allows(hosted):
    _, one, two = hosted(host_rule("dom1", "dom2", "allow", "inbox"), {1: None, 2: None})
    receiver = two.receiver("inbox", "--count", "1")
    one.send("2:inbox", "hello")
    assert receiver.output() == b"hello\n"
    assert attempt(one, "2:other") == attempt(two, "1:inbox") == DENIED


@pytest.mark.unless(relayed="zero")
def test_what_the_host_denies_no_own_rule_allows(hosted):
    _, one, two, three = hosted(host_rule("dom1", "dom2", "deny", "in*"), {1: None, 2: rule("*", "*"), 3: None})
    assert attempt(one, "2:inbox") == DENIED
    assert attempt(one, "2:other") == attempt(three, "2:inbox") == LET_IN
    [entry] = two.json("policy", "denied")
    assert (entry["from"], entry["to"], entry["file"], entry["line"]) == ("1", "inbox", "/etc/xenmsg/host-policy.d/50-host.conf", 1)


def test_programs_of_one_domain_are_not_the_hosts_affair(hosted):
    _, one = hosted(host_rule("*", "*", "deny"), {1: None})
    assert attempt(one, "self:inbox") == LET_IN


def test_ask_guest_and_no_rule_leave_it_to_the_guest(hosted):
    rules = host_rule("dom1", "dom2", "ask-guest", "inbox") + host_rule("dom1", "dom2", "deny")
    _, one, two, three = hosted(rules, {1: None, 2: rule("1, 3", "inbox"), 3: None})
    assert attempt(one, "2:inbox") == attempt(three, "2:inbox") == LET_IN
    assert attempt(one, "2:other") == attempt(three, "2:other") == DENIED
    assert rules_of(two)[0] == 2 and rules_of(one)[0] == 0


def test_tags_mean_the_domains_that_have_them(hosted, host):
    rules = "[tags]\nweb = dom1, fresh\ndb = dom2\n" + host_rule("@web", "@db", "allow") + host_rule("dom3", "@db", "deny")
    zero, one, two, three = hosted(rules, {1: None, 2: rule("3", "*"), 3: None})
    assert attempt(one, "2:db") == LET_IN and attempt(three, "2:db") == DENIED
    # who gets a name that has the tag has it, too
    host.sim("rename", 3, "fresh")
    eventually(lambda: attempt(three, "2:db") == LET_IN, "the new name counts")
    host.sim("rename", 1, "nobody")
    eventually(lambda: attempt(one, "2:db") == DENIED, "the old one doesn't")
    assert zero.alive() and two.alive()


def about(zero, domain):
    """A domain's tags, and by their lines the rules about it: whether it sends, whether it receives."""
    domain, *rules = zero.json("policy", "show", "--domain", domain)
    return domain["tags"], {rule["line"]: (rule["sends"], rule["receives"]) for rule in rules}


def test_domain_0_shows_a_domains_tags_and_the_rules_about_it(hosted, host, valid):  # pylint: disable=redefined-outer-name
    rules = "[tags]\nweb = dom1, fresh\ndb = dom2\n" + host_rule("@web", "@db", "allow") + host_rule("dom3", "*", "deny") + \
        host_rule("dom2", "dom3", "ask-guest")
    zero, one, _, three = hosted(rules, {1: None, 2: None, 3: None})
    assert about(zero, 1) == (["web"], {4: (True, False), 9: (False, True)})
    assert about(zero, "dom2") == (["db"], {4: (False, True), 9: (False, True), 14: (True, False)})
    uuid = next(peer["uuid"] for peer in zero.json("peers") if peer["domid"] == three.domid)
    assert about(zero, uuid) == ([], {9: (True, True), 14: (False, True)})
    assert about(zero, 0) == about(zero, "self") == ([], {9: (False, True)})
    valid("policy show --domain", zero.xenmsg("policy", "show", "--domain", "1", "--json").stdout.splitlines())
    shown = zero.xenmsg("policy", "show", "--domain", "dom3").stdout.decode()
    assert shown.startswith(f"domain 3 (dom3), UUID {uuid}\ntags: none\n\n"
                            "# /etc/xenmsg/host-policy.d/50-host.conf, line 9: about what it sends and receives\n"
                            "[rule]\nfrom = dom3\nto = *\nendpoint = *\naction = deny\n\n"), shown
    # What decides is what it shows: a name that changes, and one that isn't known.
    host.sim("rename", 3, "fresh")
    eventually(lambda: about(zero, 3) == (["web"], {4: (True, False), 9: (False, True)}), "it has the tag by its name")
    give_tags(zero, 1, "no/tag")
    eventually(lambda: about(zero, 1) == (None, {4: (None, None), 9: (None, True), 14: (None, None)}), "nobody knows its tags")
    shown = zero.xenmsg("policy", "show", "--domain", "1").stdout.decode()
    assert "tags: not known\n" in shown and "line 4: about it, perhaps: its name or tags aren't known\n" in shown
    # Whose business it isn't, and what is no domain.
    assert one.xenmsg("policy", "show", "--domain", "1").returncode == EXIT_DENIED
    error, text = As(NOBODY).refused(zero, "rules of 1")
    assert error == errno.EPERM and "may see the rules" in text
    assert zero.xenmsg("policy", "show", "--domain", "nobody").returncode == zero.xenmsg("policy", "show", "--domain", "77").returncode \
        == EXIT_UNREACHABLE
    assert zero.xenmsg("policy", "denied", "--domain", "1").returncode == EXIT_USAGE
    assert zero.xenmsg("policy", "show", "--domain", "a b").returncode == EXIT_USAGE


def test_a_reload_ends_at_once_what_the_host_forbids_now(hosted):
    zero, one, two = hosted(host_rule("dom1", "dom2", "allow"), {1: None, 2: None})
    with Connection(one.socket) as sender, Connection(two.socket) as receiver:
        ended = []
        assert receiver.bind("inbox") == 0
        for _ in range(3):
            assert sender.post("2:inbox", bytes(40000), ended.append) == 0
        eventually(lambda: sender.wait(10) >= 0 and (link := two.link(1)) and link["channels"], "it is under way")
        reload_host(zero, "", two)
        eventually(lambda: sender.wait(10) >= 0 and len(ended) == 3, "it has ended")
        assert -errno.EACCES in ended
    reload_host(zero, host_rule("dom1", "dom2", "allow"), two)
    assert attempt(one, "2:inbox") == LET_IN


def test_a_mistake_in_the_hosts_policy_changes_nothing(hosted):
    zero, one, two = hosted(host_rule("dom1", "dom2", "allow"), {1: None, 2: None})
    for text, line, why in ((host_rule("dom1", "dom2", "permit"), 5, "must be allow, deny or ask-guest"),
                            (host_rule("@wbe", "dom2", "deny"), 1, "no [tags] has 'wbe'"),
                            (host_rule("1", "dom2", "deny"), 2, "a domain is a name, a UUID, @TAG or *"),
                            ("[rule]\nfrom = *\nto = *\n", 1, "this [rule] has no action"),
                            ("[relay]\n", 1, "only the sections [rule] and [tags]")):
        write_host_policy(zero, text)
        done = zero.xenmsg("policy", "reload")
        assert done.returncode == EXIT_USAGE and f"50-host.conf:{line}: " in done.stderr.decode() and why in done.stderr.decode()
    if os.geteuid() == 0:
        os.chown(write_host_policy(zero, host_rule("dom1", "dom2", "deny")), 4711, -1)
        done = zero.xenmsg("policy", "reload")
        assert done.returncode == EXIT_USAGE and b"isn't trusted, since uid 4711 owns it" in done.stderr, done
    assert rules_of(two)[0] == 1 and attempt(one, "2:inbox") == LET_IN


def test_a_share_that_does_not_fit_is_refused_on_reload(hosted):
    zero, one, two = hosted(host_rule("dom1", "dom2", "allow"), {1: None, 2: None})
    write_host_policy(zero, "".join(host_rule("dom1", "dom2", "deny", f"e{i}") for i in range(1025)))
    done = zero.xenmsg("policy", "reload")
    assert done.returncode == EXIT_USAGE, done
    assert "50-host.conf:5121: with this rule domain 2 (dom2) would have more than 1024 rules" in done.stderr.decode()
    assert attempt(one, "2:inbox") == LET_IN
    # each domain has its own share
    reload_host(zero, "".join(host_rule("dom1", f"dom{1 + i % 2}", "deny", f"e{i}") for i in range(2000)), two)
    assert rules_of(two)[0] == 1000
    assert attempt(one, "2:e1999") == DENIED


@pytest.mark.unless(relayed="zero")
def test_who_starts_again_is_told_again(hosted):
    zero, one, two = hosted(host_rule("dom1", "dom2", "deny"), {1: None, 2: rule("*", "*")})
    two.stop()
    two.start()
    eventually(lambda: rules_of(two)[0] == 1, "it was told again")
    assert attempt(one, "2:inbox") == DENIED
    # who isn't told any more keeps what it was told
    zero.kill()
    assert attempt(one, "2:inbox") == DENIED
    write_host_policy(zero, "")
    zero.start()
    eventually(lambda: rules_of(two)[0] == 0, "the new daemon of domain 0 tells other rules")
    assert attempt(one, "2:inbox") == LET_IN


@pytest.mark.unless(relayed="zero")
def test_a_denial_outlives_a_crash_while_domain_0_is_away(hosted):
    rules = host_rule("*", "dom2", "deny", "inbox") + host_rule("dom1", "dom2", "deny", "named")
    zero, one, two = hosted(rules, {1: None, 2: rule("*", "*")})
    before = rules_of(two)
    zero.kill()
    two.kill()
    two.start()
    eventually(lambda: attempt(one, "2:other") == LET_IN, "they are linked again")
    assert rules_of(two)[0] == before[0] == 2 and before[1] <= rules_of(two)[1] <= time.time()
    # Who has the name isn't believed: nobody is let in whom the rule may mean.
    assert attempt(one, "2:inbox") == DENIED and attempt(one, "2:named", 300) == UNDECIDED
    write_host_policy(zero, "")
    zero.start()
    eventually(lambda: rules_of(two)[0] == 0, "the new daemon of domain 0 tells other rules")


@pytest.mark.unless(relayed="zero")
def test_what_a_guest_was_told_holds_over_its_hand_overs(hosted):
    """Domain 0's daemon isn't there to say it again."""
    rules = host_rule("dom1", "dom2", "allow", "inbox") + host_rule("dom3", "dom2", "deny")
    zero, one, two, three = hosted(rules, {1: None, 2: rule("3", "*"), 3: None})
    receiver = two.receiver("inbox")
    with Connection(one.socket) as sender:
        with stopped(receiver.process.pid):
            outcomes = posted(sender, "2:inbox", 5)
            eventually(lambda: two.link_state(1) == "up", "they are under way")
            zero.stop()
            for _ in range(2):
                renew(two)
                assert attempt(three, "2:inbox") == attempt(one, "2:other") == DENIED
        all_are_delivered(outcomes, 5, sender)
        assert sender.send("2:inbox", b"after") == 0
    assert ended(receiver.process).split() == ["0", "1", "2", "3", "4", "after"]


def test_a_restored_guest_is_told_who_is_who_again(hosted):
    _, one, two = hosted(host_rule("dom1", "dom2", "allow"), {1: None, 2: None})
    two.save_and_restore()
    eventually(lambda: attempt(one, f"{two.domid}:inbox") == LET_IN, "it knows the sender again")
    one.save_and_restore()
    eventually(lambda: attempt(one, f"{two.domid}:inbox") == LET_IN, "it knows the sender by its new number")


@pytest.mark.unless(relayed="zero")
def test_a_guest_that_ignores_it_is_seen_to_do_so(nodes, hosted):
    del nodes
    zero, one, two = hosted(host_rule("dom1", "dom2", "deny"), {1: None, 2: rule("*", "*")}, FAST + "[daemon]\nhost-policy = ignore\n")
    eventually(lambda: (link := zero.link(2)) and link["host_policy"] == "ignores", "domain 0 sees it")
    assert attempt(one, "2:inbox") == LET_IN
    assert rules_of(two) == (None, None) and two.status()["policy"]["of_host"]["mode"] == "ignore"


def test_who_obeys_is_seen_to_do_so(hosted):
    zero, one = hosted("", {1: None})
    assert zero.link(1)["host_policy"] == "obeys" and one.link(0)["host_policy"] is None


@pytest.mark.unless(strict="zero", relayed="zero")
def test_who_requires_it_lets_nobody_in_before_it_is_told(nodes):
    one, two = nodes(1, 2, config=FAST + "[daemon]\nhost-policy = require\n").values()
    eventually(lambda: attempt(one, "2:inbox", 300) == UNDECIDED, "the link is up, and it isn't decided")
    assert "domain 0 hasn't told the host's policy, which host-policy = require waits for" in two.log.read_text()
    assert attempt(two, "self:inbox") == LET_IN
    done = two.xenmsg("policy", "check", "1", "inbox")
    assert done.returncode == EXIT_UNREACHABLE and b"host-policy = require" in done.stdout
    doctor = two.xenmsg("doctor").stdout.decode()
    assert "host-policy = require" in doctor and "nobody comes in" in doctor
    zero = nodes(0)[0]
    eventually(lambda: attempt(one, "2:inbox") == LET_IN, "it was told")
    assert "host-policy = require" not in two.xenmsg("doctor").stdout.decode()
    assert zero.alive()


def test_domain_0_itself_obeys_its_own(hosted):
    zero, one = hosted(host_rule("dom1", "Domain-0", "allow", "inbox"), {1: None})
    assert attempt(one, "0:inbox") == LET_IN and attempt(one, "0:other") == DENIED
    reload_host(zero, host_rule("*", "*", "deny"))
    assert attempt(one, "0:inbox") == DENIED


def test_what_goes_through_domain_0_is_denied_there(hosted):
    """Whatever the guest says: here it ignores it."""
    zero, one, two = hosted(host_rule("dom1", "dom2", "deny", "secret"), {1: None, 2: rule("*", "*")},
                            FAST + "map = no\n[daemon]\nhost-policy = ignore\n")
    assert attempt(one, "2:secret") == DENIED
    assert attempt(one, "2:inbox") == LET_IN
    with Connection(one.socket) as sender, Connection(two.socket) as receiver:
        ended = []
        assert receiver.bind("inbox") == 0
        assert sender.post("2:inbox", bytes(400000), ended.append) == 0
        eventually(lambda: sender.wait(10) >= 0 and (link := two.link(0)) and link["channels"], "it is under way")
        reload_host(zero, host_rule("dom1", "dom2", "deny"))
        eventually(lambda: sender.wait(10) >= 0 and ended, "it has ended")
        assert ended[0] in (-errno.EACCES, -errno.ECONNRESET)


EVERYBODY = "[file]\npath = x\n[rule]\nline = 1\nfrom = *\naction = deny\n"


# What only domain 0 may say: the host's policy, and who has which name.
FOR_DOMAIN_0 = pytest.mark.parametrize("words,frame", [(("policy", EVERYBODY.encode().hex(), 1), "POLICY"), (("names", 2, "dom3"), "DIRECTORY")],
                                       ids=["policy", "names"])


@pytest.mark.unless(strict="zero", relayed="zero")
@FOR_DOMAIN_0
def test_a_guest_that_plays_domain_0_is_not_obeyed(one, peer_in, words, frame):
    peer = peer_in(2, "grant", 1)
    peer.ok(*words)
    eventually(lambda: one.link_state(2) != "up", "the link has ended")
    assert rules_of(one) == (None, None)
    assert frame in one.link(2)["last_error"]
    peer.kill()


@FOR_DOMAIN_0
def test_a_guest_tells_domain_0_no_policy_and_no_names(hosted, peer_in, words, frame):
    zero, one = hosted(host_rule("dom1", "Domain-0", "allow", "inbox") + host_rule("dom3", "dom1", "allow"), {1: None})
    peer = peer_in(2, "grant", 0, RELAYS | OBEYS)
    peer.ok(*words)
    eventually(lambda: zero.link_state(2) != "up", "the link has ended")
    assert frame in zero.link(2)["last_error"]
    assert attempt(one, "0:inbox") == LET_IN and attempt(one, "0:other") == DENIED
    assert rules_of(one)[0] == 1
    assert b"no rule matches" in zero.xenmsg("policy", "check", "dom2", "dom1:inbox").stdout


def test_a_guest_that_lies_is_denied_in_domain_0(hosted, peer_in):
    """It says that it obeys and doesn't, and that it is another domain; it talks to one that ignores the host's policy."""
    zero, one = hosted(host_rule("dom1", "dom2", "deny", "secret") + host_rule("dom2", "dom1", "deny", "secret"), {1: rule("*", "*")},
                       FAST + "map = no\n[daemon]\nhost-policy = ignore\n")
    peer = peer_in(2, "grant", 0, RELAYS | OBEYS)
    eventually(lambda: (link := zero.link(2)) and link["host_policy"] == "obeys", "domain 0 was told so")
    peer.ok("hello", one.domid)  # no link is made without domain 0
    assert peer.ok("claim", 3) == 3
    assert peer.ask("send", "1:secret", 5) == f"ok reset {errno.EACCES}"
    one.receiver("inbox", "--count", "1")
    with Connection(one.socket) as program:
        assert peer.ask("send", "1:inbox", 5) == "ok delivered"
        assert program.send("2:secret", b"x") == -errno.EACCES
        assert program.send("2:echo", b"x") == 0
    assert peer.ask("close") == "ok closed"


@pytest.mark.unless(strict="zero", relayed="zero")
@pytest.mark.parametrize("text", ["[rule]\n", "[file]\npath = x\n[rule]\nfrom = *\naction = deny\n", "[file]\npath = x\n[rule]\nline = 1\n",
                                  "[domain]\nname = x\n", "[domain]\ndomid = 40000\n", "[bind]\n", "x\0y", "[domain]\ndomid = 1\ntag = a,b\n"])
def test_what_domain_0_can_not_mean_is_not_taken(one, peer_in, text):
    peer = peer_in(0, "map", 1)
    peer.ok("policy", EVERYBODY.encode().hex(), 1)
    eventually(lambda: rules_of(one)[0] == 1, "the share is in force")
    peer.ok("policy", text.encode().hex(), 1)
    eventually(lambda: one.link_state(0) != "up", "the link has ended")
    assert rules_of(one)[0] == 1
    peer.kill()


@pytest.mark.unless(strict="zero", relayed="zero")
def test_a_share_without_end_is_not_kept(one, peer_in):
    peer = peer_in(0, "map", 1)
    piece = ("# " + "x" * 150 + "\n") * 10
    peer.tell("policy", piece.encode().hex(), 262144 // len(piece) + 2)
    eventually(lambda: one.link_state(0) != "up", "the link has ended")
    assert rules_of(one) == (None, None)
    peer.kill()


# ---- tags that the toolstack gives, in XenStore ----

TAGS = "[tags]\nweb =\ndb = dom2\n" + host_rule("@web", "@db", "allow", "db")


def give_tags(zero, domid, text, *perms):
    with zero.store() as store:
        store.write(f"/local/domain/{domid}/xenmsg/tags", text, *perms)


def test_the_toolstack_gives_tags_and_takes_them(hosted):
    zero, one, _, three = hosted(TAGS, {1: None, 2: None, 3: None})
    assert attempt(one, "2:db") == DENIED
    for tags, outcome in (("web", LET_IN), ("", DENIED), (" other,\tweb\n", LET_IN), ("other", DENIED), ("web", LET_IN)):
        give_tags(zero, 1, tags)
        eventually(lambda outcome=outcome: attempt(one, "2:db") == outcome, f"{tags!r} counts")
    # they join those of the files, for who is reached as well
    give_tags(zero, 3, "db")
    eventually(lambda: attempt(one, "3:db") == LET_IN, "its share is another one")
    assert attempt(one, "2:db") == LET_IN
    with zero.store() as store:
        store.remove("/local/domain/1/xenmsg")
    eventually(lambda: attempt(one, "2:db") == DENIED, "it has none")


def test_what_was_allowed_by_a_tag_ends_with_it(hosted):
    zero, one, two = hosted(TAGS, {1: None, 2: None})
    give_tags(zero, 1, "web")
    eventually(lambda: attempt(one, "2:db") == LET_IN, "it is let in")
    with Connection(one.socket) as sender, Connection(two.socket) as receiver:
        ended = []
        assert receiver.bind("db") == 0
        begun = [sender.post("2:db", bytes(40000), ended.append) for _ in range(4)]
        assert begun[0] == 0 and set(begun) <= {0, -errno.EAGAIN}  # there is no room before the daemon has taken some
        eventually(lambda: sender.wait(10) >= 0 and (link := two.link(1)) and link["channels"], "it is under way")
        give_tags(zero, 1, "")
        eventually(lambda: sender.wait(10) >= 0 and len(ended) == begun.count(0), "it has ended")
        assert -errno.EACCES in ended


@pytest.fixture(name="make_guest")
def maker_of_guests(host, tmp_path):
    """make_guest(zero, "web", name="www"): a guest that gets tags before it runs, and then its daemon."""
    made = []

    def make(zero, tags, name):
        domid = int(host.sim("create", "--name", name).stdout)
        host.sim("pause", domid)
        if tags:
            give_tags(zero, domid, tags)
            eventually(lambda: f"domain {domid} has the tags" in zero.log.read_text(), "domain 0 has read them")
        host.sim("unpause", domid)
        made.append(Node(host, domid, tmp_path, FAST).start())
        return made[-1]
    yield make
    for node in made:
        node.end()


def test_tags_count_before_the_first_message_and_go(hosted, host, make_guest):
    rules = "[tags]\nbad =\n" + host_rule("@bad", "dom2", "deny")
    zero, _, two = hosted(rules, {1: None, 2: rule("*", "*")})
    guest = make_guest(zero, "bad", "new")
    assert attempt(guest, "2:inbox") == DENIED
    assert attempt(make_guest(zero, None, "other"), "2:inbox") == LET_IN
    guest.end()
    host.sim("destroy", guest.domid)
    assert attempt(make_guest(zero, None, "new"), "2:inbox") == LET_IN
    assert two.alive()


@pytest.mark.parametrize("value,perms,why", [("web, d.b", (), "a tag is made of"), (b"web\0", (), "a byte that is zero"),
                                             ("web " * 256 + "w", (), "too many or too long"), ("w," * 33, (), "too many or too long"),
                                             ("web", ("n1", "r0"), "others than domain 0"), ("web", ("n0", "b1"), "others than domain 0"),
                                             ("web", ("w0",), "others than domain 0")])
@pytest.mark.unless(relayed="zero", renewed="counts")
def test_tags_that_can_not_be_believed_let_nobody_in(hosted, value, perms, why):
    zero, one, two = hosted(TAGS + host_rule("@web", "dom2", "deny", "secret"), {1: rule("*", "*"), 2: None})
    assert attempt(two, "1:inbox") == LET_IN
    give_tags(zero, 1, value, *perms)
    eventually(lambda: attempt(one, "2:db", 300) == UNDECIDED and attempt(two, "1:inbox") == DENIED, "nobody knows its tags")
    lines = [line for line in zero.log.read_text().splitlines() if "tags of domain 1 in XenStore aren't taken" in line]
    assert len(lines) == 1 and why in lines[0], lines
    assert b"the tags that XenStore has for it aren't taken" in zero.xenmsg("policy", "check", "dom1", "dom2:secret").stdout
    assert b"domain 0 hasn't told it" in two.xenmsg("policy", "check", "dom1", "db").stdout
    assert "denied: domain 2, uid 0 to inbox, by /local/domain/1/xenmsg/tags:1" in one.log.read_text()
    # Of what it relays to there, domain 0 says the same.
    answer = zero.xenmsg("policy", "check", "--json", "dom2", "dom1:inbox")
    assert answer.returncode == EXIT_DENIED and json.loads(answer.stdout)["file"] == "/local/domain/1/xenmsg/tags"
    with zero.store() as store:
        store.remove("/local/domain/1/xenmsg")
    give_tags(zero, 1, "web")
    eventually(lambda: attempt(one, "2:db") == LET_IN and attempt(two, "1:inbox") == LET_IN, "they are right again")


def test_a_new_daemon_of_domain_0_reads_the_tags(hosted):
    zero, one, _ = hosted(TAGS, {1: None, 2: None})
    zero.stop()
    give_tags(zero, 1, "web")
    zero.start()
    eventually(lambda: attempt(one, "2:db") == LET_IN, "it has told them")


def test_a_restored_guest_has_the_tags_of_its_new_directory(hosted):
    zero, one, _ = hosted(TAGS, {1: None, 2: None})
    give_tags(zero, 1, "web")
    eventually(lambda: attempt(one, "2:db") == LET_IN, "it has the tag")
    one.save_and_restore()
    eventually(lambda: attempt(one, "2:db") == DENIED, "the toolstack hasn't given it the tag by its new number")
    give_tags(zero, one.domid, "web")
    eventually(lambda: attempt(one, "2:db") == LET_IN, "it has")


XL = """#!/bin/sh
# What xl-tags.sh needs of xl, on a simulated host.
set -eu
case $1 in
create) domid=$(xensim create --name "$(sed -n 's/^name = "\\(.*\\)"$/\\1/p' "$3")") && xensim pause "$domid" ;;
domid) xensim list | awk -v name="$2" '$2 == name { print $1 }' ;;
*) exec xensim "$@" ;;
esac
"""


@pytest.fixture(name="toolstack")
def commands_of_the_toolstack(host, tmp_path):
    """toolstack("xl-tags.sh", ...): runs an example as domain 0's toolstack does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    quiet = 'ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"'  # what xenstore-write leaks is Xen's
    for name, text in {"xl": XL, "xensim": f'#!/bin/sh\nexec {tool("xensim")} "$@"\n',
                       "xenstore-write": f'#!/bin/sh\nexec {tool("xensim")} exec 0 -- env {quiet} /usr/bin/xenstore-write "$@"\n'}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    def run(script, *arguments, data=b""):
        environment = dict(host.environment, PATH=f"{folder}:{os.environ['PATH']}")
        return subprocess.run([os.path.join(SOURCES, "examples", script), *map(str, arguments)], env=environment, input=data,
                              capture_output=True, timeout=60 * PATIENCE, check=False)
    return run



def ran(done):
    assert done.returncode == 0, done.stderr.decode()
    return done


def test_two_guests_of_xl_are_made_may_talk_and_are_removed(hosted, host, tmp_path, toolstack):
    zero, _, _ = hosted("[tags]\nweb =\ndb =\n" + host_rule("@web", "@db", "allow", "db"), {1: None, 2: None})
    guests = []
    try:
        for name, tag in (("www", "web"), ("sql", "db")):
            (tmp_path / f"{name}.cfg").write_text(f'name = "{name}"\n')
            ran(toolstack("xl-tags.sh", "create", name, tmp_path / f"{name}.cfg", tag, "other"))
            domid = next(domain["domid"] for domain in host.list()["domains"] if domain["name"] == name)
            guests.append(Node(host, domid, tmp_path, FAST, policy=None).start())
        www, sql = guests
        eventually(lambda: attempt(www, "sql:db") == LET_IN, "they may talk")
        assert attempt(sql, "www:db") == attempt(www, "sql:other") == DENIED
        ran(toolstack("xl-tags.sh", "set", "www"))
        eventually(lambda: attempt(www, "sql:db") == DENIED, "it has no tag any more")
        ran(toolstack("xl-tags.sh", "set", "www", "web"))
        eventually(lambda: attempt(www, "sql:db") == LET_IN, "it has one again")
    finally:
        for node in guests:
            node.end()
    for node in guests:
        host.sim("destroy", node.domid)
    with zero.store() as store:
        assert not {str(node.domid) for node in guests} & set(store.list("/local/domain"))
    for wrong in ((), ("create", "www"), ("remove", "www")):
        assert toolstack("xl-tags.sh", *wrong).returncode == EXIT_USAGE


DOMAIN = """<domain type='xen' id='{id}'><name>dom1</name><metadata>
<xenmsg:tags xmlns:xenmsg="urn:xenmsg:host-policy">{tags}</xenmsg:tags></metadata></domain>"""


def test_a_hook_of_libvirt_gives_the_tags_of_the_configuration(hosted, toolstack):
    zero, one, _ = hosted(TAGS, {1: None, 2: None})

    def hook(text, *steps):
        return toolstack("libvirt-hook.py", "dom1", *steps, "-", data=text.encode())
    for step in (("prepare", "begin"), ("start", "begin"), ("stopped", "end"), ("release", "end")):
        ran(hook(DOMAIN.format(id=1, tags="web"), *step))
    ran(hook("<domain type='xen' id='1'/>", "started", "begin"))
    with zero.store() as store:
        assert "xenmsg" not in store.list("/local/domain/1")
    ran(hook(DOMAIN.format(id=1, tags="\n web, intranet "), "started", "begin"))
    eventually(lambda: attempt(one, "2:db") == LET_IN, "it has the tag")
    assert hook(DOMAIN.format(id="", tags="web"), "started", "begin").returncode == EXIT_ERROR
    assert hook("<domain", "started", "begin").returncode == EXIT_ERROR
    assert toolstack("libvirt-hook.py", "dom1").returncode == EXIT_ERROR


@pytest.mark.skipif(not shutil.which("virsh"), reason="virsh is not there")
def test_the_hook_reads_what_libvirt_itself_writes(hosted, toolstack):
    """As xenmsg-policy(5) sets it, in a domain of libvirt's own driver for tests, whose number is made ours."""
    zero, one, _ = hosted(TAGS, {1: None, 2: None})
    made = subprocess.run(["virsh", "-q", "-c", "test:///default", "destroy test; metadata test urn:xenmsg:host-policy --config --key xenmsg --set "
                           "'<tags>web, intranet</tags>'; start test; dumpxml test"], capture_output=True, text=True, check=True).stdout
    running = re.sub("^.*?<domain type='test' id='[0-9]+'>", "<domain type='xen' id='1'>", made, flags=re.S)
    assert running.startswith("<domain type='xen'") and attempt(one, "2:db") == DENIED
    ran(toolstack("libvirt-hook.py", "test", "started", "begin", "-", data=running.encode()))
    with zero.store() as store:
        assert store.read("/local/domain/1/xenmsg/tags") == b"web intranet"
    eventually(lambda: attempt(one, "2:db") == LET_IN, "it has the tag")


# ---- what is said about it ----

def test_policy_check_names_the_hosts_rule_in_both_domains(hosted):
    rules = host_rule("dom1", "dom2", "deny", "secret") + host_rule("dom1", "dom2", "allow", "db") + host_rule("dom1", "dom2", "ask-guest")
    zero, _, two = hosted(rules, {1: None, 2: rule("1", "inbox")})
    path = "/etc/xenmsg/host-policy.d/50-host.conf"
    for node, to in ((zero, "dom2:"), (two, "")):
        done = node.xenmsg("policy", "check", "dom1", f"{to}secret")
        assert done.returncode == EXIT_DENIED and done.stdout.decode().startswith(f"deny: the host policy's rule in {path}, line 1, decides\n[rule]\n")
        assert b"To allow it" not in done.stdout  # no rule of this domain's own could
        assert f"allow: the host policy's rule in {path}, line 6, decides" in node.xenmsg("policy", "check", "dom1", f"{to}db").stdout.decode()
    assert b"that domain's own policy decides" in zero.xenmsg("policy", "check", "dom1", "dom2:inbox").stdout
    assert b"allow: the rule in /etc/xenmsg/policy.d/50-test.conf, line 1, decides" in two.xenmsg("policy", "check", "dom1", "inbox").stdout
    shown = two.json("policy", "show")
    assert [(entry["file"], entry["action"]) for entry in shown] == [(path, "deny"), (path, "allow"), (path, "ask-guest"),
                                                                     ("/etc/xenmsg/policy.d/50-test.conf", "allow")]


def test_a_reload_says_how_many_rules_for_the_host_there_are(hosted, valid):
    zero, one = hosted(host_rule("dom1", "dom2", "deny") + host_rule("dom2", "dom1", "allow"), {1: None})
    path = "/etc/xenmsg/host-policy.d"
    said = zero.xenmsg("policy", "reload").stdout.decode().splitlines()
    assert said[-2:] == ["2 rules for the host's domains are in force", f"  2 of {path}/50-host.conf"]
    there, = valid("policy reload", zero.xenmsg("policy", "reload", "--json").stdout.splitlines())
    assert (there["for_host"]["directory"], there["for_host"]["rules"]) == (path, 2)
    there, = valid("policy reload", one.xenmsg("policy", "reload", "--json").stdout.splitlines())
    assert there["for_host"] is None and b"host" not in one.xenmsg("policy", "reload").stdout
    said = [(node.xenmsg("doctor").stdout + node.xenmsg("doctor").stderr).decode() for node in (zero, one)]
    assert all("0 rules are in force, so other domains may reach what the host policy allows, and nothing else" in text for text in said), said


def test_rules_are_tried_that_are_not_in_force(hosted, tmp_path):
    """By whoever can read them, and for the host's policy in domain 0; what is in force decides nothing."""
    zero, one, two = hosted(host_rule("dom1", "dom2", "deny"), {1: None, 2: None})
    folder = pathlib.Path(two.socket).parent / "new.d"  # where others may look
    folder.mkdir()
    (folder / "10.conf").write_text("[rule]\nfrom = dom1\nuid = 1000\nto = print\naction = allow\n")
    (tmp_path / "host.conf").write_text("[tags]\nred = dom1\n\n" + host_rule("@red", "dom2", "allow", "db") + host_rule("*", "*", "deny"))
    (tmp_path / "bad.conf").write_text("[rule]\nfrm = 1\n")

    def test(node, table, *options, by=()):
        done = node.run_command(*by, node.tool("xenmsg"), "policy", "test", *options, "-", data=table)
        return done.returncode, (done.stdout + done.stderr).decode()
    table = b"1/1000 print allow\ndom1 print deny\ndom1/1000 other deny\nself other allow\nhostb/dom1 print deny\n"
    for rules in (folder, folder / "10.conf"):
        assert test(two, table, "--rules", rules) == (0, "5 answers, all as expected\n")
    open_to_others(two)
    assert test(two, table, "--rules", folder, by=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))[0] == 0
    code, said = test(two, b"dom1/1000 print deny\nnobody print deny\n", "--rules", folder)
    assert code == EXIT_ERROR and f"allow, not deny, by the rule in {folder}/10.conf, line 1\n" in said and "no domain of that name" in said
    assert test(zero, b"dom1 dom2:db allow\ndom1 dom2:x deny\ndom2 dom1:db deny\n", "--host-rules", tmp_path / "host.conf")[0] == 0
    assert test(zero, b"dom1 dom2:x allow\n", "--rules", folder)[0] == 0
    code, said = test(one, table, "--rules", tmp_path / "bad.conf")
    assert code == EXIT_USAGE and "bad.conf:2: [rule] has no key 'frm'" in said
    assert test(one, table, "--rules", tmp_path / "none")[0] == EXIT_USAGE
    assert b"only 'test' has --rules" in one.xenmsg("policy", "check", "--rules", folder, "1", "x").stderr


def test_policy_test_finds_what_is_not_as_the_table_says(hosted):
    zero, _, _ = hosted(host_rule("dom1", "dom2", "deny", "secret") + host_rule("dom1", "dom2", "allow"), {1: None, 2: None})

    def test(table):
        done = zero.xenmsg("policy", "test", "-", data=table)
        return done.returncode, (done.stdout + done.stderr).decode()
    right = b"# who may what\ndom1 dom2:db allow\n\ndom1\tdom2:secret  deny # never\n"
    assert test(right) == (0, "2 answers, all as expected\n")
    code, said = test(right + b"dom1 dom2:db deny\nnobody dom2:db deny\n")
    assert code == EXIT_ERROR and said.endswith("2 of 4 answers aren't as expected\n")
    assert ("standard input:5: dom1 to dom2:db: allow, not deny, by the host policy's rule in "
            "/etc/xenmsg/host-policy.d/50-host.conf, line 6\n") in said
    assert "standard input:6: nobody to dom2:db: no domain of that name is known here" in said
    for table, line in ((b"dom1 dom2:db\n", 1), (right + b"dom1 dom2:db perhaps\n", 5), (b"dom1 dom2:db allow now\n", 1), (b"dom1 a.b deny\n", 1)):
        code, said = test(table)
        assert code == EXIT_USAGE and f"standard input:{line}: " in said, said
    assert test(b"# nothing\n")[0] == EXIT_USAGE
    with open("/dev/full", "wb") as full:
        testing = zero.popen("policy", "test", "-", stdin=subprocess.PIPE, stdout=full, stderr=subprocess.PIPE)
        assert b"No space left on device" in testing.communicate(right, timeout=20 * PATIENCE)[1] and testing.returncode == EXIT_ERROR
