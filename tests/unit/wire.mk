# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of wire/.
if HAVE_CMOCKA
unit_tests += \
	tests/unit/test_address \
	tests/unit/test_channel_table \
	tests/unit/test_doorbell \
	tests/unit/test_frame \
	tests/unit/test_gateway \
	tests/unit/test_hash \
	tests/unit/test_properties \
	tests/unit/test_ring \
	tests/unit/test_ring_attack \
	tests/unit/test_ring_hostile \
	tests/unit/test_ring_threads \
	tests/unit/test_ring_vchan \
	tests/unit/test_ring_wakeup \
	tests/unit/test_untrusted_copy
endif

tests_unit_test_untrusted_copy_LDADD = $(UNIT_LIBS)
tests_unit_test_hash_LDADD = $(wire_lib) $(UNIT_LIBS)
tests_unit_test_address_LDADD = $(wire_lib) $(UNIT_LIBS)
tests_unit_test_channel_table_LDADD = $(wire_lib) $(UNIT_LIBS)
tests_unit_test_frame_LDADD = $(wire_lib) $(UNIT_LIBS)
tests_unit_test_properties_LDADD = $(wire_lib) $(UNIT_LIBS)

tests_unit_test_gateway_LDADD = $(wiregateway_libs) $(UNIT_LIBS)

tests_unit_test_ring_SOURCES = tests/unit/test_ring.c tests/unit/ring_fixture.h
tests_unit_test_ring_LDADD = $(wire_lib) $(UNIT_LIBS)
tests_unit_test_doorbell_LDADD = $(wire_lib) $(UNIT_LIBS)

tests_unit_test_ring_hostile_SOURCES = tests/unit/test_ring_hostile.c tests/unit/ring_fixture.h
tests_unit_test_ring_hostile_LDADD = $(wire_lib) $(UNIT_LIBS)

# Compiles wire/ring.c into itself, with its atomic operations as steps of a schedule.
tests_unit_test_ring_wakeup_SOURCES = tests/unit/test_ring_wakeup.c tests/unit/interleave.h
tests_unit_test_ring_wakeup_LDADD = $(UNIT_LIBS)

tests_unit_test_ring_threads_SOURCES = tests/unit/test_ring_threads.c tests/unit/ring_ends.h
tests_unit_test_ring_threads_LDADD = $(wire_lib) $(UNIT_LIBS)

tests_unit_test_ring_attack_SOURCES = tests/unit/test_ring_attack.c tests/unit/ring_ends.h
tests_unit_test_ring_attack_LDADD = $(wire_lib) $(UNIT_LIBS)

tests_unit_test_ring_vchan_SOURCES = tests/unit/test_ring_vchan.c tests/unit/ring_fixture.h
tests_unit_test_ring_vchan_LDADD = $(wire_lib) $(UNIT_LIBS) $(XENVCHAN_LIBS)
