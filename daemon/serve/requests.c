/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/requests.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <json-c/json.h>
#include <utlist.h>

#include "daemon/activation/activation.h"
#include "daemon/policy/access.h"
#include "daemon/relay/channel.h"
#include "base/self.h"
#include "daemon/relay/hop.h"
#include "daemon/known/known.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/asks.h"
#include "daemon/link/link.h"
#include "daemon/link/via.h"
#include "daemon/local/local.h"
#include "daemon/peers/peers.h"
#include "daemon/serve/queries.h"
#include "daemon/serve/report.h"
#include "daemon/serve/router.h"
#include "daemon/local/streams.h"
#include "daemon/serve/status.h"
#include "daemon/serve/viewer.h"
#include "daemon/local/host_watches.h"
#include "daemon/local/watches.h"
#include "daemon/topic/topics.h"

#define QUERY_MAX (32 + HOST_NAME_SIZE + DOMAIN_NAME_MAX + ENDPOINT_NAME_MAX)

static struct frame_identity identity_of(const struct request_context *context, const struct session *session)
{
	const struct ucred *credentials = session_credentials(session);

	return (struct frame_identity){
		.domid = context->self->domid,
		.uid = credentials->uid,
		.gid = credentials->gid,
		.pid = (uint32_t)credentials->pid,
	};
}

static void reply_error(struct session *session, uint32_t request, int error, const char *why)
{
	session_reply(session, request, error, why, strlen(why));
}

static const char *why_not_bound(int error)
{
	switch (error) {
	case 0:
		return "";
	case EACCES:
		return "policy doesn't let this user bind it; root and the socket's group may, and who a [bind] allows";
	case EPERM:
		return "this endpoint is started on demand, and only the user that its file names may bind it";
	case EEXIST:
		return "a program has bound this endpoint already";
	case EINVAL:
		return "an endpoint is 1 to 63 letters, digits, _ and -, and begins with a letter or digit";
	default:
		return strerror(error);
	}
}

static const char *why_not_shared(const struct endpoint *endpoint, struct session *session)
{
	const struct binder *binder;

	DL_FOREACH(endpoint->binders, binder)
		if (binder->session == session)
			return "this program has bound it already";
	if (session_credentials(endpoint->session)->uid != session_credentials(session)->uid)
		return "a program of another user has bound this endpoint already";
	if (!(endpoint->kinds & BIND_SHARED))
		return "a program has bound this endpoint already, and doesn't share it";
	return "programs share this endpoint for other kinds of what is opened to it";
}

static void bind_endpoint(struct request_context *context, struct session *session, uint32_t request,
			  const struct frame_bind *bind)
{
	const struct ucred *credentials = session_credentials(session);
	char name[ENDPOINT_NAME_MAX + 1], why[160];
	const struct endpoint *endpoint;
	int r = -EINVAL;

	if (session_is_mux(session) && (bind->kinds & ~BIND_FLAGS) != BIND_STREAMS) {
		reply_error(session, request, EINVAL, "this session carries streams, and nothing else");
		return;
	}
	if (endpoint_name_is_valid(bind->endpoint.data, bind->endpoint.size)) {
		memcpy(name, bind->endpoint.data, bind->endpoint.size);
		name[bind->endpoint.size] = '\0';
		endpoint = router_find(context->router, name);
		/* Its file says who may, whatever the rules say. */
		if (endpoint && endpoint->activation)
			r = activation_may_bind(endpoint->activation, credentials->uid) ? 0 : -EPERM;
		else
			r = access_bind(context->access, session_socket(session), credentials->uid,
					credentials->gid, name, local_group(context->local));
	}
	if (r == 0)
		r = router_bind(context->router, session, bind->endpoint, bind->kinds);
	if (r == -ENOBUFS)
		account_explain(hop_account(session_hop(session)), QUOTA_ENDPOINTS, 1, why, sizeof(why));
	else if (r == -EEXIST && (bind->kinds & BIND_SHARED))
		snprintf(why, sizeof(why), "%s", why_not_shared(router_find(context->router, name), session));
	else
		snprintf(why, sizeof(why), "%s", why_not_bound(-r));
	reply_error(session, request, r == -EPERM ? EACCES : -r, why);
}

