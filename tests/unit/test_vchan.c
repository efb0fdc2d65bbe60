/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * vchans whose set-up fails at any step: nothing is left over of pages, mappings, ports and memory. Xen's
 * libraries are the test's own: they count what is held, and refuse the n-th call.
 */
#include "tests/unit/unit.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>
#include <xentoollog.h>

#include "daemon/xen/keeper.h"
#include "base/clock.h"
#include "base/image.h"
#include "base/log.h"
#include "daemon/xen/vchan.h"
#include "daemon/xen/vchan_internal.h"

#define PAGE 4096u

static struct {
	unsigned calls, refused_at; /* 0: none */
	int error;
	int pages, mappings, ports, handles;
	uint32_t next_port;
	bool ports_bound[64];
	unsigned freed, retired, unbound, asked;
	unsigned pages_left; /* that may be granted */
	uint32_t next_ref;
	struct vchan_interface *shared[8192]; /* by reference */
	bool domain_gone;
	bool parked;
	bool is_guest;	   /* whose pages must hold no port */
	int16_t orders[2]; /* what a peer says that we map from */
} xen;

/* A call that may be refused. */
static bool refuses(void)
{
	if (++xen.calls != xen.refused_at)
		return false;
	errno = xen.error;
	return true;
}

static void *handle_new(void)
{
	if (refuses())
		return NULL;
	xen.handles++;
	return malloc(1);
}

static int handle_free(void *handle)
{
	xen.handles--;
	free(handle);
	return 0;
}

xengntshr_handle *xengntshr_open(xentoollog_logger *logger, unsigned flags)
{
	return handle_new();
}

int xengntshr_close(xengntshr_handle *handle)
{
	return handle_free(handle);
}

xengnttab_handle *xengnttab_open(xentoollog_logger *logger, unsigned flags)
{
	return handle_new();
}

int xengnttab_close(xengnttab_handle *handle)
{
	return handle_free(handle);
}

static int event_fd;
static xenevtchn_handle *event_handle;

xenevtchn_handle *xenevtchn_open(xentoollog_logger *logger, unsigned flags)
{
	xenevtchn_handle *handle = handle_new();

	if (!handle)
		return NULL;
	event_fd = eventfd(0, EFD_CLOEXEC);
	event_handle = handle;
	return handle;
}

/* To unbind or notify one of before fails the test. */
static void forget_ports(void)
{
	memset(xen.ports_bound, 0, sizeof(xen.ports_bound));
	xen.ports = 0;
}

/* All ports go with their handle, except if it lives on with a keeper. */
int xenevtchn_close(xenevtchn_handle *handle)
{
	close(event_fd);
	forget_ports();
	return handle_free(handle);
}

int xenevtchn_fd(xenevtchn_handle *handle)
{
	return event_fd;
}

static xenevtchn_port_or_error_t port_new(void)
{
	if (refuses())
		return -1;
	xen.ports++;
	xen.next_port = xen.next_port % 63 + 1;
	assert_false(xen.ports_bound[xen.next_port]);
	xen.ports_bound[xen.next_port] = true;
	return (xenevtchn_port_or_error_t)xen.next_port;
}

xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle *handle, uint32_t domid)
{
	return port_new();
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *handle, uint32_t domid,
						     evtchn_port_t port)
{
	if (port == 0) { /* which nobody can bind to */
		xen.asked++;
		errno = xen.domain_gone ? ESRCH : EINVAL;
		return -1;
	}
	return port_new();
}

int xenevtchn_unbind(xenevtchn_handle *handle, evtchn_port_t port)
{
	assert_true(xen.ports_bound[port]); /* else, after a restore, it's a kernel BUG */
	xen.ports_bound[port] = false;
	xen.ports--;
	xen.unbound++;
	return 0;
}

int xenevtchn_notify(xenevtchn_handle *handle, evtchn_port_t port)
{
	assert_true(xen.ports_bound[port]);
	return 0;
}

int xenevtchn_unmask(xenevtchn_handle *handle, evtchn_port_t port)
{
	return 0;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *handle)
{
	return -1;
}

