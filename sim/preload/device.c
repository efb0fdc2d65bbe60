/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The devices below /dev/xen, as Xen's libraries open them, and those of other languages. The descriptor of
 * evtchn is its handle's, which can be polled; those of gntdev, gntalloc, privcmd and hypercall are only
 * there to be named. xenbus and the socket of xenstored are connections to XenStore.
 *
 * A device is found by the number of its descriptor alone: one that was duplicated, or came over exec, isn't
 * known.
 */
#include "config.h"

#include "sim/preload/lib_internal.h"
#include "sim/preload/device.h"

#define __XEN_TOOLS__ 1

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include <xen/xen.h>
#include <xen/sys/evtchn.h>
#include <xen/sys/privcmd.h>
#include <xenevtchn.h>

/* Descriptors from here on aren't known as devices. */
#define MAX_DEVICES 65536

enum kind { EVTCHN, GNTDEV, GNTALLOC, PRIVCMD, HYPERCALL, KINDS };

static const char *const names[KINDS] = {[EVTCHN] = "evtchn",
					 [GNTDEV] = "gntdev",
					 [GNTALLOC] = "gntalloc",
					 [PRIVCMD] = "privcmd",
					 [HYPERCALL] = "hypercall"};

struct device {
	enum kind kind;
	pthread_mutex_t lock;
	int file; /* what flock() takes in its place; -1: nobody has asked for that */
	xenevtchn_handle *evtchn;
	struct sim_gnt_device *gnt; /* gntdev, gntalloc */
	bool is_restricted;	    /* privcmd, to the domain: */
	domid_t restricted_to;
};

static _Atomic(struct device *) devices[MAX_DEVICES];
/* How many there ever were: as long as it is 0, no call looks further. */
static atomic_uint known;

/* Whether this thread has left the table of descriptors that the others share: in its own are no devices. */
static _Thread_local bool own_table __attribute__((tls_model("initial-exec")));

static struct device *device_of(int fd)
{
	if (!atomic_load_explicit(&known, memory_order_relaxed) || fd < 0 || fd >= MAX_DEVICES || own_table)
		return NULL;
	return atomic_load_explicit(&devices[fd], memory_order_acquire);
}

static void device_free(struct device *device)
{
	if (device->evtchn)
		xenevtchn_close(device->evtchn);
	sim_gnt_device_free(device->gnt);
	if (device->file >= 0)
		syscall(SYS_close, device->file);
	pthread_mutex_destroy(&device->lock);
	free(device);
}

static int open_device(struct device *device, int flags)
{
	int fd;

	if (device->kind == EVTCHN) {
		device->evtchn = xenevtchn_open(NULL, flags & O_CLOEXEC ? 0 : XENEVTCHN_NO_CLOEXEC);
		fd = device->evtchn ? xenevtchn_fd(device->evtchn) : -1;
		if (fd >= 0 && flags & O_NONBLOCK)
			fcntl(fd, F_SETFL, O_NONBLOCK);
		return fd;
	}
	if (device->kind == GNTDEV || device->kind == GNTALLOC) {
		device->gnt = sim_gnt_device_new(device->kind == GNTALLOC);
		if (!device->gnt)
			return -1;
	}
	return eventfd(0, flags & O_CLOEXEC ? EFD_CLOEXEC : 0);
}

static int open_kind(enum kind kind, int flags)
{
	struct device *device;
	int fd = sim_lib_connect();

	if (fd < 0) {
		errno = -fd;
		return -1;
	}
	device = calloc(1, sizeof(*device));
	if (!device)
		return -1;
	device->kind = kind;
	device->file = -1;
	pthread_mutex_init(&device->lock, NULL);
	fd = open_device(device, flags);
	if (fd < 0 || fd >= MAX_DEVICES) {
		int error = fd < 0 ? errno : EMFILE;

		if (fd >= 0 && !device->evtchn)
			syscall(SYS_close, fd);
		device_free(device);
		errno = error;
		return -1;
	}
	atomic_store_explicit(&devices[fd], device, memory_order_release);
	atomic_fetch_add(&known, 1);
	return fd;
}

/* XENSTORED_PATH is for libxenstore, and a program may have taken it out: the socket is beside the
 * hypervisor's. */
bool sim_store_address(struct sockaddr_un *address)
{
	const char *control = sim_env(SIM_ENV_CONTROL), *end = control ? strrchr(control, '/') : NULL;
	int length = end ? snprintf(address->sun_path, sizeof(address->sun_path), "%.*s/xenstored.sock",
				    (int)(end - control), control)
			 : -1;

	address->sun_family = AF_UNIX;
	return length > 0 && (size_t)length < sizeof(address->sun_path);
}