static void reply_json(struct session *session, uint32_t request, struct json_object *object)
{
	size_t size;
	const char *text = json_object_to_json_string_length(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);

	session_reply(session, request, 0, text, size);
	json_object_put(object);
}

static const char *why_unknown(const struct request_context *context)
{
	return known_is_told(context->known)
		       ? "no domain of that name is known here; 'xenmsg peers' lists who is there"
		       : "no domain of that name is known here; names need xenmsgd in domain 0";
}

/* Returns whether the program may ask: what it may reach itself, and who may reach what it has bound, since
 * it could find that out anyway. The rest concerns others only. */
static bool may_ask_policy(struct request_context *context, struct session *session, uint32_t domid,
			   uint32_t uid, const char *to)
{
	struct viewer viewer = viewer_of(session, context->administrators);
	const struct endpoint *endpoint = router_find(context->router, to);

	return viewer.sees_all || (domid == context->self->domid && uid == viewer.uid) ||
	       (endpoint && endpoint->session && session_credentials(endpoint->session)->uid == viewer.uid);
}

/* Answers, in domain 0, whether it relays what FROM opens to the address TO, or lets it go to another host. */
static void explain_address(struct request_context *context, struct session *session, uint32_t request,
			    const char *from, uint32_t domid, const char *to)
{
	struct address address;
	uint32_t to_domid;

	if (context->self->domid != 0 || address_parse(to, strlen(to), &address, NULL) < 0)
		reply_error(session, request, EINVAL,
			    "TO must be an endpoint: letters, digits, _ and -; or in domain 0 an address, "
			    "[HOST/]DOMAIN:ENDPOINT, to which it may relay");
	else if (!viewer_of(session, context->administrators).sees_all)
		reply_error(session, request, EPERM,
			    "only root and the daemon's administrators may ask that");
	else if (address.host[0] && strcmp(address.host, hosts_own_name(context->hosts)) != 0)
		reply_json(session, request, access_explain_out(context->access, from, domid, &address));
	else if (router_resolve(context->router, address.domain, &to_domid) < 0)
		reply_error(session, request, EHOSTDOWN, why_unknown(context));
	else
		reply_json(session, request,
			   access_explain_relay(context->access, from, domid, &address, to_domid));
}

/* Reads whose sessions are asked about: user 0 if none is named. */
static bool uid_of(const struct sender_parts *from, uint32_t *uid)
{
	*uid = 0;
	return !from->uid.data || uid_parse(from->uid.data, from->uid.size, uid);
}

/* Answers for a FROM on another host. */
static void explain_far(struct request_context *context, struct session *session, uint32_t request,
			const struct sender_parts *from, const char *to)
{
	char host[HOST_NAME_SIZE], domain[DOMAIN_NAME_MAX + 1];
	uint32_t uid;

	if (!uid_of(from, &uid) || !domain_name_is_valid(from->domain.data, from->domain.size) ||
	    !address_part_copy(from->host, host, sizeof(host)) ||
	    !address_part_copy(from->domain, domain, sizeof(domain)) ||
	    !endpoint_name_is_valid(to, strlen(to)))
		reply_error(
			session, request, EINVAL,
			"FROM on another host is HOST/DOMAIN or HOST/DOMAIN/UID, a uid is a number, and TO an "
			"endpoint here");
	else if (!may_ask_policy(context, session, UINT32_MAX, uid, to))
		reply_error(
			session, request, EPERM,
			"only root and the daemon's administrators may ask that; others about a TO that they "
			"have bound");
	else
		reply_json(session, request, access_explain_far(context->access, host, domain, uid, to));
}

/* Answers for a FROM on this host. */
static void explain_here(struct request_context *context, struct session *session, uint32_t request,
			 const struct sender_parts *from, const char *to)
{
	char domain[DOMAIN_NAME_MAX + 1];
	uint32_t domid, uid;

	if (!uid_of(from, &uid))
		reply_error(session, request, EINVAL, "FROM is DOMAIN or DOMAIN/UID, and a uid is a number");
	else if (!address_part_copy(from->domain, domain, sizeof(domain)) ||
		 router_resolve(context->router, domain, &domid) < 0)
		reply_error(session, request, EHOSTDOWN, why_unknown(context));
	else if (address_is_meant(to, strlen(to)))
		explain_address(context, session, request, domain, domid, to);
	else if (!may_ask_policy(context, session, domid, uid, to))
		reply_error(
			session, request, EPERM,
			"only root and the daemon's administrators may ask that; others may ask about FROM self/UID, "
			"their own, and about a TO that they have bound");
	else
		reply_json(session, request, access_explain(context->access, domain, domid, uid, to));
}

