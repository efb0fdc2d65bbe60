/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/policy_rig.h"

#include <unistd.h>

int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	strcpy(fixture->directory, "/tmp/xenmsg-test-policy-XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	*state = fixture;
	return 0;
}

int tear_down(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < fixture->count; i++)
		unlink(fixture->files[i]);
	rmdir(fixture->directory);
	policy_free(fixture->policy);
	free(fixture->error);
	free(fixture);
	return 0;
}

static void put_bytes(struct fixture *fixture, const char *name, const void *bytes, size_t size)
{
	char path[96];
	unsigned i;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", fixture->directory, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
	for (i = 0; i < fixture->count && strcmp(fixture->files[i], path); i++)
		;
	if (i == fixture->count)
		strcpy(fixture->files[fixture->count++], path);
}

void put(struct fixture *fixture, const char *name, const char *text)
{
	put_bytes(fixture, name, text, strlen(text));
}

int load(struct fixture *fixture)
{
	policy_free(fixture->policy);
	fixture->policy = NULL;
	free(fixture->error);
	fixture->error = NULL;
	return policy_load(&fixture->policy, fixture->directory, &fixture->error);
}

void rules(struct fixture *fixture, const char *text)
{
	put(fixture, "50-test.conf", text);
	if (load(fixture) != 0)
		fail_msg("was refused: %s", fixture->error);
	assert_null(fixture->error);
}

void refuse_bytes(struct fixture *fixture, const void *bytes, size_t size, unsigned line, const char *message)
{
	char prefix[128];

	put_bytes(fixture, "50-test.conf", bytes, size);
	if (load(fixture) != -EINVAL)
		fail_msg("was accepted: %s", (const char *)bytes);
	assert_null(fixture->policy);
	assert_non_null(fixture->error);
	snprintf(prefix, sizeof(prefix), "%s/50-test.conf:%u: ", fixture->directory, line);
	if (strncmp(fixture->error, prefix, strlen(prefix)) || !strstr(fixture->error, message))
		fail_msg("\"%s\" doesn't begin with \"%s\" and hold \"%s\"", fixture->error, prefix, message);
}

void refuse(struct fixture *fixture, const char *text, unsigned line, const char *message)
{
	refuse_bytes(fixture, text, strlen(text), line, message);
}

const struct policy_subject guest = {.domid = 3, .name = "work", .uuid = UUID, .uid = 1000};

const struct policy_subject self = {.domid = 1, .is_self = true, .name = "me", .uuid = "", .uid = 1000};

struct policy_decision reach(struct fixture *fixture, const struct policy_subject *from, const char *endpoint)
{
	return policy_reach(fixture->policy, from, endpoint);
}

bool allowed(struct fixture *fixture, const struct policy_subject *from, const char *endpoint)
{
	return reach(fixture, from, endpoint).allow;
}
