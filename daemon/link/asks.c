/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/asks.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <nettle/sha2.h>
#include <uthash.h>
#include <utlist.h>

#include "daemon/base/cost.h"
#include "daemon/base/quota.h"
#include "daemon/base/self.h"
#include "daemon/base/timer.h"
#include "daemon/base/turns.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/peers/directory.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "daemon/relay/hop.h"
#include "wire/address.h"
#include "wire/bytes.h"

#define ASK_CHARGE    (TOLD_MAX + 1024u) /* bytes for each question: the answer may be kept */
#define POLICY_UNITS  100u		 /* to ask policy once */
#define WALK_UNITS    2048u		 /* units of a turn */
#define PARTS_AT_ONCE 8u
/* So long changes are gathered, and is waited for an asker that doesn't read. */
#define GATHER_MS 100

enum ask_state {
	ASK_WAITS,
	ASK_DROPPED, /* withdrawn while it waited: it pays for its ping until that has ended */
	ASK_SENT,
	ASK_WALKS,
	ASK_RESTS,
	ASK_TELLS,
};

/* By which a peer's question is found. */
struct ask_key {
	uint32_t peer, number;
};

struct ask {
	struct asks *asks;
	enum ask_state state;
	uint32_t id; /* the number of our own ASK */
	enum ask_kind kind;
	uint64_t known;
	/* Who wants to know, where it is: on this host if that is empty. */
	struct frame_identity from;
	char domain_name[DOMAIN_NAME_MAX + 1];
	char host[HOST_NAME_SIZE];
	/* Who is asked, and how. */
	uint32_t to;
	char name[HOST_NAME_SIZE + 1 + DOMAIN_NAME_MAX];
	/* Who has asked us: a program, of this host, or, without `told`, a peer. */
	asks_told_fn told;
	char of_host[HOST_NAME_SIZE];
	void *asker;
	uint32_t request;
	struct ask_key key;
	struct charge charge;
	struct task task; /* walks, and tells */
	/* The answer: made here, or its parts that have come; of what is passed on, how much has. */
	int error; /* a positive errno */
	uint8_t *text;
	uint32_t size, count, sent;
	uint64_t version;
	int64_t after;				/* where the walk is: the last domain, */
	char after_name[ENDPOINT_NAME_MAX + 1]; /* or endpoint; and the last entry that came */
	struct ask *prev, *next;
	UT_hash_handle hh, by_key;
};

struct asks {
	struct asks_collaborators with;
	struct links *links;
	bool enabled;
	asks_endpoint_fn endpoint;
	void *userdata;
	struct ask *list, *by_id, *by_key;
	uint32_t last_id;
	struct event *timer;
};

static bool in_domain_0(const struct asks *asks)
{
	return asks->with.self->domid == 0;
}

/* --- life of a question ------------------------------------------------------------------------- */

static void on_turn(struct task *task);

static struct ask *find_id(const struct asks *asks, uint32_t id)
{
	struct ask *ask;

	HASH_FIND(hh, asks->by_id, &id, sizeof(id), ask);
	return ask;
}

static struct ask *find_key(const struct asks *asks, uint32_t peer, uint32_t number)
{
	struct ask_key key = {peer, number};
	struct ask *ask;

	HASH_FIND(by_key, asks->by_key, &key, sizeof(key), ask);
	return ask;
}

static int new_ask(struct asks *asks, struct account *account, struct ask **out)
{
	struct ask *ask = calloc(1, sizeof(*ask));
	int r;

	if (!ask)
		return -ENOMEM;
	charge_init(&ask->charge, account);
	r = charge_add(&ask->charge, QUOTA_BYTES, ASK_CHARGE);
	if (r < 0) {
		charge_end(&ask->charge);
		free(ask);
		return r;
	}
	ask->asks = asks;
	while (!++asks->last_id || find_id(asks, asks->last_id))
		;
	ask->id = asks->last_id;
	task_init(&ask->task, &asks->with.relay->turns, account_line(ask->charge.account), on_turn);
	HASH_ADD(hh, asks->by_id, id, sizeof(ask->id), ask);
	DL_APPEND(asks->list, ask);
	*out = ask;
	return 0;
}

static bool is_a_peers(const struct ask *ask)
{
	return !ask->told && ask->state != ASK_DROPPED;
}

