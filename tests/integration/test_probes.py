# SPDX-License-Identifier: LGPL-2.1-or-later
"""Looking into running programs: static probes, and what the library tells of its messages."""

import os
import re
import subprocess

import pytest

from messaging import EXIT_NO_ENDPOINT, EXIT_OK, PATIENCE, read_source, tool

BUILT = os.environ.get("XENMSG_BUILDDIR", "")


def has_probes():
    try:
        with open(os.path.join(BUILT, "config.h"), encoding="utf-8") as config:
            return "#define HAVE_SYS_SDT_H 1" in config.read()
    except FileNotFoundError:
        return False


def probes(path):
    """How many arguments each probe of this program has, at each of the places where it stands."""
    notes = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, check=True).stdout
    found = {}
    for provider, name, arguments in re.findall(r"Provider: (\w+)\s+Name: (\w+)\s.*\n *Arguments: ?(.*)", notes):
        found.setdefault(f"{provider}:{name}", set()).add(len(re.findall(r"-?\d+@", arguments)))
    return found


def documented():
    """How many arguments each probe has in the document's table; what is said of one in brackets may have commas."""
    rows = re.findall(r"^\| `(\w+:\w+)` \| (.*?) \|", read_source("doc", "trouble.md"), re.M)
    return {name: len(re.sub(r"\(.*?\)", "", arguments).split(",")) for name, arguments in rows}


@pytest.mark.skipif(not has_probes(), reason="sys/sdt.h was not there when this was built")
def test_the_documents_probes_are_there_with_their_arguments():
    library = os.path.join(os.path.dirname(tool("xenmsg")), "../lib/libxenmsg.so.1")
    found = probes(library)
    assert {name.split(":")[0] for name in found} == {"xenmsg"}
    found.update(probes(tool("xenmsgd")))
    assert found == {name: {count} for name, count in documented().items()}


def test_the_documents_examples_use_probes_that_there_are():
    counts = documented()
    bpftrace = re.findall(r"^bpftrace -e '(.*?)'$", read_source("doc", "trouble.md"), re.M | re.S)
    stap = re.findall(r"^stap -e '(.*?)'$", read_source("doc", "trouble.md"), re.M | re.S)
    assert len(bpftrace) == len(stap) == 1
    for script in bpftrace:
        name, = re.findall(r"usdt:[^:]*:(\w+:\w+)", script)
        assert max(map(int, re.findall(r"\barg(\d)", script))) < counts[name]  # from 0
    for script in stap:
        name = ":".join(re.findall(r'(?:provider|mark)\("(\w+)"\)', script))
        assert 1 <= max(map(int, re.findall(r"\$arg(\d)", script))) <= counts[name]  # from 1


@pytest.fixture(name="told")
def with_debug(one, two, monkeypatch, host):
    monkeypatch.setitem(host.environment, "XENMSG_DEBUG", "1")
    return one, two


LINE = re.compile(rb"\d\d:\d\d:\d\d\.\d{6}Z libxenmsg\[\d+\]: [ -~]+\n")


def test_the_library_tells_what_becomes_of_a_message(told):
    one, two = told
    inbox = two.receiver("inbox", "--count", "1")
    done = one.xenmsg("send", "2:inbox", "hello")
    assert done.returncode == EXIT_OK
    lines = done.stderr.splitlines(keepends=True)
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert b"connected to" in lines[0] and b"2:inbox: opens channel 0" in done.stderr
    assert b"2:inbox: sends a message in 24 bytes" in done.stderr and b": delivered\n" in done.stderr
    name, = set(re.findall(rb"\b1[.]\d+[.]1@24\b", done.stderr))
    assert b": %s: delivered\n" % name in done.stderr
    inbox.process.wait(timeout=30 * PATIENCE)
    said = inbox.process.stderr.read()
    assert b"inbox: channel 1 comes from uid" in said and b"took a message of 5 bytes from domain 1, %s\n" % name in said, "by the name that traces have, too"
    done = one.xenmsg("send", "2:nobody", "hello")
    assert done.returncode == EXIT_NO_ENDPOINT and b": ENOENT\n" in done.stderr


def test_without_being_asked_it_says_nothing(one):
    one.receiver("inbox")
    assert one.xenmsg("send", "self:inbox", "hello").stderr == b""
