/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/access.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <json-c/json.h>

#include "daemon/denied.h"
#include "daemon/log.h"
#include "daemon/policy.h"

#define GROUPS_MAX 1024

struct access {
	uint32_t domid;
	char *directory;
	struct policy *policy;
	struct denied *denied;
	access_names_fn names;
	void *userdata;
	struct log_limit limit;
};

int access_reload(struct access *access)
{
	struct policy *policy = NULL;
	char *error = NULL;
	int r = policy_load(&policy, access->directory, &error);

	if (r < 0) {
		log_error("policy: %s%s", error ? error : strerror(-r), access->policy ? "; the old rules stay" : "");
		free(error);
		return r;
	}
	policy_free(access->policy);
	access->policy = policy;
	log_info("policy: %u rules from %s", policy_rules(policy), access->directory);
	return 0;
}

int access_new(struct access **out, uint32_t domid, const char *directory, access_names_fn names, void *userdata)
{
	struct access *access = calloc(1, sizeof(*access));
	int r = -ENOMEM;

	if (!access)
		return -ENOMEM;
	access->domid = domid;
	access->names = names;
	access->userdata = userdata;
	access->directory = strdup(directory);
	access->denied = denied_new();
	if (access->directory && access->denied)
		r = access_reload(access);
	if (r < 0) {
		access_free(access);
		return r;
	}
	*out = access;
	return 0;
}

void access_renumber(struct access *access, uint32_t domid)
{
	access->domid = domid;
}

void access_free(struct access *access)
{
	if (!access)
		return;
	policy_free(access->policy);
	denied_free(access->denied);
	free(access->directory);
	free(access);
}

static struct policy_subject subject_of(struct access *access, uint32_t domid, uint32_t uid)
{
	struct policy_subject subject = {
		.domid = domid,
		.is_self = domid == access->domid,
		.name = "",
		.uuid = "",
		.uid = uid,
	};

	access->names(access->userdata, domid, &subject.name, &subject.uuid);
	return subject;
}

static struct policy_decision decide(struct access *access, const struct frame_identity *from, const char *endpoint)
{
	struct policy_subject subject = subject_of(access, from->domid, from->uid);

	return policy_reach(access->policy, &subject, endpoint);
}

int access_reach(struct access *access, const struct frame_identity *from, const char *endpoint)
{
	struct policy_decision decision = decide(access, from, endpoint);

	if (decision.allow)
		return 0;
	denied_add(access->denied, from->domid, from->uid, endpoint, decision.file, decision.line);
	return -EACCES;
}

bool access_still_allowed(struct access *access, const struct frame_identity *from, const char *endpoint)
{
	return decide(access, from, endpoint).allow;
}

int access_bind(struct access *access, int fd, uid_t uid, gid_t gid, const char *endpoint, gid_t socket_group)
{
	gid_t groups[GROUPS_MAX];
	socklen_t size = sizeof(groups);
	struct policy_subject who = {.domid = access->domid, .is_self = true, .uid = uid, .gid = gid, .groups = groups};
	struct policy_decision decision;

	/* The kernel's word for the groups that the program was in when it connected. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0)
		who.group_count = (unsigned)(size / sizeof(gid_t));
	decision = policy_bind(access->policy, &who, endpoint, socket_group);
	if (decision.allow)
		return 0;
	if (decision.file)
		log_limited(&access->limit, LOG_LEVEL_WARNING, "denied: uid %u may not bind %s, by %s:%u", uid, endpoint,
			    decision.file, decision.line);
	else
		log_limited(&access->limit, LOG_LEVEL_WARNING,
			    "denied: uid %u may not bind %s: no rule allows it, and it is neither root nor in the "
			    "socket's group",
			    uid, endpoint);
	return -EACCES;
}

bool access_sees(struct access *access, uint32_t domid, uint32_t other)
{
	struct policy_subject from = subject_of(access, domid, 0), subject = subject_of(access, other, 0);

	return policy_sees(access->policy, &from, &subject);
}

bool access_visible(struct access *access, uint32_t domid, const char *endpoint)
{
	struct policy_subject subject = subject_of(access, domid, 0);

	return policy_shows(access->policy, &subject, endpoint);
}

static void add_shown(void *userdata, const char *domain, bool allow)
{
	char text[256];

	snprintf(text, sizeof(text), "%s%s", allow ? "" : "!", domain);
	json_object_array_add(userdata, json_object_new_string(text));
}

struct json_object *access_visible_to(struct access *access, const char *endpoint)
{
	struct policy_subject self = subject_of(access, access->domid, 0);
	struct json_object *shown = json_object_new_array();

	policy_shown_to(access->policy, &self, endpoint, add_shown, shown);
	return shown;
}

struct json_object *access_explain(struct access *access, uint32_t domid, uint32_t uid, const char *endpoint)
{
	struct policy_subject subject = subject_of(access, domid, uid);
	struct policy_decision decision = policy_reach(access->policy, &subject, endpoint);
	struct json_object *object = json_object_new_object();
	const char *reason = "a rule decides";

	if (!decision.file)
		reason = subject.is_self ? "no rule matches; within the domain that means allow"
					 : "no rule matches; between domains that means deny";
	json_object_object_add(object, "allow", json_object_new_boolean(decision.allow));
	json_object_object_add(object, "domid", json_object_new_uint64(domid));
	json_object_object_add(object, "uid", json_object_new_uint64(uid));
	json_object_object_add(object, "endpoint", json_object_new_string(endpoint));
	json_object_object_add(object, "file", decision.file ? json_object_new_string(decision.file) : NULL);
	json_object_object_add(object, "line", decision.file ? json_object_new_uint64(decision.line) : NULL);
	json_object_object_add(object, "reason", json_object_new_string(reason));
	return object;
}

struct denied *access_denied(struct access *access)
{
	return access->denied;
}
