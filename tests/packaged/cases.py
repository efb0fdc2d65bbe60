# SPDX-License-Identifier: LGPL-2.1-or-later
"""The cases of tests/packaged/run, in their order. Each takes the host."""
import re

from machines import HERE

TOP = HERE.parent.parent
CASES = []


def case(function):
    CASES.append(function)
    return function


def fails(why):
    """The next case is known to fail. Strictly: should it pass, that is a failure, and this line goes."""
    def mark(function):
        function.fails = why
        return function
    return mark


def blocks(name, after=""):
    """The blocks between ``` of a page, behind some words."""
    text = (TOP / name).read_text()
    return re.findall(r"^```\w*\n(.*?)^```$", text.partition(after)[2] if after else text, re.M | re.S)


def line_of(name, beginning):
    """The one line in a page's blocks that begins so, without its comment."""
    found = [line for block in blocks(name) for line in block.splitlines() if line.startswith(beginning)]
    assert len(found) == 1, f"{name} has {len(found)} lines that begin with {beginning}"
    return re.sub(r"\s+#.*", "", found[0])


def install(machine, line):
    """As printed, in the sources' folder."""
    machine.run("admin", "cd /rig/packages/xenmsg && export DEBIAN_FRONTEND=noninteractive && "
                + line.replace("sudo ", "sudo -E ").replace("apt-get install", "apt-get install --yes"), 1800)


@case
def each_printed_block_is_run_or_has_its_reason(_):
    """So that a page can't gain commands that nobody tries."""
    for page in (path.relative_to(TOP).as_posix() for path in (TOP / "README.md", *sorted((TOP / "doc").glob("*.md")))):
        known = BLOCKS.get(page, {})
        if isinstance(known, str):
            continue
        found = [block.splitlines()[0] for block in blocks(page)]
        unknown = [line for line in found if not any(line.startswith(beginning) for beginning in known)]
        gone = [beginning for beginning in known if not any(line.startswith(beginning) for line in found)]
        assert not unknown and not gone, f"{page}: nothing is said of {unknown}; gone: {gone}"
        assert all(isinstance(what, str) or what in CASES for what in known.values())


@case
def a_fresh_debian_boots_as_domain_0(host):
    host.start()
    host.dom0.run("root", "systemctl is-system-running --wait; systemctl --failed; xl list | grep Domain-0")


@case
def a_fresh_debian_boots_as_a_guest(host):
    host.guest_starts()
    assert host.guest.run("root", "cat /sys/hypervisor/type") == "xen\n"


@case
def the_readmes_command_installs_it(host):
    install(host.dom0, line_of("README.md", "sudo apt-get install"))


@fails("nothing loads xen-gntalloc before the next boot")
@case
def the_daemon_runs_after_its_first_installation(host):
    host.dom0.run("root", "systemctl is-active xenmsgd")


@case
def the_modules_are_loaded_by_hand_as_the_page_says(host):
    modprobe, = re.findall(r"^ *```sh\n( *modprobe .*?)^ *```$", (TOP / "doc/running-on-xen.md").read_text(), re.M | re.S)
    host.dom0.run("root", "set -e\n" + modprobe + "systemctl restart xenmsgd")
    host.dom0.becomes("carol", "xenmsg status")


@case
def groups_are_given_as_the_readme_says(host):
    for user, group in (("alice", "xenmsg"), ("bob", "xenmsg-admin")):
        host.dom0.run("admin", line_of("README.md", f"sudo usermod -aG {group} alice").replace("alice", user))
        assert group in host.dom0.run(user, "id -Gn").split()


@case
def who_is_in_no_group_sends_and_does_not_bind(host):
    dom0 = host.dom0
    refused = dom0.tried("carol", "xenmsg recv --count 1 inbox")
    assert refused.status == 4, refused.out
    receiver = dom0.start("alice", "xenmsg recv --count 1 inbox")
    dom0.becomes("carol", "xenmsg endpoints self | grep -w inbox")
    dom0.run("carol", "xenmsg send self:inbox hello")
    assert dom0.end(receiver).out == "hello\n"


@case
def who_administers_it_reloads_the_policy_and_nobody_else(host):
    for user in ("carol", "alice"):
        assert host.dom0.tried(user, "xenmsg policy reload").status == 4
    host.dom0.run("bob", "xenmsg policy reload")


# What becomes of each block of the pages, by how its first line begins: the case that runs it, or why none does.
ON_SIMULATOR = "run by tests/integration/test_printed.py, with what is built and not yet with packages"
NOT_YET = "not yet run on such a machine; tests/integration runs it on simulated hosts, or tests/xen on a prepared one"
NO_COMMAND = "it isn't typed"
BLOCKS = {
    "README.md": {
        " your program": NO_COMMAND,
        "xenmsg recv inbox   ": NOT_YET,
        "scripts/demo": "it installs compilers and fetches from a mirror; a fresh clone is another matter than packages",
        "[rule]": NOT_YET,
        "struct xenmsg *conn;": "a fragment; the tutorial has a program",
        # its first line is what tests/packages/run does
        "sudo apt-get build-dep": the_readmes_command_installs_it,
        "./autogen.sh": "from source: scripts/check builds and installs so; its usermod is run by groups_are_given_as_the_readme_says",
    },
    "doc/architecture.md": "no page of commands",
    "doc/protocol.md": "no page of commands",
    "doc/metrics.md": "no blocks; nobody enables its unit on such a machine yet",
    "doc/run.md": "no page of commands",
    "doc/security.md": "no page of commands",
    "doc/probes.md": "bpftrace and SystemTap need a kernel's debugging symbols; tests/integration/test_probes.py reads the probes",
    "doc/python.md": {"import asyncio": "a fragment with addresses of others; the tutorial has programs"},
    "doc/hosts.md": {
        " host a": NO_COMMAND,
        "umask 077": NOT_YET,
        "nats-server": NOT_YET,
        "sudo apt-get install": NOT_YET,
        "[nats]": NOT_YET,
        "[hosts]": NOT_YET,
        "sudo systemctl enable": NOT_YET,
        "[out]": "it takes a second Xen host: tests/integration/test_hosts_nats.py, on simulated ones",
        "[rule]": "as [out]",
        "[see]": "as [out]",
        "xenmsg recv --count 1 inbox": "as [out]",
        "xenmsg send hostb/work:inbox": "as [out]",
        "xenmsg hosts": "as [out]",
    },
    "doc/running-on-xen.md": {
        "./configure": "from source: scripts/check builds and installs so",
        "# /etc/xenmsg/policy.d/50-print.conf": "its like is the README's [rule]",
        "xenmsg status": NOT_YET,
        "xenstore-ls": NOT_YET,
        "# /etc/xenmsg/policy.d/10-relay.conf": "it takes two more guests: tests/integration/test_relay.py",
        "cat /sys/module": NOT_YET,
        "cat /sys/hypervisor/guest_type": NOT_YET,
    },
    "doc/tutorial.md": {
        "": ON_SIMULATOR,
    },
    "doc/xensim.md": {
        "export XENSIM_DIR": ON_SIMULATOR,
        "xensim run --domains 2": ON_SIMULATOR,
    },
}
