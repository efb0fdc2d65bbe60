# SPDX-License-Identifier: LGPL-2.1-or-later
# Stock programs, which tests/peers/run runs beside those of others.
check_PROGRAMS += tests/peers/vchan-alive tests/peers/vchan-pump
tests_peers_vchan_alive_SOURCES = tests/peers/vchan-alive.c
tests_peers_vchan_alive_LDADD = $(XENVCHAN_LIBS) $(XENCONTROL_LIBS)
tests_peers_vchan_pump_SOURCES = tests/peers/vchan-pump.c
tests_peers_vchan_pump_LDADD = $(XENVCHAN_LIBS) $(XENSTORE_LIBS)
EXTRA_DIST += tests/peers/run tests/peers/vchan
