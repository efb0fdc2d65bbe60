# SPDX-License-Identifier: LGPL-2.1-or-later
"""A second evaluator of policies, slow and obvious, written from xenmsg-policy(5), agrees with the daemon's on policies and
questions made by chance. Where names are unknown, it tries what each rule that depends on one could mean.

POLICIES=N says how many (scripts/check --all: 100,000, which takes 3 minutes), SEED=N which."""

import fnmatch
import itertools
import os
import random
import subprocess

import pytest

from conftest import program

UUIDS = "11111111-2222-3333-4444-555555555555", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
NAMES = "work", "home", "db"
HOSTS = "hosta", "hostb"
DOMIDS = 0, 1, 2, 7, 32751
UIDS = 0, 1000, 1001
GROUPS = 0, 50, 60
ENDPOINTS = "print", "scan", "scanner", "p", "x_1"
PATTERNS = *ENDPOINTS, "*", "scan*", "?", "[ps]*", "[!p]*", "p?int"
SELF = 1  # the domain whose policy it is
MANY = int(os.environ.get("POLICIES", "3000"))


class Domain:
    def __init__(self, chance, far=True, unknown=0.4):
        self.host = chance.choice([None] * 6 + ["", *HOSTS]) if far else None
        self.domid = chance.choice(DOMIDS)
        self.is_self = self.host is None and self.domid == SELF
        self.name = chance.choice(("", *NAMES))
        self.uuid = chance.choice(("", *UUIDS, UUIDS[1].upper()))
        self.unknown = chance.random() < unknown
        self.uid = chance.choice(UIDS)

    def __str__(self):
        host = {None: "-", "": "?"}.get(self.host, self.host)
        return f"{host},{self.domid},{int(self.is_self)},{self.name or '-'},{self.uuid or '-'},{int(self.unknown)},{self.uid}"


class Rule:
    """A section as a dictionary of its lists, and what it says."""

    def __init__(self, chance):
        def some(choices, most=3):
            return chance.choices(choices, k=chance.randint(1, most))
        domains = [*map(str, DOMIDS), "007", *NAMES, *NAMES, *UUIDS, "self", "*", "*"]
        far = ["*/*", "*/work", "*/2", *(f"{host}/{what}" for host in HOSTS for what in ("*", "work", "7", UUIDS[0]))]
        self.kind = chance.choice(("rule", "rule", "rule", "bind", "see", "relay", "out"))
        self.allow = chance.random() < 0.5
        self.lists = {}
        if self.kind != "bind":
            self.lists["from"] = some(domains if self.kind == "out" else domains + far)
        if self.kind == "bind" or (self.kind == "rule" and chance.random() < 0.4):
            self.lists["uid"] = some(["*", *map(str, UIDS)])
        self.object = {"rule": "to", "bind": "name", "see": "domain", "relay": "to", "out": "to"}[self.kind]
        self.lists[self.object] = some({"rule": PATTERNS, "bind": PATTERNS, "see": domains, "relay": domains, "out": (*HOSTS, "*")}[self.kind])

    def __str__(self):
        lines = [f"{key} = {', '.join(items)}" for key, items in self.lists.items()] + [f"action = {'allow' if self.allow else 'deny'}"]
        return f"[{self.kind}]\n" + "\n".join(lines) + "\n"


# ---- what the manual says ----

def means(item, domain):
    """True, False, or None: it depends on a name that isn't known."""
    host, slash, what = item.rpartition("/")
    if bool(slash) != (domain.host is not None) or (slash and (not domain.host or host not in ("*", domain.host))):
        return False
    if what == "*":
        return True
    if what == "self":
        return domain.is_self
    if what.isdigit():
        return int(what) == domain.domid
    if domain.unknown:
        return None
    return what == domain.name or what.lower() == domain.uuid.lower()


def among(items, domain):
    found = [means(item, domain) for item in items]
    return True if True in found else None if None in found else False


def both(first, second):
    return False if False in (first, second) else None if None in (first, second) else True


def of_user(rule, uid):
    return "uid" not in rule.lists or "*" in rule.lists["uid"] or str(uid) in rule.lists["uid"]


def has_endpoint(rule, endpoint):
    return any(fnmatch.fnmatchcase(endpoint, pattern) for pattern in rule.lists[rule.object])


def first_of(found, default):
    """What the first that matches says, of (what it says, whether it matches), for all that those could mean of which it isn't known."""
    unsure = [i for i, (_, match) in enumerate(found) if match is None]
    said = set()
    for world in itertools.product((True, False), repeat=len(unsure)):
        meant = dict(zip(unsure, world))
        said.add(next((says for i, (says, match) in enumerate(found) if (meant[i] if match is None else match)), default))
    return said


def results(rules, matches, default):
    return first_of([(rule.allow, matches(rule)) for rule in rules], default)


def decide(said):
    return "undecided" if len(said) > 1 else "allow" if True in said else "deny"


def at_worst(said):
    return "allow" if said == {True} else "deny"


def reach_results(rules, domain, endpoint):
    return results([rule for rule in rules if rule.kind == "rule"],
                   lambda rule: both(of_user(rule, domain.uid) and has_endpoint(rule, endpoint), among(rule.lists["from"], domain)),
                   domain.is_self)