static void free_ask(struct ask *ask)
{
	struct asks *asks = ask->asks;

	if (is_a_peers(ask))
		HASH_DELETE(by_key, asks->by_key, ask);
	HASH_DEL(asks->by_id, ask);
	DL_DELETE(asks->list, ask);
	task_cancel(&ask->task);
	charge_end(&ask->charge);
	free(ask->text);
	free(ask);
}

/* Lets the next daemon forget it. */
static void withdraw(struct ask *ask)
{
	uint8_t payload[4];

	if (ask->state == ASK_SENT) /* if it fails, there is no session any more */
		(void)links_send(ask->asks->links, ask->to, FRAME_UNASK, payload,
				 frame_u32_encode(ask->id, payload));
}

/* Forgets a question to which nobody wants the answer any more. */
static void drop_ask(struct ask *ask)
{
	if (ask->state != ASK_WAITS) {
		withdraw(ask);
		free_ask(ask);
		return;
	}
	if (is_a_peers(ask))
		HASH_DELETE(by_key, ask->asks->by_key, ask);
	ask->told = NULL;
	ask->state = ASK_DROPPED;
}

/* Frees a program's question, and tells it: it may ask again. */
static void tell_program(struct ask *ask, struct frame_told *told)
{
	struct ask answered = *ask;

	if (!told->error) {
		told->count = ask->count;
		told->at = ask->text;
		told->end = ask->text + ask->size;
		ask->text = NULL;
	}
	free_ask(ask);
	answered.told(answered.asks->userdata, answered.asker, answered.request, answered.kind,
		      answered.of_host, told);
	if (!told->error)
		free(answered.text);
}

/* Lets whoever has asked be told a negative errno, in a turn of the asker's. */
static void fail_ask(struct ask *ask, int error)
{
	ask->error = error == -ENOMEM ? ENOBUFS : -error;
	ask->size = ask->count = ask->sent = 0;
	ask->version = 0;
	ask->state = ASK_TELLS;
	task_due(&ask->task);
}

/* --- to the next daemon ------------------------------------------------------------------------- */

static int send_ask(struct ask *ask)
{
	struct frame_ask frame = {
		.number = ask->id,
		.known = ask->known,
		.about = {.kind = (uint8_t)ask->kind,
			  .identity = ask->from,
			  .name = frame_text_of(ask->name),
			  .domain_name = frame_text_of(ask->domain_name)},
	};
	uint8_t payload[36 + sizeof(ask->name) + DOMAIN_NAME_MAX + 1 + HOST_NAME_SIZE];

	/* Between hosts it is missing: a host is known by its link. */
	if (!number_is_host(ask->to))
		frame.about.host = frame_text_of(ask->host);
	return links_send(ask->asks->links, ask->to, FRAME_ASK, payload, frame_ask_encode(&frame, payload));
}

static void on_link_up(void *userdata, uint32_t id, int64_t result);

/* Sends it, or waits for the link. */
static int lead_on(struct ask *ask)
{
	struct asks *asks = ask->asks;
	int r = links_take_asks(asks->links, ask->to);

	if (r > 0) {
		r = send_ask(ask);
		ask->state = ASK_SENT;
	} else if (r == 0) {
		r = links_ping(asks->links, ask->to, ask->charge.account, on_link_up, asks, ask->id);
		ask->state = ASK_WAITS;
	}
	return r == -ENOLINK || r == -ENOTCONN ? -EHOSTUNREACH : r;
}

/* The link is up, or can't be. */
static void on_link_up(void *userdata, uint32_t id, int64_t result)
{
	struct ask *ask = find_id(userdata, id);
	int r = result < 0 ? (int)result : 0;

	if (ask && ask->state == ASK_DROPPED)
		free_ask(ask);
	if (!ask || ask->state != ASK_WAITS)
		return;
	if (r == 0)
		r = lead_on(ask);
	if (r < 0)
		fail_ask(ask, r);
}

