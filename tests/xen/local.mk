# SPDX-License-Identifier: LGPL-2.1-or-later
# The rig: a real Xen host in QEMU. tests/xen/run builds `xen-stage`: what is installed, and the programs that the tests use.
rig_programs = rig-remote rig-spy rig-traffic check-vchan check-xen hostile-peer bench-chain bench-raw
EXTRA_PROGRAMS += rig-remote rig-spy rig-traffic
CLEANFILES += rig-remote rig-spy rig-traffic
rig_traffic_SOURCES = tests/xen/traffic.c
rig_traffic_LDADD = libxenmsg.la
rig_spy_SOURCES = tests/xen/spy.c
rig_spy_LDADD = $(XENSTORE_LIBS)
rig_remote_SOURCES = tests/xen/remote.c
rig_remote_LDADD = $(XENSTORE_LIBS)

xen-stage: all $(rig_programs)
	test -n "$(STAGE)"
	$(MKDIR_P) "$(STAGE)/rig/bin"
	printf 'export PATH="/rig/bin:%s:%s:$$PATH" LD_LIBRARY_PATH="%s" XENMSG_PREFIX="%s"\n' "$(bindir)" "$(sbindir)" "$(libdir)" \
		"$(prefix)" >"$(STAGE)/rig/env"
	$(MAKE) $(AM_MAKEFLAGS) -s install-strip DESTDIR="$(STAGE)" >/dev/null
	$(LIBTOOL) --quiet --mode=install $(INSTALL_PROGRAM) $(rig_programs) "$(STAGE)/rig/bin" >/dev/null
.PHONY: xen-stage

EXTRA_DIST += tests/xen/build tests/xen/run tests/xen/machine.py tests/xen/other-debian tests/xen/cross-build tests/xen/extract-vmlinux \
	tests/xen/init tests/xen/units tests/xen/runner tests/xen/daemon \
	tests/xen/lib.sh tests/xen/domain.sh tests/xen/bench_chain.sh tests/xen/test_00_host.sh tests/xen/test_05_xsm.sh tests/xen/test_10_messages.sh tests/xen/test_15_calls_and_streams.sh tests/xen/test_16_topics.sh \
	tests/xen/test_18_spy.sh tests/xen/test_20_life.sh \
	tests/xen/test_30_limits.sh tests/xen/test_40_stock.sh tests/xen/test_45_trace.sh tests/xen/test_46_host_policy.sh tests/xen/test_50_save.sh tests/xen/test_52_ports.sh tests/xen/test_55_moves.sh tests/xen/test_60_systemd.sh tests/xen/test_70_service.sh \
	tests/xen/test_80_conformance.sh tests/xen/test_85_chaos.sh tests/xen/test_90_doc.sh tests/conformance/lib.sh tests/conformance/cases.sh tests/conformance/corners.sh tests/conformance/answers \
	tests/conformance/answers.4.20 tests/conformance/answers.4.20.oxenstored tests/conformance/answers.aarch64 tests/conformance/answers.xenstored tests/conformance/vchan.trace tests/conformance/on-xensim.sh
