# SPDX-License-Identifier: LGPL-2.1-or-later
# The programs that bench/run measures with; never installed.
noinst_LIBRARIES += libengine.a
libengine_a_SOURCES = bench/engine.c bench/engine.h cli/histogram.h
noinst_PROGRAMS += bench-raw bench-chain bench-mux bench-pauses bench-socket bench-steps
bench_raw_SOURCES = bench/raw.c
bench_raw_LDADD = libengine.a $(XENVCHAN_LIBS)
bench_chain_SOURCES = bench/chain.c
bench_chain_LDADD = libengine.a libxenmsg.la
bench_mux_SOURCES = bench/mux.c
bench_mux_LDADD = libengine.a libxenmsg.la
bench_pauses_SOURCES = bench/pauses.c
bench_pauses_LDADD = libengine.a libxenmsg.la
bench_socket_SOURCES = bench/socket.c
bench_socket_LDADD = libengine.a libxenmsg.la
bench_steps_SOURCES = bench/steps.c
bench_steps_LDADD = libengine.a libxenmsg.la
noinst_PROGRAMS += bench-fanout
bench_fanout_SOURCES = bench/fanout.c bench/fanout.h bench/fanout_xenmsg.c bench/fanout_sockets.c
bench_fanout_LDADD = libengine.a libxenmsg.la
bench_fanout_CPPFLAGS = $(AM_CPPFLAGS)
if WITH_SYSTEMD
bench_fanout_CPPFLAGS += -DFANOUT_DBUS
bench_fanout_SOURCES += bench/fanout_dbus.c
bench_fanout_LDADD += $(SYSTEMD_LIBS)
noinst_PROGRAMS += bench-dbus
bench_dbus_SOURCES = bench/dbus.c
bench_dbus_LDADD = libengine.a $(SYSTEMD_LIBS)
endif

# Preloaded by bench/guard and test_steady.py. With -rpath, or libtool makes no shared library of what isn't installed.
if GLIBC
noinst_LTLIBRARIES += libcount.la
endif
libcount_la_SOURCES = bench/count.c
# or gcc makes memmove() of memcpy() a call of itself
libcount_la_CFLAGS = $(AM_CFLAGS) -fno-builtin
libcount_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere

# Other contenders, which bench/run makes where their libraries are there.
EXTRA_PROGRAMS += bench-zeromq bench-nats bench-fanout-zeromq
CLEANFILES += bench-zeromq bench-nats bench-fanout-zeromq
bench_fanout_zeromq_SOURCES = bench/fanout.c bench/fanout.h bench/fanout_zeromq.c
bench_fanout_zeromq_CPPFLAGS = $(AM_CPPFLAGS) -DFANOUT_ZEROMQ
bench_fanout_zeromq_LDADD = libengine.a -lzmq
bench_zeromq_SOURCES = bench/zeromq.c
bench_zeromq_LDADD = libengine.a -lzmq
bench_nats_SOURCES = bench/nats.c
bench_nats_LDADD = libengine.a -lnats
EXTRA_DIST += bench/run bench/handover bench/topics bench/scale bench/draw bench/guard bench/guard.expected bench/chain.py bench/host.py bench/hosts.py bench/kernel.py bench/machine.py bench/more.py bench/xen.py \
	bench/contenders/__init__.py bench/contenders/dbus.py bench/contenders/hosts.py bench/contenders/proxy.py \
	bench/contenders/python.py bench/contenders/raw.py bench/contenders/sockets.py \
	bench/contenders/vchan.py bench/contenders/xenmsg.py bench/contenders/zeromq.py
# With the pictures that bench/draw has made.
EXTRA_DIST += doc/performance
