# SPDX-License-Identifier: LGPL-2.1-or-later
"""debian/ says what the build says: the packages that it needs, the library's symbols, and what is installed where."""

import os
import re

SOURCES = os.environ.get("XENMSG_SRCDIR", os.path.join(os.path.dirname(__file__), "..", ".."))

# What debhelper brings along, or stands for.
BY_DEBHELPER = {"build-essential", "autoconf", "automake", "libtool"}


def read(*path):
    with open(os.path.join(SOURCES, *path), encoding="utf-8") as file:
        return file.read()


def section(name):
    return {line.split()[1] for line in read("scripts", "packages").splitlines() if line.split()[:1] == [name]}


def build_depends():
    text, = re.findall(r"^Build-Depends:\n((?: .*\n)+)", read("debian", "control"), re.MULTILINE)
    return [line.strip(" ,") for line in text.splitlines()]


def test_scripts_packages_and_control_agree():
    depends = build_depends()
    always = {line for line in depends if "<" not in line and not line.startswith(("debhelper", "dh-"))}
    assert always == section("build") - BY_DEBHELPER
    for line in depends:
        if "<" in line:
            package, profile = line.split()
            assert profile == "<!nocheck>" and package in section("check")


def test_the_symbols_file_names_what_the_library_exports():
    exported = set(re.findall(r"^\t(xenmsg_\w+);$", read("libclient", "libxenmsg.map"), re.MULTILINE))
    named = set(re.findall(r"^ (xenmsg_\w+)@XENMSG_0\.1 ", read("debian", "libxenmsg0.symbols"), re.MULTILINE))
    assert exported == named


def test_the_version_is_the_same_everywhere():
    version, = re.findall(r"^AC_INIT\(\[xenmsg\], \[([^]]*)\]", read("configure.ac"), re.MULTILINE)
    assert re.match(r"xenmsg \((.*?)\)", read("debian", "changelog")).group(1) == version
    assert re.search(r'^version = "(.*)"$', read("python", "pyproject.toml"), re.MULTILINE).group(1) == version