/* Leads it, in domain 0, to another host, if rules let the asker go there. */
static int lead_out(struct ask *ask, const char *host, const char *domain)
{
	struct asks *asks = ask->asks;
	int r = access_still_out(asks->with.access, &ask->from, host);

	if (r == 0)
		r = hosts_resolve(asks->with.hosts, host, &ask->to);
	if (r < 0)
		return r;
	if (!hosts_is_up(asks->with.hosts, ask->to))
		return -EHOSTDOWN; /* also if its session may be resumed: it is told as gone */
	snprintf(ask->name, sizeof(ask->name), "%s", domain);
	snprintf(ask->domain_name, sizeof(ask->domain_name), "%s",
		 directory_name(asks->with.directory, ask->from.domid));
	return lead_on(ask);
}

int asks_ask(struct asks *asks, const struct ask_question *question, struct account *account,
	     asks_told_fn told, void *asker, uint32_t request)
{
	const char *domain = question->kind == ASK_ENDPOINTS ? question->domain : "";
	struct ask *ask;
	int r = new_ask(asks, account, &ask);

	if (r < 0)
		return r;
	ask->told = told;
	ask->asker = asker;
	ask->request = request;
	ask->kind = question->kind;
	ask->known = question->known;
	ask->from = question->from;
	snprintf(ask->of_host, sizeof(ask->of_host), "%s", question->host);
	if (in_domain_0(asks)) {
		r = lead_out(ask, question->host, domain);
	} else {
		snprintf(ask->name, sizeof(ask->name), "%s%s%s", question->host, *domain ? "/" : "", domain);
		r = lead_on(ask); /* to domain 0 */
	}
	if (r < 0)
		free_ask(ask);
	return r;
}

void asks_forget(struct asks *asks, const void *asker)
{
	struct ask *ask, *next;

	DL_FOREACH_SAFE(asks->list, ask, next)
		if (ask->told && ask->asker == asker)
			drop_ask(ask);
}

void asks_cancel(struct asks *asks, const void *asker, uint32_t request)
{
	struct ask *ask, *next;

	DL_FOREACH_SAFE(asks->list, ask, next)
		if (ask->told && ask->asker == asker && ask->request == request)
			drop_ask(ask);
}

/* For ASK_HOSTS: what is asked is domain 0. */
static const char *why_no_hosts(int error)
{
	switch (error) {
	case EHOSTDOWN:
		return "no xenmsgd runs in domain 0, which knows the hosts";
	case EHOSTUNREACH:
		return "nothing leads out of this host, as domain 0 says: it needs name under [hosts] in xenmsgd.conf(5), "
		       "and a gateway";
	case EOPNOTSUPP:
		return "xenmsgd in domain 0 is older than this one and can't tell; ask there";
	default:
		return asks_why_not(ASK_DOMAINS, error);
	}
}

const char *asks_why_not(enum ask_kind kind, int error)
{
	if (kind == ASK_HOSTS)
		return why_no_hosts(error);
	switch (error) {
	case EINVAL:
		return "that can't be a domain of another host";
	case EACCES:
		return "policy doesn't let this domain ask there: an [out] of domain 0's has to, and a [relay] there may not "
		       "forbid it";
	case EHOSTDOWN:
		return "no such host or domain, or no xenmsgd runs there; 'xenmsg hosts' lists the hosts";
	case EHOSTUNREACH:
		return "nothing leads to that host, or to that domain there: domain 0 needs name under [hosts] in "
		       "xenmsgd.conf(5), and a gateway; 'xenmsg hosts' in domain 0 says what is missing";
	case EOPNOTSUPP:
		return "xenmsgd there, or in domain 0, is older than this one and can't tell";
	case ENOBUFS:
		return "this user, this domain or its host asks more than it may there";
	default:
		return strerror(error);
	}
}

/* --- here --------------------------------------------------------------------------------------- */

static const char *name_or_null(const struct ask *ask)
{
	return *ask->domain_name ? ask->domain_name : NULL;
}

/* Finds the next endpoint. Returns 1: it may be told of, 0: it may not, -ENOENT: there is no more. */
static int next_endpoint(struct ask *ask, struct frame_told_entry *entry)
{
	struct asks *asks = ask->asks;
	const char *name = asks->endpoint(asks->userdata, ask->after_name, &entry->number);

	if (!name)
		return -ENOENT;
	snprintf(ask->after_name, sizeof(ask->after_name), "%s", name);
	entry->name = frame_text_of(ask->after_name);
	return access_shows_far(asks->with.access, ask->host, &ask->from, name_or_null(ask), ask->after_name);
}

