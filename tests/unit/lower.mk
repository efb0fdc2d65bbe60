# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of what the daemon reads from other domains.
if HAVE_CMOCKA
unit_tests += tests/unit/test_peers_parse
endif

tests_unit_test_peers_parse_SOURCES = tests/unit/test_peers_parse.c tests/unit/unit.h
tests_unit_test_peers_parse_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_peers_parse_LDADD = libdaemon.la $(CMOCKA_LIBS)
