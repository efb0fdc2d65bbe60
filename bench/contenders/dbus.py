# SPDX-License-Identifier: LGPL-2.1-or-later
"""D-Bus on one kernel: programs with sd-bus, and dbus-daemon between them, on the server's side."""

import subprocess

from contenders import Piped, missing_program
from host import listens_at_path, wait_until

CONFIG = """<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"""


class DBus(Piped):
    key, label = "dbus", "D-Bus (dbus-daemon)"

    def missing(self, build):
        return missing_program("dbus-daemon", "dbus-daemon")

    def build_group(self, group):
        path = self.host.new_name()
        with open(f"{path}.conf", "w", encoding="ascii") as file:
            file.write(CONFIG.format(path=path))
        group.start(1, "dbus-daemon", "--nofork", "--config-file", f"{path}.conf", stderr=subprocess.DEVNULL)
        wait_until(lambda: listens_at_path(path), "dbus-daemon")
        address = f"DBUS_SESSION_BUS_ADDRESS=unix:path={path}"
        group.serve(1, "env", address, self.host.tool("bench-dbus"), "server")
        return ("env", address, self.host.tool("bench-dbus"), "client"), None


CONTENDERS = [DBus]
