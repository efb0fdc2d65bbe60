# SPDX-License-Identifier: LGPL-2.1-or-later
# Unit tests: one program per part, each linking what it tests. A new one is added to unit_tests and links its part.
unit_tests =
if HAVE_CMOCKA
unit_tests += \
	tests/unit/test_config
endif

include tests/unit/wire.mk

check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)

tests_unit_test_config_SOURCES = tests/unit/test_config.c tests/unit/unit.h
tests_unit_test_config_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_config_LDADD = libdaemon.la $(CMOCKA_LIBS)

# What the integration tests start in domains.
check_PROGRAMS += hostile-peer
hostile_peer_SOURCES = tests/integration/hostile_peer.c
hostile_peer_CFLAGS = $(AM_CFLAGS) $(XENVCHAN_CFLAGS) $(XENSTORE_CFLAGS) $(XENEVTCHN_CFLAGS)
hostile_peer_LDADD = libwire.la $(XENVCHAN_LIBS) $(XENSTORE_LIBS) $(XENEVTCHN_LIBS)

include tests/fuzz/local.mk
