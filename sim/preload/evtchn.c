/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libxenevtchn's functions. Bind and close ask the hypervisor process; notify, pending and unmask use only
 * shared memory and eventfds (evtchn_page.h).
 *
 * A sender keeps the receiver's page and eventfd for each of its ports. When the port's other end comes, goes
 * or changes, the hypervisor increments the port's sequence number in the sender's own page, and the next
 * notification asks again. Errors are those of Linux's evtchn driver.
 */
#include "config.h"

#include "sim/preload/lib_internal.h"

#include "sim/hypervisor/evtchn_page.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utlist.h>
#include <xenevtchn.h>

/* Kept until its handle closes, so that a notification that races with an unbind never touches freed memory.
 */
struct port {
	pthread_mutex_t lock;
	bool bound;
	uint32_t sequence; /* of peer_page and peer_eventfd */
	uint32_t remote_port;
	struct sim_evtchn_page *peer_page; /* NULL: there is no peer, and notifications lead nowhere */
	int peer_eventfd;
};

/* An epoll instance that watches a device for edges. */
struct edge_watch {
	struct edge_watch *prev, *next;
	int epoll;
	struct epoll_event event;
};

/* The open device behind a descriptor; handles made by xenevtchn_fdopen share it. */
struct channel_device {
	struct channel_device *prev, *next;
	unsigned handles;
	uint32_t id;
	int fd;
	struct sim_evtchn_page *page;
	_Atomic(struct edge_watch *) edges;
	_Atomic(struct port *) port[SIM_MAX_PORTS];
};

struct xenevtchn_handle {
	struct channel_device *device;
};

static struct {
	pthread_mutex_t lock;
	struct channel_device *devices;
} evtchn = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void unlock_ports(struct channel_device *device)
{
	uint32_t end = device->page ? atomic_load(&device->page->end) : 0;

	for (uint32_t i = 0; i < end && i < SIM_MAX_PORTS; i++) {
		struct port *port = atomic_load(&device->port[i]);

		if (port)
			pthread_mutex_init(&port->lock, NULL);
	}
}

void sim_evtchn_before_fork(void)
{
	pthread_mutex_lock(&evtchn.lock);
}

void sim_evtchn_after_fork(bool child)
{
	struct channel_device *device;

	/* Another thread of the parent may have had a port's lock. */
	if (child)
		DL_FOREACH(evtchn.devices, device)
			unlock_ports(device);
	pthread_mutex_unlock(&evtchn.lock);
}

size_t sim_evtchn_ids(uint32_t *ids, size_t room)
{
	const struct channel_device *device;
	size_t count = 0;

	DL_FOREACH(evtchn.devices, device) {
		if (count < room)
			ids[count] = device->id;
		count++;
	}
	return count;
}

static int evtchn_fail(int error)
{
	errno = error;
	return -1;
}

static int simple_call(enum sim_op op, const struct channel_device *device, uint32_t port, uint32_t domid,
		       struct sim_reply *reply)
{
	struct sim_request request = {.op = (uint32_t)op, .id = device->id, .port = port, .domid = domid};

	return sim_lib_call(&request, sizeof(request), reply, sizeof(*reply), NULL);
}

