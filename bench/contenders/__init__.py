# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is measured. Each file here has one contender, in CONTENDERS a line for each of its variants."""

import os
import shutil
import subprocess

from host import Failed, Group

NUMBERS = ("messages", "ns", "p50", "p99", "p999", "cpu")


def parse(line):
    """What engine.h says that a client prints."""
    return dict(zip(NUMBERS, map(int, line.split())))


class Contender:
    """One way from a program to another. The host and the sizes of rings are given to it by start()."""

    key = label = ""
    has_rings = False     # the size of a ring means something to it
    short = False         # it belongs to the short form
    modes = ("rtt", "stream", "calls1", "calls64")
    package = None        # what has to be installed, beyond what the build needs
    largest = 1 << 20     # message
    yardstick = "raw"     # who it is compared with
    programs = None       # the build whose programs they are, if not that of the host

    def missing(self, build):  # pylint: disable=unused-argument
        """Why it can't be measured here, or None."""
        return None

    def program(self, name):
        """One of ours that takes part."""
        return os.path.join(self.programs or self.host.build, name)

    def takes(self, mode, size):
        return mode in self.modes and size <= self.largest

    def start(self, host, ring):
        """Whatever stays for all measurements."""
        self.host, self.ring = host, ring

    def measure(self, mode, size, seconds):
        """Returns a dict of NUMBERS."""
        raise NotImplementedError


class Piped(Contender):
    """A server, what stands between, and a client, all new for each measurement, so that nothing is left of the one before."""

    tail = ()      # the client's last words
    patience = 12  # seconds for a measurement besides its own

    def build_group(self, group):
        """Starts all but the client. Returns the client's words, before the mode, and the domain that it runs in, or None."""
        raise NotImplementedError

    def measure(self, mode, size, seconds):
        with Group(self.host) as group:
            words, domid = self.build_group(group)
            return parse(self.host.run(0, *words, mode, size, seconds, *self.tail, domid=domid, pids=group.pids(),
                                       timeout=self.patience + seconds))


def missing_program(name, package):
    return None if shutil.which(name) or os.access(name, os.X_OK) else f"{name} is not there (package {package})"


def make_with_header(build, program, header, package):
    """Makes a contender's program, which is no part of `make`. Returns what is missing for it, or None."""
    found = subprocess.run(["cc", "-fsyntax-only", "-include", header, "-xc", "/dev/null"], check=False, stderr=subprocess.DEVNULL)
    if found.returncode != 0:
        return f"<{header}> is not there (package {package})"
    if not os.path.exists(os.path.join(build, "Makefile")):
        return f"there is no Makefile in {build} to make {program}"
    done = subprocess.run(["make", "-s", "-C", build, program], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"make {program}: {done.stderr.strip()}")
    return None
