# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds xenmsg._core on an installed libxenmsg, which pkg-config finds (PKG_CONFIG_PATH, if it is somewhere else)."""

import glob
import os
import shlex
import subprocess

from setuptools import Extension, setup


def pkg_config(what):
    return shlex.split(subprocess.check_output([os.environ.get("PKG_CONFIG", "pkg-config"), what, "xenmsg"], text=True))


setup(ext_modules=[Extension("xenmsg._core", sorted(glob.glob("xenmsg/_core*.c")), depends=["xenmsg/_core.h"],
                             extra_compile_args=["-std=gnu11", "-fvisibility=hidden", *pkg_config("--cflags")],
                             extra_link_args=pkg_config("--libs"))])