/* Allocates straight from the kernel: a table of 32 KiB of which few pages are ever touched. */
static struct channel_device *device_new(void)
{
	struct channel_device *device =
		mmap(NULL, sizeof(*device), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (device == MAP_FAILED)
		return NULL;
	device->fd = -1;
	return device;
}

static void forget_peer(struct port *port)
{
	if (port->peer_page) {
		munmap(port->peer_page, sizeof(*port->peer_page));
		close(port->peer_eventfd);
	}
	port->peer_page = NULL;
}

static void evtchn_device_free(struct channel_device *device)
{
	struct edge_watch *watch = atomic_load(&device->edges), *next;

	for (; watch; watch = next) {
		next = watch->next;
		free(watch);
	}
	uint32_t end = device->page ? atomic_load(&device->page->end) : 0;

	for (uint32_t i = 0; i < end && i < SIM_MAX_PORTS; i++) {
		struct port *port = atomic_load(&device->port[i]);

		if (!port)
			continue;
		forget_peer(port);
		pthread_mutex_destroy(&port->lock);
		free(port);
	}
	if (device->page)
		munmap(device->page, sizeof(*device->page));
	munmap(device, sizeof(*device));
}

static struct sim_evtchn_page *map_page(int fd)
{
	void *page = mmap(NULL, sizeof(struct sim_evtchn_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return page == MAP_FAILED ? NULL : page;
}

static int device_open(struct channel_device *device)
{
	struct sim_request request = {.op = SIM_OP_EVTCHN_OPEN};
	struct sim_reply reply;
	struct sim_fds fds;
	int r = sim_lib_call(&request, sizeof(request), &reply, sizeof(reply), &fds);

	if (r < 0)
		return r;
	if (fds.count != 2) {
		sim_fds_close(&fds);
		return -EIO;
	}
	device->id = reply.id;
	device->page = map_page(fds.fd[1]);
	close(fds.fd[1]);
	device->fd = fds.fd[0];
	if (device->page)
		return 0;
	simple_call(SIM_OP_EVTCHN_CLOSE, device, 0, 0, &reply);
	close(device->fd);
	return -ENOMEM;
}

static struct xenevtchn_handle *handle_new(struct channel_device *device)
{
	struct xenevtchn_handle *handle = malloc(sizeof(*handle));

	if (!handle)
		return NULL;
	handle->device = device;
	device->handles++;
	return handle;
}

SIM_EXPORT xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned flags)
{
	struct channel_device *device;
	struct xenevtchn_handle *handle;
	int r;

	if (flags & ~(unsigned)XENEVTCHN_NO_CLOEXEC) {
		errno = EINVAL;
		return NULL;
	}
	device = device_new();
	handle = device ? handle_new(device) : NULL;
	r = handle ? device_open(device) : -ENOMEM;
	if (r < 0) {
		free(handle);
		if (device)
			evtchn_device_free(device);
		errno = -r;
		return NULL;
	}
	if (flags & XENEVTCHN_NO_CLOEXEC)
		fcntl(device->fd, F_SETFD, 0);
	pthread_mutex_lock(&evtchn.lock);
	DL_APPEND(evtchn.devices, device);
	pthread_mutex_unlock(&evtchn.lock);
	return handle;
}

/* A device whose descriptor came over exec, with the ports that it has. */
static int device_adopt(struct channel_device *device, int fd)
{
	struct sim_request request = {.op = SIM_OP_EVTCHN_ADOPT};
	struct sim_reply reply;
	struct sim_fds fds;
	char path[64];
	int64_t id;
	int r;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	id = sim_eventfd_says(path, "eventfd-id");
	if (id < 0)
		return -EINVAL;
	request.port = (uint32_t)id;
	r = sim_lib_call(&request, sizeof(request), &reply, sizeof(reply), &fds);
	if (r < 0)
		return r;
	device->id = reply.id;
	device->page = fds.count == 1 ? map_page(fds.fd[0]) : NULL;
	sim_fds_close(&fds);
	return device->page ? 0 : -ENOMEM;
}

SIM_EXPORT xenevtchn_handle *xenevtchn_fdopen(struct xentoollog_logger *logger, int fd, unsigned flags)
{
	struct channel_device *device;
	struct xenevtchn_handle *handle = NULL;

	if (flags) {
		errno = EINVAL;
		return NULL;
	}
	pthread_mutex_lock(&evtchn.lock);
	DL_FOREACH(evtchn.devices, device)
		if (device->fd == fd)
			break;
	if (!device && (device = device_new())) {
		device->fd = fd;
		if (device_adopt(device, fd) < 0) {
			munmap(device, sizeof(*device));
			device = NULL;
			errno = EINVAL;
		} else {
			DL_APPEND(evtchn.devices, device);
		}
	}
	if (device)
		handle = handle_new(device);
	pthread_mutex_unlock(&evtchn.lock);
	return handle;
}

SIM_EXPORT int xenevtchn_close(xenevtchn_handle *handle)
{
	struct channel_device *device;
	struct sim_reply reply;
	bool last;
	int r = 0;

	if (!handle)
		return 0;
	device = handle->device;
	free(handle);
	pthread_mutex_lock(&evtchn.lock);
	last = --device->handles == 0;
	if (last)
		DL_DELETE(evtchn.devices, device);
	pthread_mutex_unlock(&evtchn.lock);
	if (last) {
		/* Close the descriptor first: the hypervisor checks whether another process still holds
		 * it. */
		r = (int)syscall(SYS_close, device->fd);
		simple_call(SIM_OP_EVTCHN_CLOSE, device, 0, 0, &reply);
		evtchn_device_free(device);
	}
	return r;
}

SIM_EXPORT int xenevtchn_fd(xenevtchn_handle *handle)
{
	return handle->device->fd;
}

SIM_EXPORT int xenevtchn_restrict(xenevtchn_handle *handle, domid_t domid)
{
	struct sim_reply reply;
	int r = simple_call(SIM_OP_RESTRICT, handle->device, 0, domid, &reply);

	return r < 0 ? evtchn_fail(-r) : 0;
}

static struct port *find_port(const struct channel_device *device, evtchn_port_t number)
{
	return number < SIM_MAX_PORTS ? atomic_load_explicit(&device->port[number], memory_order_acquire)
				      : NULL;
}

/* Makes our record of a port that the hypervisor has bound to this handle. */
static int adopt_port(struct channel_device *device, uint32_t number)
{
	struct port *port = find_port(device, number);
	struct sim_reply reply;

	if (number >= SIM_MAX_PORTS)
		return -EIO;
	if (!port) {
		port = calloc(1, sizeof(*port));
		if (!port) {
			simple_call(SIM_OP_UNBIND, device, number, 0, &reply);
			return -ENOMEM;
		}
		pthread_mutex_init(&port->lock, NULL);
	}
	pthread_mutex_lock(&port->lock);
	forget_peer(port);
	port->bound = true;
	/* Set another number than the page's, so that the first notification asks for the peer. */
	port->sequence = atomic_load(&device->page->sequence[number]) - 1;
	pthread_mutex_unlock(&port->lock);
	atomic_store_explicit(&device->port[number], port, memory_order_release);
	return 0;
}

static xenevtchn_port_or_error_t bind_port(xenevtchn_handle *handle, enum sim_op op, uint32_t domid,
					   uint32_t remote)
{
	struct channel_device *device = handle->device;
	struct sim_reply reply;
	int r = simple_call(op, device, remote, domid, &reply);

	if (r == 0)
		r = adopt_port(device, reply.port);
	return r < 0 ? evtchn_fail(-r) : (xenevtchn_port_or_error_t)reply.port;
}

SIM_EXPORT xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle *handle, uint32_t domid)
{
	return bind_port(handle, SIM_OP_BIND_UNBOUND, domid, 0);
}

SIM_EXPORT xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *handle, uint32_t domid,
								evtchn_port_t remote_port)
{
	return bind_port(handle, SIM_OP_BIND_INTERDOMAIN, domid, remote_port);
}

