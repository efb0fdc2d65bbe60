/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/requests_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/activation/activation.h"
#include "daemon/policy/access.h"
#include "daemon/switch/channel.h"
#include "base/self.h"
#include "daemon/switch/hop.h"
#include "daemon/registry/registry.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/link/relay.h"
#include "daemon/local/local.h"
#include "daemon/peers/peers.h"
#include "daemon/serve/router.h"
#include "daemon/serve/viewer.h"
#include "daemon/local/streams.h"
#include "daemon/topic/topics.h"
#include "wire/ut.h"

struct frame_identity requests_identity(const struct request_context *context, const struct hop *program)
{
	struct frame_identity identity = hop_program(program)->identity;

	identity.domid = context->self->domid; /* also of one that hasn't begun */
	return identity;
}

static const char *why_not_bound(int error)
{
	switch (error) {
	case 0:
		return "";
	case EACCES:
		return "policy doesn't let this user bind it; root, the socket's group and those that a [bind] allows may";
	case EPERM:
		return "this endpoint is started on demand, and only the user that its file names may bind it";
	case EEXIST:
		return "a program has bound this endpoint already";
	case EINVAL:
		return "an endpoint is 1 to 63 letters, digits, _ and -, and begins with a letter or digit";
	default: /* the library's words */
		return "";
	}
}

static const char *why_not_shared(const struct endpoint *endpoint, struct hop *program)
{
	const struct binder *binder;

	DL_FOREACH(endpoint->binders, binder)
		if (binder->hop == program)
			return "this program has bound it already";
	if (hop_program(endpoint->hop)->identity.uid != hop_program(program)->identity.uid)
		return "a program of another user has bound this endpoint already";
	if (!(endpoint->kinds & BIND_SHARED))
		return "a program has bound this endpoint already, and doesn't share it";
	return "programs share this endpoint for other kinds of what is opened to it";
}

static void bind_endpoint(struct request_context *context, struct hop *program, uint32_t request,
			  const struct frame_bind *bind)
{
	const struct frame_identity *who = &hop_program(program)->identity;
	char name[ENDPOINT_NAME_MAX + 1], why[160];
	const struct endpoint *endpoint;
	int r = -EINVAL;

	if (hop_program(program)->carries_streams && (bind->kinds & ~BIND_FLAGS) != BIND_STREAMS) {
		session_reply_error(program, request, EINVAL,
				    "this session carries streams, and nothing else");
		return;
	}
	if (endpoint_name_is_valid(bind->endpoint.data, bind->endpoint.size)) {
		memcpy(name, bind->endpoint.data, bind->endpoint.size);
		name[bind->endpoint.size] = '\0';
		endpoint = router_find(context->router, name);
		/* Its file says who may, whatever the rules say. */
		if (endpoint && endpoint->activation)
			r = activation_may_bind(endpoint->activation, who->uid) ? 0 : -EPERM;
		else
			r = access_bind(context->access, session_socket(program), who->uid, who->gid, name,
					local_group(context->local));
	}
	if (r == 0)
		r = router_bind(context->router, program, bind->endpoint, bind->kinds, NULL, false);
	if (r == -ENOBUFS)
		account_explain(hop_account(program), QUOTA_ENDPOINTS, 1, why, sizeof(why));
	else if (r == -EEXIST && frame_text_is(bind->endpoint, DAEMON_ENDPOINT))
		snprintf(why, sizeof(why), "xenmsgd answers there itself");
	else if (r == -EEXIST && (bind->kinds & BIND_SHARED))
		snprintf(why, sizeof(why), "%s", why_not_shared(router_find(context->router, name), program));
	else
		snprintf(why, sizeof(why), "%s", why_not_bound(-r));
	session_reply_error(program, request, r == -EPERM ? EACCES : -r, why);
}

const char *requests_why_unknown(const struct request_context *context)
{
	return registry_is_told(context->registry)
		       ? "no domain of that name is known here; 'xenmsg peers' lists who is there"
		       : "no domain of that name is known here; names need xenmsgd in domain 0";
}

const char *requests_why_not(int error)
{
	return error == EINVAL ? "that can't be a domain" : "";
}

bool requests_is_remote(const struct request_context *context, const struct address_parts *about)
{
	return about->host.data && !address_part_is(about->host, context->self->host);
}

