/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The real libxenstore, blocking calls and all, against a store whose loop runs in a thread of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xenstore.h>

#include "sim/store.h"

struct fixture {
	char dir[32];
	int stop[2];
	pthread_t thread;
	struct event_base *base;
	struct sim_store *store;
	struct xs_handle *dom0, *one, *two;
};

static void on_stop(evutil_socket_t fd, short what, void *base)
{
	event_base_loopbreak(base);
}

static void *run_loop(void *base)
{
	event_base_dispatch(base);
	return NULL;
}

static void socket_path(const struct fixture *f, unsigned domid, char path[64])
{
	snprintf(path, 64, "%s/%u", f->dir, domid);
}

static struct xs_handle *open_as(const struct fixture *f, unsigned domid)
{
	struct xs_handle *handle;
	char path[64];

	socket_path(f, domid, path);
	setenv("XENSTORED_PATH", path, 1);
	handle = xs_open(0);
	assert_non_null(handle);
	return handle;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char path[64];

	assert_non_null(f);
	signal(SIGPIPE, SIG_IGN);
	strcpy(f->dir, "/tmp/xenmsg-store-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->base = event_base_new();
	f->store = sim_store_new(f->base, NULL);
	for (unsigned domid = 0; domid <= 2; domid++) {
		const struct sim_perm theirs = {domid, SIM_PERM_NONE};

		socket_path(f, domid, path);
		assert_int_equal(sim_store_listen(f->store, domid, path), 0);
		assert_int_equal(sim_store_listen(f->store, domid, path), -EEXIST);
		snprintf(path, sizeof(path), "/local/domain/%u/data", domid);
		assert_int_equal(sim_store_write(f->store, path, "", &theirs, 1), 0);
		sim_store_introduce(f->store, domid);
	}
	assert_int_equal(pipe(f->stop), 0);
	assert_int_equal(event_base_once(f->base, f->stop[0], EV_READ, on_stop, f->base, NULL), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, run_loop, f->base), 0);
	f->dom0 = open_as(f, 0);
	f->one = open_as(f, 1);
	f->two = open_as(f, 2);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char path[64];

