# SPDX-License-Identifier: LGPL-2.1-or-later
# The fuzz targets of the relay, of what programs say first, and of a session that is resumed.
check_PROGRAMS += tests/fuzz/replay_hop
TESTS += tests/fuzz/replay_hop
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_hop
endif

tests_fuzz_replay_hop_SOURCES = tests/fuzz/fuzz_hop.c tests/fuzz/replay_main.c
tests_fuzz_replay_hop_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_CORPUS='"hop"'
tests_fuzz_replay_hop_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS)
tests_fuzz_replay_hop_LDADD = libdaemon.la libwire.la $(LIBEVENT_LIBS)
tests_fuzz_fuzz_hop_SOURCES = tests/fuzz/fuzz_hop.c
tests_fuzz_fuzz_hop_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS)
tests_fuzz_fuzz_hop_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_hop_LDADD = libdaemon.la libwire.la $(LIBEVENT_LIBS)

check_PROGRAMS += tests/fuzz/replay_handshake
TESTS += tests/fuzz/replay_handshake
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_handshake
endif
tests_fuzz_replay_handshake_SOURCES = tests/fuzz/fuzz_handshake.c tests/fuzz/replay_main.c
tests_fuzz_replay_handshake_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_CORPUS='"handshake"'
tests_fuzz_replay_handshake_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS)
tests_fuzz_replay_handshake_LDADD = libdaemon.la libwire.la $(LIBEVENT_LIBS)
tests_fuzz_fuzz_handshake_SOURCES = tests/fuzz/fuzz_handshake.c
tests_fuzz_fuzz_handshake_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS)
tests_fuzz_fuzz_handshake_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_handshake_LDADD = libdaemon.la libwire.la $(LIBEVENT_LIBS)

check_PROGRAMS += tests/fuzz/replay_resume
TESTS += tests/fuzz/replay_resume
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_resume
endif
tests_fuzz_replay_resume_SOURCES = tests/fuzz/fuzz_resume.c tests/fuzz/replay_main.c
tests_fuzz_replay_resume_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_CORPUS='"resume"'
tests_fuzz_replay_resume_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS)
tests_fuzz_replay_resume_LDADD = libdaemon.la libwire.la $(LIBEVENT_LIBS)
tests_fuzz_fuzz_resume_SOURCES = tests/fuzz/fuzz_resume.c
tests_fuzz_fuzz_resume_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS)
tests_fuzz_fuzz_resume_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_resume_LDADD = libdaemon.la libwire.la $(LIBEVENT_LIBS)
