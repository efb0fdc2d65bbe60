# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of gateway/.
if HAVE_CMOCKA
unit_tests += \
	tests/unit/test_conversation \
	tests/unit/test_daemon_socket \
	tests/unit/test_gateway_rings \
	tests/unit/test_gateway_traffic \
	tests/unit/test_inflow \
	tests/unit/test_presence
if ENABLE_NATS
unit_tests += tests/unit/test_nats_connection
endif
endif

tests_unit_test_conversation_SOURCES = tests/unit/test_conversation.c tests/unit/conversation_rig.c tests/unit/conversation_rig.h tests/unit/random.h
tests_unit_test_conversation_LDADD = $(gateway_libs) $(UNIT_LIBS)

rings_rig = tests/unit/rings_rig.c tests/unit/rings_rig.h tests/unit/own_process.h
tests_unit_test_gateway_rings_SOURCES = tests/unit/test_gateway_rings.c $(rings_rig)
tests_unit_test_gateway_rings_LDADD = $(gateway_libs) $(LIBEVENT_LIBS) $(UNIT_LIBS)

tests_unit_test_gateway_traffic_SOURCES = tests/unit/test_gateway_traffic.c tests/unit/random.h $(rings_rig)
tests_unit_test_gateway_traffic_LDADD = $(gateway_libs) $(LIBEVENT_LIBS) $(UNIT_LIBS)

tests_unit_test_daemon_socket_SOURCES = gateway/daemon_socket.c gateway/daemon_socket.h tests/unit/test_daemon_socket.c
tests_unit_test_daemon_socket_LDADD = $(gateway_libs) $(LIBEVENT_LIBS) $(UNIT_LIBS)

tests_unit_test_inflow_LDADD = $(gateway_libs) $(LIBEVENT_LIBS) $(UNIT_LIBS)

tests_unit_test_presence_LDADD = $(gateway_libs) $(UNIT_LIBS)

# Has a function of libnats in between.
tests_unit_test_nats_connection_SOURCES = gateway/nats_connection.c gateway/nats_connection.h \
	gateway/nats_options.c gateway/nats_options.h tests/unit/test_nats_connection.c
tests_unit_test_nats_connection_CFLAGS = $(AM_CFLAGS) $(NATS_CFLAGS)
tests_unit_test_nats_connection_LDADD = $(gateway_libs) $(LIBEVENT_LIBS) $(NATS_LIBS) $(UNIT_LIBS)
