/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utlist.h>

static void handle_free(struct hv_handle *handle)
{
	free(handle->heirs.client);
	if (handle->page)
		munmap(handle->page, sizeof(*handle->page));
	if (handle->page_fd >= 0)
		close(handle->page_fd);
	if (handle->eventfd >= 0)
		close(handle->eventfd);
	free(handle);
}

static void answer_with_handle(struct hv_answer *answer, const struct hv_handle *handle)
{
	answer->fds[0] = handle->eventfd;
	answer->fds[1] = handle->page_fd;
	answer->fd_count = 2;
}

int hv_evtchn_open(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_handle *handle = calloc(1, sizeof(*handle));
	void *page;

	if (!handle)
		return -ENOMEM;
	handle->eventfd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	handle->page_fd = memfd_create("xensim-evtchn", MFD_CLOEXEC);
	if (handle->eventfd < 0 || handle->page_fd < 0 ||
	    ftruncate(handle->page_fd, sizeof(*handle->page)) < 0)
		goto fail;
	page = mmap(NULL, sizeof(*handle->page), PROT_READ | PROT_WRITE, MAP_SHARED, handle->page_fd, 0);
	if (page == MAP_FAILED)
		goto fail;
	handle->page = page;
	handle->page->slots = client->domain->type == HV_DOM0 ? SIM_DOM0_SLOTS : SIM_GUEST_SLOTS;
	handle->client = client;
	handle->domain = client->domain;
	handle->id = ++client->domain->hv->next_id;
	DL_APPEND(client->handles, handle);
	answer->reply.id = handle->id;
	answer_with_handle(answer, handle);
	return 0;
fail:
	handle_free(handle);
	return -ENFILE;
}

static struct hv_handle *find_in(struct hv_handle *handles, uint32_t id)
{
	struct hv_handle *handle;

	DL_FOREACH(handles, handle)
		if (handle->id == id)
			return handle;
	return NULL;
}

/* A handle may be used by a process that has inherited its descriptor, too. */
static struct hv_handle *find_handle(const struct hv_client *client, uint32_t id)
{
	struct hv_handle *handle = find_in(client->handles, id);
	const struct hv_client *other;

	DL_FOREACH(client->domain->clients, other)
		handle = handle ? handle : find_in(other->handles, id);
	return handle ? handle : find_in(client->domain->orphans, id);
}

bool hv_evtchn_inherit(struct hv_client *client, uint32_t id)
{
	struct hv_handle *handle = find_handle(client, id);

	return handle && hv_heirs_add(&handle->heirs, client) == 0;
}

/* The handle with that eventfd, of any process of the domain. */
static struct hv_handle *find_by_eventfd(const struct hv_domain *domain, uint32_t eventfd_id)
{
	const struct hv_client *client;
	struct hv_handle *handle;

	DL_FOREACH(domain->clients, client)
		DL_FOREACH(client->handles, handle)
			if (hv_handle_eventfd_id(handle) == (int)eventfd_id)
				return handle;
	DL_FOREACH(domain->orphans, handle)
		if (hv_handle_eventfd_id(handle) == (int)eventfd_id)
			return handle;
	return NULL;
}

int hv_evtchn_adopt(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_handle *handle = find_by_eventfd(client->domain, request->port);

	if (!handle)
		return -EINVAL;
	if (handle->client != client && hv_heirs_add(&handle->heirs, client) < 0)
		return -ENOMEM;
	answer->reply.id = handle->id;
	answer->fds[answer->fd_count++] = handle->page_fd;
	return 0;
}

int hv_evtchn_restrict(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_handle *handle = find_handle(client, request->id);

	if (!handle)
		return -EINVAL;
	if (handle->is_restricted)
		return -EACCES;
	if (request->domid == 0 || request->domid >= HV_FIRST_RESERVED_DOMID)
		return -EINVAL;
	handle->is_restricted = true;
	handle->restricted_to = request->domid;
	return 0;
}

/* A number that a program gives: its own domain has one more. */
static uint32_t evtchn_resolve(const struct hv_client *client, uint32_t domid)
{
	return domid == HV_DOMID_SELF ? client->domain->domid : domid;
}

/* Makes the port's user ask for its peer again at its next notification. */
static void peer_changed(struct hv_port *port)
{
	if (port->handle)
		atomic_fetch_add(&port->handle->page->sequence[port->number], 1);
}