/* Does the same for domains. Domain 0 is known to be there. */
static int next_domain(struct ask *ask, struct frame_told_entry *entry)
{
	struct asks *asks = ask->asks;
	struct peer_info info = {.domid = 0, .up = true};
	const char *name;

	if (ask->after >= 0 && !peers_next(asks->with.peers, ask->after, &info))
		return -ENOENT;
	ask->after = info.domid;
	name = directory_name(asks->with.directory, info.domid);
	*entry = (struct frame_told_entry){.number = info.domid, .name = frame_text_of(name)};
	return info.up && (info.domid == 0 || access_sees_far(asks->with.access, ask->host, &ask->from,
							      name_or_null(ask), info.domid));
}

static enum told_host state_of_gateway(const struct hosts *hosts)
{
	struct gateway_info info;

	hosts_gateway(hosts, &info);
	return !info.there ? TOLD_GATEWAY_MISSING : info.up ? TOLD_GATEWAY_CONNECTED : TOLD_GATEWAY_WAITING;
}

static enum told_host state_of_host(const struct asks *asks, const struct host_info *info)
{
	struct link_info link = {.state = LINK_IDLE};

	if (!info->up)
		return TOLD_HOST_DOWN;
	links_info(asks->links, info->number, &link);
	return link.state == LINK_AWAY ? TOLD_HOST_AWAY : TOLD_HOST_UP;
}

/* Does the same for hosts: this one, and those to which rules let the asker go. */
static int next_host(struct ask *ask, struct frame_told_entry *entry)
{
	struct asks *asks = ask->asks;
	struct host_info info;

	if (ask->after < 0) {
		ask->after = 0;
		*entry = (struct frame_told_entry){.number = state_of_gateway(asks->with.hosts),
						   .name = frame_text_of(hosts_own_name(asks->with.hosts))};
		return 1;
	}
	if (!hosts_next(asks->with.hosts, (uint32_t)ask->after, &info))
		return -ENOENT;
	ask->after = info.number;
	*entry = (struct frame_told_entry){.number = state_of_host(asks, &info),
					   .name = frame_text_of(info.name)};
	return access_still_out(asks->with.access, &ask->from, info.name) == 0;
}

/* Finds the next name of what was asked for. */
static int next_entry(struct ask *ask, struct frame_told_entry *entry)
{
	switch (ask->kind) {
	case ASK_HOSTS:
		return next_host(ask, entry);
	case ASK_DOMAINS:
		return next_domain(ask, entry);
	default:
		return next_endpoint(ask, entry);
	}
}

/* Names the answer by its content. */
static uint64_t version_of(const uint8_t *text, uint32_t size)
{
	struct sha256_ctx hash;
	uint8_t digest[8];

	sha256_init(&hash);
	sha256_update(&hash, size, text);
	sha256_digest(&hash, sizeof(digest), digest);
	return get_u64(digest) ? get_u64(digest) : 1;
}

static void rest(struct ask *ask)
{
	free(ask->text);
	ask->text = NULL;
	ask->state = ASK_RESTS;
}

static int begin_walk(struct ask *ask)
{
	if (ask->kind == ASK_DOMAINS && !peers_want_all(ask->asks->with.peers)) {
		rest(ask); /* until asks_changed() */
		return -EAGAIN;
	}
	ask->text = malloc(TOLD_MAX);
	if (!ask->text)
		return -ENOMEM;
	ask->size = ask->count = ask->sent = 0;
	ask->after = -1;
	ask->after_name[0] = '\0';
	return 0;
}

/* Looks at some names, from where it stopped. */
static void walk(struct ask *ask)
{
	struct relay *relay = ask->asks->with.relay;
	struct frame_told_entry entry;
	uint64_t units = POLICY_UNITS;
	int r = ask->text ? 0 : begin_walk(ask);

	if (r < 0) {
		if (r != -EAGAIN)
			fail_ask(ask, r);
		return;
	}
	while (r >= 0 && units < WALK_UNITS) {
		r = next_entry(ask, &entry);
		units += POLICY_UNITS;
		if (r <= 0)
			continue;
		if (ask->size + TOLD_ENTRY_SIZE(entry.name.size) > TOLD_MAX) {
			r = -ENOBUFS; /* the rest isn't told */
			break;
		}
		ask->size += frame_told_entry_encode(&entry, ask->text + ask->size);
		ask->count++;
	}
	relay_spend(relay, ask->charge.account, units);
	if (r >= 0) {
		task_due(&ask->task);
		return;
	}
	ask->version = version_of(ask->text, ask->size);
	if (ask->version == ask->known) {
		rest(ask);
		return;
	}
	ask->state = ASK_TELLS;
	task_due(&ask->task);
}

