# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of gateway/.
if HAVE_CMOCKA
unit_tests += \
	tests/unit/test_conversation \
	tests/unit/test_presence
endif

tests_unit_test_conversation_SOURCES = tests/unit/test_conversation.c tests/unit/conversation_rig.c tests/unit/conversation_rig.h tests/unit/random.h tests/unit/unit.h
tests_unit_test_conversation_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_conversation_LDADD = libgateway.la $(CMOCKA_LIBS)

tests_unit_test_presence_SOURCES = tests/unit/test_presence.c tests/unit/unit.h
tests_unit_test_presence_CFLAGS = $(UNIT_CFLAGS)
tests_unit_test_presence_LDADD = libgateway.la $(CMOCKA_LIBS)
