# SPDX-License-Identifier: LGPL-2.1-or-later
"""
debian/ and packaging/ say what the build says: the packages that it needs, and the library's symbols; and what is
installed can be found by other builds. The packages themselves are tested by tests/packages/run.
"""

import os
import re
import shutil
import subprocess

import pytest

from messaging import BINDIR, read_source


# What debhelper brings along, or stands for.
BY_DEBHELPER = {"build-essential", "autoconf", "automake", "libtool"}

# What Fedora calls them, where that isn't the same with -devel; and what only it needs.
IN_FEDORA = {"libevent-dev": "libevent-devel", "libinih-dev": "inih-devel", "libjson-c-dev": "json-c-devel",
             "libnats-dev": "cnats-devel", "libncurses-dev": "ncurses-devel", "libsystemd-dev": "systemd-devel", "libxen-dev": "xen-devel",
             "nettle-dev": "nettle-devel", "pkgconf": "pkgconf-pkg-config", "libpython3-dev": "python3-devel", "python3": "python3-devel",
             "systemtap-sdt-dev": "systemtap-sdt-devel", "uthash-dev": "uthash-devel"}
ONLY_IN_FEDORA = {"gcc", "make", "systemd-rpm-macros", "libcmocka-devel"}  # its %check runs the unit tests


def section(name):
    return {line.split()[1] for line in read_source("scripts", "packages").splitlines() if line.split()[:1] == [name]}


def build_depends():
    text, = re.findall(r"^Build-Depends:\n((?: .*\n)+)", read_source("debian", "control"), re.MULTILINE)
    return [line.strip(" ,").removesuffix(":any") for line in text.splitlines()]


def test_scripts_packages_and_control_agree():
    depends = build_depends()
    always = {line for line in depends if "<" not in line and not line.startswith(("debhelper", "dh-"))}
    assert always == section("build") - BY_DEBHELPER
    for line in depends:
        if "<" in line:
            package, profile = line.split()
            assert profile == "<!nocheck>" and package in section("check")


def test_the_spec_needs_what_control_needs():
    needed = set(re.findall(r"^BuildRequires: +(\S+)$", read_source("packaging", "xenmsg.spec"), re.MULTILINE))
    always = {line for line in build_depends() if "<" not in line and not line.startswith(("debhelper", "dh-"))}
    assert needed == {IN_FEDORA[package] for package in always} | ONLY_IN_FEDORA


def test_the_symbols_file_names_what_the_library_exports():
    exported = {(name, node) for node, names in re.findall(r"^(XENMSG_\S+) \{$(.*?)^\}", read_source("libclient", "libxenmsg.map"),
                                                           re.MULTILINE | re.DOTALL)
                for name in re.findall(r"^\t(xenmsg_\w+);$", names, re.MULTILINE)}
    named = set(re.findall(r"^ (xenmsg_\w+)@(\S+) ", read_source("debian", "libxenmsg1.symbols"), re.MULTILINE))
    assert exported and exported == named


def test_the_vchan_libraries_export_the_symbols_that_are_listed():
    named, library = {}, None
    for line in read_source("debian", "libxenmsg-vchan1.symbols").splitlines():
        if line.startswith("lib"):
            library = line.split()[0]
        elif line.startswith(" "):
            named.setdefault(library, set()).add(line.split("@")[0].strip())
    for library, symbols in named.items():
        dynamic = subprocess.run(["nm", "-D", "--defined-only", os.path.join(os.path.dirname(BINDIR), "lib", library)], capture_output=True,
                                 text=True, check=True).stdout
        assert {line.split()[2].partition("@")[0] for line in dynamic.splitlines() if " T " in line} == symbols


CMAKE_PROJECT = """
cmake_minimum_required(VERSION 3.13)
project(program C)
find_package(xenmsg @VERSION@ REQUIRED)
add_executable(program program.c)
target_link_libraries(program xenmsg::xenmsg)
"""
PROGRAM = """
#include <xenmsg.h>
int main(void)
{
    struct xenmsg *conn = NULL;
    int r = xenmsg_open(&conn, NULL, NULL);
    if (r == 0)
        r = xenmsg_send(conn, "self:inbox", "built by CMake", 14, XENMSG_WITHIN(5000), NULL);
    xenmsg_close(conn);
    return -r;
}
"""


def cmake(directory, version):
    """Configures and builds the project against what is installed. Returns what it said, and whether it was a success."""
    directory.mkdir()
    (directory / "CMakeLists.txt").write_text(CMAKE_PROJECT.replace("@VERSION@", version))
    (directory / "program.c").write_text(PROGRAM)
    prefix = os.path.dirname(os.environ.get("XENMSG_LIBDIR") or BINDIR)
    said = ""
    for step in (["-S", directory, "-B", directory / "build", f"-DCMAKE_PREFIX_PATH={prefix}"], ["--build", directory / "build"]):
        done = subprocess.run(["cmake", *step], capture_output=True, text=True, check=False)
        said += done.stdout + done.stderr
        if done.returncode != 0:
            return False, said
    return True, said


@pytest.mark.skipif(not BINDIR, reason="on what is installed")
@pytest.mark.skipif(not shutil.which("cmake"), reason="cmake isn't there")
def test_a_cmake_project_finds_the_library(one, tmp_path):
    inbox = one.receiver("inbox", "--count", "1")
    version, = re.findall(r"^AC_INIT\(\[xenmsg\], \[([^]]*)\]", read_source("configure.ac"), re.MULTILINE)
    series = ".".join(version.split(".")[:2])
    built, said = cmake(tmp_path / "project", series)
    assert built, said
    assert one.run_command(tmp_path / "project" / "build" / "program").returncode == 0
    assert inbox.output() == b"built by CMake\n"
    assert cmake(tmp_path / "any", "")[0] and cmake(tmp_path / "exact", f"{version} EXACT")[0]
    built, said = cmake(tmp_path / "later", "99.0")
    assert not built and version in said
