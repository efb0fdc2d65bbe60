/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/watches_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/local/session.h"
#include "daemon/serve/questions.h"
#include "daemon/serve/watches_internal.h"
#include "daemon/registry/registry.h"

/* --- sessions that only keep what they are told ----------------------------------------------- */

struct hop *question_program(const struct question *question)
{
	return question->session->is_strangers ? NULL : &question->session->hop;
}

struct account *question_account(const struct question *question)
{
	return question->session->hop.account;
}

const void *question_asker(const struct question *question)
{
	return question->session;
}

bool question_is_behind(const struct question *question)
{
	return question->session->is_behind;
}

static void answer_question(const struct question *question, int error)
{
	struct session *session = question->session;

	assert_int_equal(session->reply, -1);
	assert_int_equal(strlen(session->heard), session->heard_before); /* it comes before the first event */
	session->reply = error;
	session->replied_to = question->number;
}

void question_drop(struct question *question)
{
	LL_DELETE(question->session->questions, question);
	free(question);
}

void question_refuse(struct question *question, int error, const char *why)
{
	assert_true(*why); /* an error says why */
	answer_question(question, error);
	question_drop(question);
}

struct question *question_stand(struct question *question)
{
	answer_question(question, 0);
	return question;
}

/* All that it asks ends with the channel. */
void question_hang_up(const struct question *question, int error)
{
	struct session *session = question->session;

	session->hung_up = error;
	while (session->questions) {
		watches_forget_question(session->watches, session->questions);
		question_drop(session->questions);
	}
}

bool question_has_stood(const struct question *question)
{
	return question->session->has_stood;
}

void session_cut_off(struct hop *program, int error, const char *why)
{
	((struct session *)program)->cut_off = error;
}

int question_tell(struct question *question, const void *payload, size_t length)
{
	struct session *session = question->session;
	uint32_t channel = question->number;
	size_t used = strlen(session->heard);
	struct frame_event event;

	if (session->full)
		return -ENOMEM;
	assert_int_equal(frame_event_decode(payload, (uint32_t)length, &event), 0);
	assert_int_equal(event.host.size, session->is_of_host);
	if (event.kind == EVENT_LISTED) {
		session->lists++;
		if (session->hears_lists)
			snprintf(session->heard + used, HEARD_MAX - used, "%u%s. ", channel,
				 event.text.size ? "~" : "");
		return 0;
	}
	if (session->model) {
		bool of_endpoint = event.kind == EVENT_ENDPOINT_UP || event.kind == EVENT_ENDPOINT_DOWN;
		char text[8] = "";
		unsigned which;

		if (of_endpoint)
			memcpy(text, event.text.data + 1, event.text.size - 1);
		which = of_endpoint ? (unsigned)atoi(text) + 1 : 0;
		assert_true(which <= MODEL_NAMES && channel < MODEL_WATCHES);
		session->model[channel * (MODEL_NAMES + 1) + which] =
			event.kind == EVENT_ENDPOINT_UP || event.kind == EVENT_DOMAIN_UP;
		return 0;
	}
	if (session->counts) {
		session->events++;
		session->up += event.kind == EVENT_ENDPOINT_UP	   ? 1
			       : event.kind == EVENT_ENDPOINT_DOWN ? -1
								   : 0;
		return 0;
	}
	if (event.kind == EVENT_ENDPOINT_UP || event.kind == EVENT_ENDPOINT_DOWN)
		snprintf(session->heard + used, HEARD_MAX - used, "%u%c%u:%.*s(%.*s) ", channel,
			 event.kind == EVENT_ENDPOINT_UP ? '+' : '-', event.domid, (int)event.text.size,
			 event.text.data, (int)event.domain_name.size,
			 event.domain_name.data ? event.domain_name.data : "");
	else if (event.kind == EVENT_HOST_UP || event.kind == EVENT_HOST_DOWN)
		snprintf(session->heard + used, HEARD_MAX - used, "%u%c%c ", channel,
			 event.kind == EVENT_HOST_UP ? '+' : '-', event.host.data[0]);
	else
		snprintf(session->heard + used, HEARD_MAX - used, "%u%c%u(%.*s) ", channel,
			 event.kind == EVENT_DOMAIN_AWAY ? '~'
			 : event.kind == EVENT_DOMAIN_UP ? '+'
							 : '-',
			 event.domid, (int)event.text.size, event.text.data);
	return 0;
}

/* --- the scene -------------------------------------------------------------------------------- */