/* --- telling a peer ----------------------------------------------------------------------------- */

/* Tells a part of what was asked for. -ENOBUFS, -ENOTCONN, ... */
static int send_told(struct ask *ask, struct frame_told *told)
{
	uint8_t payload[TOLD_PART_SIZE];

	told->number = ask->key.number;
	return links_send(ask->asks->links, ask->key.peer, FRAME_TOLD, payload,
			  frame_told_encode(told, payload));
}

/* Sends the next part of the answer. Returns its size. */
static int send_part(struct ask *ask)
{
	const struct self *self = ask->asks->with.self;
	struct frame_told told = {.error = (uint32_t)ask->error, .version = ask->version};
	struct frame_told left = {
		.count = ask->count, .at = ask->text + ask->sent, .end = ask->text + ask->size};
	struct frame_told_entry entry;
	const char *name = "";
	int r;

	if (ask->kind == ASK_ENDPOINTS && !ask->error) {
		told.domid = self->domid;
		name = directory_name(ask->asks->with.directory, self->domid);
	}
	told.name = frame_text_of(name);
	told.at = told.end = left.at;
	while (frame_told_next(&left, &entry) && left.at - told.at <= TOLD_PART) {
		told.end = left.at;
		told.count++;
	}
	if (told.count < ask->count)
		told.flags = TOLD_MORE;
	r = send_told(ask, &told);
	if (r < 0)
		return r;
	ask->count -= told.count;
	ask->sent += (uint32_t)(told.end - told.at);
	return (int)(told.end - told.at);
}

static void tell(struct ask *ask)
{
	struct asks *asks = ask->asks;
	bool more = true;
	int r = 0;

	if (ask->told) {
		relay_spend(asks->with.relay, ask->charge.account, COST_CONTROL);
		tell_program(ask, &(struct frame_told){.error = (uint32_t)ask->error});
		return;
	}
	for (unsigned i = 0; i < PARTS_AT_ONCE && more && r >= 0; i++) {
		relay_spend(asks->with.relay, ask->charge.account, COST_CONTROL + COST_BYTES(TOLD_PART_SIZE));
		r = send_part(ask);
		more = ask->count > 0;
	}
	if (r == -ENOBUFS || r == -ENOMEM)
		timer_start(asks->timer, GATHER_MS); /* it doesn't read, and is told later */
	else if (r < 0 || !more)
		free_ask(ask);
	else
		task_due(&ask->task);
}

static void on_turn(struct task *task)
{
	struct ask *ask = (struct ask *)((char *)task - offsetof(struct ask, task));

	if (ask->state == ASK_WALKS)
		walk(ask);
	else if (ask->state == ASK_TELLS)
		tell(ask);
}

/* Goes on with what waits for a change, or for an asker that hasn't read. */
static void on_timer(int fd, short what, void *userdata)
{
	struct asks *asks = userdata;
	struct ask *ask;

	DL_FOREACH(asks->list, ask) {
		if (ask->state == ASK_RESTS)
			ask->state = ASK_WALKS;
		if (ask->state == ASK_WALKS || ask->state == ASK_TELLS)
			task_due(&ask->task);
	}
}

void asks_changed(struct asks *asks)
{
	if (asks && asks->list)
		timer_start(asks->timer, GATHER_MS);
}

bool asks_follow_peers(const struct asks *asks)
{
	const struct ask *ask;

	if (!asks)
		return false;
	DL_FOREACH(asks->list, ask)
		if (ask->state == ASK_RESTS && ask->kind == ASK_DOMAINS)
			return true;
	return false;
}

/* --- asked by a peer ---------------------------------------------------------------------------- */

static void copy_name(char *to, size_t room, struct frame_text text)
{
	if (text.size && text.size < room && domain_name_is_valid(text.data, text.size))
		memcpy(to, text.data, text.size);
}

