/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/requests_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/policy/access.h"
#include "base/self.h"
#include "daemon/switch/channel.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/link/relay.h"
#include "daemon/peers/peers.h"
#include "daemon/serve/inquiries.h"
#include "daemon/serve/questions.h"
#include "daemon/serve/report.h"
#include "daemon/serve/router.h"
#include "daemon/serve/status.h"
#include "daemon/serve/tracers.h"
#include "daemon/serve/viewer.h"
#include "daemon/serve/watches.h"
#include "wire/json.h"

#define LISTS_MS 6000 /* so long a list waits for daemons that take over again and again; one needs less */

/* Frees the text. */
static void reply_json(struct question *question, struct json json)
{
	if (json.failed)
		question_refuse(question, ENOMEM, "xenmsgd has no memory for the answer");
	else
		question_answer(question, json.text, json.size);
	json_free(&json);
}

/* Whether another host's program asks, or, domain 0, one of another domain: each is told only what rules let
 * it reach or see. */
static bool is_stranger(const struct request_context *context, const struct question *question)
{
	struct peer_id source = channel_source(question_channel(question));

	return !question_program(question) && (context->self->domid == 0 || !peer_is_domain(source, 0));
}

/* Returns what who asks sees: a program of this domain, or one of domain 0, which says whether it is an
 * administrator's. */
static struct viewer viewer_for(const struct request_context *context, const struct question *question)
{
	const struct hop *program = question_program(question);

	if (program)
		return viewer_of(program, context->administrators);
	if (is_stranger(context, question))
		return (struct viewer){.stranger = question_channel(question)};
	return (struct viewer){.uid = question_channel(question)->identity.uid,
			       .is_host = true,
			       .sees_all = context->sight == CONFIG_SIGHT_FULL};
}

/* Returns whether the program may ask: what it may reach itself, and who may reach what it has bound, since
 * it could find that out anyway. The rest concerns others only. */
static bool may_ask_policy(struct request_context *context, const struct question *question, uint32_t domid,
			   uint32_t uid, const char *to)
{
	struct viewer viewer = viewer_for(context, question);
	const struct endpoint *endpoint = router_find(context->router, to);

	return viewer.sees_all || (domid == context->self->domid && uid == viewer.uid) ||
	       (endpoint && endpoint->hop && hop_program(endpoint->hop)->identity.uid == viewer.uid);
}

/* Answers, in domain 0, whether it relays what FROM opens to the address TO, or lets it go to another
 * host. */
static void explain_address(struct request_context *context, struct question *question, const char *from,
			    uint32_t domid, const char *to)
{
	struct address address;
	uint32_t to_domid;

	if (context->self->domid != 0 || address_parse(to, strlen(to), &address, NULL) < 0)
		question_refuse(
			question, EINVAL,
			"TO must be an endpoint: letters, digits, _ and -; or in domain 0 an address, "
			"[HOST/]DOMAIN:ENDPOINT, to which it may relay");
	else if (!viewer_for(context, question).sees_all)
		question_refuse(question, EPERM, "only root and the daemon's administrators may ask that");
	else if (address.host[0] && strcmp(address.host, context->self->host) != 0)
		reply_json(question, access_explain_out(context->access, from, domid, &address));
	else if (router_resolve(context->router, address.domain, &to_domid) < 0)
		question_refuse(question, EHOSTDOWN, requests_why_unknown(context));
	else
		reply_json(question, access_explain_relay(context->access, from, domid, &address, to_domid));
}

/* Reads whose sessions are asked about: user 0 if none is named. */
static bool requests_answer_uid_of(const struct sender_parts *from, uint32_t *uid)
{
	*uid = 0;
	return !from->uid.data || uid_parse(from->uid.data, from->uid.size, uid);
}

