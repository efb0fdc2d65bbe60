# SPDX-License-Identifier: LGPL-2.1-or-later
"""What there is inside one domain, or would be over a bridge at best: a Unix socket, and TCP over loopback."""

from contenders import Piped
from host import free_port


class Unix(Piped):
    key, label = "unix", "Unix socket"

    def build_group(self, group):
        tool, where = self.host.tool("bench-socket"), f"unix:{self.host.new_name()}"
        group.serve(1, tool, "server", where)
        return (tool, "client", where), None


class Tcp(Piped):
    key, label = "tcp", "TCP over loopback"

    def build_group(self, group):
        tool, where = self.host.tool("bench-socket"), f"tcp:{free_port()}"
        group.serve(1, tool, "server", where)
        return (tool, "client", where), None

    def carry(self, group, port):
        """Connections go there directly."""
        return port


CONTENDERS = [Unix, Tcp]