static void set_pending(struct hv_port *port)
{
	if (port->handle)
		sim_evtchn_set_pending(port->handle->page, port->handle->eventfd, port->number);
}

void hv_evtchn_fire(struct hv_port *port)
{
	if (port->peer)
		set_pending(port->peer);
}

static uint64_t tokens(int eventfd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", eventfd);
	return (uint64_t)sim_eventfd_says(path, "eventfd-count");
}

void hv_evtchn_complete(struct hv_client *client)
{
	for (uint32_t i = 0; client->handles && i < client->domain->port_room; i++) {
		struct hv_port *port = client->domain->port[i], *peer = port ? port->peer : NULL;

		if (!peer || !peer->handle || !port->handle || port->handle->client != client)
			continue;
		if (atomic_load(&peer->handle->page->port[peer->number]) & SIM_PORT_SENDING)
			sim_evtchn_complete(peer->handle->page, peer->handle->eventfd, peer->number,
					    tokens(peer->handle->eventfd));
	}
}

struct hv_port *hv_evtchn_port(const struct hv_domain *domain, uint32_t number)
{
	return number < domain->port_room ? domain->port[number] : NULL;
}

/* Closes a port as Xen does: the other end is unbound again, and isn't notified. */
static void port_free(struct hv_port *port)
{
	struct hv_domain *domain = port->domain;

	if (port->peer) {
		port->peer->remote_domid = domain->domid;
		port->peer->peer = NULL;
		peer_changed(port->peer);
	}
	domain->port[port->number] = NULL;
	domain->port_count--;
	free(port);
}

static void port_unbind(struct hv_port *port)
{
	struct hv_handle *handle = port->handle;

	sim_evtchn_reset_port(handle->page, port->number);
	handle->ports--;
	port->handle = NULL;
	if (port->notifications == 0)
		port_free(port);
}

struct hv_port *hv_evtchn_hold(struct hv_domain *domain, uint32_t number)
{
	struct hv_port *port = hv_evtchn_port(domain, number);

	if (!port || !port->handle)
		return NULL;
	port->notifications++;
	return port;
}

void hv_evtchn_release(struct hv_port *port, bool fire)
{
	if (fire)
		hv_evtchn_fire(port);
	/* A port of a domain that was saved since has no owner: hv_evtchn_domain_gone took it out of its
	 * table. */
	if (--port->notifications == 0 && !port->handle) {
		if (port->domain)
			port_free(port);
		else
			free(port);
	}
}

static bool make_room(struct hv_domain *domain, uint32_t number)
{
	uint32_t room = domain->port_room ? domain->port_room : 32;
	struct hv_port **more;

	if (number < domain->port_room)
		return true;
	while (room <= number)
		room *= 2;
	more = realloc(domain->port, room * sizeof(struct hv_port *));
	if (!more)
		return false;
	memset(more + domain->port_room, 0, (room - domain->port_room) * sizeof(struct hv_port *));
	domain->port = more;
	domain->port_room = room;
	return true;
}

static int port_new(struct hv_handle *handle, uint32_t remote_domid, struct hv_port **new_port)
{
	struct hv_domain *domain = handle->domain;
	struct hv_port *port;
	uint32_t number = HV_FIRST_PORT;

	if (domain->port_count >= domain->port_limit)
		return -ENOSPC;
	while (hv_evtchn_port(domain, number))
		number++;
	port = number < SIM_MAX_PORTS && make_room(domain, number) ? calloc(1, sizeof(*port)) : NULL;
	if (!port)
		return number < SIM_MAX_PORTS ? -ENOMEM : -ENOSPC;
	port->domain = domain;
	port->handle = handle;
	port->number = number;
	port->remote_domid = remote_domid;
	port->virq = HV_NO_VIRQ;
	domain->port[number] = port;
	domain->port_count++;
	if (domain->port_end <= number)
		domain->port_end = number + 1;
	sim_evtchn_make_room(handle->page, ++handle->ports);
	if (atomic_load(&handle->page->end) <= number)
		atomic_store(&handle->page->end, number + 1);
	*new_port = port;
	return 0;
}

