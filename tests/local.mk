# SPDX-License-Identifier: LGPL-2.1-or-later
# Unit tests: one program per part, each linking what it tests. A new one is added to unit_tests and links its part.
unit_tests =
if HAVE_CMOCKA
unit_tests += \
	tests/unit/test_config \
	tests/unit/test_ring \
	tests/unit/test_ring_hostile
endif
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)

tests_unit_test_ring_SOURCES = tests/unit/test_ring.c tests/unit/ring_fixture.h tests/unit/unit.h
tests_unit_test_ring_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_ring_LDADD = libwire.la $(CMOCKA_LIBS)

tests_unit_test_ring_hostile_SOURCES = tests/unit/test_ring_hostile.c tests/unit/ring_fixture.h tests/unit/unit.h
tests_unit_test_ring_hostile_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_ring_hostile_LDADD = libwire.la $(CMOCKA_LIBS)

tests_unit_test_config_SOURCES = tests/unit/test_config.c tests/unit/unit.h
tests_unit_test_config_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_config_LDADD = libdaemon.la $(CMOCKA_LIBS)

include tests/fuzz/local.mk
