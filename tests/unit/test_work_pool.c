/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What may take as long as somebody likes is done by threads, at his cost, and holds neither the loop nor
 * others. */

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/quota.h"
#include "daemon/switch/work_pool.h"
#include "daemon/switch/hop.h"
#include "tests/unit/own_process.h"
#include "tests/unit/unit.h"

#define ACCOUNTS (WORK_POOL_THREADS + 2)
#define SPIN_NS	 20000000u
#define ALARM_S	 60

struct scene {
	struct event_base *base;
	struct switchboard board;
	struct quota *quota;
	struct account *accounts[ACCOUNTS];
	atomic_uint at_work[ACCOUNTS], most_at_work;
	unsigned done, order[1000]; /* which were done, as they were numbered */
	unsigned descriptors;
};

struct job {
	struct work_item item; /* the first member */
	struct scene *scene;
	unsigned who, number;
	sem_t begun, go_on;
	bool waits;	  /* until it may go on */
	bool spins;	  /* uses the CPU */
	pthread_t thread; /* which did it */
};

static void work(struct work_item *item)
{
	struct job *job = (struct job *)item;
	uint64_t from = clock_thread_ns();
	unsigned now = atomic_fetch_add(&job->scene->at_work[job->who], 1) + 1;

	if (now > atomic_load(&job->scene->most_at_work))
		atomic_store(&job->scene->most_at_work, now);
	job->thread = pthread_self();
	sem_post(&job->begun);
	if (job->waits)
		sem_wait(&job->go_on);
	while (job->spins && clock_thread_ns() - from < SPIN_NS)
		;
	atomic_fetch_sub(&job->scene->at_work[job->who], 1);
}

static void on_done(struct work_item *item)
{
	struct job *job = (struct job *)item;

	job->scene->order[job->scene->done++] = job->number;
}

static void prepare(struct scene *scene, struct job *job, unsigned who, unsigned number)
{
	*job = (struct job){
		.item = {.work = work, .done = on_done}, .scene = scene, .who = who, .number = number};
	sem_init(&job->begun, 0, 0);
	sem_init(&job->go_on, 0, 0);
}

static void give(struct job *job)
{
	work_item_give(&job->item, &job->scene->board, job->scene->accounts[job->who]);
}

static void wait_for(struct scene *scene, unsigned done)
{
	while (scene->done < done)
		event_base_loop(scene->base, EVLOOP_ONCE);
	assert_int_equal(scene->done, done);
}

static void scene_start(struct scene *scene)
{
	const struct quota_limits limits = {.max = {[QUOTA_UID] = {[QUOTA_MEMORY] = 1}}};

	alarm(patience(ALARM_S));
	scene->descriptors = open_descriptors();
	scene->base = event_base_new();
	scene->quota = quota_new(&limits);
	for (unsigned i = 0; i < ACCOUNTS; i++)
		scene->accounts[i] = quota_account(scene->quota, QUOTA_UID, 1000 + i);
	assert_int_equal(switch_init(&scene->board, scene->base, 1u << 20), 0);
	assert_int_equal(work_pool_new(&scene->board.work_pool, &scene->board), 0);
}

static void scene_stop(struct scene *scene)
{
	work_pool_free(scene->board.work_pool);
	switch_cleanup(&scene->board);
	for (unsigned i = 0; i < ACCOUNTS; i++)
		account_unref(scene->accounts[i]);
	assert_null(quota_next(scene->quota, NULL)); /* no job refers to one */
	quota_free(scene->quota);
	event_base_free(scene->base);
	assert_int_equal(open_descriptors(), scene->descriptors);
	alarm(0);
}

SCENE_TEST(a_thread_does_it_and_the_loop_hears_of_it, scene_start)
{
	struct job job;

	prepare(scene, &job, 0, 7);
	give(&job);
	sem_wait(&job.begun);
	assert_int_equal(scene->done, 0); /* the loop hasn't had a turn */
	wait_for(scene, 1);
	assert_int_equal(scene->order[0], 7);
	assert_false(pthread_equal(job.thread, pthread_self()));
}

SCENE_TEST(who_makes_his_own_slow_delays_neither_loop_nor_others, scene_start)
{
	struct job slow, behind, other;

	prepare(scene, &slow, 0, 1);
	prepare(scene, &behind, 0, 2);
	prepare(scene, &other, 1, 3);
	slow.waits = true;
	give(&slow);
	give(&behind);
	sem_wait(&slow.begun);
	give(&other);
	wait_for(scene, 1);
	assert_int_equal(scene->order[0], 3);
	assert_int_equal(sem_trywait(&behind.begun), -1);
	sem_post(&slow.go_on);
	wait_for(scene, 3);
	assert_int_equal(scene->order[1], 1);
	assert_int_equal(scene->order[2], 2);
}