static int connect_to_store(int flags)
{
	struct sockaddr_un address;
	int fd;

	if (!sim_store_address(&address)) {
		errno = ENXIO;
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | (flags & O_CLOEXEC ? SOCK_CLOEXEC : 0), 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		syscall(SYS_close, fd);
		return -1;
	}
	if (fd >= 0 && flags & O_NONBLOCK)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

bool sim_device_is(const char *path)
{
	return strncmp(path, "/dev/xen/", 9) == 0 || strcmp(path, "/proc/xen/xenbus") == 0 ||
	       strcmp(path, "/proc/xen/privcmd") == 0;
}

int sim_device_open(const char *path, int file, int flags)
{
	const char *name = strrchr(path, '/') + 1;
	int fd = file;

	/* That it is there, and may be opened, was told by its file. */
	if (file < 0 || flags & O_PATH)
		return file;
	for (enum kind kind = 0; kind < KINDS; kind++)
		if (strcmp(name, names[kind]) == 0)
			fd = open_kind(kind, flags);
	if (strcmp(name, "xenbus") == 0)
		fd = connect_to_store(flags);
	if (fd != file) {
		int error = errno;

		syscall(SYS_close, file);
		errno = error;
	}
	return fd;
}

/* --- evtchn ------------------------------------------------------------------------------------- */

static int evtchn_ioctl(const struct device *device, unsigned long request, void *argument)
{
	const struct ioctl_evtchn_bind_interdomain *interdomain = argument;
	const struct ioctl_evtchn_bind_unbound_port *unbound = argument;
	const struct ioctl_evtchn_restrict_domid *restriction = argument;
	const struct ioctl_evtchn_bind_virq *virq = argument;
	const struct ioctl_evtchn_notify *port = argument; /* that of unbind is the same */

	switch (request) {
	case IOCTL_EVTCHN_BIND_VIRQ:
		return xenevtchn_bind_virq(device->evtchn, virq->virq);
	case IOCTL_EVTCHN_BIND_INTERDOMAIN:
		return xenevtchn_bind_interdomain(device->evtchn, interdomain->remote_domain,
						  interdomain->remote_port);
	case IOCTL_EVTCHN_BIND_UNBOUND_PORT:
		return xenevtchn_bind_unbound_port(device->evtchn, unbound->remote_domain);
	case IOCTL_EVTCHN_UNBIND:
		return xenevtchn_unbind(device->evtchn, port->port);
	case IOCTL_EVTCHN_NOTIFY:
		return xenevtchn_notify(device->evtchn, port->port);
	case IOCTL_EVTCHN_RESTRICT_DOMID:
		return xenevtchn_restrict(device->evtchn, restriction->domid);
	default:
		errno = request == IOCTL_EVTCHN_RESET ? ENOSYS : ENOTTY;
		return -1;
	}
}

/* The driver gives what is there; one port is always right. */
static ssize_t evtchn_read(const struct device *device, void *buffer, size_t size)
{
	evtchn_port_t port;
	xenevtchn_port_or_error_t pending;

	if (size < sizeof(port))
		return 0;
	/* Before an event is taken. */
	if (!sim_is_readable((uintptr_t)buffer, sizeof(port))) {
		errno = EFAULT;
		return -1;
	}
	pending = xenevtchn_pending(device->evtchn);
	if (pending < 0)
		return -1;
	port = (evtchn_port_t)pending;
	if (sim_copy_out(buffer, &port, sizeof(port)) == 0)
		return sizeof(port);
	errno = EFAULT;
	return -1;
}

static ssize_t evtchn_write(const struct device *device, const void *buffer, size_t size)
{
	evtchn_port_t port;
	size_t done = 0;

	if (size >= sizeof(port) && !sim_is_readable((uintptr_t)buffer, size)) {
		errno = EFAULT;
		return -1;
	}
	for (; done + sizeof(port) <= size; done += sizeof(port)) {
		memcpy(&port, (const char *)buffer + done, sizeof(port));
		xenevtchn_unmask(device->evtchn, port);
	}
	return (ssize_t)done;
}

/* --- the calls ---------------------------------------------------------------------------------- */

/* A guest's kernel restricts each handle to no domain at all. */
static int privcmd_restrict(struct device *device, domid_t domid)
{
	if (!sim_hypercalls_allowed() || (device->is_restricted && device->restricted_to != domid))
		return -EINVAL;
	device->is_restricted = true;
	device->restricted_to = domid;
	return 0;
}

static bool may_map(const struct device *device, domid_t domid)
{
	return sim_hypercalls_allowed() && (!device->is_restricted || device->restricted_to == domid);
}

static int privcmd_ioctl(struct device *device, unsigned long request, void *argument)
{
	const privcmd_hypercall_t *call = argument;
	const privcmd_mmapbatch_v2_t *batch = argument;
	const privcmd_mmap_resource_t *resource = argument;
	const privcmd_dm_op_t *operation = argument;

	switch (request) {
	case IOCTL_PRIVCMD_RESTRICT:
		return privcmd_restrict(device, *(const domid_t *)argument);
	case IOCTL_PRIVCMD_MMAPBATCH_V2:
		return may_map(device, batch->dom) ? sim_foreign_map(batch) : -EPERM;
	case IOCTL_PRIVCMD_MMAP_RESOURCE:
		return may_map(device, resource->dom) ? sim_map_resource(resource) : -EPERM;
	case IOCTL_PRIVCMD_DM_OP:
		if (operation->num == 0 && sim_hypercalls_allowed())
			return 0;
		return may_map(device, operation->dom)
			       ? (int)sim_hypercall(__HYPERVISOR_dm_op, operation->dom, 0)
			       : -EPERM;
	case IOCTL_PRIVCMD_HYPERCALL:
		return device->is_restricted
			       ? -EPERM
			       : (int)sim_hypercall((unsigned)call->op, call->arg[0], call->arg[1]);
	default:
		return -ENOTTY;
	}
}

static int device_ioctl(struct device *device, unsigned long request, void *argument)
{
	int r;

	if (!sim_is_readable((uintptr_t)argument, _IOC_SIZE(request))) {
		errno = EFAULT;
		return -1;
	}
	if (device->kind == EVTCHN)
		return evtchn_ioctl(device, request, argument);
	pthread_mutex_lock(&device->lock);
	if (device->gnt)
		r = sim_gnt_device_ioctl(device->gnt, request, argument);
	else
		r = device->kind == PRIVCMD ? privcmd_ioctl(device, request, argument) : -ENOTTY;
	pthread_mutex_unlock(&device->lock);
	if (r >= 0)
		return r;
	errno = -r;
	return -1;
}

SIM_EXPORT int ioctl(int fd, unsigned long request, ...)
{
	static _Atomic(void *) next;
	struct device *device = device_of(fd);
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	/* These are the kernel's own, for every file. */
	if (request == FIONBIO || request == FIOASYNC || request == FIOCLEX || request == FIONCLEX)
		device = NULL;
	return device ? device_ioctl(device, request, argument)
		      : ((__typeof__(&ioctl))sim_next_function(&next, "ioctl"))(fd, request, argument);
}

static void *map_file(void *at, size_t length, int prot, int flags, int fd, off_t offset)
{
	struct device *device = flags & MAP_ANONYMOUS ? NULL : device_of(fd);
	void *start;

	if (!device)
		return (void *)syscall(SYS_mmap, at, length, prot, flags, fd, offset);
	if (device->kind == PRIVCMD && flags & MAP_SHARED)
		return sim_foreign_reserve(at, length, prot, flags);
	/* Pages for the arguments of hypercalls, which no kernel takes away. */
	if (device->kind == HYPERCALL && flags & MAP_SHARED)
		return (void *)syscall(SYS_mmap, at, length, prot, flags | MAP_ANONYMOUS, -1, 0);
	errno = ENODEV;
	if (!device->gnt)
		return MAP_FAILED;
	pthread_mutex_lock(&device->lock);
	start = sim_gnt_device_map(device->gnt, at, length, prot, flags, offset);
	pthread_mutex_unlock(&device->lock);
	return start;
}

SIM_EXPORT void *mmap(void *at, size_t length, int prot, int flags, int fd, off_t offset)
{
	return map_file(at, length, prot, flags, fd, offset);
}

void *mmap64(void *at, size_t length, int prot, int flags, int fd, off_t offset);
SIM_EXPORT void *mmap64(void *at, size_t length, int prot, int flags, int fd, off_t offset)
{
	return map_file(at, length, prot, flags, fd, offset);
}

SIM_EXPORT ssize_t read(int fd, void *buffer, size_t size)
{
	static _Atomic(void *) next;
	const struct device *device = device_of(fd);

	if (device && device->kind == EVTCHN)
		return evtchn_read(device, buffer, size);
	return ((__typeof__(&read))sim_next_function(&next, "read"))(fd, buffer, size);
}

/* glibc's fortified variant, which programs call where the compiler doesn't know the size. */
ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room);
SIM_EXPORT ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room)
{
	if (size > room)
		abort();
	return read(fd, buffer, size);
}