/* Answers for a FROM on another host. */
static void explain_remote(struct request_context *context, struct question *question,
			   const struct sender_parts *from, const char *to)
{
	char host[HOST_NAME_SIZE], domain[DOMAIN_NAME_MAX + 1];
	uint32_t uid;

	if (!requests_answer_uid_of(from, &uid) ||
	    !domain_name_is_valid(from->domain.data, from->domain.size) ||
	    !address_part_copy(from->host, host, sizeof(host)) ||
	    !address_part_copy(from->domain, domain, sizeof(domain)) ||
	    !endpoint_name_is_valid(to, strlen(to)))
		question_refuse(
			question, EINVAL,
			"FROM on another host is HOST/DOMAIN or HOST/DOMAIN/UID, a uid is a number, and TO an "
			"endpoint here");
	else if (!may_ask_policy(context, question, UINT32_MAX, uid, to))
		question_refuse(
			question, EPERM,
			"only root and the daemon's administrators may ask that; others about a TO that they "
			"have bound");
	else
		reply_json(question, access_explain_remote(context->access, host, domain, uid, to));
}

/* Answers for a FROM on this host. */
static void explain_here(struct request_context *context, struct question *question,
			 const struct sender_parts *from, const char *to)
{
	char domain[DOMAIN_NAME_MAX + 1];
	uint32_t domid, uid;

	if (!requests_answer_uid_of(from, &uid))
		question_refuse(question, EINVAL, "FROM is DOMAIN or DOMAIN/UID, and a uid is a number");
	else if (!address_part_copy(from->domain, domain, sizeof(domain)) ||
		 router_resolve(context->router, domain, &domid) < 0)
		question_refuse(question, EHOSTDOWN, requests_why_unknown(context));
	else if (address_is_meant(to, strlen(to)))
		explain_address(context, question, domain, domid, to);
	else if (!may_ask_policy(context, question, domid, uid, to))
		question_refuse(
			question, EPERM,
			"only root and the daemon's administrators may ask that; others may ask about FROM self/UID, "
			"their own, and about a TO that they have bound");
	else
		reply_json(question, access_explain(context->access, domain, domid, uid, to));
}

/* Answers a policy question: FROM is a sender, TO an endpoint here, or in domain 0 an address. */
static void explain_policy(struct request_context *context, struct question *question, const char *query)
{
	size_t size = strcspn(query, " ");
	const char *to = query[size] ? query + size + 1 : NULL;
	struct sender_parts from = address_split_sender(query, size);

	if (address_part_is(from.host, context->self->host))
		from.host = (struct address_part){NULL, 0};
	if (to && from.host.data)
		explain_remote(context, question, &from, to);
	else if (!to || !(address_is_meant(to, strlen(to)) || endpoint_name_is_valid(to, strlen(to))))
		question_refuse(question, EINVAL, "TO must be an endpoint: letters, digits, _ and -");
	else
		explain_here(context, question, &from, to);
}

/* Returns whether the program may do this; else it has been told who may. */
static bool may_administer(const struct request_context *context, struct question *question, const char *what)
{
	char why[160];

	if (viewer_for(context, question).sees_all)
		return true;
	snprintf(why, sizeof(why),
		 "only root, the user that xenmsgd runs as and administrators (admin-group) may %s", what);
	question_refuse(question, EPERM, why);
	return false;
}

/* Reloads the policy, for root, and for users who could send us a signal anyway. The answer's text says what
 * is wrong with the rules. */
static void reload_policy(struct request_context *context, struct question *question)
{
	const char *why = NULL;
	int r;

	if (!may_administer(context, question, "have it read its policy again"))
		return;
	r = context->reload(context->userdata, question, &why);
	if (r < 0)
		question_refuse(question, r == -ENOMEM ? ENOMEM : EINVAL, why ? why : "");
}

void requests_reloaded(const struct request_context *context, struct question *question)
{
	reply_json(question, access_files(context->access));
}

/* Has the daemon hand over to the program that is installed now, likewise. */
static void renew(struct request_context *context, struct question *question)
{
	if (!may_administer(context, question, "renew it"))
		return;
	if (question_is_inherited(question)) { /* by the daemon that has taken over, which is this one */
		context->renewed(context->userdata, question);
		return;
	}
	context->renew(context->userdata, question);
}

static struct report *requests_answer_begin_report(struct request_context *context, struct question *question,
						   struct report_question wanted)
{
	struct report *report;

