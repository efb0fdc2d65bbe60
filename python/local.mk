# SPDX-License-Identifier: LGPL-2.1-or-later
# The Python module: its C part by libtool, like everything here, the rest as it is. Without make: pip install python/.
EXTRA_DIST += python/pyproject.toml python/setup.py
xenmsg_python_sources = \
	python/xenmsg/__init__.py \
	python/xenmsg/_core.pyi \
	python/xenmsg/_errors.py \
	python/xenmsg/_loop.py \
	python/xenmsg/_seats.py \
	python/xenmsg/_types.py \
	python/xenmsg/aio.py \
	python/xenmsg/blocking.py \
	python/xenmsg/py.typed
xenmsg_python_core = \
	python/xenmsg/_core.c python/xenmsg/_core.h \
	python/xenmsg/_core_begin.c \
	python/xenmsg/_core_connection.c \
	python/xenmsg/_core_message.c \
	python/xenmsg/_core_outcome.c \
	python/xenmsg/_core_told.c \
	python/xenmsg/_core_waits.c
# For the tests of projects that run on simulated hosts: of xensim's package, since it needs nothing else.
xensim_python_sources = python/xensim/__init__.py
if ENABLE_PYTHON
xensimpythondir = $(pyexecdir)/xensim
dist_xensimpython_DATA = $(xensim_python_sources)
endif
if WITH_XENMSG
if ENABLE_PYTHON
xenmsgpythondir = $(pyexecdir)/xenmsg
dist_xenmsgpython_DATA = $(xenmsg_python_sources)
xenmsgpython_LTLIBRARIES = _core.la
_core_la_SOURCES = $(xenmsg_python_core)
_core_la_CFLAGS = $(AM_CFLAGS) $(PYTHON_DEV_CFLAGS)
_core_la_LDFLAGS = -module -avoid-version -shared -export-symbols-regex '^PyInit_'
_core_la_LIBADD = libxenmsg.la
else
EXTRA_DIST += $(xenmsg_python_sources) $(xensim_python_sources) $(xenmsg_python_core)
endif
endif
