/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/xen/vchan.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/xen/vchan_internal.h"
#include "wire/untrusted_copy.h"

/* Beside VCHAN_NOTIFY_*: vchan_leave(), and vchan_close(), which a process that dies doesn't call. */
#define NOTIFY_LEFT   0x80
#define NOTIFY_CLOSED 0x40

/* --- where the rings lie ---------------------------------------------------------------------- */

/* As xen/io/libxenvchan.h says: rings of 1 and 2 KiB in the first page, larger ones in pages of their own;
 * the grant references of more than 1 MiB don't fit into the first page. A ring's size is 1 << order. */
#define PAGE_ORDER	  12
#define PAGE_BYTES	  (1u << PAGE_ORDER)
#define SMALL_RING_ORDER  10
#define LARGE_RING_ORDER  11
#define MAX_RING_ORDER	  20
#define RING_PAGES_MAX	  (1u << (MAX_RING_ORDER - PAGE_ORDER))
#define SMALL_RING_OFFSET 1024
#define LARGE_RING_OFFSET 2048

static bool layout_has_size(uint32_t size)
{
	return size >= 1u << SMALL_RING_ORDER && size <= 1u << MAX_RING_ORDER && (size & (size - 1)) == 0;
}

static int layout_order_of(uint32_t size)
{
	int order = PAGE_ORDER;

	while (size > 1u << order)
		order++;
	return order;
}

/* Chooses the orders for two sizes as libxenvchan_server_init() does: in one page where possible, and never
 * the same place in it twice. -EINVAL: a size isn't a power of two from 1 KiB to 1 MiB. */
static int layout_choose(uint32_t left_size, uint32_t right_size, int *left, int *right)
{
	const uint32_t small = 1u << SMALL_RING_ORDER, large = 1u << LARGE_RING_ORDER;

	if (!layout_has_size(left_size) || !layout_has_size(right_size))
		return -EINVAL;
	*left = layout_order_of(left_size);
	*right = layout_order_of(right_size);
	if (left_size <= small && right_size <= large) {
		*left = SMALL_RING_ORDER;
		*right = LARGE_RING_ORDER;
	} else if (left_size <= large && right_size <= small) {
		*left = LARGE_RING_ORDER;
		*right = SMALL_RING_ORDER;
	} else if (left_size <= large) {
		*left = LARGE_RING_ORDER;
	} else if (right_size <= large) {
		*right = LARGE_RING_ORDER;
	}
	return 0;
}

/* Returns how many pages of its own a ring has, behind the first one. */
static uint32_t layout_pages(int order)
{
	return order >= PAGE_ORDER ? 1u << (order - PAGE_ORDER) : 0;
}

/* Returns where a ring without pages of its own lies. */
static void *layout_in_page(struct vchan_interface *page, int order)
{
	return (uint8_t *)page + (order == SMALL_RING_ORDER ? SMALL_RING_OFFSET : LARGE_RING_OFFSET);
}

/* Whether the orders that a peer has written into the first page are possible. */
static bool layout_is_possible(int untrusted_left, int untrusted_right)
{
	if (untrusted_left < SMALL_RING_ORDER || untrusted_left > MAX_RING_ORDER)
		return false;
	if (untrusted_right < SMALL_RING_ORDER || untrusted_right > MAX_RING_ORDER)
		return false;
	return untrusted_left != untrusted_right || untrusted_left >= PAGE_ORDER;
}

/* --- the vchan -------------------------------------------------------------------------------- */

bool vchan_is_granter(const struct vchan *vchan)
{
	return vchan->control.is_server != 0;
}

void vchan_tear_down(struct vchan *vchan)
{
	struct libxenvchan *control = &vchan->control;
	struct libxenvchan_ring *rings[2] = {&control->read, &control->write};

	for (int i = 0; i < 2; i++) {
		uint32_t pages = rings[i]->buffer ? layout_pages(rings[i]->order) : 0;

		if (!pages)
			continue;
		if (vchan_is_granter(vchan))
			xengntshr_unshare(control->gntshr, rings[i]->buffer, pages);
		else
			xengnttab_unmap(control->gnttab, rings[i]->buffer, pages);
	}
	/* In domain 0 the kernel's unmap notification goes through the port, so the port is unbound last. */
	if (control->ring) {
		if (vchan_is_granter(vchan))
			xengntshr_unshare(control->gntshr, control->ring, 1);
		else
			xengnttab_unmap(control->gnttab, control->ring, 1);
	}
	if (vchan->port && !vchan->is_stale) {
		if (HASH_ADDED(vchan))
			HASH_DEL(vchan->host->vchans, vchan);
		vchan_host_retire_port(vchan->host, vchan);
	}
	free(vchan->refs);
	free(vchan);
}

