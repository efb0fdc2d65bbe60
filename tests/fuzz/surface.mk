# SPDX-License-Identifier: LGPL-2.1-or-later
# The fuzz target of policy files.
check_PROGRAMS += tests/fuzz/replay_policy
TESTS += tests/fuzz/replay_policy
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_policy
endif

tests_fuzz_replay_policy_SOURCES = tests/fuzz/fuzz_policy.c tests/fuzz/replay_main.c
tests_fuzz_replay_policy_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_CORPUS='"policy"'
tests_fuzz_replay_policy_LDADD = libdaemon.la
tests_fuzz_fuzz_policy_SOURCES = tests/fuzz/fuzz_policy.c
tests_fuzz_fuzz_policy_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_policy_LDADD = libdaemon.la

# Of files of the activation directory.
check_PROGRAMS += tests/fuzz/replay_activation
TESTS += tests/fuzz/replay_activation
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_activation
endif

tests_fuzz_replay_activation_SOURCES = tests/fuzz/fuzz_activation.c tests/fuzz/replay_main.c
tests_fuzz_replay_activation_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_CORPUS='"activation"'
tests_fuzz_replay_activation_LDADD = libdaemon.la
tests_fuzz_fuzz_activation_SOURCES = tests/fuzz/fuzz_activation.c
tests_fuzz_fuzz_activation_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_activation_LDADD = libdaemon.la