static void answer_here(struct ask *ask)
{
	ask->state = ASK_WALKS;
	task_due(&ask->task);
}

/* Takes, in domain 0, what another host asks. */
static int take_from_host(struct ask *ask, const struct frame_open *about)
{
	struct asks *asks = ask->asks;
	char domain[DOMAIN_NAME_MAX + 1] = "";

	if (about->identity.domid > DOMID_MAX)
		return -EPROTO;
	snprintf(ask->host, sizeof(ask->host), "%s", hosts_name(asks->with.hosts, ask->key.peer));
	copy_name(ask->domain_name, sizeof(ask->domain_name), about->domain_name);
	if (ask->kind == ASK_HOSTS)
		return -EINVAL;
	if (ask->kind == ASK_DOMAINS) {
		answer_here(ask);
		return 0;
	}
	copy_name(domain, sizeof(domain), about->name);
	if (!*domain || !strcmp(domain, "self"))
		return -EINVAL;
	if (directory_resolve(asks->with.directory, domain, &ask->to) < 0)
		return -EHOSTDOWN;
	if (ask->to == 0) {
		answer_here(ask);
		return 0;
	}
	if (access_relays_far(asks->with.access, ask->host, ask->from.domid, name_or_null(ask), ask->to) < 0)
		return -EACCES;
	snprintf(ask->name, sizeof(ask->name), "%u", ask->to);
	return asks->enabled ? lead_on(ask) : -EHOSTUNREACH;
}

/* Takes, in domain 0, a domain's question which hosts there are. */
static int take_about_hosts(struct ask *ask)
{
	if (!*hosts_own_name(ask->asks->with.hosts))
		return -EHOSTUNREACH;
	ask->known = 0; /* changes aren't told */
	answer_here(ask);
	return 0;
}

/* Takes, in domain 0, what a domain of this host asks about another one. */
static int take_from_domain(struct ask *ask, const struct frame_open *about)
{
	struct asks *asks = ask->asks;
	const char *slash = memchr(about->name.data, '/', about->name.size);
	size_t size = slash ? (size_t)(slash - about->name.data) : about->name.size;
	char host[HOST_NAME_SIZE] = "", domain[DOMAIN_NAME_MAX + 1] = "";

	ask->from.domid = ask->key.peer;
	if (ask->kind == ASK_HOSTS)
		return take_about_hosts(ask);
	if (!host_name_is_valid(about->name.data, size))
		return -EINVAL;
	memcpy(host, about->name.data, size);
	if (slash)
		copy_name(domain, sizeof(domain),
			  (struct frame_text){slash + 1, about->name.size - size - 1});
	if (!strcmp(host, hosts_own_name(asks->with.hosts)) ||
	    (ask->kind == ASK_ENDPOINTS) != (*domain != '\0'))
		return -EINVAL;
	return lead_out(ask, host, domain);
}

/* Takes, in another domain, what domain 0 passes on from another host. */
static int take_from_domain_0(struct ask *ask, const struct frame_open *about)
{
	struct asks *asks = ask->asks;
	uint32_t domid;

	if (ask->key.peer != 0 || !asks->enabled)
		return -EACCES;
	if (ask->kind != ASK_ENDPOINTS || !domid_parse(about->name.data, about->name.size, &domid) ||
	    domid != asks->with.self->domid || !host_name_is_valid(about->host.data, about->host.size) ||
	    about->identity.domid > DOMID_MAX)
		return -EPROTO;
	memcpy(ask->host, about->host.data, about->host.size);
	copy_name(ask->domain_name, sizeof(ask->domain_name), about->domain_name);
	answer_here(ask);
	return 0;
}

/* Returns a reference to the account that pays: in a domain, that of the asker's host, not of domain 0, which alone is
 * believed in that. NULL: there is none, or no memory. */
static struct account *account_for(struct asks *asks, uint32_t peer, const struct frame_open *about)
{
	struct quota *quota = asks->with.relay->quota;
	char host[HOST_NAME_SIZE] = "";
	uint32_t number = peer;

	if (!in_domain_0(asks) && peer == 0 && host_name_is_valid(about->host.data, about->host.size)) {
		memcpy(host, about->host.data, about->host.size);
		number = hosts_note(asks->with.hosts, host);
	}
	return quota && (number || peer == 0) ? quota_account(quota, QUOTA_PEER, number) : NULL;
}