/* He who has given hundreds has one thread, as everybody else; and another one goes on where it ends. */
SCENE_TEST(of_each_account_one_is_done_at_a_time_in_their_order, scene_start)
{
	static struct job jobs[300];
	unsigned last[3] = {0};

	for (unsigned i = 0; i < 300; i++) {
		prepare(scene, &jobs[i], i % 3, i + 1);
		jobs[i].item.ends_thread = i % 5 < 2;
		give(&jobs[i]);
	}
	wait_for(scene, 300);
	assert_int_equal(scene->most_at_work, 1);
	for (unsigned i = 0; i < 300; i++) {
		unsigned number = scene->order[i], *before = &last[(number - 1) % 3];

		assert_true(number > *before);
		*before = number;
	}
}

/* So many who are slow at a time leave no thread for others, who wait: nothing is lost, and nobody is served
 * twice. */
SCENE_TEST(beyond_the_threads_that_there_are_jobs_wait, scene_start)
{
	static struct job jobs[ACCOUNTS];

	for (unsigned i = 0; i < ACCOUNTS; i++) {
		prepare(scene, &jobs[i], i, i);
		jobs[i].waits = i < WORK_POOL_THREADS;
		give(&jobs[i]);
	}
	for (unsigned i = 0; i < WORK_POOL_THREADS; i++)
		sem_wait(&jobs[i].begun);
	assert_int_equal(sem_trywait(&jobs[WORK_POOL_THREADS].begun), -1);
	assert_int_equal(sem_trywait(&jobs[WORK_POOL_THREADS + 1].begun), -1);
	event_base_loop(scene->base, EVLOOP_NONBLOCK);
	assert_int_equal(scene->done, 0);
	sem_post(&jobs[0].go_on);
	wait_for(scene, 3); /* by its thread */
	for (unsigned i = 1; i < WORK_POOL_THREADS; i++)
		sem_post(&jobs[i].go_on);
	wait_for(scene, ACCOUNTS);
}

/* By what was used, and not by the time that it took. */
SCENE_TEST(what_it_used_of_a_cpu_is_charged_to_the_account, scene_start)
{
	struct job job;
	uint64_t before, used;

	for (unsigned spins = 0; spins < 2; spins++) {
		before = account_time(scene->accounts[spins])->spent;
		prepare(scene, &job, spins, 0);
		job.spins = spins;
		give(&job);
		wait_for(scene, spins + 1);
		used = account_time(scene->accounts[spins])->spent - before;
		assert_int_equal(used, job.item.used / TURNS_UNIT_NS);
		if (spins)
			assert_true(used >= SPIN_NS / TURNS_UNIT_NS);
	}
	assert_int_equal(account_time(scene->accounts[2])->spent, 0);
}

/* Who has no threads does it himself, as unit tests and fuzzers do. */
SCENE_TEST(without_threads_it_is_done_at_once, scene_start)
{
	struct work_pool *pool = scene->board.work_pool;
	struct job job;

	scene->board.work_pool = NULL;
	prepare(scene, &job, 0, 7);
	give(&job);
	assert_int_equal(scene->done, 1);
	assert_true(pthread_equal(job.thread, pthread_self()));
	scene->board.work_pool = pool;
}

/* Those of programs that were refused are charged to nobody, so the loop stops taking new ones meanwhile. */
SCENE_TEST(it_says_when_sockets_wait_that_nobody_pays_for, scene_start)
{
	const unsigned before = open_descriptors();
	struct charge charge;

	assert_false(work_pool_is_behind(NULL));
	charge_init(&charge, scene->accounts[0]);
	charge_exceed(&charge, QUOTA_DESCRIPTORS, 20);
	for (unsigned i = 0; i < 20; i++)
		work_pool_close_socket(&scene->board, socket(AF_UNIX, SOCK_STREAM, 0), &charge);
	assert_false(work_pool_is_behind(scene->board.work_pool));
	for (unsigned i = 0; !work_pool_is_behind(scene->board.work_pool); i++) {
		assert_true(i < 20);
		work_pool_close_socket(&scene->board, socket(AF_UNIX, SOCK_STREAM, 0), &charge);
	}
	while (work_pool_is_behind(scene->board.work_pool) || open_descriptors() > before)
		event_base_loop(scene->base, EVLOOP_ONCE);
	charge_end(&charge);
}

SCENE_TEST(the_end_waits_for_what_was_given, scene_start)
{
	static struct job jobs[100];

	for (unsigned i = 0; i < 100; i++) {
		prepare(scene, &jobs[i], i % 4, i);
		give(&jobs[i]);
	}
	work_pool_free(scene->board.work_pool);
	scene->board.work_pool = NULL;
	assert_int_equal(scene->done, 100);
}
