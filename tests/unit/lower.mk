# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of what the daemon reads from other domains.
if HAVE_CMOCKA
unit_tests += tests/unit/test_peers_parse tests/unit/test_store_worker
endif

tests_unit_test_peers_parse_SOURCES = tests/unit/test_peers_parse.c tests/unit/unit.h
tests_unit_test_peers_parse_LDADD = libdaemon.la $(UNIT_LIBS)

# Has the thread's part compiled into it, and xenstored's library without a xenstored.
tests_unit_test_store_worker_SOURCES = tests/unit/test_store_worker.c tests/unit/unit.h
tests_unit_test_store_worker_LDADD = libdaemon.la libwire.la $(UNIT_LIBS)