/* Answers a policy question: FROM is a sender, TO an endpoint here, or in domain 0 an address. */
static void explain_policy(struct request_context *context, struct session *session, uint32_t request,
			   const char *query)
{
	size_t size = strcspn(query, " ");
	const char *to = query[size] ? query + size + 1 : NULL;
	struct sender_parts from = address_split_sender(query, size);

	if (address_part_is(from.host, hosts_own_name(context->hosts)))
		from.host = (struct address_part){NULL, 0};
	if (to && from.host.data)
		explain_far(context, session, request, &from, to);
	else if (!to || !(address_is_meant(to, strlen(to)) || endpoint_name_is_valid(to, strlen(to))))
		reply_error(session, request, EINVAL, "TO must be an endpoint: letters, digits, _ and -");
	else
		explain_here(context, session, request, &from, to);
}

/* Reloads the policy, for root, and for users who could send us a signal anyway. The answer's text says what
 * is wrong with the rules. */
static void reload_policy(struct request_context *context, struct session *session, uint32_t request)
{
	const char *why = NULL;
	int r;

	if (!viewer_of(session, context->administrators).sees_all) {
		reply_error(
			session, request, EPERM,
			"only root, the user that xenmsgd runs as and administrators (admin-group) may have it read its policy again");
		return;
	}
	r = context->reload(context->userdata, &why);
	if (r < 0)
		reply_error(session, request, r == -ENOMEM ? ENOMEM : EINVAL, why ? why : "");
	else
		reply_json(session, request, access_files(context->access));
}

/* Has the daemon hand over to the program that is installed now, likewise. */
static void renew(struct request_context *context, struct session *session, uint32_t request)
{
	int r;

	if (!viewer_of(session, context->administrators).sees_all) {
		reply_error(
			session, request, EPERM,
			"only root, the user that xenmsgd runs as and administrators (admin-group) may renew it");
		return;
	}
	r = context->renew(context->userdata, session, request);
	if (r < 0)
		reply_error(session, request, -r, r == -EBUSY ? "it is being renewed already" : strerror(-r));
}

/* Returns the reason for an error. The status has the reason why a link can't be made, which may be a peer's
 * text. */
static const char *why_not(int error)
{
	switch (error) {
	case EINVAL:
		return "that can't be a domain";
	case EHOSTDOWN:
		return "no such domain, or no xenmsgd runs in it; 'xenmsg peers' lists who is there";
	case EHOSTUNREACH:
		return "";
	default:
		return strerror(error);
	}
}

/* --- questions about the daemon --------------------------------------------------------------- */

static struct report *begin_report(struct request_context *context, struct session *session, uint32_t request,
				   struct report_question question)
{
	struct report *report;

	question.viewer = viewer_of(session, context->administrators);
	report = report_new(&question);
	if (!report)
		reply_error(session, request, ENOMEM, strerror(ENOMEM));
	return report;
}

/* Splits what a question is about: HOST, or [HOST/]DOMAIN. */
static struct address_parts parts_about(const char *text, bool is_host)
{
	struct address_parts about = address_split_domain(text, strlen(text));

	if (is_host)
		return (struct address_parts){.host = about.host.data ? about.host : about.domain};
	return about;
}

static bool is_far(const struct request_context *context, const struct address_parts *about)
{
	return about->host.data && !address_part_is(about->host, hosts_own_name(context->hosts));
}

static bool begins_with(struct frame_text text, const char *word)
{
	return text.size >= strlen(word) && !memcmp(text.data, word, strlen(word));
}