static void *pages_new(uint32_t count, int *counter)
{
	void *pages;

	if (refuses())
		return NULL;
	pages = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(pages != MAP_FAILED);
	*counter += (int)count;
	return pages;
}

static int pages_free(void *pages, uint32_t count, int *counter)
{
	*counter -= (int)count;
	return munmap(pages, count * PAGE);
}

static void *share(uint32_t count, uint32_t *refs)
{
	if ((unsigned)xen.pages + count > xen.pages_left) {
		errno = ENOSPC;
		return NULL;
	}
	for (uint32_t i = 0; i < count; i++)
		refs[i] = 8 + xen.next_ref++;
	return pages_new(count, &xen.pages);
}

void *xengntshr_share_pages(xengntshr_handle *handle, uint32_t domid, int count, uint32_t *refs, int writable)
{
	return share((uint32_t)count, refs);
}

/* The kernel would close whatever has the number when the page is given back. */
static void expect_notification(evtchn_port_t port)
{
	if (xen.is_guest)
		assert_int_equal(port, (evtchn_port_t)-1);
	else
		assert_true(xen.ports_bound[port]);
}

void *xengntshr_share_page_notify(xengntshr_handle *handle, uint32_t domid, uint32_t *ref, int writable,
				  uint32_t offset, evtchn_port_t port)
{
	struct vchan_interface *page;

	expect_notification(port);
	page = share(1, ref);
	if (page && *ref < 8192)
		xen.shared[*ref] = page;
	return page;
}

int xengntshr_unshare(xengntshr_handle *handle, void *pages, uint32_t count)
{
	return pages_free(pages, count, &xen.pages);
}

void *xengnttab_map_grant_ref_notify(xengnttab_handle *handle, uint32_t domid, uint32_t ref, int protection,
				     uint32_t offset, evtchn_port_t port)
{
	struct vchan_interface *page = pages_new(1, &xen.mappings);

	expect_notification(port);
	if (page) {
		page->left_order = (uint16_t)xen.orders[0];
		page->right_order = (uint16_t)xen.orders[1];
		page->srv_live = 1;
	}
	return page;
}

void *xengnttab_map_domain_grant_refs(xengnttab_handle *handle, uint32_t count, uint32_t domid,
				      uint32_t *refs, int protection)
{
	return pages_new(count, &xen.mappings);
}

int xengnttab_unmap(xengnttab_handle *handle, void *pages, uint32_t count)
{
	return pages_free(pages, count, &xen.mappings);
}

int keeper_hold(int fd, const uint8_t token[KEEPER_TOKEN_SIZE])
{
	if (refuses())
		return -xen.error;
	xen.parked = true;
	return 0;
}

int keeper_ask(const uint8_t token[KEEPER_TOKEN_SIZE])
{
	return -ENOENT;
}

int keeper_take_back(int socket)
{
	return -ENOENT;
}

/* --- the scene -------------------------------------------------------------------------------- */

struct scene {
	struct event_base *base;
	struct vchan_host *host;
	const char *what;
};

static void on_freed(void *userdata)
{
	xen.freed++;
}

static void on_retired(void *userdata)
{
	xen.retired++;
}

static void scene_start(struct scene *scene)
{
	memset(&xen, 0, sizeof(xen));
	xen.pages_left = 1024;
	xen.orders[0] = xen.orders[1] = 16;
	*scene = (struct scene){.base = event_base_new()};
	assert_int_equal(vchan_host_new(&scene->host, scene->base, &scene->what), 0);
	vchan_host_set_freed(scene->host, on_freed, NULL);
	xen.calls = 0;
}

/* Ports are unbound when somebody asks for that. */
static void start_asked(struct scene *scene)
{
	scene_start(scene);
	vchan_host_set_retired(scene->host, on_retired, NULL);
}

static void start_guest(struct scene *scene)
{
	start_asked(scene);
	vchan_host_guard(scene->host);
	xen.is_guest = true;
}