static struct vchan *vchan_alloc(struct vchan_host *host, uint32_t domid, bool server, vchan_event_fn event,
				 void *userdata)
{
	struct vchan *vchan = calloc(1, sizeof(*vchan));

	if (!vchan)
		return NULL;
	vchan->host = host;
	vchan->domid = domid;
	vchan->event = event;
	vchan->userdata = userdata;
	vchan->control.is_server = server ? -1 : 0; /* one bit wide, and signed */
	vchan->restores = vchan_host_restores(host);
	vchan->control.blocking = 0;
	vchan->control.server_persist = 0;
	vchan->control.event = host->evtchn;
	if (server)
		vchan->control.gntshr = host->gntshr;
	else
		vchan->control.gnttab = host->gnttab;
	return vchan;
}

static int take_port(struct vchan *vchan, xenevtchn_port_or_error_t port)
{
	if (port < 0)
		return vchan_failure();
	vchan->port = vchan->control.event_port = (uint32_t)port;
	HASH_ADD(hh, vchan->host->vchans, port, sizeof(vchan->port), vchan);
	if (!HASH_ADDED(vchan))
		return -ENOMEM;
	vchan_host_look_soon(vchan->host);
	/* It isn't unmasked, as libxenvchan does: a port that is bound to another has an event at once, and
	 * the kernel puts each event into a ring of its own, with room for one from each bound port. Who
	 * unmasks before he reads may find a second one there, and a ring that overflows is never read
	 * again. */
	return 0;
}

static int grant_ring(struct vchan *vchan, struct libxenvchan_ring *ring, uint32_t *refs)
{
	uint32_t pages = layout_pages(ring->order);

	if (!pages) {
		ring->buffer = layout_in_page(vchan->control.ring, ring->order);
		return 0;
	}
	errno = 0;
	ring->buffer = xengntshr_share_pages(vchan->control.gntshr, vchan->domid, (int)pages, refs, 1);
	return ring->buffer ? 0 : vchan_failure();
}

void vchan_clear_rings(struct vchan *vchan)
{
	struct libxenvchan_ring *rings[2] = {&vchan->control.read, &vchan->control.write};

	for (int i = 0; i < 2; i++)
		memset(rings[i]->buffer, 0, (size_t)1 << rings[i]->order);
}

/* Makes a granted vchan as it was when it was granted, but for what lies in its rings. */
static void begin_granted(struct vchan *vchan)
{
	struct libxenvchan *control = &vchan->control;
	struct vchan_interface *page = control->ring;
	uint32_t pages = layout_pages(control->read.order) + layout_pages(control->write.order);

	memset(page, 0, PAGE_BYTES);
	memcpy(page->grants, vchan->refs, pages * sizeof(*vchan->refs));
	page->left_order = (uint16_t)control->read.order;
	page->right_order = (uint16_t)control->write.order;
	page->cli_notify = VCHAN_NOTIFY_WRITE;
	page->cli_live = LIVE_WAITING;
	page->srv_live = LIVE_CONNECTED;
}

static int grant_new(struct vchan_host *host, uint32_t domid, int read_order, int write_order,
		     struct vchan **result)
{
	uint32_t pages = layout_pages(read_order) + layout_pages(write_order);
	struct vchan *vchan = vchan_alloc(host, domid, true, NULL, NULL);
	struct libxenvchan *control;
	int r;

	if (!vchan)
		return -ENOMEM;
	control = &vchan->control;
	control->read.order = read_order;
	control->write.order = write_order;
	vchan->refs = calloc(pages + 1, sizeof(*vchan->refs));
	r = vchan->refs ? 0 : -ENOMEM;
	if (r < 0)
		goto fail;

	errno = 0;
	r = take_port(vchan, xenevtchn_bind_unbound_port(host->evtchn, domid));
	host->ports_short |= r == -ENOSPC;
	if (r < 0)
		goto fail;
	errno = 0;
	control->ring = xengntshr_share_page_notify(host->gntshr, domid, &vchan->ring_ref, 1,
						    offsetof(struct vchan_interface, srv_live),
						    vchan_host_notify_port(host, vchan->port));
	if (!control->ring) {
		r = vchan_failure();
		goto fail;
	}
	control->read.shr = &control->ring->left;
	control->write.shr = &control->ring->right;
	r = grant_ring(vchan, &control->read, vchan->refs);
	if (r < 0)
		goto fail;
	r = grant_ring(vchan, &control->write, vchan->refs + layout_pages(read_order));
	if (r < 0)
		goto fail;
	vchan->pages = 1 + pages;
	host->pages_granted += vchan->pages;
	*result = vchan;
	return 0;
fail:
	vchan_tear_down(vchan);
	return r;
}

