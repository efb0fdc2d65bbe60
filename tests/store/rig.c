/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lets Debian's oxenstored and xenstored run without Xen: preloaded, it stands in for what they use of
 * libxenevtchn, libxengnttab and libxenctrl. A domain exists as long as its ring page, the file
 * $STORE_RIG/page-DOMID, is there. The descriptor $STORE_RIG_EVENTS is a socket whose messages are event
 * channel ports: to the daemon, the port that has an event; from it, the port that it has notified. A
 * domain's port is FIRST_PORT + DOMID in both directions, whatever was bound.
 */
#include "config.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define XC_WANT_COMPAT_MAP_FOREIGN_API
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#define EXPORT	   __attribute__((visibility("default")))
#define VIRQ_PORT  1 /* of the virtual interrupt that says that a domain has ended */
#define FIRST_PORT 10

static char handle; /* an address for all handles, which nobody looks into */

static const char *in_rig(char path[4096], const char *name, unsigned domid)
{
	snprintf(path, 4096, "%s/%s", getenv("STORE_RIG"), name);
	if (strcmp(name, "page-") == 0)
		snprintf(path + strlen(path), 4096 - strlen(path), "%u", domid);
	return path;
}

static bool exists(unsigned domid)
{
	char path[4096];

	return access(in_rig(path, "page-", domid), F_OK) == 0;
}

static void *map_page(unsigned domid, int protection)
{
	char path[4096];
	int fd = open(in_rig(path, "page-", domid), O_RDWR | O_CLOEXEC);
	void *page;

	if (fd < 0)
		return NULL;
	page = mmap(NULL, XC_PAGE_SIZE, protection, MAP_SHARED, fd, 0);
	close(fd);
	return page == MAP_FAILED ? NULL : page;
}

/* ---- event channels -------------------------------------------------------------------------- */

static int events(void)
{
	return atoi(getenv("STORE_RIG_EVENTS"));
}

EXPORT xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
	return (xenevtchn_handle *)&handle;
}

EXPORT int xenevtchn_close(xenevtchn_handle *xce)
{
	return 0;
}

EXPORT int xenevtchn_fd(xenevtchn_handle *xce)
{
	return events();
}

EXPORT int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
	/* Whoever has not read as many as the socket holds looks at all rings anyway. */
	if (send(events(), &port, sizeof(port), MSG_DONTWAIT) < 0 && errno != EAGAIN)
		return -1;
	return 0;
}

EXPORT xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid,
							    evtchn_port_t remote_port)
{
	return (xenevtchn_port_or_error_t)(FIRST_PORT + domid);
}

EXPORT xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned int virq)
{
	return VIRQ_PORT;
}

EXPORT int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
	return 0;
}

EXPORT xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
	evtchn_port_t port;
	ssize_t got = recv(events(), &port, sizeof(port), 0);

	if (got == 0)
		_exit(0); /* the test has gone */
	return got == sizeof(port) ? (xenevtchn_port_or_error_t)port : -1;
}

EXPORT int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
	return 0;
}

/* ---- pages of other domains ------------------------------------------------------------------ */

EXPORT xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned open_flags)
{
	return (xengnttab_handle *)&handle;
}

EXPORT int xengnttab_close(xengnttab_handle *xgt)
{
	return 0;
}

EXPORT int xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t nr_grants)
{
	return 0;
}

EXPORT void *xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref, int prot)
{
	return map_page(domid, prot);
}

EXPORT int xengnttab_unmap(xengnttab_handle *xgt, void *start_address, uint32_t count)
{
	return munmap(start_address, (size_t)count * XC_PAGE_SIZE);
}

EXPORT xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild_logger,
				       unsigned open_flags)
{
	return (xc_interface *)&handle;
}

EXPORT int xc_interface_close(xc_interface *xch)
{
	return 0;
}

EXPORT void *xc_map_foreign_range(xc_interface *xch, uint32_t domid, int size, int prot, unsigned long mfn)
{
	return map_page(domid, prot);
}

