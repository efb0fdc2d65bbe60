# SPDX-License-Identifier: LGPL-2.1-or-later
# Unit tests: one program per part, each linking what it tests. A new one is added to the tests of its part in tests/unit/*.mk, which
# link the same libraries, and is test_NAME.c unless its SOURCES say otherwise.
unit_tests =
unit_rigs = libunit.a
UNIT_LIBS = libunit.a $(CMOCKA_LIBS)
# `libraries`: of each part.
LDADD = $(libraries) $(UNIT_LIBS)
libunit_a_SOURCES = tests/unit/unit.c tests/unit/unit_main.c tests/unit/unit.h \
	tests/conf_text.h tests/descriptors.h tests/unit/image_bytes.h tests/unit/interleave.h tests/unit/own_process.h tests/unit/private_ring.h tests/unit/random.h \
	tests/unit/ring_ends.h tests/unit/ring_fixture.h

include tests/unit/wire.mk
include tests/unit/daemon.mk
include tests/unit/client.mk
include tests/unit/gateway.mk

check_LIBRARIES =
check_LTLIBRARIES =
if HAVE_CMOCKA
check_LIBRARIES += $(unit_rigs)
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
# Libtool needs several times as long as the linker, and has nothing to do where nothing is installed.
$(unit_tests) $(filter tests/fuzz/%,$(check_PROGRAMS)): private LINK = $(CCLD) $(AM_CFLAGS) $(CFLAGS) $(AM_LDFLAGS) $(LDFLAGS) -o $@

# What the integration tests start in domains.
check_PROGRAMS += hostile-peer hostile-program bystander chaos-program
hostile_peer_SOURCES = \
	tests/integration/hostile_flood.c \
	tests/integration/hostile_frames.c \
	tests/integration/hostile_hoard.c \
	tests/integration/hostile_peer.c \
	tests/integration/hostile_peer.h \
	tests/integration/hostile_program.h \
	tests/integration/hostile_session.c
hostile_peer_LDADD = $(wire_lib) $(XENVCHAN_LIBS) $(XENSTORE_LIBS) $(XENEVTCHN_LIBS) $(XENGNTTAB_LIBS)
chaos_program_SOURCES = \
	tests/integration/chaos.h \
	tests/integration/chaos_calls.c \
	tests/integration/chaos_messages.c \
	tests/integration/chaos_program.c \
	tests/integration/chaos_streams.c
chaos_program_LDADD = libxenmsg.la
hostile_program_SOURCES = \
	tests/integration/hostile_descriptors.c \
	tests/integration/hostile_kernel.c \
	tests/integration/hostile_topics.c \
	tests/integration/hostile_frames.c \
	tests/integration/hostile_program.c \
	tests/integration/hostile_program.h \
	tests/integration/hostile_random.c \
	tests/integration/hostile_random.h \
	tests/integration/hostile_random_streams.c \
	tests/integration/hostile_session.c \
	tests/integration/hostile_sockets.c
hostile_program_LDADD = $(wire_lib)
bystander_SOURCES = tests/integration/bystander.c
bystander_LDADD = libxenmsg.la
# Programs and not scripts around them, since they are killed by their numbers.
bystander_LDFLAGS = -no-install
chaos_program_LDFLAGS = -no-install

include tests/integration/lower.mk
EXTRA_DIST += $(wildcard $(srcdir)/tests/integration/*.py) tests/integration/shown_examples.md tests/lsan.supp
include tests/fuzz/local.mk
include tests/peers/local.mk
include tests/xen/local.mk
include tests/store/local.mk

EXTRA_DIST += tests/programs
EXTRA_DIST += tests/services/in-root tests/services/run tests/musl/libraries tests/musl/run
EXTRA_DIST += tests/packages/in-root tests/packages/in-root-rpm tests/packages/run tests/packages/taken
EXTRA_DIST += tests/lack/lack.c tests/lack/run
EXTRA_DIST += tests/mutants/README.md tests/mutants/run tests/mutants/found $(wildcard $(srcdir)/tests/mutants/*.mutants)
EXTRA_DIST += tests/packaged/agent tests/packaged/block tests/packaged/cases.py tests/packaged/machines.py tests/packaged/make-debs \
	tests/packaged/make-roots tests/packaged/mirror tests/packaged/run
EXTRA_DIST += tests/model/README.md tests/model/run tests/model/session.pml tests/model/rendezvous.pml tests/model/orders tests/model/c11.py \
	$(wildcard $(srcdir)/tests/model/order/*.litmus)