static int take_ask(struct asks *asks, uint32_t peer, const struct frame_ask *frame)
{
	const struct frame_open *about = &frame->about;
	struct account *account = account_for(asks, peer, about);
	struct ask *ask;
	int r;

	relay_spend(asks->with.relay, account, COST_OPEN);
	r = asks->with.relay->quota && !account ? -ENOBUFS : new_ask(asks, account, &ask);
	account_unref(account);
	if (r < 0) {
		const struct frame_told told = {.number = frame->number, .error = ENOBUFS};
		uint8_t payload[TOLD_PART_SIZE];

		/* If it fails, the peer takes nothing, or has gone. */
		(void)links_send(asks->links, peer, FRAME_TOLD, payload, frame_told_encode(&told, payload));
		return 0;
	}
	ask->key = (struct ask_key){peer, frame->number};
	HASH_ADD(by_key, asks->by_key, key, sizeof(ask->key), ask);
	ask->kind = (enum ask_kind)about->kind;
	ask->known = frame->known;
	ask->from = about->identity;
	if (about->kind < ASK_DOMAINS || about->kind > ASK_HOSTS)
		r = -EINVAL;
	else if (!in_domain_0(asks))
		r = take_from_domain_0(ask, about);
	else
		r = number_is_host(peer) ? take_from_host(ask, about) : take_from_domain(ask, about);
	if (r < 0)
		fail_ask(ask, r == -EPROTO ? -EINVAL : r);
	return 0;
}

/* --- answered by a peer ------------------------------------------------------------------------- */

/* Fails a question whose answer goes on. */
static void refuse_answer(struct ask *ask, int error)
{
	withdraw(ask);
	fail_ask(ask, error);
}

/* Passes a part on to the peer that has asked. */
static void pass_on(struct ask *ask, struct frame_told *told)
{
	struct asks *asks = ask->asks;
	uint32_t domid = ask->to;
	const char *name;
	int r;

	relay_spend(asks->with.relay, ask->charge.account, COST_CONTROL);
	if (!number_is_host(domid)) { /* who it is, domain 0 knows better */
		name = directory_name(asks->with.directory, domid);
		told->domid = domid;
		told->name = frame_text_of(name);
	}
	ask->size += told->count ? (uint32_t)(told->end - told->at) : 0;
	r = send_told(ask, told);
	if (r == -ENOBUFS || r == -ENOMEM) {
		refuse_answer(ask, -ENOBUFS); /* when it reads again */
	} else if (r < 0 || !(told->flags & TOLD_MORE)) {
		free_ask(ask);
	}
}

/* Whether the entry can be there, behind the ones before, which this notes. */
static bool comes_next(struct ask *ask, const struct frame_told_entry *entry)
{
	char name[ENDPOINT_NAME_MAX + 1] = "";

	if (ask->kind == ASK_DOMAINS) {
		if (entry->number > DOMID_MAX || (ask->count && entry->number <= ask->after))
			return false;
		ask->after = entry->number;
		return true;
	}
	if (ask->kind == ASK_HOSTS)
		return host_name_is_valid(entry->name.data, entry->name.size);
	if (!endpoint_name_is_valid(entry->name.data, entry->name.size))
		return false;
	memcpy(name, entry->name.data, entry->name.size);
	if (strcmp(ask->after_name, name) >= 0)
		return false;
	memcpy(ask->after_name, name, sizeof(name));
	return true;
}

/* Adds a part to what has come. */
static int keep_part(struct ask *ask, struct frame_told part)
{
	struct frame_told_entry entry;

	if (!ask->text)
		ask->text = malloc(TOLD_MAX);
	if (!ask->text)
		return -ENOMEM;
	while (frame_told_next(&part, &entry)) {
		if (!comes_next(ask, &entry))
			return -EPROTO;
		ask->size += frame_told_entry_encode(&entry, ask->text + ask->size);
		ask->count++;
	}
	return 0;
}

/* Whether the part can be one behind those that have come: an answer has an end, and is one. */
static bool is_part(struct ask *ask, const struct frame_told *told)
{
	size_t size = told->count ? (size_t)(told->end - told->at) : 0;

	if ((told->flags & TOLD_MORE && !size) || ask->size + size > TOLD_MAX ||
	    (ask->size && ask->version != told->version))
		return false;
	ask->version = told->version;
	return true;
}