static int subscribe(struct request_context *context, struct hop *program, const struct frame_header *header,
		     const uint8_t *payload)
{
	struct frame_subscribe subscribe;
	int r = frame_subscribe_decode(payload, header->length, &subscribe);

	if (r < 0)
		return r;
	if (hop_program(program)->carries_streams)
		session_reply_error(program, header->channel, EINVAL,
				    "this session carries streams, and nothing else");
	else if (session_unanswered(program) > REQUESTS_MAX)
		session_reply_error(program, header->channel, ENOBUFS,
				    "too many requests have no answer yet");
	else
		topics_subscribe(context->topics, program, header->channel, &subscribe);
	return 0;
}

static int on_request(void *userdata, struct hop *program, const struct frame_header *header,
		      const uint8_t *payload)
{
	struct request_context *context = userdata;
	struct frame_text text = {.data = (const char *)payload, .size = header->length};
	struct frame_bind bind;
	int r;

	switch (header->type) {
	case FRAME_BIND:
		r = frame_bind_decode(payload, header->length, &bind);
		if (r < 0)
			return r;
		bind_endpoint(context, program, header->channel, &bind);
		return 0;
	case FRAME_UNBIND:
		if (memchr(text.data, ':', text.size)) { /* an address, which no endpoint's name is */
			r = topics_unsubscribe(context->topics, program, text);
			session_reply_error(program, header->channel, -r, r ? "no such subscription" : "");
			return 0;
		}
		r = router_unbind(context->router, program, text, false);
		if (r < 0)
			session_reply_error(program, header->channel, -r, "this program has not bound it");
		else
			session_go_on_later(program, header->channel, text);
		return 0;
	case FRAME_DRAIN: /* the channels go on until the program ends them */
		r = router_unbind(context->router, program, text, true);
		session_reply_error(program, header->channel, -r, r ? "this program has not bound it" : "");
		return 0;
	default: /* FRAME_SUBSCRIBE */
		return subscribe(context, program, header, payload);
	}
}

static bool go_on_unbinding(void *userdata, struct hop *program, struct session_rest *rest)
{
	struct request_context *context = userdata;

	if (router_end_channels(context->router, program, frame_text_of(rest->text), &rest->at))
		return true;
	session_reply(program, rest->request, 0, NULL, 0);
	return false;
}

/* Another domain's daemon can't know who administers this one. */
static bool is_for_daemon(struct frame_text address)
{
	return address_part_is(address_split(address.data, address.size).endpoint, DAEMON_ENDPOINT);
}

static int open_from_program(void *userdata, struct hop *program, struct channel *channel,
			     const struct frame_open *open)
{
	struct request_context *context = userdata;

	channel->identity = requests_identity(context, program);
	if (is_for_daemon(open->name))
		channel->administers = viewer_of(program, context->administrators).sees_all;
	router_open_address(context->router, channel, open->name);
	/* For listings, which do without it if there is no memory. What isn't led anywhere may be no
	 * address. */
	if (hop_program(program)->carries_streams && channel->endpoint)
		channel->address = strndup(open->name.data, open->name.size);
	return 0;
}

static void stream_from_program(void *userdata, struct hop *program, int fd,
				const struct frame_header *header, const uint8_t *payload)
{
	struct request_context *context = userdata;
	struct frame_identity identity = requests_identity(context, program);

	if (header->type == FRAME_ACCEPT)
		streams_fetch(context->streams, fd, session_takes_socket(program), payload, header->length);
	else
		streams_connect(context->streams, fd, session_takes_socket(program), &identity, payload,
				header->length);
}

static bool leave(void *userdata, struct hop *program, uint32_t *at)
{
	struct request_context *context = userdata;

	router_unbind_all(context->router, program);
	return router_leave(context->router, program, at);
}

static unsigned carries(void *userdata, struct hop *program)
{
	struct request_context *context = userdata;

	return topics_in_question(context->topics, program);
}

static void session_gone(void *userdata, struct hop *program)
{
	struct request_context *context = userdata;

	router_unbind_all(context->router, program);
	streams_forget_session(context->streams, program);
	topics_forget_session(context->topics, program);
	local_remove(context->local, program);
}

const struct session_callbacks requests_session_callbacks = {
	.request = on_request,
	.open = open_from_program,
	.go_on = go_on_unbinding,
	.stream = stream_from_program,
	.leave = leave,
	.carries = carries,
	.gone = session_gone,
};