bool hv_may_share(const struct hv *hv, uint32_t one, uint32_t other)
{
	const struct hv_forbidden *forbidden;

	if (hv->silo && one != other && one != 0 && other != 0)
		return false;
	LL_FOREACH(hv->forbidden, forbidden)
		if ((forbidden->one == one && forbidden->other == other) ||
		    (forbidden->one == other && forbidden->other == one))
			return false;
	return true;
}

int hv_evtchn_bind_unbound(struct hv_client *client, const struct sim_request *request,
			   struct hv_answer *answer)
{
	struct hv_handle *handle = find_handle(client, request->id);
	struct hv_port *port;
	int r;

	uint32_t domid = evtchn_resolve(client, request->domid);

	if (!handle)
		return -EINVAL;
	/* The driver can't tell for whom Xen would take it. */
	if (handle->is_restricted)
		return -EACCES;
	if (!hv_may_share(client->domain->hv, client->domain->domid, domid))
		return -EPERM;
	/* Xen doesn't ask whether that domain exists. */
	r = port_new(handle, domid, &port);
	if (r == 0)
		answer->reply.port = port->number;
	return r;
}

int hv_evtchn_bind_interdomain(struct hv_client *client, const struct sim_request *request,
			       struct hv_answer *answer)
{
	struct hv_handle *handle = find_handle(client, request->id);
	struct hv_domain *remote_domain;
	struct hv_port *port, *remote;
	uint32_t domid = evtchn_resolve(client, request->domid);
	int r;

	if (!handle)
		return -EINVAL;
	if (handle->is_restricted && handle->restricted_to != request->domid)
		return -EACCES;
	remote_domain = hv_domain_by_id(client->domain->hv, domid);
	if (!remote_domain)
		return -ESRCH;
	/* A dead domain that others still map has none. */
	remote = hv_evtchn_port(remote_domain, request->port);
	if (!remote || remote->peer || !remote->handle || remote->remote_domid != client->domain->domid)
		return -EINVAL;
	if (!hv_may_share(client->domain->hv, client->domain->domid, domid))
		return -EPERM;
	r = port_new(handle, domid, &port);
	if (r < 0)
		return r;
	answer->reply.port = port->number;
	port->peer = remote;
	remote->peer = port;
	peer_changed(remote);
	/* A notification may have been lost before, so Xen always sets the new port pending. */
	set_pending(port);
	return 0;
}

/* The interrupts that a kernel has bound before its programs come (recorded by tests/conformance, virqs). */
static bool is_kernels_virq(const struct hv_domain *domain, uint32_t virq)
{
	enum { TIMER, CONSOLE = 2, PCPU_STATE = 9, MACHINE_CHECK = 16 };

	return virq == TIMER ||
	       (domain->type == HV_DOM0 && (virq == CONSOLE || virq == PCPU_STATE || virq == MACHINE_CHECK));
}

static struct hv_port *find_virq(const struct hv_domain *domain, uint32_t virq)
{
	for (uint32_t i = HV_FIRST_PORT; i < domain->port_end; i++) {
		struct hv_port *port = hv_evtchn_port(domain, i);

		if (port && port->virq == virq)
			return port;
	}
	return NULL;
}

int hv_evtchn_bind_virq(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_handle *handle = find_handle(client, request->id);
	struct hv_domain *domain = client->domain;
	struct hv_port *port;
	int r;

	if (!handle)
		return -EINVAL;
	if (handle->is_restricted)
		return -EACCES;
	if (request->port >= HV_VIRQS)
		return -EINVAL;
	if (is_kernels_virq(domain, request->port) || find_virq(domain, request->port))
		return -EEXIST;
	r = port_new(handle, HV_DOMID_INVALID, &port);
	if (r < 0)
		return r;
	port->virq = request->port;
	answer->reply.port = port->number;
	return 0;
}

void hv_evtchn_domain_exception(struct hv *hv)
{
	const struct hv_domain *domain = hv_domain_by_id(hv, 0);
	struct hv_port *port = domain ? find_virq(domain, HV_VIRQ_DOM_EXC) : NULL;

	if (port)
		set_pending(port);
}

/* Returns whether the handle had ports when its domain was saved; the restored kernel, which doesn't know
 * them any longer, complains then. */
static bool is_stale(struct hv_handle *handle, const char *what)
{
	if (handle->stale)
		hv_kernel_log(handle->domain, "kernel BUG: %s of an event channel bound before the save",
			      what);
	return handle->stale;
}

