# SPDX-License-Identifier: LGPL-2.1-or-later
# xensim's XenStore against Debian's oxenstored and xenstored, which run without Xen by a preloaded library.
check_PROGRAMS += store-serve
store_serve_SOURCES = tests/store/serve.c
store_serve_LDADD = $(simstore_libs)

check_LTLIBRARIES += librig.la
librig_la_SOURCES = tests/store/rig.c
# It defines open and open64 side by side, which the large-file macros would make one.
librig_la_CPPFLAGS = $(AM_CPPFLAGS) -U_FILE_OFFSET_BITS
# libtool makes no shared library of one that is installed nowhere.
librig_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere

EXTRA_DIST += \
	tests/store/daemons.py \
	tests/store/differential.py \
	tests/store/portable.py \
	tests/store/test_differential.py
