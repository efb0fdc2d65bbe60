# SPDX-License-Identifier: LGPL-2.1-or-later
"""A split driver in user space, in miniature: python3 -m pytest test_backend.py

The backend in domain 0 watches for frontends, and answers each by its own state, as backends do (xenbus' states: 1 initialising,
4 connected, 5 closing). A toolstack writes both halves.
"""

import subprocess

FRONT, BACK = "/local/domain/1/device/echo/0", "/local/domain/0/backend/echo/1/0"
BACKEND = f"""
xenstore-watch {FRONT}/state | while read -r path; do
	case $(xenstore-read {FRONT}/state 2>/dev/null) in
	1) xenstore-write {BACK}/state 4 ;;
	*) xenstore-write {BACK}/state 5 ;;
	esac
done
"""


def state(host):
    return host.run(1, "xenstore-read", f"{BACK}/state").strip()


def test_a_backend_follows_its_frontend(xen_host):
    # As libxl has it: a half is owned by the domain that it is of, and the other one may read it.
    for path, owner, reader in ((FRONT, 1, 0), (BACK, 0, 1)):
        xen_host.run(0, "xenstore-write", f"{path}/state", "1")
        xen_host.run(0, "xenstore-chmod", "-r", path, f"n{owner}", f"r{reader}")
    xen_host.popen(0, "sh", "-c", BACKEND, stderr=subprocess.DEVNULL)
    xen_host.wait_for(lambda: state(xen_host) == "4", "a connected backend")
    xen_host.run(1, "xenstore-write", "device/echo/0/state", "5")
    xen_host.wait_for(lambda: state(xen_host) == "5", "its end")
