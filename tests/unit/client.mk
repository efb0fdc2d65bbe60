# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of libclient/ and cli/.
if HAVE_CMOCKA
unit_tests += \
	tests/unit/test_client_call \
	tests/unit/test_client_call_timeout \
	tests/unit/test_client_serve \
	tests/unit/test_client_recv \
	tests/unit/test_client_handlers \
	tests/unit/test_client_loop \
	tests/unit/test_client_ops \
	tests/unit/test_client_requests \
	tests/unit/test_client_recv_small \
	tests/unit/test_client_lend \
	tests/unit/test_client_fork \
	tests/unit/test_client_connect \
	tests/unit/test_client_send \
	tests/unit/test_client_send_timeout \
	tests/unit/test_client_send_small \
	tests/unit/test_client_violations \
	tests/unit/test_client_steady \
	tests/unit/test_mux \
	tests/unit/test_mux_over \
	tests/unit/test_mux_listen \
	tests/unit/test_mux_violations \
	tests/unit/test_mux_busy
endif
client_fake = tests/unit/client_fake.c tests/unit/client_fake.h
client_fixture = tests/unit/client_fixture.c tests/unit/client_fixture.h $(client_fake)

client_call_rig = tests/unit/client_call_rig.c tests/unit/client_call_rig.h $(client_fixture)

tests_unit_test_client_call_SOURCES = tests/unit/test_client_call.c $(client_call_rig)
tests_unit_test_client_call_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_call_timeout_SOURCES = tests/unit/test_client_call_timeout.c $(client_call_rig)
tests_unit_test_client_call_timeout_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_serve_SOURCES = tests/unit/test_client_serve.c $(client_call_rig)
tests_unit_test_client_serve_LDADD = libclient.la $(UNIT_LIBS)

client_recv_rig = tests/unit/client_recv_rig.c tests/unit/client_recv_rig.h $(client_fixture)

tests_unit_test_client_recv_SOURCES = tests/unit/test_client_recv.c $(client_recv_rig)
tests_unit_test_client_recv_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_handlers_SOURCES = tests/unit/test_client_handlers.c $(client_recv_rig)
tests_unit_test_client_handlers_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_loop_SOURCES = tests/unit/test_client_loop.c tests/unit/client_recv_rig.c \
	tests/unit/client_recv_rig.h $(client_send_rig)
tests_unit_test_client_loop_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_ops_SOURCES = tests/unit/test_client_ops.c $(client_send_rig)
tests_unit_test_client_ops_LDADD = libclient.la $(UNIT_LIBS)
tests_unit_test_client_requests_SOURCES = tests/unit/test_client_requests.c $(client_recv_rig)
tests_unit_test_client_requests_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_recv_small_SOURCES = tests/unit/test_client_recv_small.c $(client_recv_rig)
tests_unit_test_client_recv_small_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_lend_SOURCES = tests/unit/test_client_lend.c tests/unit/client_recv_rig.c \
	tests/unit/client_recv_rig.h $(client_send_rig)
tests_unit_test_client_lend_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_fork_SOURCES = tests/unit/test_client_fork.c tests/unit/client_recv_rig.c \
	tests/unit/client_recv_rig.h $(client_send_rig)
tests_unit_test_client_fork_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_connect_SOURCES = tests/unit/test_client_connect.c $(client_recv_rig)
tests_unit_test_client_connect_LDADD = libclient.la $(UNIT_LIBS)

client_send_rig = tests/unit/client_send_rig.c tests/unit/client_send_rig.h $(client_fixture)

tests_unit_test_client_send_SOURCES = tests/unit/test_client_send.c $(client_send_rig)
tests_unit_test_client_send_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_send_timeout_SOURCES = tests/unit/test_client_send_timeout.c $(client_send_rig)
tests_unit_test_client_send_timeout_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_send_small_SOURCES = tests/unit/test_client_send_small.c $(client_send_rig)
tests_unit_test_client_send_small_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_violations_SOURCES = tests/unit/test_client_violations.c $(client_send_rig)
tests_unit_test_client_violations_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_client_steady_SOURCES = tests/unit/test_client_steady.c $(client_fake)
tests_unit_test_client_steady_LDADD = libclient.la $(UNIT_LIBS)

mux_rig = tests/unit/mux_rig.c tests/unit/mux_rig.h $(client_fixture)

tests_unit_test_mux_SOURCES = tests/unit/test_mux.c $(mux_rig)
tests_unit_test_mux_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_mux_over_SOURCES = tests/unit/test_mux_over.c $(mux_rig)
tests_unit_test_mux_over_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_mux_listen_SOURCES = tests/unit/test_mux_listen.c $(mux_rig)
tests_unit_test_mux_listen_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_mux_violations_SOURCES = tests/unit/test_mux_violations.c $(mux_rig)
tests_unit_test_mux_violations_LDADD = libclient.la $(UNIT_LIBS)

tests_unit_test_mux_busy_SOURCES = tests/unit/test_mux_busy.c $(mux_rig)
tests_unit_test_mux_busy_LDADD = libclient.la $(UNIT_LIBS)

TESTS += tests/unit/test_client_header.sh
EXTRA_DIST += tests/unit/test_client_header.sh

if HAVE_CMOCKA
unit_tests += tests/unit/test_cli
endif
tests_unit_test_cli_LDADD = libcli.la $(UNIT_LIBS) $(JSONC_LIBS)