SIM_EXPORT ssize_t write(int fd, const void *buffer, size_t size)
{
	static _Atomic(void *) next;
	const struct device *device = device_of(fd);
	ssize_t n;

	if (device && device->kind == EVTCHN)
		return evtchn_write(device, buffer, size);
	n = ((__typeof__(&write))sim_next_function(&next, "write"))(fd, buffer, size);
	if (n > 0)
		sim_written(fd, buffer, (size_t)n);
	return n;
}

SIM_EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
	static _Atomic(void *) next;
	ssize_t n = ((__typeof__(&writev))sim_next_function(&next, "writev"))(fd, parts, count), left = n;

	for (int i = 0; i < count && left > 0; left -= (ssize_t)parts[i++].iov_len)
		sim_written(fd, parts[i].iov_base,
			    parts[i].iov_len < (size_t)left ? parts[i].iov_len : (size_t)left);
	return n;
}

/* All eventfds of a machine have one lock. On Xen that of a device is of its domain's kernel. */
SIM_EXPORT int flock(int fd, int operation)
{
	struct device *device = device_of(fd);
	const char *root = device ? sim_env(SIM_ENV_ROOT) : NULL;
	char path[PATH_MAX];

	if (!root)
		return (int)syscall(SYS_flock, fd, operation);
	pthread_mutex_lock(&device->lock);
	if (device->file < 0) {
		snprintf(path, sizeof(path), "%s/dev/xen/%s", root, names[device->kind]);
		device->file = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	}
	fd = device->file;
	pthread_mutex_unlock(&device->lock);
	return fd < 0 ? -1 : (int)syscall(SYS_flock, fd, operation);
}