static void expect_nothing_held(struct scene *scene)
{
	assert_int_equal(xen.pages, 0);
	assert_int_equal(xen.mappings, 0);
	assert_int_equal(xen.ports, 0);
	assert_int_equal(vchan_host_pages_granted(scene->host), 0);
}

static void scene_stop(struct scene *scene)
{
	expect_nothing_held(scene);
	vchan_host_free(scene->host);
	event_base_free(scene->base);
	assert_int_equal(xen.handles, 0);
}

static int grant(struct scene *scene, struct vchan **vchan)
{
	return vchan_grant(scene->host, 7, 65536, 65536, NULL, NULL, vchan);
}

static int map(struct scene *scene, struct vchan **vchan)
{
	return vchan_map(scene->host, 7, 9, 3, NULL, NULL, vchan);
}

/* Likewise, where nothing is refused. */
static struct vchan *granted_to(struct scene *scene, uint32_t domid, uint32_t size)
{
	struct vchan *vchan;

	assert_int_equal(vchan_grant(scene->host, domid, size, size, NULL, NULL, &vchan), 0);
	assert_int_equal(vchan_state(vchan), VCHAN_WAITING);
	return vchan;
}

static struct vchan *mapped_from(struct scene *scene)
{
	struct vchan *vchan;

	assert_int_equal(map(scene, &vchan), 0);
	return vchan;
}

/* The kernel of the other side does so when the last mapping ends. */
static void lets_go(const struct vchan *vchan)
{
	xen.shared[vchan_ring_ref(vchan)]->cli_live = 0;
}

/* Both ends close it. */
static void end(struct vchan *vchan)
{
	if (vchan_is_granter(vchan))
		lets_go(vchan);
	vchan_close(vchan);
}

/* So many for domain 7, one after the other. */
static void grant_and_end(struct scene *scene, unsigned count, uint32_t size)
{
	while (count--)
		end(granted_to(scene, 7, size));
}

static void await_no_pages(struct scene *scene)
{
	while (xen.pages)
		event_base_loop(scene->base, EVLOOP_ONCE);
}

/* A peer is gone that held what was granted to it. */
static void await_end_of_domain(struct scene *scene)
{
	xen.domain_gone = true;
	await_no_pages(scene);
}

/* --- tests ------------------------------------------------------------------------------------ */

BEFORE_ALL
{
	log_set_level(0); /* what goes wrong here is meant to */
}

TEST(host_that_cannot_be_made_holds_nothing)
{
	static const char *const devices[] = {"gntalloc", "gntdev", "evtchn"};
	struct vchan_host *host;
	const char *what;

	for (unsigned at = 1; at <= 3; at++) {
		struct event_base *base = event_base_new();

		memset(&xen, 0, sizeof(xen));
		xen.refused_at = at;
		xen.error = ENOENT;
		assert_int_equal(vchan_host_new(&host, base, &what), -ENOENT);
		assert_non_null(strstr(what, devices[at - 1]));
		assert_int_equal(xen.handles, 0);
		event_base_free(base);
	}
}

static const int refusals[] = {ENOSPC, EINVAL, ENOMEM, 0};

SCENE_TEST_EACH(set_up_that_fails_at_any_step_gives_everything_back, scene_start, number, 40)
{
	bool maps = number % 2;
	unsigned at = 1 + (unsigned)number / 2 % 5;
	int error = refusals[number / 10];
	struct vchan *vchan = NULL;
	int r;

	xen.refused_at = at;
	xen.error = error;
	r = maps ? map(scene, &vchan) : grant(scene, &vchan);
	/* Four steps: the port, the page of both, and two rings. */
	assert_int_equal(r, at == 5 ? 0 : error ? -error : -EIO);
	if (at == 5) {
		assert_int_equal(xen.pages + xen.mappings, 33);
		end(vchan);
	}
}

static const int16_t orders[][2] = {{9, 16}, {16, 21}, {10, 10}, {11, 11}, {-1, 16}, {16, 0}, {16, 32767}};