static bool sees(void *userdata, const struct question *question, uint32_t domid, const char *endpoint)
{
	struct scene *scene = userdata;

	if (question->session->is_strangers && domid != OWN)
		return domid != scene->hidden && !*endpoint;
	return !scene->keeps_secrets || question->session == &scene->a || strncmp(endpoint, "secret", 6) != 0;
}

static bool knows_all(void *userdata)
{
	const struct scene *scene = userdata;

	return !scene->asks_all;
}

static bool pass(void *userdata)
{
	struct scene *scene = userdata;

	while (turns_run(&scene->turns))
		;
	return false;
}

void one_pass(struct scene *scene)
{
	event_base_loop(scene->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

void settle(struct scene *scene)
{
	do
		one_pass(scene);
	while (scene->turns.due);
}

void make_watches(struct scene *scene)
{
	scene->watches = watches_new(&scene->turns, scene->registry, sees, knows_all, scene);
	assert_non_null(scene->watches);
	assert_int_equal(watches_set_inquiries(scene->watches, scene->base, NULL), 0);
	scene->a.watches = scene->b.watches = scene->watches;
}

void scene_start(struct scene *scene)
{
	*scene = (struct scene){.base = event_base_new(), .self.domid = OWN};
	assert_int_equal(turns_init(&scene->turns, scene->base, pass, scene), 0);
	scene->registry = registry_new(&scene->self);
	make_watches(scene);
	rename_domain(scene, 7, "work");
	rename_domain(scene, OWN, "home");
}

void scene_start_with_users(struct scene *scene)
{
	const struct quota_limits limits = {.pool = {1, 1, 1, 1, 1}};

	scene_start(scene);
	scene->quota = quota_new(&limits);
	scene->a.hop.account = quota_account(scene->quota, QUOTA_UID, 1000);
	scene->b.hop.account = quota_account(scene->quota, QUOTA_UID, 1001);
}

void scene_stop(struct scene *scene)
{
	watches_free(scene->watches);
	while (scene->a.questions)
		question_drop(scene->a.questions);
	while (scene->b.questions)
		question_drop(scene->b.questions);
	account_unref(scene->a.hop.account);
	account_unref(scene->b.hop.account);
	quota_free(scene->quota);
	registry_free(scene->registry);
	turns_cleanup(&scene->turns);
	event_base_free(scene->base);
}

struct question *new_question(struct session *session, uint32_t number)
{
	struct question *question = calloc(1, sizeof(*question));

	assert_non_null(question);
	*question = (struct question){.session = session, .number = number};
	LL_PREPEND(session->questions, question);
	return question;
}

bool unwatch(struct scene *scene, struct session *session, uint32_t number)
{
	struct question *question;

	LL_SEARCH_SCALAR(session->questions, question, number, number);
	if (!question)
		return false;
	watches_forget_question(scene->watches, question);
	question_drop(question);
	return true;
}

void unwatch_all(struct scene *scene, struct session *session)
{
	while (session->questions)
		unwatch(scene, session, session->questions->number);
}

int watch(struct scene *scene, struct session *session, uint32_t number, const char *pattern)
{
	const struct address_parts parts = address_split(pattern, strlen(pattern));

	session->reply = -1;
	session->heard_before = strlen(session->heard);
	watches_add(scene->watches, new_question(session, number), &parts, NULL);
	assert_int_equal(session->replied_to, number);
	assert_true(session->reply >= 0);
	return session->reply;
}

void add_watch(struct scene *scene, struct session *session, uint32_t number, const char *pattern)
{
	assert_int_equal(watch(scene, session, number, pattern), 0);
}

void expect(struct scene *scene, struct session *session, const char *what)
{
	settle(scene);
	assert_string_equal(session->heard, what);
	session->heard[0] = '\0';
}

void endpoints(struct scene *scene, uint32_t domid, const char *list)
{
	char text[256];
	char *names[16];
	struct offered offered = {.list = names};

	snprintf(text, sizeof(text), "%s", list);
	for (char *name = strtok(text, " "); name; name = strtok(NULL, " "))
		names[offered.count++] = name;
	registry_set_endpoints(scene->registry, domid, &offered, 1);
}

void come_up(struct scene *scene, const char *list)
{
	registry_set_up(scene->registry, 7, true);
	endpoints(scene, 7, list);
}

void rename_domain(struct scene *scene, uint32_t domid, const char *name)
{
	registry_set_name(scene->registry, registry_get(scene->registry, domid), name, strlen(name));
}
