# SPDX-License-Identifier: LGPL-2.1-or-later
"""xensim attach and detach: a domain has a device as a toolstack gives it one, with its hotplug script, and a backend in user space."""

import signal
import subprocess

import pytest

from conftest import TIMEOUT, program, wait_for

# A backend of user space: it follows its state, and says in its own whatever a driver would.
BACKEND = """
until state=$(xenstore-read $1/state 2>/dev/null); do sleep 0.01; done
xenstore-write $1/state 2
until [ "$(xenstore-read $1/state)" = 5 ]; do sleep 0.01; done
xenstore-write $1/state 6
"""
SCRIPT = """#!/bin/sh
echo "$1|$2|$script|$XENBUS_TYPE|$XENBUS_PATH|$XENBUS_BASE_PATH|$vif|$(xenstore-read domid)" >>"$0.log"
[ ! -e "$0.fail" ] || { xenstore-write "$XENBUS_PATH/hotplug-error" "no such disk"; exit 1; }
xenstore-write "$XENBUS_PATH/hotplug-status" connected
"""


@pytest.fixture(name="script")
def fixture_script(tmp_path):
    path = tmp_path / "block"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return path


def backend(host, path, domid=0):
    return host.spawn(domid, "/bin/sh", "-c", BACKEND, "backend", path)


def tree(host, path):
    done = host.run(0, "/usr/bin/env", "ASAN_OPTIONS=detect_leaks=0", "xenstore-ls", "-fp", path)  # what it leaks is Xen's
    return done.stdout.splitlines() if done.returncode == 0 else []


def read(host, path):
    return host.run(0, "xenstore-read", path).stdout.strip()


def test_a_device_has_the_nodes_that_libxl_makes(host):
    path = "/local/domain/0/backend/vdispl/1/0"
    backend(host, path)
    done = host.sim("attach", 1, "vdispl", "unique=x", "front:version=2", "ro:0/resolution=800x600")
    assert done.stdout == path + "\n"
    front = "/local/domain/1/device/vdispl/0"
    assert {f'{front}/version = "2"   (n1,r0)', f'{front}/0/resolution = "800x600"   (n0,r1)'} <= set(tree(host, front))
    assert f'{path}/unique = "x"   (n0,r1)' in tree(host, path)
    assert read(host, "/libxl/1/device/vdispl/0/state") == "1" and read(host, "/libxl/1/device/vdispl/0/backend") == path
    assert "domain 1 has vdispl 0 already" in host.sim("attach", 1, "vdispl", "--devid", 0, check=False).stderr
    host.sim("detach", "dom1", "vdispl", 0)
    assert not tree(host, front) and not tree(host, "/local/domain/0/backend") and not tree(host, "/libxl/1/device/vdispl")
    assert "domain 1 has no vdispl 0" in host.sim("detach", 1, "vdispl", 0, check=False).stderr


def test_the_hotplug_script_has_its_environment(host, script):
    path = "/local/domain/0/backend/vbd/1/51712"
    backend(host, path)
    assert host.sim("attach", 1, "vbd", "--script", script, "params=/dev/null").stdout == path + "\n"
    assert read(host, path + "/hotplug-status") == "connected" and read(host, path + "/script") == str(script)
    host.sim("detach", 1, "vbd", 51712)
    lines = (script.parent / "block.log").read_text().splitlines()
    assert lines == [f"{action}||{script}|vbd|backend/vbd/1/51712|backend||0" for action in ("add", "remove")]
    backend(host, "/local/domain/0/backend/vif/2/0")
    host.sim("attach", 2, "vif", "--script", script)
    assert (script.parent / "block.log").read_text().splitlines()[-1] == \
        f"online|type_if=vif|{script}|vif|backend/vif/2/0|backend|vif2.0|0"


def test_a_script_that_fails_says_why(host, script):
    (script.parent / "block.fail").touch()
    backend(host, "/local/domain/0/backend/vbd/1/51712")
    done = host.sim("attach", 1, "vbd", "--script", script, check=False)
    assert done.returncode == 1 and done.stderr == f"xensim: {script} add has failed: no such disk\n"


def test_without_a_backend_there_is_an_error(host):
    done = host.sim("attach", 1, "vbd", "--timeout", 50, check=False)
    assert done.returncode == 1 and "hasn't come to state 2 (InitWait)" in done.stderr
    done = host.sim("detach", 1, "vbd", 51712, "--timeout", 50, check=False)
    assert done.returncode == 1 and "hasn't closed, and is removed by force" in done.stderr
    assert not tree(host, "/local/domain/0/backend") and not tree(host, "/libxl/1/device/vbd")
    for words, what in (([9, "vbd"], "no domain 9"), ([1, "V"], "no type"), ([0, "vbd"], "no devices"), ([1, "vbd", "x"], "KEY=VALUE"),
                        ([1, "vbd", "--devid", "x"], "takes a number"), ([1], "usage")):
        done = host.sim("attach", *words, check=False)
        assert done.returncode in (1, 2) and what in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_guest_is_a_backend_and_may_write_its_half_alone(host):
    path = "/local/domain/2/backend/vif/1/0"
    backend(host, path, domid=2)
    assert host.sim("attach", 1, "vif", "--backend", 2, "mac=00:16:3e:00:00:01").stdout == path + "\n"
    front = "/local/domain/1/device/vif/0"
    assert host.run(2, "xenstore-write", front + "/state", "4").returncode != 0
    assert host.run(1, "xenstore-write", path + "/state", "4").returncode != 0
    assert host.run(1, "xenstore-read", path + "/mac").stdout == "00:16:3e:00:00:01\n"
    assert host.run(3, "xenstore-read", path + "/mac").returncode != 0


def test_a_domain_that_ends_takes_its_devices(host):
    path = "/local/domain/0/backend/vbd/1/51712"
    closing = backend(host, path)
    host.sim("attach", 1, "vbd")
    host.sim("destroy", 1)
    assert closing.wait(timeout=2 * TIMEOUT) == 0, "the backend was told to close, and had the time"
    assert not tree(host, "/local/domain/0/backend") and not tree(host, "/libxl/1")


def test_who_waits_for_a_backend_can_be_ended(host):
    waiting = subprocess.Popen([program("xensim"), "attach", "1", "vbd"], env=host.environment, stdout=subprocess.PIPE)
    assert waiting.stdout.readline() == b"/local/domain/0/backend/vbd/1/51712\n"
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(timeout=2 * TIMEOUT) == -signal.SIGTERM
    waiting.stdout.close()
    wait_for(lambda: host.domain(0)["xenstore"]["watches"] == 0, "its watch has gone")