SCENE_TEST_EACH(impossible_orders_give_everything_back, scene_start, i, ROWS(orders))
{
	struct vchan *vchan = NULL;

	memcpy(xen.orders, orders[i], sizeof(xen.orders));
	assert_int_equal(map(scene, &vchan), -EPROTO);
}

/* The attempts of one that waits for pages free nothing that it waits for: telling it would make it try for
 * ever. */
SCENE_TEST(who_waits_for_pages_is_not_told_of_its_own_port, start_asked)
{
	struct vchan *vchan = NULL, *other = granted_to(scene, 7, 65536);

	xen.pages_left = 33;
	assert_int_equal(grant(scene, &vchan), -ENOSPC);
	assert_int_equal(xen.retired, 1);
	vchan_host_unbind_retired(scene->host, UINT64_MAX);
	assert_int_equal(xen.freed, 0);
	assert_int_equal(xen.ports, 1);
	/* Of pages it is told at once. */
	end(other);
	assert_int_equal(xen.freed, 1);
	vchan_host_unbind_retired(scene->host, UINT64_MAX);
	assert_int_equal(xen.freed, 1);
}

SCENE_TEST(who_waits_for_a_port_is_told_when_one_is_unbound, start_asked)
{
	struct vchan *vchan = NULL, *other = mapped_from(scene);

	xen.refused_at = xen.calls + 1;
	xen.error = ENOSPC;
	assert_int_equal(grant(scene, &vchan), -ENOSPC);
	end(other);
	assert_int_equal(xen.freed, 0);
	vchan_host_unbind_retired(scene->host, UINT64_MAX);
	assert_int_equal(xen.freed, 1);
	/* Once. */
	grant_and_end(scene, 1, 65536);
	assert_int_equal(xen.freed, 2);
	vchan_host_unbind_retired(scene->host, UINT64_MAX);
	assert_int_equal(xen.freed, 2);
}

/* The clocks of the day and of the boot time go on while a domain is saved, and all of them with time. */
static int64_t saved_ns, later_ns;

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *now)
{
	int r = (int)syscall(SYS_clock_gettime, id, now);
	int64_t ns = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec;

	if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_BOOTTIME)
		ns += saved_ns;
	ns += later_ns;
	*now = (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
	return r;
}

/* XenStore's answer counts for those that had retired long before the question. */
SCENE_TEST(a_port_that_retired_a_moment_ago_is_not_unbound, start_asked)
{
	struct vchan *first = granted_to(scene, 7, 65536), *second = granted_to(scene, 7, 65536);
	uint64_t between;

	end(first);
	between = clock_ms();
	later_ns += 2000000;
	end(second);
	assert_int_equal(xen.retired, 2);
	vchan_host_unbind_retired(scene->host, between);
	assert_int_equal(xen.ports, 1);
	assert_int_equal(xen.retired, 3); /* so that it is asked again */
	vchan_host_unbind_retired(scene->host, clock_ms());
	assert_int_equal(xen.ports, 0);
	assert_int_equal(xen.retired, 3);
}

/* Their ports are not ours to touch any more, whether they were in use or retired; their pages are. */
SCENE_TEST_EACH(after_a_restore_no_old_port_is_touched, start_asked, kept, 2)
{
	struct vchan *granted = granted_to(scene, 7, 65536), *mapped = mapped_from(scene);
	xenevtchn_handle *old = event_handle;
	int old_fd = event_fd;

	grant_and_end(scene, 1, 65536);
	xen.refused_at = kept ? 0 : xen.calls + 1;
	xen.error = EAGAIN;
	forget_ports();
	vchan_host_renew(scene->host);
	assert_int_equal(xen.parked, kept);
	assert_int_equal(vchan_state(granted), VCHAN_CLOSED);
	assert_int_equal(vchan_notify(mapped), 0);
	end(granted);
	end(mapped);
	vchan_host_unbind_retired(scene->host, UINT64_MAX);
	grant_and_end(scene, 1, 65536);
	vchan_host_unbind_retired(scene->host, UINT64_MAX);
	if (!kept) { /* the old handle stayed open on purpose, for closing it is a kernel BUG */
		handle_free(old);
		close(old_fd);
	}
}