/* Whether another host answers a question about HOST or HOST/DOMAIN. */
static bool is_for_host(const struct request_context *context, struct frame_text text)
{
	char query[QUERY_MAX + 1], *space;
	struct address_parts about;

	memcpy(query, text.data, text.size);
	query[text.size] = '\0';
	space = strchr(query, ' ');
	about = parts_about(space ? space + 1 : "", begins_with(text, "peers"));
	return space && is_far(context, &about);
}

bool requests_is_ready(void *userdata, struct frame_text text)
{
	struct request_context *context = userdata;
	bool lists =
		begins_with(text, "peers") ||
		(begins_with(text, "endpoints") && !(text.size == 14 && begins_with(text, "endpoints self")));

	return !lists || is_for_host(context, text) || peers_want_all(context->peers);
}

/* --- about other hosts ------------------------------------------------------------------------ */

/* Copies what was told, at the cost of who has asked. -ENOMEM, -ENOBUFS. */
static int copy_far(struct session *asker, const char *host, const struct frame_told *told,
		    struct status_far **copy)
{
	size_t size = told->count ? (size_t)(told->end - told->at) : 0;
	struct status_far *far = calloc(1, sizeof(*far) + size);
	int r;

	if (!far)
		return -ENOMEM;
	charge_init(&far->charge, hop_account(session_hop(asker)));
	r = charge_add(&far->charge, QUOTA_BYTES, size);
	if (r < 0) {
		status_far_free(far);
		return r;
	}
	snprintf(far->host, sizeof(far->host), "%s", host);
	if (told->name.size)
		memcpy(far->domain, told->name.data, told->name.size);
	far->told = *told;
	far->told.at = memcpy(far->entries, size ? told->at : far->entries, size);
	far->told.end = far->entries + size;
	*copy = far;
	return 0;
}

/* Answers with what was told. */
static void on_told(void *userdata, void *asker, uint32_t request, enum ask_kind kind, const char *host,
		    const struct frame_told *told)
{
	static const enum report_kind kinds[] = {
		[ASK_DOMAINS] = REPORT_FAR_DOMAINS,
		[ASK_ENDPOINTS] = REPORT_FAR_ENDPOINTS,
		[ASK_HOSTS] = REPORT_FAR_HOSTS,
		[ASK_STATUS] = REPORT_FAR_STATUS,
	};
	struct report_question question = {.kind = kinds[kind], .domid = -1};
	struct report *report = NULL;
	struct request_context *context = userdata;
	int r;

	if (told->error) {
		reply_error(asker, request, (int)told->error, asks_why_not(kind, (int)told->error));
		return;
	}
	r = copy_far(asker, host, told, &question.far);
	if (r == 0)
		report = report_new(&question);
	if (r == 0 && !report) {
		status_far_free(question.far);
		r = -ENOMEM;
	}
	if (r == 0)
		r = queries_add_report(context->queries, asker, request, report);
	if (r < 0)
		reply_error(asker, request, -r, strerror(-r));
}

/* Asks domain 0, or another host by way of it. */
static void ask_far(struct request_context *context, struct session *session, uint32_t request,
		    enum ask_kind kind, const char *host, const char *domain)
{
	struct ask_question question = {
		.kind = kind,
		.host = host,
		.domain = domain,
		.from = identity_of(context, session),
		.userdata = context,
	};
	int r = asks_ask(context->asks, &question, hop_account(session_hop(session)), on_told, session,
			 request);

	if (r < 0)
		reply_error(session, request, -r, asks_why_not(kind, -r));
}

/* Asks another host: which domains it has, or which endpoints the domain there. */
static void ask_host(struct request_context *context, struct session *session, uint32_t request,
		     const struct address_parts *about)
{
	enum ask_kind kind = about->domain.data ? ASK_ENDPOINTS : ASK_DOMAINS;
	char host[HOST_NAME_SIZE], domain[DOMAIN_NAME_MAX + 1];

	if (host_name_is_valid(about->host.data, about->host.size) &&
	    (!about->domain.data || domain_name_is_valid(about->domain.data, about->domain.size)) &&
	    address_part_copy(about->host, host, sizeof(host)) &&
	    address_part_copy(about->domain, domain, sizeof(domain)))
		ask_far(context, session, request, kind, host, about->domain.data ? domain : NULL);
	else
		reply_error(session, request, EINVAL, asks_why_not(kind, EINVAL));
}

