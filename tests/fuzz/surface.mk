# SPDX-License-Identifier: LGPL-2.1-or-later
# The fuzz targets of policy files, of what domain 0 tells of the host's policy, of files of the activation directory, of tags that the toolstack gives, and of what other domains say of themselves.
surface_replays = tests/fuzz/replay_policy tests/fuzz/replay_host_policy tests/fuzz/replay_activation tests/fuzz/replay_far_status \
	tests/fuzz/replay_given_tags
check_PROGRAMS += $(surface_replays)
TESTS += $(surface_replays)
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_policy tests/fuzz/fuzz_host_policy tests/fuzz/fuzz_activation tests/fuzz/fuzz_far_status \
	tests/fuzz/fuzz_given_tags
endif

tests_fuzz_replay_policy_SOURCES = tests/fuzz/fuzz_policy.c tests/fuzz/replay_main.c
tests_fuzz_replay_policy_LDADD = $(daemon_libs)
tests_fuzz_fuzz_policy_SOURCES = tests/fuzz/fuzz_policy.c
tests_fuzz_fuzz_policy_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_policy_LDADD = $(daemon_libs)

tests_fuzz_replay_host_policy_SOURCES = tests/fuzz/fuzz_host_policy.c tests/fuzz/replay_main.c
tests_fuzz_replay_host_policy_LDADD = $(daemon_libs)
tests_fuzz_fuzz_host_policy_SOURCES = tests/fuzz/fuzz_host_policy.c
tests_fuzz_fuzz_host_policy_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_host_policy_LDADD = $(daemon_libs)

tests_fuzz_replay_activation_SOURCES = tests/fuzz/fuzz_activation.c tests/fuzz/replay_main.c
tests_fuzz_replay_activation_LDADD = $(daemon_libs)
tests_fuzz_fuzz_activation_SOURCES = tests/fuzz/fuzz_activation.c
tests_fuzz_fuzz_activation_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_activation_LDADD = $(daemon_libs)

tests_fuzz_replay_far_status_SOURCES = tests/fuzz/fuzz_far_status.c tests/fuzz/replay_main.c
tests_fuzz_replay_far_status_LDADD = $(cli_libs)
tests_fuzz_fuzz_far_status_SOURCES = tests/fuzz/fuzz_far_status.c
tests_fuzz_fuzz_far_status_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_far_status_LDADD = $(cli_libs)

tests_fuzz_replay_given_tags_SOURCES = tests/fuzz/fuzz_given_tags.c tests/fuzz/replay_main.c
tests_fuzz_replay_given_tags_LDADD = $(daemon_libs)
tests_fuzz_fuzz_given_tags_SOURCES = tests/fuzz/fuzz_given_tags.c
tests_fuzz_fuzz_given_tags_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_given_tags_LDADD = $(daemon_libs)
