# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program that uses XenStore, here xenstore's own tools: python3 -m pytest test_xenstore.py"""

import subprocess

import pytest


def test_a_guest_publishes_and_domain_0_is_told(xen_host, tmp_path):
    told = tmp_path / "told"
    with told.open("w") as file:
        xen_host.popen(0, "xenstore-watch", "-n", "2", "/local/domain/1/data/state", stdout=file)
    xen_host.wait_for(lambda: told.read_text() == "/local/domain/1/data/state\n", "that it watches")
    xen_host.run(1, "xenstore-write", "data/state", "ready")
    xen_host.wait_for(lambda: told.read_text() == "/local/domain/1/data/state\n" * 2, "the event")
    assert xen_host.run(0, "xenstore-read", "/local/domain/1/data/state") == "ready\n"


def test_another_guest_may_not_read_it(xen_host):
    xen_host.run(1, "xenstore-write", "data/state", "ready")
    with pytest.raises(subprocess.CalledProcessError):
        xen_host.run(2, "xenstore-read", "/local/domain/1/data/state", stderr=subprocess.DEVNULL)
    xen_host.run(1, "xenstore-chmod", "data/state", "n1", "r2")
    assert xen_host.run(2, "xenstore-read", "/local/domain/1/data/state") == "ready\n"
