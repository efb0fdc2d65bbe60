# SPDX-License-Identifier: LGPL-2.1-or-later
"""socat on either side, with TCP between them: two hops, as xenmsg has."""

from contenders import Piped, missing_program
from host import free_port, listens_at_path, listens_at_port, wait_until


class Socat(Piped):
    key, label = "socat", "socat, two hops"

    def missing(self, build):
        return missing_program("socat", "socat")

    def between(self, group, source, target, listens):
        port = free_port()
        group.start(1, "socat", "-b", 65536, f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,nodelay,fork,backlog=1024", target)
        group.start(0, "socat", "-b", 65536, source, f"TCP:127.0.0.1:{port},nodelay")
        wait_until(lambda: listens_at_port(port) and listens(), "socat")

    def build_group(self, group):
        tool, entry, exit_ = self.host.tool("bench-socket"), self.host.new_name(), self.host.new_name()
        group.serve(1, tool, "server", f"unix:{exit_}")
        self.between(group, f"UNIX-LISTEN:{entry}", f"UNIX-CONNECT:{exit_}", lambda: listens_at_path(entry))
        return (tool, "client", f"unix:{entry}"), None

    def carry(self, group, port):
        entry = free_port()
        self.between(group, f"TCP-LISTEN:{entry},bind=127.0.0.1,reuseaddr,nodelay,fork,backlog=1024", f"TCP:127.0.0.1:{port},nodelay",
                     lambda: listens_at_port(entry))
        return entry


CONTENDERS = [Socat]
