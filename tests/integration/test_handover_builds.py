# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon hands over to one that was built from an earlier commit, and back. tests/interop/run builds these: the first one whose image has
the format of now, and the last one before it; it says in XENMSG_SAME_IMAGE and XENMSG_OTHER_IMAGE where they are."""

import os
import pathlib
import re

import pytest

from library import Connection
from messaging import SOURCES, eventually, read_source, tool
from renewing import crashes, process_until, renew
from test_resume import at_work, messages, numbered

SAME, OTHER = os.environ.get("XENMSG_SAME_IMAGE"), os.environ.get("XENMSG_OTHER_IMAGE")


def test_seeds_and_page_have_the_format_of_the_code():
    """A seed of another one would be refused at once, and nothing be tried with it."""
    number, = re.findall(r"^#define IMAGE_FORMAT +(\d+)u", read_source("base", "image.h"), re.M)
    seeds = [seed.read_bytes() for seed in pathlib.Path(SOURCES, "tests/fuzz/corpus/image").iterdir()]
    assert {int.from_bytes(seed[8:12], "little") for seed in seeds} == {int(number)}
    assert f"the format, {number}:" in read_source("doc", "handover.md")


@pytest.mark.skipif(not SAME, reason="tests/interop/run builds what this needs")
def test_an_older_build_takes_over_and_back_under_traffic(installed, two):
    """Within the domain, and over a link both ways; every byte is compared. A call in service is answered by whoever is there."""
    node, install = installed
    answers = []
    with (at_work(*numbered(node, node, "own")) as own_goes_on, messages(node, two) as goes_on, Connection(node.socket) as caller,
          Connection(node.socket, binds="upper") as server):
        for times in range(3):
            for path in (f"{SAME}/xenmsgd", tool("xenmsgd")):
                assert caller.call_post("self:upper", b"q%d" % times, answers.append) == 0
                request = server.take()
                install.link(path)
                renew(node)
                own_goes_on()
                goes_on()
                assert os.path.realpath(f"/proc/{node.pid}/exe") == os.path.realpath(path)
                assert request.reply(request.data.upper()) == 0
                request.free()
                process_until(lambda: answers, "it is answered", caller, server)
                assert answers.pop() == b"Q%d" % times


@pytest.mark.skipif(not OTHER, reason="tests/interop/run builds what this needs")
def test_a_build_with_another_image_begins_afresh_and_back(installed):
    """Connections end as after a crash, and whoever comes then is served."""
    node, install = installed
    for times, path in enumerate((f"{OTHER}/xenmsgd", tool("xenmsgd"))):
        receiver = Connection(node.socket, binds="inbox")
        install.link(path)
        install.renews()
        crashes(receiver)
        eventually(lambda times=times: node.log.read_text().count("this one begins afresh") == times + 1, "it says so")
        with Connection(node.socket) as sender, Connection(node.socket, binds="inbox") as again:
            assert sender.post("self:inbox", b"after", lambda error: None) == 0
            assert sender.wait(0) >= 0
            assert again.receive().data == b"after"
