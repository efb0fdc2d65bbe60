# SPDX-License-Identifier: LGPL-2.1-or-later
# Examples compile in every build, so that they stay true, and are installed as sources.
check_PROGRAMS += examples/ping examples/loop
examples_ping_SOURCES = examples/ping.c
examples_ping_LDADD = libxenmsg.la
examples_loop_SOURCES = examples/libevent.c
examples_loop_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS)
examples_loop_LDADD = libxenmsg.la $(LIBEVENT_LIBS)

exampledir = $(docdir)/examples
dist_example_DATA = examples/ping.c examples/libevent.c