def expected(rules, kind, *asked):
    rules = [rule for rule in rules if rule.kind == {"reach": "rule", "shows": "rule", "sees": "see"}.get(kind, kind)]
    if kind == "bind":
        uid, gid, endpoint, group = asked
        return decide(results(rules, lambda rule: of_user(rule, uid) and has_endpoint(rule, endpoint), uid == 0 or gid == group))
    domain, other = asked

    def from_it(rule):
        return among(rule.lists["from"], domain)
    if kind == "reach":
        return decide(results(rules, lambda rule: of_user(rule, domain.uid) and has_endpoint(rule, other) and from_it(rule), domain.is_self))
    if kind == "shows":  # since some user there may reach it
        users = [at_worst(results(rules, lambda rule: of_user(rule, uid) and has_endpoint(rule, other) and from_it(rule), domain.is_self))
                 for uid in (*UIDS, 4711)]
        return "allow" if "allow" in users else "deny"
    if kind == "out":
        return decide(results(rules, lambda rule: both(bool({"*", other} & set(rule.lists["to"])), from_it(rule)), False))
    said = results(rules, lambda rule: both(from_it(rule), among(rule.lists[rule.object], other)), kind == "relay" or domain.host is None)
    return at_worst(said) if kind == "sees" else decide(said)


# ---- the host's policy ----

TAGS = "front", "back"


class HostPolicy:
    """Tags, and rules as tuples: from, to, endpoints or None, action."""

    def __init__(self, chance):
        def some(choices, most=3):
            return chance.choices(choices, k=chance.randint(1, most))
        here = (*NAMES, *NAMES, *UUIDS, *(f"@{tag}" for tag in TAGS), *(f"@{tag}" for tag in TAGS), "*")
        far = ("*/*", "*/work", *(f"{host}/{what}" for host in HOSTS for what in ("*", "work", UUIDS[0])))
        self.tags = {tag: some([*NAMES, *UUIDS]) if chance.random() < 0.8 else [] for tag in TAGS}
        self.in_lines = chance.random() < 0.5  # a line for each member
        self.rules = [(some(here + far), some(here), some(PATTERNS) if chance.random() < 0.7 else None,
                       chance.choice(("allow", "deny", "ask-guest"))) for _ in range(chance.randint(0, 6))]

    def __str__(self):
        lines = [(tag, some) for tag, members in self.tags.items()
                 for some in ([[member] for member in members] if self.in_lines and members else [members])]
        text = "[tags]\n" + "".join(f"{tag} = {', '.join(some)}\n" for tag, some in lines)
        for from_, to, endpoints, action in self.rules:
            text += f"[rule]\nfrom = {', '.join(from_)}\nto = {', '.join(to)}\n"
            text += (f"endpoint = {', '.join(endpoints)}\n" if endpoints else "") + f"action = {action}\n"
        return text

    def among(self, items, domain):
        """A tag means a domain of this host if one of its members does."""
        plain = [member for item in items for member in (self.tags[item[1:]] if item[0] == "@" else [item])]
        unsure = domain.host is None and domain.unknown and any(item[0] == "@" for item in items)
        found = among(plain, domain)
        return None if found is False and unsure else found

    def expected(self, own, sender, receiver, endpoint):
        """`own` is what the receiver's own policy may say."""
        if sender.is_self:
            return decide(own)
        matches = [both(self.among(from_, sender), self.among(to, receiver))
                   if not endpoints or any(fnmatch.fnmatchcase(endpoint, pattern) for pattern in endpoints) else False
                   for from_, to, endpoints, _ in self.rules]
        actions = first_of([(rule[3], match) for rule, match in zip(self.rules, matches)], "ask-guest")
        return decide({action == "allow" for action in actions - {"ask-guest"}} | (own if "ask-guest" in actions else set()))


# ---- asked of both ----

def questions(chance):
    yield from (("reach", Domain(chance), chance.choice(ENDPOINTS)) for _ in range(4))
    yield from (("shows", Domain(chance), chance.choice(ENDPOINTS)) for _ in range(2))
    yield from ((kind, Domain(chance), Domain(chance, far=False)) for kind in ("sees", "relay"))
    yield "out", Domain(chance, far=False), chance.choice(HOSTS)
    yield from (("host", Domain(chance), Domain(chance, far=False), chance.choice(ENDPOINTS)) for _ in range(4))
    yield "bind", chance.choice(UIDS), chance.choice(GROUPS), chance.choice(ENDPOINTS), chance.choice(GROUPS)


def expected_of(rules, host, question):
    if question[0] != "host":
        return expected(rules, *question)
    _, sender, receiver, endpoint = question
    return host.expected(reach_results(rules, sender, endpoint), sender, receiver, endpoint)


def compare(seed, count):
    chance = random.Random(seed)
    asked, text = [], []
    for _ in range(count):
        rules = [Rule(chance) for _ in range(chance.randint(0, 7))]
        policy = "".join(map(str, rules))
        text.append(f"policy {len(policy)}\n{policy}")
        host = HostPolicy(chance)
        text.append(f"hosts {len(str(host))}\n{host}")
        for question in questions(chance):
            asked.append((rules, host, question))
            text.append(" ".join(map(str, question)) + "\n")
    done = subprocess.run([program("check-policy")], input="".join(text), capture_output=True, text=True, check=True)
    answers = done.stdout.splitlines()
    assert len(answers) == len(asked), answers[:3]
    for (rules, host, question), answer in zip(asked, answers):
        assert answer == expected_of(rules, host, question), \
            f"seed {seed}: {' '.join(map(str, question))}\n" + "".join(map(str, rules)) + f"of the host:\n{host}"
    return answers


@pytest.mark.parametrize("part", range(4))
def test_two_evaluators_agree_on_policies_by_chance(part):
    first = int(os.environ.get("SEED", "20261124")) + 1000 * part
    answers = [answer for i in range(0, MANY // 4, 250) for answer in compare(first + i, 250)]
    assert all(answers.count(answer) > len(answers) / 50 for answer in ("allow", "deny", "undecided"))
