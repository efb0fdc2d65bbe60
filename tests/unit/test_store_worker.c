/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What waits of watches is bounded, whatever a domain writes, and nothing of another domain is lost by it. */
#include "tests/unit/unit.h"

/* The thread's part, with what it keeps to itself. */
#include "daemon/xen/store_worker.c"

#define NAMES 10000u

static int set_up(void **state)
{
	struct store_worker *worker = calloc(1, sizeof(*worker));

	if (!worker)
		return -1;
	worker->references = 1;
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->finished_changed, NULL);
	worker->command_fd = -1;
	worker->result_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (unsigned number = 3; number <= 5; number++) {
		struct store_watched *watched = calloc(1, sizeof(*watched));

		watched->watch = watched->token = number;
		DL_APPEND(worker->watched, watched);
		HASH_ADD(hh, worker->by_token, token, sizeof(watched->token), watched);
	}
	*state = worker;
	return 0;
}

static int tear_down(void **state)
{
	store_worker_unref(*state);
	return 0;
}

static void fire(struct store_worker *worker, const char *watch, const char *path)
{
	char *event[2];

	event[XS_WATCH_PATH] = strdup(path);
	event[XS_WATCH_TOKEN] = strdup(watch);
	take_event(worker, event);
	free(event[XS_WATCH_PATH]);
	free(event[XS_WATCH_TOKEN]);
}

static bool fires(struct store_worker *worker, const char *key)
{
	struct store_event *event;

	HASH_FIND_STR(worker->events, key, event);
	return event && event->fires;
}

static unsigned count_firing(struct store_worker *worker)
{
	struct store_event *event, *next;
	unsigned count = 0;

	HASH_ITER(hh, worker->events, event, next)
		count += event->fires;
	return count;
}

TEST_WITH(same_path_is_kept_once, set_up, tear_down)
{
	for (unsigned i = 0; i < NAMES; i++) {
		fire(*state, "3", "/local/domain/7/data/xenmsg/presence");
		fire(*state, "4", "/local/domain/7/data/xenmsg/presence");
		fire(*state, "5", "@releaseDomain");
	}
	assert_int_equal(count_firing(*state), 3);
	assert_true(fires(*state, "3 /local/domain/7/data/xenmsg/presence"));
	assert_true(fires(*state, "4 /local/domain/7/data/xenmsg/presence"));
	assert_true(fires(*state, "5 @releaseDomain"));
	assert_false(fires(*state, "3 /local/domain/7"));
}

TEST_WITH(names_that_a_domain_makes_up_become_one_directory_event, set_up, tear_down)
{
	struct store_worker *worker = *state;
	char path[80];

	fire(worker, "3", "/local/domain/7/data/xenmsg/presence");
	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(path, sizeof(path), "/local/domain/7/data/xenmsg/to/1/%u/ring-ref", i);
		fire(worker, "3", path);
	}
	fire(worker, "3", "/local/domain/70/data/xenmsg/presence");
	fire(worker, "3", "/local/domain");
	assert_true(HASH_COUNT(worker->events) <= STORE_BELOW_MAX + 4);
	assert_true(fires(worker, "3 /local/domain/7"));
	assert_true(fires(worker, "3 /local/domain/7/data/xenmsg/presence"));
	assert_true(fires(worker, "3 /local/domain/70/data/xenmsg/presence"));
	assert_false(fires(worker, "3 /local/domain/70"));
	assert_true(fires(worker, "3 /local/domain"));
}

TEST_WITH(directory_that_fires_by_itself_is_told, set_up, tear_down)
{
	fire(*state, "3", "/local/domain/7/data/xenmsg");
	assert_false(fires(*state, "3 /local/domain/7"));
	fire(*state, "3", "/local/domain/7");
	assert_true(fires(*state, "3 /local/domain/7"));
	assert_int_equal(count_firing(*state), 2);
}

/* --- a transaction that XenStore has forgotten ----------------------------------------------------- */

static struct {
	unsigned forgets, begun; /* so many times; so often it was begun */
	int error;
	bool at_end;
} xenstore;

static bool forgets(bool at_end)
{
	if (!xenstore.forgets || xenstore.at_end != at_end)
		return false;
	xenstore.forgets--;
	errno = xenstore.error;
	return true;
}

xs_transaction_t xs_transaction_start(struct xs_handle *xs)
{
	return ++xenstore.begun;
}

bool xs_transaction_end(struct xs_handle *xs, xs_transaction_t transaction, bool abort)
{
	return abort || !forgets(true);
}

void *xs_read(struct xs_handle *xs, xs_transaction_t transaction, const char *path, unsigned *size)
{
	return strdup("");
}

bool xs_write(struct xs_handle *xs, xs_transaction_t transaction, const char *path, const void *data,
	      unsigned size)
{
	return !forgets(false);
}

bool xs_set_permissions(struct xs_handle *xs, xs_transaction_t transaction, const char *path,
			struct xs_permissions *permissions, unsigned count)
{
	return true;
}

bool xs_rm(struct xs_handle *xs, xs_transaction_t transaction, const char *path)
{
	return true;
}

char **xs_check_watch(struct xs_handle *xs)
{
	errno = EAGAIN;
	return NULL;
}