SIM_EXPORT xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *handle, unsigned virq)
{
	return bind_port(handle, SIM_OP_BIND_VIRQ, 0, virq);
}

/* Returns a port also if it was bound by another process that has the device. NULL: it isn't the device's. */
static struct port *known_port(struct channel_device *device, evtchn_port_t number)
{
	struct sim_request request = {.op = SIM_OP_PEER, .id = device->id, .port = number, .count = 1};
	struct port *port = find_port(device, number);
	struct sim_reply reply;
	struct sim_fds fds;
	int r;

	if (port || number >= SIM_MAX_PORTS || !device->page || number >= atomic_load(&device->page->end))
		return port;
	r = sim_lib_call(&request, sizeof(request), &reply, sizeof(reply), &fds);
	if (r < 0)
		return NULL;
	sim_fds_close(&fds);
	return adopt_port(device, number) == 0 ? find_port(device, number) : NULL;
}

SIM_EXPORT int xenevtchn_unbind(xenevtchn_handle *handle, evtchn_port_t number)
{
	struct port *port = known_port(handle->device, number);
	struct sim_reply reply;
	bool was_bound;
	int r;

	if (number >= SIM_MAX_PORTS)
		return evtchn_fail(EINVAL);
	if (!port)
		return evtchn_fail(ENOTCONN);
	pthread_mutex_lock(&port->lock);
	was_bound = port->bound;
	port->bound = false;
	forget_peer(port);
	pthread_mutex_unlock(&port->lock);
	if (!was_bound)
		return evtchn_fail(ENOTCONN);
	r = simple_call(SIM_OP_UNBIND, handle->device, number, 0, &reply);
	return r < 0 ? evtchn_fail(-r) : 0;
}

/* Asks for the port's peer. Called with the port locked, when its sequence number has changed. */
static void find_peer(const struct channel_device *device, struct port *port, uint32_t number)
{
	struct sim_request request = {.op = SIM_OP_PEER, .id = device->id, .port = number};
	struct sim_reply reply;
	struct sim_fds fds;

	forget_peer(port);
	if (sim_lib_call(&request, sizeof(request), &reply, sizeof(reply), &fds) < 0)
		return;
	port->sequence = reply.sequence;
	if (fds.count == 2 && reply.port < SIM_MAX_PORTS) {
		port->peer_page = map_page(fds.fd[1]);
		close(fds.fd[1]);
		port->remote_port = reply.port;
		port->peer_eventfd = fds.fd[0];
		if (!port->peer_page)
			close(port->peer_eventfd);
	} else {
		sim_fds_close(&fds);
	}
}

