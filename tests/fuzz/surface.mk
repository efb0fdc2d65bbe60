# SPDX-License-Identifier: LGPL-2.1-or-later
# The fuzz targets of policy files, and of files of the activation directory.
surface_replays = tests/fuzz/replay_policy tests/fuzz/replay_activation
check_PROGRAMS += $(surface_replays)
TESTS += $(surface_replays)
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_policy tests/fuzz/fuzz_activation
endif

tests_fuzz_replay_policy_SOURCES = tests/fuzz/fuzz_policy.c tests/fuzz/replay_main.c
tests_fuzz_replay_policy_LDADD = libdaemon.la
tests_fuzz_fuzz_policy_SOURCES = tests/fuzz/fuzz_policy.c
tests_fuzz_fuzz_policy_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_policy_LDADD = libdaemon.la

tests_fuzz_replay_activation_SOURCES = tests/fuzz/fuzz_activation.c tests/fuzz/replay_main.c
tests_fuzz_replay_activation_LDADD = libdaemon.la
tests_fuzz_fuzz_activation_SOURCES = tests/fuzz/fuzz_activation.c
tests_fuzz_fuzz_activation_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_activation_LDADD = libdaemon.la