/* On the old handle the kernel would give old numbers again. */
SCENE_TEST(nothing_is_bound_between_a_restore_and_its_notice, start_guest)
{
	struct vchan *old = granted_to(scene, 7, 65536), *vchan;

	saved_ns += 1000000000;
	assert_int_equal(grant(scene, &vchan), -EAGAIN);
	assert_int_equal(map(scene, &vchan), -EAGAIN);
	assert_int_equal(xen.ports, 1);
	assert_int_equal(xen.retired, 0);
	vchan_host_look(scene->host);
	assert_int_equal(xen.retired, 1);
	forget_ports();
	vchan_host_renew(scene->host);
	end(old);
	grant_and_end(scene, 1, 65536);
	/* The clocks have jumped, and XenStore says that it was none: a save that failed. */
	saved_ns += 1000000000;
	assert_int_equal(grant(scene, &vchan), -EAGAIN);
	vchan_host_unbind_retired(scene->host, UINT64_MAX);
	grant_and_end(scene, 1, 65536);
	vchan_host_unbind_retired(scene->host, UINT64_MAX);
}

static void on_end(void *userdata)
{
	struct vchan **vchan = userdata;

	vchan_close(*vchan);
	*vchan = NULL;
}

static bool is_waited_for;

static bool waits(void *userdata)
{
	return is_waited_for;
}

/* The kernel of a guest that has died clears the byte, and can send no event. */
SCENE_TEST_EACH(an_end_that_no_event_tells_of_is_found, start_guest, maps, 2)
{
	struct vchan *vchan = maps ? mapped_from(scene) : granted_to(scene, 7, 65536);
	struct vchan_interface *page = vchan->control.ring;

	page->cli_live = 1;
	vchan_set_event(vchan, on_end, &vchan);
	vchan_host_set_waits(scene->host, waits, NULL);
	is_waited_for = true;
	for (unsigned i = 0; i < 3; i++) { /* busy, then idle */
		assert_int_equal(event_base_loop(scene->base, EVLOOP_ONCE), 0);
		assert_non_null(vchan);
	}
	*(maps ? &page->srv_live : &page->cli_live) = 0;
	while (vchan)
		assert_int_equal(event_base_loop(scene->base, EVLOOP_ONCE), 0);
	is_waited_for = false;
	vchan_host_unbind_retired(scene->host, UINT64_MAX);
}

/* A guest's CPU sleeps. */
SCENE_TEST(nobody_looks_for_ends_that_nobody_waits_for, start_guest)
{
	struct vchan *vchan = granted_to(scene, 7, 65536);

	vchan_host_set_waits(scene->host, waits, NULL);
	while (evtimer_pending(scene->host->look, NULL))
		event_base_loop(scene->base, EVLOOP_ONCE);
	vchan_notify(vchan);
	assert_true(evtimer_pending(scene->host->look, NULL));
	end(vchan);
	vchan_host_unbind_retired(scene->host, UINT64_MAX);
}

/* Noticed or not: the references lead nowhere, for the peer, too. */
SCENE_TEST(pages_that_were_granted_before_a_restore_are_not_kept, start_guest)
{
	struct vchan *vchan;

	vchan = granted_to(scene, 7, 65536);
	saved_ns += 1000000000;
	vchan_close(vchan);
	assert_int_equal(xen.pages, 0);
	forget_ports();
	vchan_host_renew(scene->host);
}

/* There is no descriptor for a moment, or for as long as the daemon runs. */
SCENE_TEST(handle_that_cannot_be_had_after_a_restore_is_opened_later, start_asked)
{
	struct vchan *granted = granted_to(scene, 7, 65536), *mapped = mapped_from(scene), *vchan;

	for (unsigned again = 0; again < 2; again++) {
		xen.refused_at = xen.calls + (again ? 1 : 2); /* the old one is parked first */
		xen.error = EMFILE;
		vchan_host_renew(scene->host);
		xen.refused_at = xen.calls + 1;
		assert_int_equal(vchan_grant(scene->host, 7, 65536, 65536, NULL, NULL, &vchan), -EMFILE);
	}
	end(granted);
	end(mapped);
	vchan_host_set_retired(scene->host, NULL, NULL);
	end(granted_to(scene, 7, 65536));
}

