# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where there is no Xen, xenmsgd says so, and ends with a status that the unit doesn't restart it after."""

import os
import subprocess

import pytest

from messaging import tool


@pytest.mark.skipif(os.path.exists("/sys/hypervisor/type"), reason="this is a Xen domain")
def test_no_xen_domain_at_all(tmp_path):
    done = subprocess.run([tool("xenmsgd"), "--socket", str(tmp_path / "s")], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "no Xen domain" in done.stderr and "xensim" in done.stderr


def test_the_unit_knows_these_statuses():
    with open(os.path.join(os.environ.get("XENMSG_SRCDIR", "."), "systemd/xenmsgd.service.in"), encoding="utf-8") as unit:
        assert "RestartPreventExitStatus=2 3\n" in unit.read()
