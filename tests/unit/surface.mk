# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of policy and limits.
if HAVE_CMOCKA
unit_tests += \
	tests/unit/test_policy \
	tests/unit/test_quota
endif

tests_unit_test_policy_SOURCES = tests/unit/test_policy.c tests/unit/unit.h
tests_unit_test_policy_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_policy_LDADD = libdaemon.la $(CMOCKA_LIBS)

tests_unit_test_quota_SOURCES = tests/unit/test_quota.c tests/unit/unit.h
tests_unit_test_quota_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_quota_LDADD = libdaemon.la $(CMOCKA_LIBS)