/* The other side keeps its mapping, or never showed that it has one, and may write what it likes. What it has
 * is two vchans: one that was closed, and another one. */
SCENE_TEST(pages_that_a_peer_may_still_map_are_granted_to_it_again, scene_start)
{
	static const uint8_t live[] = {1, 2, 0x77};

	for (unsigned i = 0; i < 1000; i++) {
		struct vchan *vchan = granted_to(scene, 7, 65536);
		struct vchan_interface *page = xen.shared[vchan_ring_ref(vchan)];
		struct ring_view view;

		vchan_write_view(vchan, &view);
		assert_int_equal(page->left.prod | page->left.cons | page->right.prod | page->right.cons, 0);
		assert_int_equal(page->left_order, 16);
		assert_int_equal(page->grants[0], vchan_ring_ref(vchan) + 1);
		assert_int_equal(view.data[0] | view.data[65535], 0);
		memset(view.data, 0x77, 65536);
		memset(page, 0x77, PAGE);
		page->cli_live = live[i % 3];
		vchan_close(vchan);
		assert_in_range(xen.pages, 33, 66);
		assert_int_equal(vchan_host_pages_granted(scene->host), xen.pages);
		assert_int_equal(xen.ports, xen.pages / 33);
	}
	assert_int_equal(xen.next_ref, 66);
	await_end_of_domain(scene);
}

/* A stock libxenvchan learns of the end by a byte in the page, whenever it looks. */
SCENE_TEST(who_has_not_looked_yet_finds_what_it_mapped_closed, scene_start)
{
	struct vchan *first = granted_to(scene, 7, 65536), *second;
	struct vchan_interface *page = xen.shared[vchan_ring_ref(first)];

	page->cli_live = 1;
	vchan_leave(first);
	second = granted_to(scene, 7, 65536);
	assert_ptr_not_equal(first, second);
	assert_int_equal(page->srv_live, 0);
	assert_int_equal(page->cli_notify & 0xc0, 0xc0);
	xen.shared[vchan_ring_ref(second)]->cli_live = 1;
	page->cli_live = 0; /* it unmaps it after it has mapped the next one */
	assert_int_equal(vchan_state(second), VCHAN_CONNECTED);
	xen.shared[vchan_ring_ref(second)]->cli_live = 1;
	vchan_close(second);
	/* Where there are no others it gets these. */
	xen.pages_left = (unsigned)xen.pages;
	grant_and_end(scene, 1, 65536);
	await_end_of_domain(scene);
}

/* Its daemon has ended before it could map it, or has begun anew elsewhere, and may want no other one for as
 * long as it lives. Who has mapped it and doesn't show it could as well have cleared the byte. */
SCENE_TEST(what_nobody_has_mapped_is_given_back_after_a_while, scene_start)
{
	vchan_leave(granted_to(scene, 7, 65536));
	assert_int_equal(xen.pages, 33);
	vchan_leave(granted_to(scene, 7, 65536)); /* the same one */
	assert_int_equal(xen.next_ref, 33);
	later_ns += 10ll * 1000000000;
	for (unsigned i = 0; i < 3 && xen.pages; i++)
		event_base_loop(scene->base, EVLOOP_ONCE);
}

SCENE_TEST(xen_is_asked_less_and_less_about_who_keeps_a_mapping, scene_start)
{
	struct vchan *vchan = granted_to(scene, 7, 65536);

	xen.shared[vchan_ring_ref(vchan)]->cli_live = 1;
	vchan_close(vchan);
	for (unsigned i = 0; i < 600; i++) {
		later_ns += 1000000000;
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
	}
	assert_in_range(xen.asked, 8, 20);
	later_ns += 60ll * 1000000000;
	await_end_of_domain(scene);
}