int vchan_grant(struct vchan_host *host, uint32_t domid, uint32_t read_size, uint32_t write_size,
		vchan_event_fn event, void *userdata, struct vchan **result)
{
	int read_order, write_order, r;

	r = layout_choose(read_size, write_size, &read_order, &write_order);
	if (r < 0)
		return r;
	r = vchan_host_may_bind(host);
	if (r < 0)
		return r;
	r = kept_take(host, domid, read_order, write_order, false, result);
	if (r == -ENOENT) {
		r = grant_new(host, domid, read_order, write_order, result);
		if (r == -ENOSPC && kept_make_room(host))
			r = grant_new(host, domid, read_order, write_order, result);
		if (r == -ENOSPC && kept_take(host, domid, read_order, write_order, true, result) == 0)
			r = 0;
	}
	if (r < 0)
		return r;
	begin_granted(*result);
	vchan_set_event(*result, event, userdata);
	return 0;
}

/* Maps a ring. `refs` is our own copy: the list in the page may change while the library goes through it. */
static int map_ring(struct vchan *vchan, struct libxenvchan_ring *ring, uint32_t *refs, int protection)
{
	uint32_t pages = layout_pages(ring->order);

	if (!pages) {
		ring->buffer = layout_in_page(vchan->control.ring, ring->order);
		return 0;
	}
	errno = 0;
	ring->buffer =
		xengnttab_map_domain_grant_refs(vchan->control.gnttab, pages, vchan->domid, refs, protection);
	return ring->buffer ? 0 : vchan_failure();
}

int vchan_map(struct vchan_host *host, uint32_t domid, uint32_t ring_ref, uint32_t port, vchan_event_fn event,
	      void *userdata, struct vchan **result)
{
	uint32_t refs[2 * RING_PAGES_MAX];
	struct libxenvchan *control;
	struct vchan *vchan;
	int r;

	r = vchan_host_may_bind(host);
	if (r < 0)
		return r;
	vchan = vchan_alloc(host, domid, false, event, userdata);
	if (!vchan)
		return -ENOMEM;
	control = &vchan->control;
	errno = 0;
	r = take_port(vchan, xenevtchn_bind_interdomain(host->evtchn, domid, port));
	if (r < 0)
		goto fail;
	errno = 0;
	control->ring = xengnttab_map_grant_ref_notify(host->gnttab, domid, ring_ref, PROT_READ | PROT_WRITE,
						       offsetof(struct vchan_interface, cli_live),
						       vchan_host_notify_port(host, vchan->port));
	if (!control->ring) {
		r = vchan_failure();
		goto fail;
	}
	vchan->ring_ref = ring_ref;
	control->write.order = __atomic_load_n(&control->ring->left_order, __ATOMIC_RELAXED);
	control->read.order = __atomic_load_n(&control->ring->right_order, __ATOMIC_RELAXED);
	if (!layout_is_possible(control->write.order, control->read.order)) {
		r = -EPROTO;
		goto fail;
	}
	control->write.shr = &control->ring->left;
	control->read.shr = &control->ring->right;
	untrusted_copy(refs, control->ring->grants, sizeof(refs));
	r = map_ring(vchan, &control->write, refs, PROT_READ | PROT_WRITE);
	if (r < 0)
		goto fail;
	r = map_ring(vchan, &control->read, refs + layout_pages(control->write.order), PROT_READ);
	if (r < 0)
		goto fail;
	vchan->pages = 1 + layout_pages(control->read.order) + layout_pages(control->write.order);
	__atomic_store_n(&control->ring->srv_notify, VCHAN_NOTIFY_WRITE, __ATOMIC_RELAXED);
	__atomic_store_n(&control->ring->cli_live, LIVE_CONNECTED, __ATOMIC_SEQ_CST);
	vchan_notify(vchan);
	*result = vchan;
	return 0;
fail:
	vchan_tear_down(vchan);
	return r;
}

uint32_t vchan_ring_ref(const struct vchan *vchan)
{
	return vchan->ring_ref;
}

uint32_t vchan_port(const struct vchan *vchan)
{
	return vchan->port;
}

/* An end that sees here that the other one has closed it sees all that it wrote before, bytes, index and
 * NOTIFY_... (tests/model/order/close.litmus). */
enum vchan_state vchan_state(const struct vchan *vchan)
{
	const struct vchan_interface *ring = vchan->control.ring;
	const uint8_t *live = vchan_is_granter(vchan) ? &ring->cli_live : &ring->srv_live;

	if (vchan->is_stale)
		return VCHAN_CLOSED;
	switch (__atomic_load_n(live, __ATOMIC_ACQUIRE)) {
	case LIVE_CLOSED:
		return VCHAN_CLOSED;
	case LIVE_CONNECTED:
		return VCHAN_CONNECTED;
	case LIVE_WAITING:
		return vchan_is_granter(vchan) && !vchan->was_connected ? VCHAN_WAITING : VCHAN_BROKEN;
	default:
		return VCHAN_BROKEN;
	}
}

