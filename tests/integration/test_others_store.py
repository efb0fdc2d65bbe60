# SPDX-License-Identifier: LGPL-2.1-or-later
"""What others make the daemon do in XenStore, and write into its log: it costs them, and nobody else waits for it."""

import uuid

from messaging import eventually


def hand(host, domid):
    """Writes to XenStore in the name of a domain without a daemon."""
    talk = host.converse(domid, "check-store")
    assert talk.first == "ok 0"

    def write(leaf, value, reader=-1):
        assert talk.ok("write", f"/local/domain/{domid}/data/xenmsg/{leaf}", domid, reader, value) == 0
    return write


# ---- the log ----

def test_a_guest_that_comes_and_goes_all_the_time_writes_few_lines_and_hides_nobody_else(host, nodes):
    one = nodes(1)[1]
    write = hand(host, 2)
    last = None
    for _ in range(100):
        last = str(uuid.uuid4())
        write("presence", f"1%20{last}")
    eventually(lambda: last in one.peers(), "the last presence is seen")
    nodes(3)
    lines = one.log.read_text().splitlines()
    assert 0 < len([line for line in lines if "domain 2: its daemon is" in line]) <= 10
    assert any("domain 3: its daemon is there" in line for line in lines)
    for i in range(40):
        write("presence", f"nonsense{i}")
    eventually(lambda: last not in one.peers(), "nonsense is taken for absent")
    assert 0 < one.log.read_text().count("domain 2 has written a bad presence") <= 10