	xs_close(f->dom0);
	xs_close(f->one);
	xs_close(f->two);
	assert_int_equal(write(f->stop[1], "", 1), 1);
	pthread_join(f->thread, NULL);
	sim_store_free(f->store);
	event_base_free(f->base);
	close(f->stop[0]);
	close(f->stop[1]);
	for (unsigned domid = 0; domid <= 2; domid++) {
		socket_path(f, domid, path);
		assert_int_not_equal(access(path, F_OK), 0); /* the store removes its sockets */
	}
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

/* Asserts that the next event, within a generous time, is this one. */
static void expect_event(struct xs_handle *handle, const char *path, const char *token)
{
	struct pollfd pollfd = {.fd = xs_fileno(handle), .events = POLLIN};
	char **event;

	while (!(event = xs_check_watch(handle))) {
		assert_int_equal(errno, EAGAIN);
		if (poll(&pollfd, 1, 30000) <= 0)
			fail_msg("no event %s %s", path, token);
	}
	assert_string_equal(event[XS_WATCH_PATH], path);
	assert_string_equal(event[XS_WATCH_TOKEN], token);
	free(event);
}

static void it_reads_and_writes(void **state)
{
	struct fixture *f = *state;
	unsigned len, count;
	char *value, **names;

	assert_true(xs_write(f->one, XBT_NULL, "data/a", "b\0c", 3));
	value = xs_read(f->one, XBT_NULL, "/local/domain/1/data/a", &len);
	assert_int_equal(len, 3);
	assert_memory_equal(value, "b\0c", 4);
	free(value);
	assert_true(xs_mkdir(f->one, XBT_NULL, "data/d"));
	names = xs_directory(f->one, XBT_NULL, "data", &count);
	assert_int_equal(count, 2);
	assert_string_equal(names[0], "a");
	assert_string_equal(names[1], "d");
	free(names);
	assert_true(xs_rm(f->one, XBT_NULL, "data/d"));
	names = xs_directory(f->one, XBT_NULL, "data/a", &count);
	assert_non_null(names);
	assert_int_equal(count, 0);
	free(names);
	assert_null(xs_read(f->one, XBT_NULL, "data/d", &len));
	assert_int_equal(errno, ENOENT);
	value = xs_get_domain_path(f->one, 5);
	assert_string_equal(value, "/local/domain/5");
	free(value);
	assert_true(xs_is_domain_introduced(f->dom0, 1));
	assert_false(xs_is_domain_introduced(f->dom0, 9));
}

static void it_sets_permissions(void **state)
{
	struct fixture *f = *state;
	struct xs_permissions perms[] = {{.id = 1, .perms = XS_PERM_NONE}, {.id = 2, .perms = XS_PERM_READ}},
			      *read_back;
	unsigned len, count;
	char *value;

	assert_true(xs_write(f->one, XBT_NULL, "data/a", "x", 1));
	assert_null(xs_read(f->two, XBT_NULL, "/local/domain/1/data/a", &len));
	assert_int_equal(errno, EACCES);
	assert_true(xs_set_permissions(f->one, XBT_NULL, "data/a", perms, 2));
	value = xs_read(f->two, XBT_NULL, "/local/domain/1/data/a", &len);
	assert_string_equal(value, "x");
	free(value);
	read_back = xs_get_permissions(f->two, XBT_NULL, "/local/domain/1/data/a", &count);
	assert_int_equal(count, 2);
	assert_int_equal(read_back[1].id, 2);
	assert_int_equal(read_back[1].perms, XS_PERM_READ);
	free(read_back);
}

static void it_hears_of_changes(void **state)
{
	struct fixture *f = *state;

	assert_true(xs_watch(f->one, "data", "token"));
	expect_event(f->one, "data", "token");
	assert_true(xs_watch(f->dom0, "@releaseDomain", "gone"));
	expect_event(f->dom0, "@releaseDomain", "gone");
	assert_true(xs_write(f->dom0, XBT_NULL, "/local/domain/1/data/x", "", 0));
	expect_event(f->one, "data/x", "token");
	assert_true(xs_release_domain(f->dom0, 2));
	expect_event(f->dom0, "@releaseDomain", "gone");
	assert_true(xs_unwatch(f->one, "data", "token"));
}

static void it_learns_of_conflicts(void **state)
{
	struct fixture *f = *state;
	xs_transaction_t t = xs_transaction_start(f->one);
	unsigned len;

	assert_int_not_equal(t, XBT_NULL);
	assert_null(xs_read(f->one, t, "data/x", &len));
	assert_true(xs_write(f->one, t, "data/y", "1", 1));
	assert_true(xs_write(f->dom0, XBT_NULL, "/local/domain/1/data/x", "1", 1));
	assert_false(xs_transaction_end(f->one, t, false));
	assert_int_equal(errno, EAGAIN);
	t = xs_transaction_start(f->one);
	assert_true(xs_write(f->one, t, "data/y", "1", 1));
	assert_true(xs_transaction_end(f->one, t, false));
	t = xs_transaction_start(f->one);
	assert_true(xs_write(f->one, t, "data/y", "2", 1));
	assert_true(xs_transaction_end(f->one, t, true));
	free(xs_read(f->one, XBT_NULL, "data/y", &len));
	assert_int_equal(len, 1);
}

static void it_says_einval_to_a_quota_of_oxenstored(void **state)
{
	struct fixture *f = *state;
	char path[32], value[3000] = "";
	unsigned i;

	for (i = 0; i < 2000; i++) {
		snprintf(path, sizeof(path), "data/%u", i);
		if (!xs_write(f->one, XBT_NULL, path, "", 0))
			break;
	}
	assert_int_equal(errno, EINVAL);
	assert_int_equal(i, 999); /* and the directory itself */
	for (i = 0; i < 100 && xs_transaction_start(f->one) != XBT_NULL; i++)
		;
	assert_int_equal(errno, EINVAL);
	assert_int_equal(i, 11);
	assert_false(xs_write(f->one, XBT_NULL, "data/0", value, sizeof(value)));
	assert_int_equal(errno, E2BIG);
}

static void a_stale_socket_is_replaced_and_a_long_path_refused(void **state)
{
	char dir[] = "/tmp/xenmsg-store-XXXXXX", path[64], longer[200];
	struct event_base *base = event_base_new();
	struct sim_store *first = sim_store_new(base, NULL), *second = sim_store_new(base, NULL);

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	assert_int_equal(sim_store_listen(first, 1, path), 0);
	assert_int_equal(sim_store_listen(second, 1, path), 0);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(sim_store_listen(second, 2, longer), -ENAMETOOLONG);
	assert_int_equal(sim_store_listen(second, 2, "/nonexistent/s"), -ENOENT);
	sim_store_free(first);
	sim_store_free(second);
	event_base_free(base);
	unlink(path);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(it_reads_and_writes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(it_sets_permissions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(it_hears_of_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(it_learns_of_conflicts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(it_says_einval_to_a_quota_of_oxenstored, set_up, tear_down),
		cmocka_unit_test(a_stale_socket_is_replaced_and_a_long_path_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