bool vchan_is_guarded(const struct vchan *vchan)
{
	return vchan->host->guarded;
}

bool vchan_is_sound(const struct vchan *vchan)
{
	const uint16_t *order = &vchan->control.ring->left_order;

	if (vchan->is_stale)
		return false;
	if (vchan_is_granter(vchan))
		return restore_clock_count(&vchan->host->restore_clock) == vchan->restores;
	/* The mapping leads nowhere after a restore, and every byte of it reads 0xff. What was copied was
	 * copied before this look: hence the fence. (Above, reading the clocks is the fence: a restore lies
	 * between two instructions of this thread, whatever other CPUs see of their order.) */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(order, __ATOMIC_ACQUIRE) != UINT16_MAX;
}

/* Returns the byte with the request bits that we set, which the other side looks at: the server's are in
 * cli_notify. */
static uint8_t *our_requests(const struct vchan *vchan)
{
	return vchan_is_granter(vchan) ? &vchan->control.ring->cli_notify : &vchan->control.ring->srv_notify;
}

static uint8_t *their_requests(const struct vchan *vchan)
{
	return vchan_is_granter(vchan) ? &vchan->control.ring->srv_notify : &vchan->control.ring->cli_notify;
}

bool vchan_was_left(const struct vchan *vchan)
{
	return !vchan->is_stale && __atomic_load_n(their_requests(vchan), __ATOMIC_ACQUIRE) & NOTIFY_LEFT;
}

bool vchan_has_died(const struct vchan *vchan)
{
	const uint8_t ends = NOTIFY_LEFT | NOTIFY_CLOSED;

	return !vchan->is_stale && !vchan->had_mapper &&
	       !(__atomic_load_n(their_requests(vchan), __ATOMIC_ACQUIRE) & ends);
}

void vchan_read_view(const struct vchan *vchan, struct ring_view *view)
{
	const struct libxenvchan_ring *ring = &vchan->control.read;

	*view = (struct ring_view){
		.data = ring->buffer,
		.size = 1u << ring->order,
		.producer = &ring->shr->prod,
		.consumer = &ring->shr->cons,
		.wants_data = our_requests(vchan),
		.wants_data_bit = VCHAN_NOTIFY_WRITE,
		.wants_space = their_requests(vchan),
		.wants_space_bit = VCHAN_NOTIFY_READ,
	};
}

void vchan_write_view(const struct vchan *vchan, struct ring_view *view)
{
	const struct libxenvchan_ring *ring = &vchan->control.write;

	*view = (struct ring_view){
		.data = ring->buffer,
		.size = 1u << ring->order,
		.producer = &ring->shr->prod,
		.consumer = &ring->shr->cons,
		.wants_data = their_requests(vchan),
		.wants_data_bit = VCHAN_NOTIFY_WRITE,
		.wants_space = our_requests(vchan),
		.wants_space_bit = VCHAN_NOTIFY_READ,
		/* So that it isn't the index when all reads 0xff. */
		.unaligned = vchan->host->guarded && !vchan_is_granter(vchan) ? 7 : 0,
	};
}

void vchan_set_event(struct vchan *vchan, vchan_event_fn event, void *userdata)
{
	vchan->event = event;
	vchan->userdata = userdata;
}

int vchan_notify(struct vchan *vchan)
{
	if (vchan->is_stale)
		return 0;
	vchan_host_look_soon(vchan->host);
	errno = 0;
	if (xenevtchn_notify(vchan->host->evtchn, vchan->port) < 0)
		return vchan_failure();
	return 0;
}

uint32_t vchan_pages(const struct vchan *vchan)
{
	return vchan->pages;
}

void vchan_close(struct vchan *vchan)
{
	struct vchan_interface *ring;
	bool granted;

	if (!vchan)
		return;
	ring = vchan->control.ring;
	granted = vchan_is_granter(vchan);
	__atomic_fetch_or(our_requests(vchan), NOTIFY_CLOSED, __ATOMIC_SEQ_CST);
	/* The byte is written first, then the event sent, so that the peer sees the byte when it wakes: the
	 * hypercall is a fence, and the store isn't ordered after what follows by anything else. */
	__atomic_store_n(granted ? &ring->srv_live : &ring->cli_live, LIVE_CLOSED, __ATOMIC_SEQ_CST);
	vchan_notify(vchan);
	if (granted)
		kept_add(vchan);
	else
		vchan_tear_down(vchan);
}

void vchan_leave(struct vchan *vchan)
{
	__atomic_fetch_or(our_requests(vchan), NOTIFY_LEFT, __ATOMIC_SEQ_CST);
	vchan_close(vchan);
}
