# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of policy and limits.
if HAVE_CMOCKA
unit_tests += \
	tests/unit/test_policy \
	tests/unit/test_policy_who \
	tests/unit/test_policy_mistakes \
	tests/unit/test_access \
	tests/unit/test_quota
endif

policy_rig = tests/unit/policy_rig.c tests/unit/policy_rig.h

tests_unit_test_policy_SOURCES = tests/unit/test_policy.c $(policy_rig)
tests_unit_test_policy_who_SOURCES = tests/unit/test_policy_who.c $(policy_rig)
tests_unit_test_policy_mistakes_SOURCES = tests/unit/test_policy_mistakes.c $(policy_rig)
tests_unit_test_access_SOURCES = tests/unit/test_access.c $(policy_rig)