int hv_evtchn_unbind(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_handle *handle = find_handle(client, request->id);
	struct hv_port *port;

	if (!handle || request->port >= SIM_MAX_PORTS)
		return -EINVAL;
	port = hv_evtchn_port(client->domain, request->port);
	if (!port || port->handle != handle)
		return is_stale(handle, "unbind") ? 0 : -ENOTCONN;
	port_unbind(port);
	return 0;
}

void hv_evtchn_handle_close(struct hv_handle *handle)
{
	struct hv_domain *domain = handle->domain;

	is_stale(handle, "close");
	for (uint32_t i = 0; handle->ports && i < domain->port_room; i++)
		if (domain->port[i] && domain->port[i]->handle == handle)
			port_unbind(domain->port[i]);
	handle_free(handle);
}

/* Releases a process's handle; another process may hold its descriptor, and so the open file. */
static void handle_release(struct hv_handle *handle)
{
	DL_DELETE(handle->client->handles, handle);
	handle->client = hv_heirs_take(&handle->heirs);
	if (handle->client)
		DL_APPEND(handle->client->handles, handle);
	else if (!handle->ports && !handle->stale)
		hv_evtchn_handle_close(handle);
	else
		hv_orphan_add(handle);
}

int hv_evtchn_close(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_handle *handle = find_handle(client, request->id);

	if (!handle)
		return -EINVAL;
	if (!hv_heirs_remove(&handle->heirs, client) && handle->client == client)
		handle_release(handle);
	/* A process that has closed it finds its ports closed. */
	hv_orphans_settle(client->domain->hv);
	return 0;
}

void hv_evtchn_client_gone(struct hv_client *client, bool silent)
{
	struct hv_client *other;
	struct hv_handle *theirs;

	DL_FOREACH(client->domain->clients, other)
		DL_FOREACH(other->handles, theirs)
			hv_heirs_remove(&theirs->heirs, client);
	DL_FOREACH(client->domain->orphans, theirs)
		hv_heirs_remove(&theirs->heirs, client);
	while (client->handles) {
		struct hv_handle *handle = client->handles;

		if (!silent) {
			handle_release(handle);
			continue;
		}
		/* Its domain dies, and with it the kernel that could complain. */
		handle->stale = false;
		DL_DELETE(client->handles, handle);
		hv_evtchn_handle_close(handle);
	}
}

/* Ends the domain's ports. Those that an unmap notification holds lose their domain, and end with the
 * notification. */
void hv_evtchn_domain_gone(struct hv_domain *domain)
{
	/* What has ended before the save isn't stale after it. */
	if (domain->orphans && !domain->hv->stopping)
		hv_orphans_settle(domain->hv);
	for (uint32_t i = 0; i < domain->port_room; i++) {
		struct hv_port *port = domain->port[i];

		if (!port)
			continue;
		if (port->handle) {
			port->handle->stale = true;
			port->handle->ports--;
			peer_changed(port);
			port->handle = NULL;
		}
		if (port->peer) {
			port->peer->peer = NULL;
			peer_changed(port->peer);
			port->peer = NULL;
		}
		domain->port[i] = NULL;
		domain->port_count--;
		port->domain = NULL;
		if (port->notifications == 0)
			free(port);
	}
}

int hv_evtchn_peer(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	struct hv_handle *handle = find_handle(client, request->id);
	struct hv_port *port;

	if (!handle || request->port >= SIM_MAX_PORTS)
		return -EINVAL;
	/* A stale or unbound port has no peer, which is an answer as well. */
	answer->reply.sequence = atomic_load(&handle->page->sequence[request->port]);
	port = hv_evtchn_port(client->domain, request->port);
	if (request->count && (!port || port->handle != handle))
		return -ENOTCONN;
	if (!port || port->handle != handle || !port->peer || !port->peer->handle)
		return 0;
	answer->reply.port = port->peer->number;
	answer_with_handle(answer, port->peer->handle);
	return 0;
}

void hv_evtchn_lose(struct hv_domain *domain, uint32_t events, uint32_t after)
{
	struct hv_client *client;
	struct hv_handle *handle;

	DL_FOREACH(domain->clients, client)
		DL_FOREACH(client->handles, handle)
			atomic_store(&handle->page->lose, sim_evtchn_losing(events, after));
}