static int take_told(struct asks *asks, uint32_t peer, struct frame_told *told)
{
	struct ask *ask = find_id(asks, told->number);
	int r;

	if (!ask || ask->state != ASK_SENT || ask->to != peer)
		return 0; /* nobody wants to know any more */
	if (told->error) {
		r = frame_error(told->error, -EPROTO);
		/* One that doesn't know the question says that it can't be one. */
		fail_ask(ask, ask->kind == ASK_HOSTS && r == -EINVAL ? -EOPNOTSUPP : r);
		return 0;
	}
	if (!is_part(ask, told)) {
		refuse_answer(ask, -EPROTO);
	} else if (!ask->told) {
		pass_on(ask, told);
	} else {
		r = keep_part(ask, *told);
		if (r < 0)
			refuse_answer(ask, r);
		else if (!(told->flags & TOLD_MORE))
			tell_program(ask, told);
	}
	return 0;
}

int asks_take(struct asks *asks, uint32_t peer, uint8_t type, const uint8_t *payload, uint32_t length)
{
	struct frame_ask frame;
	struct frame_told told;
	struct ask *ask;
	uint32_t number;
	int r;

	switch (type) {
	case FRAME_ASK:
		r = frame_ask_decode(payload, length, &frame);
		if (r < 0 || find_key(asks, peer, frame.number))
			return -EPROTO;
		frame_open_split(&frame.about);
		return take_ask(asks, peer, &frame);
	case FRAME_TOLD:
		r = frame_told_decode(payload, length, &told);
		return r < 0 ? r : take_told(asks, peer, &told);
	default:
		r = frame_u32_decode(payload, length, &number);
		ask = r < 0 ? NULL : find_key(asks, peer, number);
		if (ask) /* else it is answered already */
			drop_ask(ask);
		return r;
	}
}

void asks_session_ended(struct asks *asks, uint32_t peer, int error)
{
	struct ask *ask, *next;

	if (!asks)
		return;
	DL_FOREACH_SAFE(asks->list, ask, next) {
		if (is_a_peers(ask) && ask->key.peer == peer)
			drop_ask(ask);
		else if (ask->state == ASK_SENT && ask->to == peer)
			fail_ask(ask, -error);
	}
}

void asks_host_gone(struct asks *asks, uint32_t host)
{
	struct ask *ask, *next;

	if (!asks)
		return;
	DL_FOREACH_SAFE(asks->list, ask, next) {
		if (ask->to != host || (ask->state != ASK_SENT && ask->state != ASK_WAITS))
			continue;
		withdraw(ask);
		fail_ask(ask, -EHOSTDOWN);
	}
}

void asks_renumber(struct asks *asks, uint32_t from, uint32_t to)
{
	struct ask *ask;

	if (from == to)
		return;
	DL_FOREACH(asks->list, ask) {
		if (ask->to == from)
			ask->to = to;
		if (!is_a_peers(ask) || ask->key.peer != from)
			continue;
		HASH_DELETE(by_key, asks->by_key, ask);
		ask->key.peer = to;
		HASH_ADD(by_key, asks->by_key, key, sizeof(ask->key), ask);
	}
}

/* --- life --------------------------------------------------------------------------------------- */

int asks_new(struct asks **out, const struct asks_collaborators *collaborators, bool enabled,
	     asks_endpoint_fn endpoint, void *userdata)
{
	struct asks *asks = calloc(1, sizeof(*asks));

	if (!asks)
		return -ENOMEM;
	asks->with = *collaborators;
	asks->enabled = enabled;
	asks->endpoint = endpoint;
	asks->userdata = userdata;
	asks->timer = evtimer_new(collaborators->relay->base, on_timer, asks);
	if (!asks->timer) {
		free(asks);
		return -ENOMEM;
	}
	*out = asks;
	return 0;
}

void asks_set_links(struct asks *asks, struct links *links)
{
	asks->links = links;
}

void asks_free(struct asks *asks)
{
	if (!asks)
		return;
	if (asks->links)
		links_ping_cancel(asks->links, asks);
	while (asks->list)
		free_ask(asks->list);
	event_free(asks->timer);
	free(asks);
}
