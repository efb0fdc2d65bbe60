# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a measurement was made on."""

import os
import platform
import subprocess
import time

from host import TOP

PACKAGES = ("libxenvchan1", "libxenmisc4.17", "xen-utils-4.17", "libzmq5", "dbus-daemon", "libsystemd0",
            "redis-server", "apache2-utils", "nginx-light", "dbus-broker", "nats-server")


def first(command):
    """The first line that it prints, or None."""
    try:
        lines = subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()
    except OSError:
        return None
    return lines[0] if lines else None


def line_of(path, key, sign=":"):
    try:
        with open(path, encoding="utf-8") as file:
            return next((line.partition(sign)[2].strip() for line in file if line.partition(sign)[0].strip() == key), None)
    except OSError:
        return None


def versions():
    found = {}
    for package in PACKAGES:
        version = first(["dpkg-query", "-W", "-f", "${Version}", package])
        if version:
            found[package] = version
    return found


def describe(build):
    memory = line_of("/proc/meminfo", "MemTotal")
    return {
        "time": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": line_of("/proc/cpuinfo", "model name") or platform.machine(),
        "cpus": os.cpu_count(),
        "used_cpus": sorted(os.sched_getaffinity(0))[:2],
        "hypervisor": first(["systemd-detect-virt"]),
        "memory_gib": round(int(memory.split()[0]) / 2**20, 1) if memory else None,
        "kernel": platform.release(),
        "compiler": first(["cc", "--version"]),
        "flags": line_of(os.path.join(build, "Makefile"), "CFLAGS", "="),
        "version": first(["git", "-C", TOP, "describe", "--always", "--dirty"]),
        "packages": versions(),
        "load_before": os.getloadavg()[0],
    }


def show(machine):
    print(f"{machine['cpus']} CPUs ({machine['cpu']}, {machine['hypervisor'] or 'no hypervisor'}), Linux {machine['kernel']}, "
          f"version {machine['version']}; load before {machine['load_before']:.2f}, after {machine['load_after']:.2f}")