	wanted.viewer = viewer_for(context, question);
	report = report_new(&wanted);
	if (!report)
		question_refuse(question, ENOMEM, "");
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

/* Whether another host answers a question about HOST or HOST/DOMAIN. */
static bool is_for_host(const struct request_context *context, const char *text, bool is_host)
{
	const char *space = strchr(text, ' ');
	struct address_parts about = parts_about(space ? space + 1 : "", is_host);

	return space && requests_is_remote(context, &about);
}

static bool is_ready(void *userdata, const char *text, uint64_t waited_ms)
{
	struct request_context *context = userdata;
	bool peers = !strncmp(text, "peers", 5);
	bool endpoints = !strncmp(text, "endpoints", 9) && strcmp(text, "endpoints self") != 0;

	/* Each daemon that has taken over asks all peers anew. */
	return !(peers || endpoints) || is_for_host(context, text, peers) || peers_want_all(context->peers) ||
	       waited_ms > LISTS_MS;
}

/* --- about other hosts ------------------------------------------------------------------------ */

/* Says what an error of domain 0 means, which is asked for the hosts. */
static const char *why_no_hosts(int error)
{
	switch (error) {
	case EHOSTDOWN:
		return "no xenmsgd runs in domain 0, which knows the hosts";
	case EHOSTUNREACH:
		return "no other host can be reached from this one: domain 0 needs name under [hosts] in xenmsgd.conf(5), "
		       "and a gateway";
	default:
		return inquiries_why_not_there(error);
	}
}

/* Asks another daemon for this program, which pays for it, and passes on what it answers. */
static void ask_elsewhere(struct request_context *context, struct question *question, const char *address,
			  const char *text, inquiry_why_fn why)
{
	struct frame_identity from = requests_identity(context, question_program(question));
	struct inquiry *inquiry;
	int r = inquiry_new(questions_inquiries(context->questions), &from, question_account(question), why,
			    &inquiry);

	if (r < 0) {
		question_refuse(question, -r, why(-r));
		return;
	}
	question_pass_on(question, inquiry);
	inquiry_ask(inquiry, address, text);
}

/* Asks another host: which domains it has, or which endpoints the domain there. */
static void ask_host(struct request_context *context, struct question *question,
		     const struct address_parts *about)
{
	const struct address_part *host = &about->host, *domain = &about->domain;
	char address[ADDRESS_MAX + 1];

	if (!host_name_is_valid(host->data, host->size) ||
	    (domain->data &&
	     (!domain_name_is_valid(domain->data, domain->size) || address_part_is(*domain, "self")))) {
		question_refuse(question, EINVAL, inquiries_why_not_there(EINVAL));
		return;
	}
	snprintf(address, sizeof(address), "%.*s/%.*s:" DAEMON_ENDPOINT, (int)host->size, host->data,
		 domain->data ? (int)domain->size : 1, domain->data ? domain->data : "0");
	ask_elsewhere(context, question, address, domain->data ? "endpoints self" : "peers",
		      inquiries_why_not_there);
}

/* Begins to say, in domain 0, what the host's policy has about a domain. */
static struct report *answer_rules_of(struct request_context *context, struct question *question,
				      const char *domain)
{
	struct report_question wanted = {.kind = REPORT_RULES_OF};
	uint32_t domid = 0;
	int r = router_resolve(context->router, domain, &domid);

	wanted.domid = domid;
	if (!may_administer(context, question, "see the rules"))
		return NULL;
	if (context->self->domid != 0)
		question_refuse(question, EACCES, "the host's policy is in domain 0: ask there");
	else if (r < 0 || !access_knows_domain(context->access, domid))
		question_refuse(question, EHOSTDOWN, requests_why_unknown(context));
	else
		return requests_answer_begin_report(context, question, wanted);
	return NULL;
}

static const char *why_not_traced(int error)
{
	switch (error) {
	case EINVAL:
		return "what is traced is an address, an endpoint, a domain, the name of a channel or message, or *";
	case EUSERS:
		return "too many trace already";
	default: /* the library's words */
		return "";
	}
}

/* Finds the domain that a name in what is traced means, below 0: none. -EHOSTDOWN: it should be one. */
static int resolve_traced(struct request_context *context, const char *what, int64_t *domid)
{
	struct address_parts parts = address_split(what, strlen(what));
	char domain[DOMAIN_NAME_MAX + 1];
	uint32_t number;

	*domid = -1;
	if (parts.host.data || !address_part_copy(parts.domain, domain, sizeof(domain)))
		return 0;
	if (router_resolve(context->router, domain, &number) == 0)
		*domid = number;
	return *domid < 0 && parts.endpoint.data ? -EHOSTDOWN : 0;
}

/* Takes a question of a tracer. */
static void trace(struct request_context *context, struct question *question, const char *what)
{
	int64_t domid;
	int r;

	if (!may_administer(context, question, "trace what others send"))
		return;
	r = resolve_traced(context, what, &domid);
	if (r == 0)
		r = tracers_ask(context->tracers, question, what, domid);
	if (r < 0)
		question_refuse(question, -r,
				r == -EHOSTDOWN ? requests_why_unknown(context) : why_not_traced(-r));
}

/* Whether this daemon knows of other hosts; else it has answered why not, or asked domain 0. */
static bool can_list_hosts(struct request_context *context, struct question *question)
{
	if (context->self->domid != 0)
		ask_elsewhere(context, question, "0:" DAEMON_ENDPOINT, "hosts", why_no_hosts);
	else if (*context->self->host)
		return true;
	else
		question_refuse(
			question, EHOSTUNREACH,
			"this host has no name, so nothing leads to others: set name under [hosts] in "
			"xenmsgd.conf(5), and run xenmsg-gateway(8)");
	return false;
}

/* Adds a watch, of another host if the pattern has one before a slash. */
static void watch(struct request_context *context, struct question *question, const char *pattern)
{
	struct address_parts parts = address_split(pattern, strlen(pattern));
	bool is_remote = requests_is_remote(context, &parts);
	struct frame_identity from = {.domid = 0};

	if (is_stranger(context, question) && parts.host.data) {
		question_refuse(question, EINVAL, inquiries_why_not_there(EINVAL));
		return;
	}
	if (is_remote)
		from = requests_identity(context, question_program(question));
	watches_add(context->watches, question, &parts, is_remote ? &from : NULL);
	if (watches_others(context->watches))
		peers_want_all(context->peers);
}

/* A list, or a part of the status. */
static struct report *answer_plain(struct request_context *context, struct question *question,
				   const char *query)
{
	static const struct {
		const char *query;
		enum report_kind kind;
	} registry[] = {
		{"status", REPORT_STATUS},	 {"status all", REPORT_STATUS}, {"peers", REPORT_PEERS},
		{"endpoints", REPORT_ENDPOINTS}, {"hosts", REPORT_HOSTS},	{"rules", REPORT_RULES},
		{"denied", REPORT_DENIED},
	};
	struct report_question wanted = {.domid = -1, .all = !strcmp(query, "status all")};
	size_t i = 0;

	while (strcmp(query, registry[i].query) != 0)
		if (++i == sizeof(registry) / sizeof(registry[0])) {
			question_refuse(
				question, EINVAL,
				"a query is status [all], peers [HOST], endpoints [[HOST/]DOMAIN], hosts, domain DOMID, policy FROM TO, "
				"rules [of DOMAIN], denied, trace WHAT, watch PATTERN, ping, reload or "
				"renew");
			return NULL;
		}
	wanted.kind = registry[i].kind;
	if ((wanted.kind == REPORT_RULES || wanted.kind == REPORT_DENIED) &&
	    !may_administer(context, question, "see the rules, and whom they refuse"))
		return NULL;
	if (wanted.kind == REPORT_HOSTS && !can_list_hosts(context, question))
		return NULL;
	return requests_answer_begin_report(context, question, wanted);
}

/* The domains of this host, or of another one. */
static struct report *answer_peers(struct request_context *context, struct question *question,
				   const char *host)
{
	struct address_parts about = parts_about(host, true);

	if (!requests_is_remote(context, &about))
		return answer_plain(context, question, "peers");
	ask_host(context, question, &about);
	return NULL;
}

/* The endpoints of one domain, of this host or another one. */
static struct report *answer_endpoints(struct request_context *context, struct question *question,
				       const char *text)
{
	struct address_parts about = parts_about(text, false);
	struct report_question wanted = {.kind = REPORT_ENDPOINTS};
	char domain[DOMAIN_NAME_MAX + 1];
	uint32_t domid;

	if (requests_is_remote(context, &about))
		ask_host(context, question, &about);
	else if (!address_part_copy(about.domain, domain, sizeof(domain)) ||
		 router_resolve(context->router, domain, &domid) < 0)
		question_refuse(question, EHOSTDOWN, requests_why_unknown(context));
	else if (domid != context->self->domid && !peers_is_up(context->peers, domid))
		question_refuse(question, EHOSTDOWN, requests_why_not(EHOSTDOWN));
	else {
		wanted.domid = domid;
		return requests_answer_begin_report(context, question, wanted);
	}
	return NULL;
}

/* Whether there is a domain of that number, with a daemon or without. */
static void tell_domain(struct request_context *context, struct question *question, const char *text)
{
	struct json json = {0};
	uint32_t domid;

	if (!domid_parse(text, strlen(text), &domid)) {
		question_refuse(question, EINVAL, "which domain is there is asked by its number");
		return;
	}
	json_begin(&json, NULL, '{');
	json_number(&json, "domid", domid);
	json_flag(&json, "is_there", !peers_lack(context->peers, domid));
	json_flag(&json, "has_daemon", peers_is_up(context->peers, domid));
	json_end(&json, '}');
	reply_json(question, json);
}

/* --- who may ask ------------------------------------------------------------------------------ */

/* Strangers may ask these. Rules say of each entry whether they see it. */
static const struct {
	const char *text;
	enum report_kind kind;
	bool in_domain_0; /* its daemon alone tells it */
	bool of_hosts;	  /* other hosts' programs may ask, and not those of this one */
} told_strangers[] = {
	{"peers", REPORT_SEEN_DOMAINS, true, true},
	{"endpoints self", REPORT_SEEN_ENDPOINTS, false, true},
	{"hosts", REPORT_SEEN_HOSTS, true, false},
};

/* Begins to answer a stranger. False: that isn't for strangers. */
static bool tell_stranger(struct request_context *context, struct question *question, const char *text)
{
	bool of_hosts = channel_from_host(question_channel(question));
	struct report_question wanted = {.domid = -1};
	struct report *report;

	/* Others than domain 0 tell nothing of their peers, and needn't follow them for that. */
	if (!strncmp(text, "watch ", 6) && of_hosts &&
	    (context->self->domid == 0 || !strcmp(text + 6, "self"))) {
		watch(context, question, text + 6);
		return true;
	}
	for (size_t i = 0; i < sizeof(told_strangers) / sizeof(told_strangers[0]); i++) {
		if (strcmp(text, told_strangers[i].text) != 0 || told_strangers[i].of_hosts != of_hosts ||
		    (told_strangers[i].in_domain_0 && context->self->domid != 0))
			continue;
		wanted.kind = told_strangers[i].kind;
		if (wanted.kind == REPORT_SEEN_HOSTS && !can_list_hosts(context, question))
			return true;
		report = requests_answer_begin_report(context, question, wanted);
		if (report)
			question_report(question, report);
		return true;
	}
	return false;
}

/* Domain 0 may ask a domain with host-sight = full these, and with links it sees some of `status`. */
static const char *const told_domain_0[] = {"status", "trace", "peers", "endpoints",
					    "denied", "rules", "policy"};

/* Returns why this may not be asked by a program of another domain, with *error. NULL: it may. */
static const char *why_not_told(const struct request_context *context, const struct question *question,
				const char *text, int *error)
{
	const struct channel *channel = question_channel(question);
	size_t size = strcspn(text, " "), i = 0;

	*error = EACCES;
	/* Another host's domain 0 is none of ours, whatever its number. */
	if (!peer_is_domain(channel_source(channel), 0) || context->self->domid == 0)
		return context->self->domid == 0 ? "domain 0 tells no other domain how it is"
						 : "a domain tells only domain 0 how it is; ask from there";
	if (!channel->administers) {
		*error = EPERM;
		return "only root and the daemon's administrators may ask other domains";
	}
	while (strlen(told_domain_0[i]) != size || memcmp(told_domain_0[i], text, size) != 0)
		if (++i == sizeof(told_domain_0) / sizeof(told_domain_0[0]))
			return "programs of its own domain alone may ask a daemon that";
	if (context->sight == CONFIG_SIGHT_NONE)
		return "that domain tells domain 0 nothing of itself: host-sight = none is set in its xenmsgd.conf(5)";
	if ((!strncmp(text, "peers", 5) || !strncmp(text, "endpoints", 9)) &&
	    is_for_host(context, text, *text == 'p'))
		return "ask the daemon of your own domain about other hosts";
	return i == 0 || context->sight == CONFIG_SIGHT_FULL
		       ? NULL
		       : "that domain doesn't let domain 0 see what its programs do: host-sight = full in its "
			 "xenmsgd.conf(5) would";
}

/* Whether it may be asked; else it has been answered why not. */
static bool may_ask(const struct request_context *context, struct question *question, const char *text)
{
	const char *why = NULL;
	int error;

	if (!question_program(question))
		why = why_not_told(context, question, text, &error);
	if (why)
		question_refuse(question, error, why);
	return !why;
}

static struct report *begin_answer(void *userdata, struct question *question, const char *text)
{
	struct request_context *context = userdata;

