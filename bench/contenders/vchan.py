# SPDX-License-Identifier: LGPL-2.1-or-later
"""The yardstick's program over xenmsg, unchanged, by xenmsg vchan: what a program of today gains by it, at default settings."""

from contenders.raw import SIZES, Raw
from contenders.xenmsg import own_daemons


class Vchan(Raw):
    key, label = "vchan", "libxenvchan over xenmsg"

    def start(self, host, ring):
        super().start(host, ring)
        (self.client, self.server), self.daemons = own_daemons(host, None, "100us")

    def build_group(self, group):
        group.others = self.daemons
        path = f"/local/domain/{self.server}/data/{self.host.new_name().rpartition('/')[2]}"
        over = (self.host.tool("xenmsg"), "vchan", "--", self.host.tool("bench-raw"))
        group.serve(1, *over, "server", self.client, path, SIZES[self.ring], domid=self.server)
        return (*over, "client", self.server, path), self.client


CONTENDERS = [Vchan]
