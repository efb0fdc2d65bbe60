# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of libclient/ and cli/.
client_tests = \
	tests/unit/test_client_blocking \
	tests/unit/test_client_call \
	tests/unit/test_client_call_timeout \
	tests/unit/test_client_connect \
	tests/unit/test_client_drain \
	tests/unit/test_client_fork \
	tests/unit/test_client_handlers \
	tests/unit/test_client_lend \
	tests/unit/test_client_loop \
	tests/unit/test_client_ops \
	tests/unit/test_client_pausing \
	tests/unit/test_client_properties \
	tests/unit/test_client_reconnect \
	tests/unit/test_client_recv \
	tests/unit/test_client_recv_small \
	tests/unit/test_client_requests \
	tests/unit/test_client_send \
	tests/unit/test_client_send_small \
	tests/unit/test_client_send_timeout \
	tests/unit/test_client_serve \
	tests/unit/test_client_steady \
	tests/unit/test_client_violations \
	tests/unit/test_client_waiting \
	tests/unit/test_client_words \
	tests/unit/test_mux \
	tests/unit/test_mux_busy \
	tests/unit/test_mux_conn \
	tests/unit/test_mux_listen \
	tests/unit/test_mux_over \
	tests/unit/test_mux_violations
unit_tests += $(client_tests)

# The daemon, as it is played to the library, and what the tests of its parts have in common.
unit_rigs += libclientrig.a
libclientrig_a_SOURCES = \
	tests/unit/client_call_rig.c tests/unit/client_call_rig.h \
	tests/unit/client_fake.c tests/unit/client_fake.h \
	tests/unit/client_fixture.c tests/unit/client_fixture.h \
	tests/unit/client_recv_rig.c tests/unit/client_recv_rig.h \
	tests/unit/client_send_rig.c tests/unit/client_send_rig.h
client_test_libs = libclientrig.a $(client_lib)
$(client_tests): private libraries = $(client_test_libs)
$(client_tests): $(client_test_libs)

mux_rig = tests/unit/mux_rig.c tests/unit/mux_rig.h
tests_unit_test_mux_SOURCES = tests/unit/test_mux.c $(mux_rig)
tests_unit_test_mux_busy_SOURCES = tests/unit/test_mux_busy.c $(mux_rig)
tests_unit_test_mux_conn_SOURCES = tests/unit/test_mux_conn.c $(mux_rig)
tests_unit_test_mux_listen_SOURCES = tests/unit/test_mux_listen.c $(mux_rig)
tests_unit_test_mux_over_SOURCES = tests/unit/test_mux_over.c $(mux_rig)
tests_unit_test_mux_violations_SOURCES = tests/unit/test_mux_violations.c $(mux_rig)

TESTS += tests/unit/test_client_header.sh tests/unit/test_client_abi.sh
EXTRA_DIST += tests/unit/test_client_header.sh tests/unit/test_client_abi.sh scripts/abi libclient/libxenmsg.abi

unit_tests += tests/unit/test_cli
tests_unit_test_cli_LDADD = $(cli_libs) $(UNIT_LIBS)