/* Asks, in domain 0, a domain of this host how its daemon is, or begins to say it of this one. */
static struct report *ask_status(struct request_context *context, struct session *session, uint32_t request,
				 const char *domain)
{
	struct report_question own = {.kind = REPORT_STATUS, .domid = -1};
	struct ask_question question = {
		.kind = ASK_STATUS,
		.host = "",
		.from = identity_of(context, session),
		.userdata = context,
	};
	int r = router_resolve(context->router, domain, &question.domid);

	if (r == 0 && question.domid == context->self->domid)
		return begin_report(context, session, request, own);
	if (context->self->domid != 0) {
		reply_error(session, request, EACCES, "domains tell domain 0 alone how they are: ask there");
	} else if (!viewer_of(session, context->administrators).sees_all) {
		reply_error(session, request, EPERM,
			    "only root and the daemon's administrators may ask other domains");
	} else if (r < 0) {
		reply_error(session, request, EHOSTDOWN, why_unknown(context));
	} else {
		r = asks_ask(context->asks, &question, hop_account(session_hop(session)), on_told, session,
			     request);
		if (r < 0)
			reply_error(session, request, -r, asks_why_not(ASK_STATUS, -r));
	}
	return NULL;
}

/* Whether this daemon knows of other hosts; else it has answered why not, or asked domain 0. */
static bool can_list_hosts(struct request_context *context, struct session *session, uint32_t request)
{
	if (context->self->domid != 0)
		ask_far(context, session, request, ASK_HOSTS, "", "");
	else if (*hosts_own_name(context->hosts))
		return true;
	else
		reply_error(session, request, EHOSTUNREACH,
			    "this host has no name, so nothing leads to others: set name under [hosts] in "
			    "xenmsgd.conf(5), and run xenmsg-gateway(8)");
	return false;
}

struct report *requests_begin_answer(void *userdata, struct session *session, uint32_t request,
				     struct frame_text text)
{
	struct report_question question = {.kind = REPORT_STATUS, .domid = -1};
	struct request_context *context = userdata;
	char query[QUERY_MAX + 1], domain[DOMAIN_NAME_MAX + 1];
	struct address_parts about;
	uint32_t domid;

	memcpy(query, text.data, text.size);
	query[text.size] = '\0';
	if (!strncmp(query, "policy ", 7)) {
		explain_policy(context, session, request, query + 7);
		return NULL;
	}
	if (!strcmp(query, "reload")) {
		reload_policy(context, session, request);
		return NULL;
	}
	if (!strcmp(query, "renew")) {
		renew(context, session, request);
		return NULL;
	}
	if (!strcmp(query, "rules") || !strcmp(query, "denied")) {
		if (!viewer_of(session, context->administrators).sees_all) {
			reply_error(
				session, request, EPERM,
				"only root, the user that xenmsgd runs as and administrators (admin-group) "
				"may see the rules, and whom they refuse");
			return NULL;
		}
		question.kind = query[0] == 'r' ? REPORT_RULES : REPORT_DENIED;
	} else if (!strcmp(query, "status all")) {
		question.all = true;
	} else if (!strncmp(query, "status of ", 10)) {
		return ask_status(context, session, request, query + 10);
	} else if (!strcmp(query, "peers")) {
		question.kind = REPORT_PEERS;
	} else if (!strncmp(query, "peers ", 6)) {
		about = parts_about(query + 6, true);
		if (is_far(context, &about)) {
			ask_host(context, session, request, &about);
			return NULL;
		}
		question.kind = REPORT_PEERS;
	} else if (!strcmp(query, "hosts")) {
		if (!can_list_hosts(context, session, request))
			return NULL;
		question.kind = REPORT_HOSTS;
	} else if (!strcmp(query, "endpoints")) {
		question.kind = REPORT_ENDPOINTS;
	} else if (!strncmp(query, "endpoints ", 10)) {
		int r;

		about = parts_about(query + 10, false);
		if (is_far(context, &about)) {
			ask_host(context, session, request, &about);
			return NULL;
		}
		r = address_part_copy(about.domain, domain, sizeof(domain))
			    ? router_resolve(context->router, domain, &domid)
			    : -EHOSTDOWN;
		if (r < 0 || (domid != context->self->domid && !peers_is_up(context->peers, domid))) {
			reply_error(session, request, EHOSTDOWN,
				    r < 0 ? why_unknown(context) : why_not(EHOSTDOWN));
			return NULL;
		}
		question.kind = REPORT_ENDPOINTS;
		question.domid = domid;
	} else if (strcmp(query, "status")) {
		reply_error(
			session, request, EINVAL,
			"a query is status [all | of DOMAIN], peers [HOST], endpoints [[HOST/]DOMAIN], hosts, policy FROM TO, "
			"rules, denied, reload or renew");
		return NULL;
	}
	return begin_report(context, session, request, question);
}

