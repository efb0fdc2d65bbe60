# SPDX-License-Identifier: LGPL-2.1-or-later
"""vchan-socket-proxy as Debian ships it: a Unix socket on either side, and one vchan with rings of its own choice."""

import glob

from contenders import Piped
from host import Failed, listens_at_path, wait_until


def program():
    return next(iter(sorted(glob.glob("/usr/lib/xen-*/bin/vchan-socket-proxy"))), None)


class Proxy(Piped):
    key, label = "proxy", "vchan-socket-proxy"
    patience = 3

    def missing(self, build):
        return None if program() else "vchan-socket-proxy is not there (package xen-utils-4.17)"

    def start(self, host, ring):
        super().start(host, ring)
        self.client, self.server = host.new_pair()

    def build_group(self, group):
        tool, entry, exit_ = self.host.tool("bench-socket"), self.host.new_name(), self.host.new_name()
        path = f"/local/domain/{self.server}/data/{entry.rpartition('/')[2]}"
        group.serve(1, tool, "server", f"unix:{exit_}")
        group.start(1, program(), "-m", "server", self.client, path, exit_, domid=self.server)
        group.start(0, program(), self.server, path, entry, domid=self.client)
        wait_until(lambda: listens_at_path(entry), "vchan-socket-proxy")
        return (tool, "client", f"unix:{entry}"), None

    def measure(self, mode, size, seconds):
        """It may sleep over what was sent before it has looked for the first time: then once more."""
        for _ in range(4):
            try:
                return super().measure(mode, size, seconds)
            except Failed as error:
                last = error
        raise last


CONTENDERS = [Proxy]
