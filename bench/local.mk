# SPDX-License-Identifier: LGPL-2.1-or-later
# The programs that bench/run measures with; never installed.
noinst_PROGRAMS += bench-raw bench-chain
EXTRA_DIST += bench/run bench/chain.py
bench_raw_SOURCES = bench/raw.c bench/clock.h
bench_raw_CFLAGS = $(AM_CFLAGS) $(XENVCHAN_CFLAGS)
bench_raw_LDADD = $(XENVCHAN_LIBS)
bench_chain_SOURCES = bench/chain.c bench/clock.h
bench_chain_LDADD = libxenmsg.la
