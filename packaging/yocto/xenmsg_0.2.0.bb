# SPDX-License-Identifier: LGPL-2.1-or-later
# A recipe for Yocto with meta-virtualization (xen-tools) and meta-oe (inih, uthash), beside the release's tarball in files/. Bitbake
# 2.8 has read it with the classes of openembedded-core scarthgap, with systemd and without, and each installed file is in one of its
# packages. Nobody has built it: what it tells configure is what tests/xen/cross-build and, for musl, the recipe in packaging/alpine
# tell it.
SUMMARY = "Messages between programs in different Xen domains"
HOMEPAGE = "https://xenmsg.invalid"
LICENSE = "LGPL-2.1-or-later"
LIC_FILES_CHKSUM = "file://COPYING;md5=4fbd65380cdd255951079008b364516c"
SRC_URI = "file://xenmsg-${PV}.tar.xz"

DEPENDS = "inih json-c libevent ncurses nettle uthash xen-tools"

inherit autotools pkgconfig useradd bash-completion

# With systemd as the image's init it has its units; else OpenRC's, s6's and runit's services, of which an image takes one.
PACKAGECONFIG ??= "${@bb.utils.filter('DISTRO_FEATURES', 'systemd', d)}"
PACKAGECONFIG[systemd] = "--with-systemd,--without-systemd,systemd"
EXTRA_OECONF = "--without-nats --disable-python"

inherit ${@bb.utils.contains('PACKAGECONFIG', 'systemd', 'systemd', '', d)}
SYSTEMD_SERVICE:${PN} = "xenmsgd.service"

USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system xenmsg; --system xenmsg-admin; --system xenmsg-vchan; --system xenmsgd"
USERADD_PARAM:${PN} = "--system --no-create-home --home-dir / --shell /sbin/nologin --gid xenmsgd xenmsgd"

PACKAGES =+ "lib${BPN} xensim"
FILES:lib${BPN} = "${libdir}/libxenmsg.so.*"
PACKAGES =+ "lib${BPN}-vchan"
FILES:lib${BPN}-vchan = "${libdir}/libxenmsg-vchan.so.* ${libdir}/libvchan-xenmsg.so.*"
FILES:xensim = "${bindir}/xensim ${libdir}/xenmsg/libxensim.so ${libdir}/xenmsg/libxensim-trace.so"
FILES:${PN} += "${datadir}/xenmsg ${datadir}/polkit-1 ${datadir}/zsh ${datadir}/fish ${systemd_system_unitdir} \
    ${nonarch_libdir}/sysusers.d ${nonarch_libdir}/tmpfiles.d ${nonarch_libdir}/modules-load.d"
FILES:${PN}-dev += "${datadir}/cargo ${datadir}/gocode"
RRECOMMENDS:${PN} = "kernel-module-xen-evtchn kernel-module-xen-gntdev kernel-module-xen-gntalloc"