	if (!strcmp(text, "ping")) { /* of whoever can open a channel here */
		question_answer(question, "{}", 2);
		return NULL;
	}
	if (is_stranger(context, question) && tell_stranger(context, question, text))
		return NULL;
	if (!may_ask(context, question, text))
		return NULL;
	if (!strncmp(text, "rules of ", 9))
		return answer_rules_of(context, question, text + 9);
	if (!strncmp(text, "peers ", 6))
		return answer_peers(context, question, text + 6);
	if (!strncmp(text, "endpoints ", 10))
		return answer_endpoints(context, question, text + 10);
	if (!strncmp(text, "policy ", 7))
		explain_policy(context, question, text + 7);
	else if (!strncmp(text, "domain ", 7))
		tell_domain(context, question, text + 7);
	else if (!strcmp(text, "reload"))
		reload_policy(context, question);
	else if (!strncmp(text, "watch ", 6))
		watch(context, question, text + 6);
	else if (!strncmp(text, "trace ", 6))
		trace(context, question, text + 6);
	else if (!strcmp(text, "renew"))
		renew(context, question);
	else if (!strcmp(text, "renewed"))
		context->renewed(context->userdata, question);
	else
		return answer_plain(context, question, text);
	return NULL;
}

static void forget(void *userdata, struct question *question)
{
	struct request_context *context = userdata;

	context->reload_forget(context->userdata, question);
	context->renew_forget(context->userdata, question);
	tracers_forget_question(context->tracers, question);
	watches_forget_question(context->watches, question);
}

static void heard(void *userdata, const void *asker)
{
	struct request_context *context = userdata;

	watches_heard(context->watches, asker);
}

static void asker_gone(void *userdata, const void *asker)
{
	struct request_context *context = userdata;

	tracers_forget_asker(context->tracers, asker);
}

static void open_address(void *userdata, struct channel *channel, struct frame_text address)
{
	struct request_context *context = userdata;

	router_open_address(context->router, channel, address);
}

static void seek(void *userdata, struct channel *channel, uint32_t domid)
{
	struct request_context *context = userdata;
	int r = relay_try(context->relay, channel, domid, DAEMON_ENDPOINT);

	if (r < 0)
		channel_refuse(channel, r == -ENOMEM ? ENOBUFS : -r);
}

static void found_none(void *userdata, uint32_t domid)
{
	struct request_context *context = userdata;

	links_take_word(context->links, domid);
}

const struct questions_callbacks requests_questions_callbacks = {
	.ready = is_ready,
	.begin = begin_answer,
	.forget = forget,
	.heard = heard,
	.gone = asker_gone,
	.open = open_address,
	.seek = seek,
	.found_none = found_none,
};
