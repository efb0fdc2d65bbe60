# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of services share: parts of a service manager, played."""

import os
import re
import socket
import subprocess
import time

from messaging import PATIENCE, tool


class Manager:
    """The other end of sd_notify(3)."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.lines = []

    def close(self):
        self.socket.close()

    def read(self, timeout):
        self.socket.settimeout(timeout)
        try:
            self.lines += self.socket.recv(4096).decode().splitlines()
        except (socket.timeout, BlockingIOError):
            return False
        return True

    def wait_for(self, line, timeout=20):
        """Waits for a line and forgets those up to it."""
        end = time.monotonic() + timeout * PATIENCE
        while not any(re.fullmatch(line, each) for each in self.lines):
            assert time.monotonic() < end, f"no {line} in {self.lines}"
            self.read(0.1)
        found = next(i for i, each in enumerate(self.lines) if re.fullmatch(line, each))
        result = self.lines[found]
        self.lines = self.lines[found + 1:]
        return result


def listener(path, kind=socket.SOCK_STREAM):
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(str(path))
    made.listen()
    return made


class Systemd:
    """A D-Bus at `address`, and what plays systemd on it (fake_systemd.c); `folder` has the units' programs, and the job of xenmsgd."""

    def __init__(self, tmp_path):
        self.folder, self.socket = tmp_path / "units", tmp_path / "bus"
        self.address = f"unix:path={self.socket}"
        self.folder.mkdir(exist_ok=True)
        config = tmp_path / "bus.conf"
        config.write_text(f"<busconfig><type>system</type><listen>{self.address}</listen><auth>EXTERNAL</auth>"
                          "<policy context='default'><allow user='*'/><allow own='*'/><allow send_destination='*'/>"
                          "<allow receive_sender='*'/></policy></busconfig>")
        self.daemon = subprocess.Popen(["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"],
                                       stdout=subprocess.PIPE)
        assert self.daemon.stdout.readline()
        self.manager = None

    def start(self):
        self.manager = subprocess.Popen([tool("fake-systemd"), self.folder], stdout=subprocess.PIPE, text=True,
                                        env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=self.address))
        assert self.manager.stdout.readline() == "ready\n"

    def stop(self):
        for process in (self.manager, self.daemon):
            if process:
                process.kill()
                process.wait()
        self.socket.unlink(missing_ok=True)