static void ask(struct request_context *context, struct session *session, uint32_t request,
		struct frame_text text)
{
	int r = -EINVAL;

	if (text.size <= QUERY_MAX)
		r = queries_add(context->queries, session, request, text);
	if (r == -ENOBUFS)
		session_cut_off(session, r, "the program asks more before it is answered than it may");
	else if (r < 0)
		reply_error(session, request, -r, r == -EINVAL ? "no such query" : strerror(-r));
}

static void on_ping_result(void *userdata, uint32_t request, int64_t result)
{
	struct session *session = userdata;
	uint8_t rtt[8];

	if (result < 0)
		reply_error(session, request, (int)-result, why_not((int)-result));
	else
		session_reply(session, request, 0, rtt, frame_u64_encode((uint64_t)result, rtt));
}

static void ping_domain(struct request_context *context, struct session *session, uint32_t request,
			struct frame_text text)
{
	struct account *account = hop_account(session_hop(session));
	struct frame_identity from = identity_of(context, session);
	struct address address;
	struct peer_id peer = peer_domain(0);
	int r = address_parse_domain(text.data, text.size, &address);
	bool is_far = r == 0 && address.host[0] && strcmp(address.host, hosts_own_name(context->hosts)) != 0;

	if (r == 0 && !is_far)
		r = router_resolve_way(context->router, address.domain, &peer);
	if (r == 0 && !is_far && peer_is_domain(peer, context->self->domid)) {
		on_ping_result(session, request, 0);
		return;
	}
	if (r == -EHOSTDOWN) {
		reply_error(session, request, EHOSTDOWN, why_unknown(context));
		return;
	}
	if (r == 0 && session_unanswered(session) > REQUESTS_MAX)
		r = -ENOBUFS;
	if (r == 0 && is_far)
		r = via_ping_out(context->via, &from, &address, account, on_ping_result, session, request);
	else if (r == 0 && via_zero_knows(context->via, peer))
		r = -ENOLINK;
	else if (r == 0)
		r = links_ping(context->links, peer, account, on_ping_result, session, request);
	if (r == -ENOLINK)
		r = via_ping(context->via, peer.number, account, on_ping_result, session, request);
	if (r < 0)
		reply_error(session, request, -r, why_not(-r));
}

/* Adds a watch, of another host if the pattern has one before a slash. */
static void watch(struct request_context *context, struct session *session, uint32_t request,
		  struct frame_text pattern)
{
	struct address_parts parts = address_split(pattern.data, pattern.size);
	struct frame_identity from = identity_of(context, session);

	if (is_far(context, &parts)) {
		host_watches_add(context->host_watches, session, request, &parts, &from);
		return;
	}
	watches_add(context->watches, session, request, &parts);
	if (watches_others(context->watches))
		peers_want_all(context->peers);
}

static int subscribe(struct request_context *context, struct session *session,
		     const struct frame_header *header, const uint8_t *payload)
{
	struct frame_subscribe subscribe;
	int r = frame_subscribe_decode(payload, header->length, &subscribe);

	if (r < 0)
		return r;
	if (session_is_mux(session))
		reply_error(session, header->channel, EINVAL,
			    "this session carries streams, and nothing else");
	else if (session_unanswered(session) > REQUESTS_MAX)
		reply_error(session, header->channel, ENOBUFS, "too many requests have no answer yet");
	else
		topics_subscribe(context->topics, session, header->channel, &subscribe);
	return 0;
}

