# SPDX-License-Identifier: LGPL-2.1-or-later
"""Daemons and programs in containers that have what doc/running-on-xen.md says, and nothing else; and XenStore at another place."""

import os
import re
import shutil

import pytest

from messaging import BINDIR, EXIT_OK, SBINDIR

LIBDIRS = {os.path.join(os.path.dirname(BINDIR), "lib"), os.environ.get("XENMSG_LIBDIR") or os.path.join(os.path.dirname(BINDIR), "lib")}
SUPPRESSIONS = re.findall(r"(?:^|:)suppressions=([^:]+)", os.environ.get("LSAN_OPTIONS", ""))  # a sanitizer's, which reads them in there
pytestmark = [pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap isn't there"),
              pytest.mark.skipif(not BINDIR, reason="on what is installed")]


def container(*shared, readable=()):
    """
    A root of its own, and every namespace: processes, network, IPC and the rest. No capabilities. A simulated domain has all that Xen
    is in its folder of XENSIM_DIR.
    """
    words = ["bwrap", "--unshare-all", "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for name in ("lib", "lib64", "bin"):
        words += ["--symlink", f"usr/{name}", f"/{name}"]
    for path in ("/etc/passwd", "/etc/group", BINDIR, SBINDIR, *sorted(LIBDIRS), *SUPPRESSIONS, *readable):
        words += ["--ro-bind", path, path]
    for path in shared:
        words += ["--bind", path, path]
    return words


def in_container(node):
    """Its daemon, in one that has the domain's Xen."""
    node.within = container(node.environment["XENSIM_DIR"], readable=[node.directory])
    node.start()
    return node


def contained(nodes):
    """Two, of which the first is in one."""
    one, two = nodes(1, 2, start=False).values()
    in_container(one)
    return one, two.start()


@pytest.fixture(name="one")
def node_that_is_not_started(nodes):
    return nodes(1, start=False)[1]


def test_a_daemon_in_a_container_serves_as_any_other(nodes):
    one, two = contained(nodes)
    inbox = one.receiver("inbox", "--count", "2")
    two.send("1:inbox", "from another domain")
    one.send("self:inbox", "from the same one")
    assert inbox.output() == b"from another domain\nfrom the same one\n"
    inbox = two.receiver("inbox", "--count", "1")
    one.send("2:inbox", "to another domain")
    assert inbox.output() == b"to another domain\n"


def test_a_program_in_a_container_needs_the_socket_alone(nodes):
    one, two = contained(nodes)
    inbox = two.receiver("inbox", "--count", "1")
    alone = ["env", "-u", "LD_PRELOAD", *container(one.socket)]
    assert one.run_command(*alone, one.tool("xenmsg"), "send", "2:inbox", "hello").returncode == EXIT_OK
    assert inbox.output() == b"hello\n"


def test_daemons_in_two_containers_exclude_each_other(one):
    in_container(one)
    done = one.run_command(*one.within, one.tool("xenmsgd"), "--socket", "/tmp/other.sock")
    assert done.returncode == 1 and b"there can be only one" in done.stderr, done


def test_a_daemon_in_a_container_moves_to_its_successor(nodes):
    one, two = contained(nodes)
    one.kill()
    one.start()
    inbox = one.receiver("inbox", "--count", "1")
    two.send("1:inbox", "again", "--timeout", "30")
    assert inbox.output() == b"again\n"


@pytest.mark.parametrize("program, status", [("xenmsgd", 3), ("xenmsg", 9)])
def test_xenstore_at_another_place_is_named_if_not_there(one, tmp_path, program, status):
    elsewhere = tmp_path / "xenstored.sock"
    arguments = ["doctor"] if program == "xenmsg" else []
    done = one.run_command("env", f"XENSTORED_PATH={elsewhere}", one.tool(program), *arguments)
    words = (done.stdout + done.stderr).decode()
    assert f"at {elsewhere}, which XENSTORED_PATH names: No such file or directory" in words, words
    os.symlink(one.run_command("sh", "-c", "echo -n $XENSTORED_PATH").stdout, elsewhere)
    words = one.run_command("env", f"XENSTORED_PATH={elsewhere}", one.tool("xenmsg"), "doctor").stdout.decode()
    assert "XenStore answers: this is domain 1" in words, words
