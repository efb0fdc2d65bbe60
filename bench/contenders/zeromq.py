# SPDX-License-Identifier: LGPL-2.1-or-later
"""ZeroMQ over TCP, directly, and through a proxy of its own on either side."""

from contenders import Piped, make_with_header
from host import free_port


class Direct(Piped):
    key, label = "zeromq", "ZeroMQ over TCP"
    program, middle, header, package = "bench-zeromq", "proxy", "zmq.h", "libzmq3-dev"

    def missing(self, build):
        return make_with_header(build, self.program, self.header, self.package)

    def build_group(self, group):
        address = f"tcp://127.0.0.1:{free_port()}"
        group.serve(1, self.host.tool(self.program), "server", address)
        return (self.host.tool(self.program), "client", address), None


class ThroughTwo(Direct):
    key, label = "zeromq-proxies", "ZeroMQ, two proxies"

    def build_group(self, group):
        tool, entry, exit_ = self.host.tool(self.program), self.host.new_name(), self.host.new_name()
        between = f"tcp://127.0.0.1:{free_port()}"
        group.serve(1, tool, "server", f"ipc://{exit_}")
        group.serve(1, tool, self.middle, between, f"ipc://{exit_}")
        group.serve(0, tool, self.middle, f"ipc://{entry}", between)
        return (tool, "client", f"ipc://{entry}"), None


CONTENDERS = [Direct, ThroughTwo]
