# SPDX-License-Identifier: LGPL-2.1-or-later
"""A next daemon that has too little memory. Sanitizers need more than any limit, so it runs without them."""

import resource

import pytest

from library import Connection
from messaging import eventually
from renewing import post, process_until, renew
from test_handover_troubles import LACKS, outcome


GOES_ON = "XenStore doesn't answer; this daemon goes on"


def renews(node, install):
    """As install.renews(), until it is known that the next daemon has begun: XenStore may stand still for a second with the machine."""
    while True:
        before = node.log.read_text()
        install.renews()
        eventually(lambda: node.daemon.poll() is not None or  # pylint: disable=cell-var-from-loop
                   any(words in node.log.read_text()[len(before):] for words in (LACKS, "took over from", "begins afresh", GOES_ON)),
                   "it is known")
        if GOES_ON not in node.log.read_text()[len(before):]:
            return


@pytest.mark.parametrize("step", [2100, pytest.param(700, marks=pytest.mark.slow)])
def test_each_lack_of_memory_of_the_next_one_has_an_outcome(installed, step):
    """From less than it needs to be loaded, to enough."""
    node, install = installed
    seen = set()
    for limit in range(10000, 33000, step):
        outcomes, before = [], node.log.read_text()
        with Connection(node.socket) as sender, Connection(node.socket, binds="inbox") as receiver:
            post("self:inbox", b"x" * 9000, outcomes, sender)
            install.first("--take-over", f"ulimit -S -v {limit}")
            renews(node, install)
            if not outcome(node, before, until=LACKS):
                resource.prlimit(node.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                seen.add("waited")
            how = outcome(node, before)
            install()
            seen.add(how)
            if how == "died":
                node.start()
            else:
                resource.prlimit(node.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            whole = how == "took over" and "can't be taken" not in node.log.read_text()[len(before):]  # else some have ended for want of memory
            if whole:
                assert receiver.receive().data == b"x" * 9000
            process_until(lambda: outcomes, f"it has ended, with {limit} KiB", sender, receiver)
            assert not whole or outcomes == [0], limit
        renew(node)
    assert seen >= {"waited", "took over"}, seen