/* Its port is in use for a while after that. */
SCENE_TEST(what_a_peer_lets_go_of_unseen_is_not_granted_again, scene_start)
{
	struct vchan *first = granted_to(scene, 7, 65536), *second;
	uint32_t ring_ref = vchan_ring_ref(first), port = vchan_port(first);
	struct vchan_interface *page = xen.shared[ring_ref];

	page->cli_live = 1;
	vchan_leave(first);
	page->cli_live = 0; /* and no event is taken before the next one is granted */
	second = granted_to(scene, 7, 65536);
	assert_int_not_equal(vchan_ring_ref(second), ring_ref);
	assert_int_not_equal(vchan_port(second), port);
	assert_int_equal(xen.pages, 33);
	end(second);
	assert_int_equal(xen.pages, 0);
}

SCENE_TEST(who_had_mapped_what_is_granted_again_may_be_who_closes_it, scene_start)
{
	struct vchan *vchan = granted_to(scene, 7, 65536);

	xen.shared[vchan_ring_ref(vchan)]->cli_live = 1;
	vchan_close(vchan);
	xen.pages_left = (unsigned)xen.pages;
	vchan = granted_to(scene, 7, 65536);
	assert_int_equal(vchan_state(vchan), VCHAN_WAITING);
	xen.shared[vchan_ring_ref(vchan)]->cli_live = 1;
	assert_int_equal(vchan_state(vchan), VCHAN_CONNECTED);
	xen.shared[vchan_ring_ref(vchan)]->cli_live = 0; /* by the kernel, for the one before */
	assert_int_equal(vchan_state(vchan), VCHAN_CLOSED);
	assert_false(vchan_has_died(vchan));
	end(vchan);
}

SCENE_TEST(peer_that_lets_go_of_nothing_has_what_three_vchans_need, scene_start)
{
	struct vchan *vchan, *innocent;
	uint32_t size;

	for (size = 4096; size < 65536; size *= 2) {
		if (vchan_grant(scene->host, 7, size, size, NULL, NULL, &vchan) < 0)
			break;
		vchan_close(vchan);
	}
	assert_int_equal(size, 4096 << 3);
	assert_int_equal(vchan_grant(scene->host, 7, size, size, NULL, NULL, &vchan), -EBUSY);
	vchan = granted_to(scene, 7, 8192); /* the same as before */
	assert_int_equal(xen.ports, 3);
	innocent = granted_to(scene, 8, 65536);
	end(vchan);
	assert_int_equal(xen.ports, 3);
	grant_and_end(scene, 1, 65536);
	end(innocent);
	await_end_of_domain(scene);
}

/* However long it takes until what it has let go of is given back. */
SCENE_TEST(a_peer_that_let_go_of_larger_ones_gets_one_of_them, scene_start)
{
	struct vchan *larger[VCHANS_MAX];

	grant_and_end(scene, 1000, 131072);
	for (unsigned i = 0; i < VCHANS_MAX; i++)
		larger[i] = granted_to(scene, 7, 131072u << i);
	for (unsigned i = 0; i < VCHANS_MAX; i++)
		end(larger[i]);
	grant_and_end(scene, 1, 65536);
	xen.pages_left = (unsigned)xen.pages; /* for domain 8 all are given back */
	end(granted_to(scene, 8, 65536));
}

/* It clears the byte and keeps the mapping, which nobody can see. */
SCENE_TEST(what_is_given_back_on_a_peers_word_is_bounded, scene_start)
{
	uint32_t before;

	grant_and_end(scene, 1000, 65536);
	assert_in_range(xen.next_ref, 100 * 33, WORD_PAGES_MAX + 33);
	assert_int_equal(xen.pages, 33);
	/* Who needs the pages gets them. */
	before = xen.next_ref;
	xen.pages_left = 40;
	end(granted_to(scene, 8, 65536));
	assert_int_equal(xen.next_ref, before + 33 + 1);
	assert_int_equal(xen.pages, 0);
}

