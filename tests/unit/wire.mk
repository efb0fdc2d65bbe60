# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of wire/.
wire_tests = \
	tests/unit/test_address \
	tests/unit/test_channel_table \
	tests/unit/test_doorbell \
	tests/unit/test_frame \
	tests/unit/test_gateway \
	tests/unit/test_hash \
	tests/unit/test_json \
	tests/unit/test_properties \
	tests/unit/test_ring \
	tests/unit/test_ring_attack \
	tests/unit/test_ring_hostile \
	tests/unit/test_ring_threads \
	tests/unit/test_untrusted_copy
unit_tests += $(wire_tests)
$(wire_tests): private libraries = $(wiregateway_libs)
$(wire_tests): $(filter %.a,$(wiregateway_libs))

# Compiles wire/ring.c into itself, with its atomic operations as steps of a schedule.
unit_tests += tests/unit/test_ring_wakeup
