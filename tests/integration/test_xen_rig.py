# SPDX-License-Identifier: LGPL-2.1-or-later
"""tests/xen/run where it can't run: one clear line, and the status that counts as skipped."""

import os
import pathlib
import subprocess

import pytest

from messaging import SOURCES

RIG = pathlib.Path(SOURCES) / "tests/xen/run"
SKIPPED = 77


def run_with(tmp_path, *arguments, **programs):
    """With these shell scripts before what is on the PATH."""
    for name, text in programs.items():
        path = tmp_path / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    environment = dict(os.environ, PATH=f"{tmp_path}:{os.environ['PATH']}", XENMSG_RIG_CACHE=str(tmp_path / "cache"))
    return subprocess.run([RIG, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False)


NOT_DEBIAN = {"dpkg": "exit 1"}
OTHER_MACHINE = {"dpkg": "echo arm64"}
NO_PACKAGES = {"dpkg": '[ "$1" = --print-architecture ] && echo amd64', "apt_get": "exit 100", "id": "echo 0"}
NOT_ROOT = {"dpkg": '[ "$1" = --print-architecture ] && echo amd64', "id": "echo 1000"}


@pytest.mark.parametrize("programs, why", [(NOT_DEBIAN, "needs Debian on amd64"), (OTHER_MACHINE, "needs Debian on amd64"),
                                           (NO_PACKAGES, "can't be installed: qemu-system-x86"),
                                           (NOT_ROOT, "not root, and these packages are missing: qemu-system-x86")])
def test_where_it_cannot_be_installed_one_line_says_so(tmp_path, programs, why):
    done = run_with(tmp_path, **programs)
    assert done.returncode == SKIPPED, done
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("tests/xen: ") and why in done.stderr and done.stderr.endswith("; skipped\n")


@pytest.mark.parametrize("prefix", ["/tmp/xenmsg/prefix", "/var/tmp/p", "/run/p"])
def test_a_prefix_unseen_by_the_daemon_is_refused_with_words(tmp_path, prefix):
    (tmp_path / "Makefile").write_text(f"prefix = {prefix}\n")
    done = run_with(tmp_path, "--build", tmp_path, **NOT_DEBIAN)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and prefix in done.stderr and "--prefix elsewhere" in done.stderr


@pytest.mark.parametrize("prefix", ["/usr/local", "/home/me/build/prefix", "/tmpfiles"])
def test_any_other_prefix_is_not(tmp_path, prefix):
    (tmp_path / "Makefile").write_text(f"prefix = {prefix}\n")
    assert run_with(tmp_path, "--build", tmp_path, **NOT_DEBIAN).returncode == SKIPPED
