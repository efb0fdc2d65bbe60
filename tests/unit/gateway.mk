# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of gateway/.
gateway_tests = \
	tests/unit/test_conversation \
	tests/unit/test_daemon_socket \
	tests/unit/test_gateway_rings \
	tests/unit/test_gateway_traffic \
	tests/unit/test_inflow \
	tests/unit/test_presence
unit_tests += $(gateway_tests)
$(gateway_tests): private libraries = $(gateway_libs) $(LIBEVENT_LIBS)
$(gateway_tests): $(filter %.a,$(gateway_libs))

rings_rig = tests/unit/rings_rig.c tests/unit/rings_rig.h
tests_unit_test_conversation_SOURCES = tests/unit/test_conversation.c tests/unit/conversation_rig.c tests/unit/conversation_rig.h
tests_unit_test_gateway_rings_SOURCES = tests/unit/test_gateway_rings.c $(rings_rig)
tests_unit_test_gateway_traffic_SOURCES = tests/unit/test_gateway_traffic.c $(rings_rig)
tests_unit_test_daemon_socket_SOURCES = gateway/daemon_socket.c gateway/daemon_socket.h tests/unit/test_daemon_socket.c

if ENABLE_NATS
unit_tests += tests/unit/test_nats_connection
endif
# Has a function of libnats in between.
tests_unit_test_nats_connection_SOURCES = gateway/nats_connection.c gateway/nats_connection.h \
	gateway/nats_options.c gateway/nats_options.h tests/unit/test_nats_connection.c
tests_unit_test_nats_connection_CFLAGS = $(AM_CFLAGS) $(NATS_CFLAGS)
tests_unit_test_nats_connection_LDADD = $(gateway_libs) $(LIBEVENT_LIBS) $(NATS_LIBS) $(UNIT_LIBS)