static void device_close(int fd)
{
	struct device *device = atomic_exchange(&devices[fd], NULL);

	if (!device)
		return;
	if (device->kind != EVTCHN)
		syscall(SYS_close, fd);
	device_free(device);
}

/* Programs close all that they don't know. They don't know this library's connection. */
SIM_EXPORT int close(int fd)
{
	static _Atomic(void *) next;

	if (device_of(fd)) {
		device_close(fd);
		return 0;
	}
	if (sim_lib_has(fd)) {
		errno = EBADF;
		return -1;
	}
	return ((__typeof__(&close))sim_next_function(&next, "close"))(fd);
}

static int close_some(unsigned first, unsigned last, unsigned flags)
{
	return first > last ? 0 : (int)syscall(SYS_close_range, first, last, flags);
}

SIM_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	int ours = sim_lib_fd(), r;

	if (flags & CLOSE_RANGE_UNSHARE && gettid() != getpid())
		own_table = true;
	for (unsigned fd = first; !own_table && !(flags & CLOSE_RANGE_CLOEXEC) && atomic_load(&known) &&
				  fd <= last && fd < MAX_DEVICES;
	     fd++)
		device_close((int)fd);
	if (ours < 0 || (unsigned)ours < first || (unsigned)ours > last)
		return close_some(first, last, (unsigned)flags);
	r = close_some(first, (unsigned)ours - 1, (unsigned)flags);
	return r < 0 ? r : close_some((unsigned)ours + 1, last, (unsigned)flags);
}

SIM_EXPORT void closefrom(int first)
{
	close_range(first < 0 ? 0 : (unsigned)first, ~0u, 0);
}

/* xenstored's socket is domain 0's alone, in whose directory its name stands. */
SIM_EXPORT int connect(int fd, const struct sockaddr *address, socklen_t length)
{
	static _Atomic(void *) next;
	__typeof__(&connect) function = (__typeof__(&connect))sim_next_function(&next, "connect");
	const struct sockaddr_un *wanted = (const struct sockaddr_un *)address;
	struct sockaddr_un store;

	if (!address || address->sa_family != AF_UNIX || length <= sizeof(sa_family_t) ||
	    strnlen(wanted->sun_path, length - sizeof(sa_family_t)) >= sizeof(wanted->sun_path) ||
	    (strcmp(wanted->sun_path, "/run/xenstored/socket") != 0 &&
	     strcmp(wanted->sun_path, "/var/run/xenstored/socket") != 0) ||
	    !sim_store_address(&store))
		return function(fd, address, length);
	if (access(wanted->sun_path, F_OK) < 0) /* which leads to the domain's */
		return -1;
	return function(fd, (const struct sockaddr *)&store, sizeof(store));
}