SIM_EXPORT int xenevtchn_notify(xenevtchn_handle *handle, evtchn_port_t number)
{
	struct channel_device *device = handle->device;
	struct port *port = known_port(device, number);
	bool bound;

	if (!port)
		return evtchn_fail(ENOTCONN);
	pthread_mutex_lock(&port->lock);
	bound = port->bound;
	if (bound) {
		if (port->sequence !=
		    atomic_load_explicit(&device->page->sequence[number], memory_order_relaxed))
			find_peer(device, port, number);
		if (port->peer_page)
			sim_evtchn_set_pending(port->peer_page, port->peer_eventfd, port->remote_port);
	}
	pthread_mutex_unlock(&port->lock);
	return bound ? 0 : evtchn_fail(ENOTCONN);
}

/* As read(), which for a program that has opened the device itself would lead here. */
static int read_token(int fd, uint64_t *token)
{
	static _Atomic(void *) next;

	return ((__typeof__(&read))sim_next_function(&next, "read"))(fd, token, sizeof(*token)) ==
			       sizeof(*token)
		       ? 0
		       : -1;
}

/*
 * The driver wakes waiters, and makes an edge for epoll, when an event comes into an empty ring; the
 * eventfd makes one for each. So who watches a device for edges is woken once, and again when the ring was
 * emptied meanwhile: as a level that is shown once.
 */
static void apply_edge(const struct channel_device *device, int operation, struct edge_watch *watch)
{
	static _Atomic(void *) next;
	struct epoll_event event = watch->event;

	event.events = (event.events & ~(uint32_t)EPOLLET) | EPOLLONESHOT;
	((__typeof__(&epoll_ctl))sim_next_function(&next, "epoll_ctl"))(watch->epoll, operation, device->fd,
									&event);
}

static void ring_is_empty(struct channel_device *device)
{
	struct edge_watch *head, *watch;

	pthread_mutex_lock(&evtchn.lock);
	head = atomic_load(&device->edges);
	DL_FOREACH(head, watch)
		apply_edge(device, EPOLL_CTL_MOD, watch);
	pthread_mutex_unlock(&evtchn.lock);
}

/* Notes what an instance wants of the device. Returns its watch, or NULL: it wants no edges. Needs the
 * lock. */
static struct edge_watch *note_edge(struct channel_device *device, int epoll, int operation,
				    const struct epoll_event *event)
{
	struct edge_watch *head = atomic_load(&device->edges), *watch;
	bool wanted = operation != EPOLL_CTL_DEL && event && (event->events & EPOLLET) &&
		      !(event->events & EPOLLONESHOT);

	DL_FOREACH(head, watch)
		if (watch->epoll == epoll)
			break;
	if (!wanted && watch) {
		DL_DELETE(head, watch);
		free(watch);
		watch = NULL;
	} else if (wanted && !watch) {
		watch = calloc(1, sizeof(*watch));
		if (watch)
			DL_APPEND(head, watch);
	}
	atomic_store(&device->edges, head);
	if (watch) {
		watch->epoll = epoll;
		watch->event = *event;
	}
	return watch;
}

SIM_EXPORT int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	static _Atomic(void *) next;
	const struct edge_watch *watch = NULL;
	struct channel_device *device;
	struct epoll_event once;

	pthread_mutex_lock(&evtchn.lock);
	DL_FOREACH(evtchn.devices, device)
		if (device->fd == fd)
			watch = note_edge(device, epoll, operation, event);
	if (watch) {
		once = *event;
		once.events = (once.events & ~(uint32_t)EPOLLET) | EPOLLONESHOT;
	}
	pthread_mutex_unlock(&evtchn.lock);
	return ((__typeof__(&epoll_ctl))sim_next_function(&next, "epoll_ctl"))(epoll, operation, fd,
									       watch ? &once : event);
}

SIM_EXPORT xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *handle)
{
	struct channel_device *device = handle->device;
	uint64_t token;
	int number;

	do {
		/* The tokens of a ring that overflowed stay, so that the descriptor is readable for good. */
		if (device->page && atomic_load(&device->page->overflow))
			return evtchn_fail(EFBIG);
		if (read_token(device->fd, &token) < 0)
			return -1;
		if (!device->page)
			return evtchn_fail(EINVAL);
		number = sim_evtchn_take(device->page);
		if (atomic_load_explicit(&device->edges, memory_order_relaxed) &&
		    atomic_load(&device->page->consumer) == atomic_load(&device->page->producer))
			ring_is_empty(device);
	} while (number < 0);
	return number;
}

SIM_EXPORT int xenevtchn_unmask(xenevtchn_handle *handle, evtchn_port_t number)
{
	const struct channel_device *device = handle->device;

	/* The driver takes any number and skips those that it doesn't know. */
	if (number < SIM_MAX_PORTS && device->page && number < atomic_load(&device->page->end))
		sim_evtchn_unmask(device->page, device->fd, number);
	return 0;
}