/* A link that grows has smaller ones behind it, which are given back on the peer's word, some day. */
SCENE_TEST(what_a_peer_let_go_of_does_not_keep_it_from_a_larger_one, scene_start)
{
	struct vchan *smaller[VCHANS_MAX];

	grant_and_end(scene, 1000, 16384);
	for (unsigned i = 0; i < VCHANS_MAX; i++)
		smaller[i] = granted_to(scene, 7, 16384);
	for (unsigned i = 1; i < VCHANS_MAX; i++)
		end(smaller[i]);
	assert_int_equal(xen.ports, VCHANS_MAX);
	grant_and_end(scene, 1, 65536);
	assert_int_equal(xen.ports, VCHANS_MAX);
	end(smaller[0]);
	xen.pages_left = (unsigned)xen.pages;
	end(granted_to(scene, 8, 65536));
}

/* Each day some of it is; and what waits is given back when it is time. */
SCENE_TEST(a_peer_is_not_mistrusted_for_ever, scene_start)
{
	uint32_t before;

	grant_and_end(scene, 1000, 65536);
	assert_int_equal(xen.pages, 33);
	grant_and_end(scene, 1, 65536);
	assert_int_equal(xen.pages, 33);
	later_ns += 40ll * 86400 * 1000000000;
	await_no_pages(scene);
	before = xen.next_ref;
	grant_and_end(scene, 100, 65536);
	assert_int_equal(xen.pages, 0);
	assert_int_equal(xen.next_ref, before + 100 * 33);
}

static void hand_over(struct scene *scene)
{
	struct image image;
	int memfd;

	image_begin(&image);
	image_section(&image, IMAGE_REGISTRY);
	vchan_host_words_image(&image, scene->host);
	memfd = image_seal(&image);
	image_free(&image);
	vchan_host_free(scene->host);
	assert_int_equal(vchan_host_new(&scene->host, scene->base, &scene->what), 0);
	assert_int_equal(image_open(&image, memfd), 0);
	assert_int_equal(image_next(&image), IMAGE_REGISTRY);
	vchan_host_words_image(&image, scene->host);
	assert_int_equal(image_leave_section(&image), 0);
	image_free(&image);
	close(memfd);
}

/* Also what a peer still has, and a hand-over gives back without a word, is counted. */
SCENE_TEST_EACH(a_hand_over_forgets_no_mistrust, scene_start, keeps, 2)
{
	if (!keeps)
		grant_and_end(scene, 1000, 65536);
	for (unsigned times = 0; times < (keeps ? WORD_PAGES_MAX / 33 / VCHANS_MAX + 1 : 1); times++) {
		struct vchan *vchans[VCHANS_MAX];

		for (unsigned i = 0; keeps && i < VCHANS_MAX; i++)
			vchans[i] = granted_to(scene, 7, 65536);
		for (unsigned i = 0; keeps && i < VCHANS_MAX; i++)
			vchan_close(vchans[i]);
		later_ns += 11ll * 1000000000;
		hand_over(scene);
		assert_int_equal(xen.pages, 0);
	}
	grant_and_end(scene, 1, 65536);
	assert_int_equal(xen.pages, 33);
	await_end_of_domain(scene);
}

/* What is known of a domain goes with it, also where nothing of it is kept that would be looked at. */
SCENE_TEST(a_new_domain_is_not_mistrusted_for_one_that_had_its_number, scene_start)
{
	uint32_t before;

	grant_and_end(scene, 1000, 65536);
	xen.pages_left = 40;
	end(granted_to(scene, 8, 65536));
	assert_int_equal(xen.pages, 0);
	xen.domain_gone = true;
	end(granted_to(scene, 9, 65536));
	xen.domain_gone = false;
	before = xen.next_ref;
	grant_and_end(scene, 10, 65536);
	assert_int_equal(xen.next_ref, before + 10 * 33);
	assert_int_equal(xen.pages, 0);
}
