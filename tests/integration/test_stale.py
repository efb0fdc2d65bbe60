# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a restored guest finds in its rings of what domain 0 wrote while its image was made is stale or torn, and it reads that before
XenStore tells it of the restore (doc/xensim.md). None of it may reach a program."""

import struct
import subprocess
import sys

import pytest

from installed import seeds
from messaging import eventually

# It takes its time, so that the ring fills while the image is made: a full ring is the same at all moments.
WRITER = """
import itertools, struct, sys, time
for first in itertools.count(0, 512):
    sys.stdout.buffer.write(struct.pack("<512Q", *range(first, first + 512)))
    sys.stdout.flush()
    time.sleep(.001)
"""


@pytest.mark.parametrize("seed", seeds(0, 4))
@pytest.mark.parametrize("notice, clock", [(0, 200), (200, 0)], ids=["unannounced", "clock-set-back"])
@pytest.mark.parametrize("command", ["suspend", "migrate"])
def test_a_stream_of_numbers_has_no_other_bytes(nodes, host, tmp_path, command, notice, clock, seed):
    """One defence is taken away at a time: domain 0 has no notice, or the clocks don't show the restore."""
    save, restore = ("--notice", notice, "--stale", 16, "--seed", seed), ("--unaware", 300, "--clock", clock)
    pair = nodes(0, 1)
    out, done = tmp_path / "out", tmp_path / "done"
    pair[1].popen("listen", "t", "--", "sh", "-c", f"cat >{out}; touch {done}", binds="t")
    with subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE) as writer:
        sender = pair[0].popen("connect", "1:t", stdin=writer.stdout)
        writer.stdout.close()
        try:
            eventually(lambda: out.exists() and out.stat().st_size > 200000, "the stream flows")
            if command == "suspend":
                host.sim("suspend", 1, *save)
                host.sim("resume", 1, *restore)
            else:
                host.sim("migrate", 1, *save, *restore)
            eventually(lambda: "this domain was restored" in pair[1].log.read_text(), "it is told")
            sender.kill()
        finally:
            writer.kill()
    eventually(done.exists, "the stream has ended")
    data = out.read_bytes()
    numbers = struct.unpack(f"<{len(data) // 8}Q", data[:len(data) // 8 * 8])
    assert numbers == tuple(range(len(numbers)))
