# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Python module: what it costs to be no program in C. Its two ends are bench/chain.py."""

import os
import shutil

from contenders import Piped
from contenders.xenmsg import daemons
from host import TOP


class Blocking(Piped):
    key, label = "python", "xenmsg.blocking (Python)"
    kind = "blocking"
    modes = ("stream",)
    largest = 65536

    def missing(self, build):
        built = os.path.join(build, ".libs", "_core.so")
        return None if os.path.exists(built) else f"{built} is not there"

    def start(self, host, ring):
        super().start(host, ring)
        (self.client, self.server), self.daemons = daemons(host, ring or "64K")
        package = os.path.join(host.dir, "python", "xenmsg")
        if not os.path.isdir(package):  # the module as `make` leaves it in the build tree
            shutil.copytree(os.path.join(TOP, "bindings", "python", "xenmsg"), package)
            shutil.copy(os.path.join(host.build, ".libs", "_core.so"), package)
        self.python = ("env", f"PYTHONPATH={os.path.dirname(package)}", f"LD_LIBRARY_PATH={host.build}/.libs",
                       "/usr/bin/python3", os.path.join(TOP, "bench", "chain.py"))

    def build_group(self, group):
        group.serve(1, *self.python, "server", self.kind, domid=self.server)
        group.others = self.daemons
        return (*self.python, "client", self.kind, self.server), self.client


class AsyncIO(Blocking):
    key, label = "python-asyncio", "xenmsg with asyncio (Python)"
    kind = "asyncio"


CONTENDERS = [Blocking, AsyncIO]