static int on_request(void *userdata, struct session *session, const struct frame_header *header,
		      const uint8_t *payload)
{
	struct request_context *context = userdata;
	struct frame_text text = {.data = (const char *)payload, .size = header->length};
	struct frame_bind bind;
	uint32_t number;
	int r;

	switch (header->type) {
	case FRAME_BIND:
		r = frame_bind_decode(payload, header->length, &bind);
		if (r < 0)
			return r;
		bind_endpoint(context, session, header->channel, &bind);
		return 0;
	case FRAME_UNBIND:
		r = router_unbind(context->router, session, text);
		if (r < 0)
			reply_error(session, header->channel, -r, "this program has not bound it");
		else
			session_go_on_later(session, header->channel, text);
		return 0;
	case FRAME_DRAIN: /* the channels go on until the program ends them */
		r = router_unbind(context->router, session, text);
		reply_error(session, header->channel, -r, r ? "this program has not bound it" : "");
		return 0;
	case FRAME_WATCH:
		watch(context, session, header->channel, text);
		return 0;
	case FRAME_UNWATCH:
		r = frame_u32_decode(payload, header->length, &number);
		if (r < 0)
			return r;
		r = watches_remove(context->watches, session, number);
		if (r == -ENOENT)
			r = host_watches_remove(context->host_watches, session, number);
		reply_error(session, header->channel, -r, r ? "no such watch" : "");
		return 0;
	case FRAME_QUERY:
		ask(context, session, header->channel, text);
		return 0;
	case FRAME_SUBSCRIBE:
		return subscribe(context, session, header, payload);
	case FRAME_UNSUBSCRIBE:
		r = topics_unsubscribe(context->topics, session, text);
		reply_error(session, header->channel, -r, r ? "no such subscription" : "");
		return 0;
	default: /* FRAME_PROBE */
		ping_domain(context, session, header->channel, text);
		return 0;
	}
}

static bool go_on_unbinding(void *userdata, struct session *session, struct session_rest *rest)
{
	struct request_context *context = userdata;

	if (router_end_channels(context->router, session, frame_text_of(rest->text), &rest->at))
		return true;
	session_reply(session, rest->request, 0, NULL, 0);
	return false;
}

static int open_from_program(void *userdata, struct session *session, struct channel *channel,
			     const struct frame_open *open)
{
	struct request_context *context = userdata;

	channel->identity = identity_of(context, session);
	router_open_address(context->router, channel, open->name);
	/* For listings, which do without it if there is no memory. What isn't led anywhere may be no address. */
	if (session_is_mux(session) && channel->endpoint)
		channel->address = strndup(open->name.data, open->name.size);
	return 0;
}

static void stream_from_program(void *userdata, struct session *session, int fd,
				const struct frame_header *header, const uint8_t *payload)
{
	struct request_context *context = userdata;
	struct frame_identity identity = identity_of(context, session);

	if (header->type == FRAME_ACCEPT)
		streams_fetch(context->streams, fd, payload, header->length);
	else
		streams_connect(context->streams, fd, &identity, payload, header->length);
}

static void session_drained(void *userdata, struct session *session)
{
	struct request_context *context = userdata;

	queries_go_on(context->queries, session);
}

static bool leave(void *userdata, struct session *session, uint32_t *at)
{
	struct request_context *context = userdata;

	router_unbind_all(context->router, session);
	return router_leave(context->router, session, at);
}

static unsigned carries(void *userdata, struct session *session)
{
	struct request_context *context = userdata;

	return queries_in_image(context->queries, session);
}

static void session_gone(void *userdata, struct session *session)
{
	struct request_context *context = userdata;

	router_unbind_all(context->router, session);
	streams_forget_session(context->streams, session);
	topics_forget_session(context->topics, session);
	watches_remove_session(context->watches, session);
	host_watches_remove_session(context->host_watches, session);
	queries_forget_session(context->queries, session);
	links_ping_cancel(context->links, session);
	context->renew_forget(context->userdata, session);
	asks_forget(context->asks, session);
	local_remove(context->local, session);
}

const struct session_callbacks requests_session_callbacks = {
	.request = on_request,
	.open = open_from_program,
	.go_on = go_on_unbinding,
	.stream = stream_from_program,
	.drained = session_drained,
	.leave = leave,
	.carries = carries,
	.gone = session_gone,
};