/* Each of the two XenStores says so in its own way. What isn't allowed isn't tried again. */
TEST_WITH(transaction_that_was_forgotten_is_begun_again, set_up, tear_down)
{
	static const int errors[] = {EIO, ENOENT, ENOMEM, EAGAIN, EACCES};
	char *path = (char *)"/local/domain/1/data/xenmsg/presence", *value = (char *)"1";
	struct store_request request = {
		.kind = STORE_WRITE, .count = 1, .paths = &path, .values = &value, .reader = STORE_EVERYONE};

	for (unsigned i = 0; i < 2 * ROWS(errors); i++) {
		bool is_refused = errors[i / 2] == EACCES;

		xenstore.forgets = 2;
		xenstore.begun = 0;
		xenstore.error = errors[i / 2];
		xenstore.at_end = i % 2;
		assert_int_equal(write_leaves(*state, &request), is_refused ? -EACCES : 0);
		assert_int_equal(xenstore.begun, is_refused ? 1 : 3);
	}
}

static void queue_up(struct store_worker *worker, enum store_kind kind, const char *path)
{
	struct store_request *request = calloc(1, sizeof(*request));

	request->kind = kind;
	request->count = 1;
	request->paths = calloc(1, sizeof(*request->paths));
	request->values = calloc(1, sizeof(*request->values));
	request->paths[0] = strdup(path);
	request->values[0] = strdup("1");
	DL_APPEND(worker->queue, request);
}

static unsigned count_results(struct store_worker *worker)
{
	struct store_request *request;
	unsigned count = 0;

	DL_COUNT(worker->results, request, count);
	return count;
}

/* They overtake what only reads. Whatever comes behind a removal has its own turn. */
TEST_WITH(writes_that_wait_are_one_transaction, set_up, tear_down)
{
	struct store_worker *worker = *state;

	worker->connected = true;
	memset(&xenstore, 0, sizeof(xenstore));
	queue_up(worker, STORE_WRITE, "/local/domain/0/data/xenmsg/to/7/endpoints");
	queue_up(worker, STORE_READ, "/local/domain/7/data/xenmsg/endpoints");
	queue_up(worker, STORE_WRITE, "/local/domain/0/data/xenmsg/to/7/hello");
	queue_up(worker, STORE_WRITE, "/local/domain/0/data/xenmsg/presence");
	queue_up(worker, STORE_REMOVE, "/local/domain/0/data/xenmsg/to/8");
	queue_up(worker, STORE_WRITE, "/local/domain/0/data/xenmsg/to/8/1234abcd/ring-ref");
	assert_true(serve_some(worker));
	assert_int_equal(count_results(worker), 3);
	assert_string_equal(worker->results->next->paths[0], "/local/domain/0/data/xenmsg/to/7/hello");
	assert_true(worker->results->next->has_begun);
	assert_int_equal(xenstore.begun, 1);
	assert_true(serve_some(worker));
	assert_int_equal(worker->results->prev->kind, STORE_READ);
	assert_true(serve_some(worker));
	assert_int_equal(worker->results->prev->kind, STORE_REMOVE);
	assert_true(serve_some(worker));
	assert_false(serve_some(worker));
	assert_int_equal(count_results(worker), 6);
	assert_int_equal(xenstore.begun, 2);
	for (unsigned i = 0; i < 2 * TOGETHER_MAX + 1; i++)
		queue_up(worker, STORE_WRITE, "/local/domain/0/data/xenmsg/presence");
	while (serve_some(worker))
		;
	assert_int_equal(xenstore.begun, 5);
}

TEST_WITH(writes_behind_many_reads_wait_for_them, set_up, tear_down)
{
	struct store_worker *worker = *state;

	worker->connected = true;
	for (unsigned more = 0; more < 2; more++) {
		unsigned before = count_results(worker);

		queue_up(worker, STORE_WRITE, "/local/domain/0/data/xenmsg/to/7/endpoints");
		for (unsigned i = 0; i < OVERTAKEN_MAX + more; i++)
			queue_up(worker, STORE_READ, "/local/domain/7/data/xenmsg/presence");
		queue_up(worker, STORE_WRITE, "/local/domain/0/data/xenmsg/to/7/hello");
		assert_true(serve_some(worker));
		assert_int_equal(count_results(worker) - before, more ? 1 : 2);
		while (serve_some(worker))
			;
	}
}

/* An error is of one of them. */
TEST_WITH(of_writes_that_fail_together_each_is_tried_alone, set_up, tear_down)
{
	struct store_worker *worker = *state;

	worker->connected = true;
	xenstore.begun = 0;
	xenstore.forgets = 2; /* the two, and then the first one */
	xenstore.error = EACCES;
	xenstore.at_end = false;
	queue_up(worker, STORE_WRITE, "/local/domain/0/data/xenmsg/to/7/endpoints");
	queue_up(worker, STORE_WRITE, "/local/domain/0/data/xenmsg/to/7/hello");
	assert_true(serve_some(worker));
	assert_int_equal(xenstore.begun, 3);
	assert_int_equal(worker->results->error, -EACCES);
	assert_int_equal(worker->results->next->error, 0);
	assert_false(serve_some(worker));
}
