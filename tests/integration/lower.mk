# SPDX-License-Identifier: LGPL-2.1-or-later
# The daemon's lower half, part by part, as programs that the integration tests run in simulated domains.
check_PROGRAMS += check-store check-own-vchan check-peers check-policy
check_store_SOURCES = tests/integration/check_store.c tests/integration/check_lines.h
check_store_LDADD = $(daemon_libs)
check_own_vchan_SOURCES = tests/integration/check_own_vchan.c tests/integration/check_lines.h
check_own_vchan_LDADD = $(daemon_libs)
check_peers_SOURCES = tests/integration/check_peers.c tests/integration/check_lines.h
check_peers_LDADD = $(daemon_libs)
check_policy_SOURCES = tests/integration/check_policy.c
check_policy_LDADD = $(daemon_libs)
# For test_activation.py.
if WITH_SYSTEMD
check_PROGRAMS += fake-systemd
fake_systemd_SOURCES = tests/integration/fake_systemd.c
fake_systemd_LDADD = $(SYSTEMD_LIBS)
endif

# Preloaded by test_busy_poll.py. With -rpath, or libtool makes no shared library of what isn't installed.
check_LTLIBRARIES += libkeep-cpu.la
libkeep_cpu_la_SOURCES = tests/integration/keep_cpu.c
libkeep_cpu_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere

# Preloaded by test_year.py.
check_LTLIBRARIES += libset-day.la
libset_day_la_SOURCES = tests/integration/set_day.c
libset_day_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
