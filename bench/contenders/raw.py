# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stock libxenvchan between two programs: the yardstick."""

from contenders import Piped

SIZES = {"64K": 65536, "1M": 1 << 20}


class Raw(Piped):
    key, label = "raw", "raw libxenvchan"
    has_rings = short = True

    def start(self, host, ring):
        super().start(host, ring)
        self.client, self.server = host.new_pair()

    def build_group(self, group):
        path = f"/local/domain/{self.server}/data/{self.host.new_name().rpartition('/')[2]}"
        tool = self.host.tool("bench-raw")
        group.serve(1, tool, "server", self.client, path, SIZES[self.ring], *self.tail, domid=self.server)
        return (tool, "client", self.server, path), self.client


class Spinning(Raw):
    """Both programs look at the ring all the time, and each has its CPU for itself."""
    key, label = "raw-spin", "raw libxenvchan, spinning"
    short = False
    tail = ("spin",)


CONTENDERS = [Raw, Spinning]
