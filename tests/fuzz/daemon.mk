# SPDX-License-Identifier: LGPL-2.1-or-later
# The fuzz targets of the relay, of what programs say first, and of a session that is resumed.
daemon_replays = tests/fuzz/replay_hop tests/fuzz/replay_handshake tests/fuzz/replay_image tests/fuzz/replay_resume
check_PROGRAMS += $(daemon_replays)
TESTS += $(daemon_replays)
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_hop tests/fuzz/fuzz_handshake tests/fuzz/fuzz_image tests/fuzz/fuzz_resume
endif

tests_fuzz_replay_hop_SOURCES = tests/fuzz/fuzz_hop.c tests/fuzz/replay_main.c
tests_fuzz_replay_hop_LDADD = $(daemon_libs)
tests_fuzz_fuzz_hop_SOURCES = tests/fuzz/fuzz_hop.c
tests_fuzz_fuzz_hop_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_hop_LDADD = $(daemon_libs)

tests_fuzz_replay_handshake_SOURCES = tests/fuzz/fuzz_handshake.c tests/fuzz/replay_main.c
tests_fuzz_replay_handshake_LDADD = $(daemon_libs)
tests_fuzz_fuzz_handshake_SOURCES = tests/fuzz/fuzz_handshake.c
tests_fuzz_fuzz_handshake_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_handshake_LDADD = $(daemon_libs)

tests_fuzz_replay_image_SOURCES = tests/fuzz/fuzz_image.c tests/fuzz/replay_main.c
tests_fuzz_replay_image_LDADD = $(daemon_libs)
tests_fuzz_fuzz_image_SOURCES = tests/fuzz/fuzz_image.c
tests_fuzz_fuzz_image_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_image_LDADD = $(daemon_libs)

tests_fuzz_replay_resume_SOURCES = tests/fuzz/fuzz_resume.c tests/fuzz/replay_main.c
tests_fuzz_replay_resume_LDADD = $(daemon_libs)
tests_fuzz_fuzz_resume_SOURCES = tests/fuzz/fuzz_resume.c
tests_fuzz_fuzz_resume_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_resume_LDADD = $(daemon_libs)
