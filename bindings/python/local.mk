# SPDX-License-Identifier: LGPL-2.1-or-later
# The Python module: its C part by libtool, like everything here, the rest as it is. Without make: pip install bindings/python/.
EXTRA_DIST += bindings/python/COPYING bindings/python/MANIFEST.in bindings/python/pyproject.toml bindings/python/setup.py
xenmsg_python_sources = \
	bindings/python/xenmsg/__init__.py \
	bindings/python/xenmsg/_core.pyi \
	bindings/python/xenmsg/_errors.py \
	bindings/python/xenmsg/_loop.py \
	bindings/python/xenmsg/_replies.py \
	bindings/python/xenmsg/_types.py \
	bindings/python/xenmsg/aio.py \
	bindings/python/xenmsg/blocking.py \
	bindings/python/xenmsg/py.typed
xenmsg_python_core = \
	bindings/python/xenmsg/_core.c bindings/python/xenmsg/_core.h \
	bindings/python/xenmsg/_core_connection.c \
	bindings/python/xenmsg/_core_message.c \
	bindings/python/xenmsg/_core_outcome.c \
	bindings/python/xenmsg/_core_told.c
# For the tests of projects that run on simulated hosts: of xensim's package, since it needs nothing else.
xensim_python_sources = bindings/python/xensim/__init__.py bindings/python/xensim/py.typed
if ENABLE_PYTHON
xensimpythondir = $(pyexecdir)/xensim
dist_xensimpython_DATA = $(xensim_python_sources)
endif
if WITH_XENMSG
if ENABLE_PYTHON
xenmsgpythondir = $(pyexecdir)/xenmsg
dist_xenmsgpython_DATA = $(xenmsg_python_sources)
# By which importlib.metadata finds it.
xenmsgdistinfodir = $(pyexecdir)/xenmsg-$(PACKAGE_VERSION).dist-info
nodist_xenmsgdistinfo_DATA = bindings/python/METADATA
xenmsgpython_LTLIBRARIES = _core.la
_core_la_SOURCES = $(xenmsg_python_core)
_core_la_CFLAGS = $(AM_CFLAGS) $(PYTHON_DEV_CFLAGS)
_core_la_LDFLAGS = -module -avoid-version -shared -export-symbols-regex '^PyInit_'
_core_la_LIBADD = libxenmsg.la
else
EXTRA_DIST += $(xenmsg_python_sources) $(xensim_python_sources) $(xenmsg_python_core)
endif
endif