EXPORT int xc_domain_getinfolist(xc_interface *xch, uint32_t first_domain, unsigned int max_domains,
				 xc_domaininfo_t *info)
{
	*info = (xc_domaininfo_t){.domain = (domid_t)first_domain};
	return exists(first_domain);
}

#ifdef HAVE_XC_DOMINFO_T
EXPORT int xc_domain_getinfo(xc_interface *xch, uint32_t first_domid, unsigned int max_doms,
			     xc_dominfo_t *info)
{
	*info = (xc_dominfo_t){.domid = first_domid};
	return exists(first_domid);
}
#else
EXPORT int xc_domain_getinfo_single(xc_interface *xch, uint32_t domid, xc_domaininfo_t *info)
{
	if (!exists(domid)) {
		errno = ESRCH;
		return -1;
	}
	if (info)
		*info = (xc_domaininfo_t){.domain = (domid_t)domid};
	return 0;
}
#endif

/* ---- what else a daemon wants ----------------------------------------------------------------- */

/* oxenstored asks for more descriptors than a container may have, and ends when it doesn't get them. */
EXPORT int setrlimit(__rlimit_resource_t resource, const struct rlimit *limits)
{
	return 0;
}

EXPORT int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limits)
{
	return 0;
}

/* ---- files that a daemon opens by their fixed names ------------------------------------------ */

static const char *redirected(char path[4096], const char *name)
{
	if (strcmp(name, "/proc/xen/xsd_kva") == 0 || strcmp(name, "/dev/xen/xsd_kva") == 0)
		return in_rig(path, "page-", 0);
	if (strcmp(name, "/proc/xen/xsd_port") == 0 || strcmp(name, "/dev/xen/xsd_port") == 0)
		return in_rig(path, "port", 0);
	if (strcmp(name, "/var/run/xenstored/socket") == 0 || strcmp(name, "/run/xenstored/socket") == 0)
		return in_rig(path, "socket", 0);
	if (strncmp(name, "/var/run/xen", strlen("/var/run/xen")) == 0 || strncmp(name, "/run/xen", 8) == 0)
		return in_rig(path, "rest", 0);
	return name;
}

static int open_in_rig(const char *next, const char *name, int flags, va_list arguments)
{
	int (*real)(const char *, int, ...);
	mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
	char path[4096];

	*(void **)&real = dlsym(RTLD_NEXT, next);
	return real(redirected(path, name), flags, mode);
}

EXPORT int open(const char *name, int flags, ...)
{
	va_list arguments;
	int fd;

	va_start(arguments, flags);
	fd = open_in_rig("open", name, flags, arguments);
	va_end(arguments);
	return fd;
}

EXPORT int open64(const char *name, int flags, ...)
{
	va_list arguments;
	int fd;

	va_start(arguments, flags);
	fd = open_in_rig("open64", name, flags, arguments);
	va_end(arguments);
	return fd;
}

EXPORT int mkdir(const char *name, mode_t mode)
{
	int (*real)(const char *, mode_t);
	char path[4096];

	*(void **)&real = dlsym(RTLD_NEXT, "mkdir");
	return real(redirected(path, name), mode);
}

EXPORT int unlink(const char *name)
{
	int (*real)(const char *);
	char path[4096];

	*(void **)&real = dlsym(RTLD_NEXT, "unlink");
	return real(redirected(path, name));
}

EXPORT int bind(int fd, const struct sockaddr *address, socklen_t len)
{
	int (*real)(int, const struct sockaddr *, socklen_t);
	const struct sockaddr_un *unix_address = (const struct sockaddr_un *)address;
	struct sockaddr_un other = {.sun_family = AF_UNIX};
	char path[4096];

	*(void **)&real = dlsym(RTLD_NEXT, "bind");
	if (address->sa_family != AF_UNIX)
		return real(fd, address, len);
	snprintf(other.sun_path, sizeof(other.sun_path), "%s", redirected(path, unix_address->sun_path));
	return real(fd, (struct sockaddr *)&other, sizeof(other));
}
