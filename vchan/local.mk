# SPDX-License-Identifier: LGPL-2.1-or-later
# Programs written for vchans, over xenmsg: users of libxenmsg like any other.
pkgconfig_DATA += vchan/xenmsg-vchan.pc vchan/vchan-xenmsg.pc
vchanincludedir = $(includedir)/vchan-xenmsg
vchaninclude_HEADERS = vchan/libvchan.h
EXTRA_DIST += vchan/libxenmsg-vchan.map vchan/libvchan-xenmsg.map \
	vchan/libxenmsg-vchan.abi vchan/libvchan-xenmsg.abi

noinst_LTLIBRARIES += libvchan.la
libvchan_la_SOURCES = \
	vchan/channel.c vchan/vchan.h \
	vchan/engine.c vchan/vchan_internal.h \
	vchan/ring.h
libvchan_la_LIBADD = libxenmsg.la

# They have a thread, which runs on where a program closes them (dlclose).
lib_LTLIBRARIES += libxenmsg-vchan.la libvchan-xenmsg.la
libxenmsg_vchan_la_SOURCES = vchan/waiting.c vchan/xenvchan.c
libxenmsg_vchan_la_LIBADD = libvchan.la libxenmsg.la
libxenmsg_vchan_la_LDFLAGS = -version-info 1:0:0 -no-undefined -Wl,-z,nodelete \
	-Wl,--version-script=$(top_srcdir)/vchan/libxenmsg-vchan.map
libvchan_xenmsg_la_SOURCES = vchan/libvchan.c
libvchan_xenmsg_la_LIBADD = libvchan.la libxenmsg.la
libvchan_xenmsg_la_LDFLAGS = -version-info 1:0:0 -no-undefined -Wl,-z,nodelete \
	-Wl,--version-script=$(top_srcdir)/vchan/libvchan-xenmsg.map
