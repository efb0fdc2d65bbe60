# SPDX-License-Identifier: LGPL-2.1-or-later
"""The programs under test: those in $XENMSG_BINDIR (`make installcheck` sets it), else those on the PATH; $XENMSG_SBINDIR likewise.

The check programs, which are never installed, lie in $XENMSG_BUILDDIR, else beside xensim. $XENSIM may name a simulator that isn't
under test.
"""

import contextlib
import functools
import os
import shutil
import subprocess

import pytest


def seeds(first, end, each=1):
    """Seeds of which the first `each` are for each change, and the others for --all."""
    return [*range(first, first + each), *(pytest.param(seed, marks=pytest.mark.more) for seed in range(first + each, end))]


BINDIR = os.environ.get("XENMSG_BINDIR", "")
SBINDIR = os.environ.get("XENMSG_SBINDIR", os.path.join(os.path.dirname(BINDIR), "sbin") if BINDIR else "")
BUILDDIR = os.environ.get("XENMSG_BUILDDIR", "")


def program(name):
    """The path of an installed program, or of one from the build tree."""
    if name == "xensim" and os.environ.get("XENSIM"):
        return os.environ["XENSIM"]
    for directory in (BINDIR, SBINDIR, BUILDDIR):
        path = os.path.join(directory, name)
        if directory and os.access(path, os.X_OK):
            return path
    path = shutil.which(name)
    if not path and shutil.which("xensim"):
        beside = os.path.join(os.path.dirname(os.path.realpath(shutil.which("xensim"))), name)
        path = beside if os.access(beside, os.X_OK) else None
    if not path:
        pytest.fail(f"{name} is not there: set XENMSG_BINDIR, XENMSG_SBINDIR and XENMSG_BUILDDIR, "
                    "or run make installcheck")
    return path


def end_process(process):
    """Also one that is stopped, since that dies of SIGKILL as well."""
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


@functools.cache
def libraries_of_the_daemon():
    """What xenmsgd is linked with; None: it isn't installed."""
    linked = subprocess.run(["ldd", os.path.join(SBINDIR, "xenmsgd")], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, check=False)
    return linked.stdout if linked.returncode == 0 else None


def is_sanitized():
    """Whether the daemon has AddressSanitizer's allocator, which keeps what was freed, and needs a lot."""
    return b"libasan" in (libraries_of_the_daemon() or b"")


def is_built_with_systemd():
    """Whether xenmsgd takes what systemd gives; of a program that isn't installed it is taken for granted."""
    with contextlib.suppress(FileNotFoundError), open(os.path.join(SBINDIR, "xenmsgd"), "rb") as file:
        code = file.read()
        return not code.startswith(b"\x7fELF") or b"xenmsgd-systemd.so" in code
    return True
