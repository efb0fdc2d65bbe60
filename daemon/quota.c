/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/quota.h"

#include <errno.h>
#include <stdlib.h>

#include <uthash.h>

struct key {
	uint32_t kind, id;
};

struct account {
	struct key key;
	struct quota *quota;
	unsigned references;
	uint32_t channels;
	uint64_t bytes;
	uint64_t refused;
	UT_hash_handle hh;
};

struct quota {
	struct quota_limits limits;
	struct account *accounts;
};

struct quota *quota_new(const struct quota_limits *limits)
{
	struct quota *quota = calloc(1, sizeof(*quota));

	if (quota)
		quota->limits = *limits;
	return quota;
}

void quota_free(struct quota *quota)
{
	free(quota);
}

struct account *quota_account(struct quota *quota, enum quota_kind kind, uint32_t id)
{
	struct key key = {.kind = kind, .id = id};
	struct account *account;

	HASH_FIND(hh, quota->accounts, &key, sizeof(key), account);
	if (account)
		return account_ref(account);
	account = calloc(1, sizeof(*account));
	if (!account)
		return NULL;
	account->key = key;
	account->quota = quota;
	account->references = 1;
	HASH_ADD(hh, quota->accounts, key, sizeof(account->key), account);
	return account;
}

struct account *account_ref(struct account *account)
{
	if (account)
		account->references++;
	return account;
}

void account_unref(struct account *account)
{
	if (!account || --account->references > 0)
		return;
	HASH_DEL(account->quota->accounts, account);
	free(account);
}

int account_charge(struct account *account, uint32_t channels, uint64_t bytes)
{
	const struct quota_limits *limits;

	if (!account)
		return 0;
	limits = &account->quota->limits;
	if (channels > limits->channels[account->key.kind] - account->channels ||
	    bytes > limits->bytes[account->key.kind] - account->bytes) {
		account->refused++;
		return -ENOBUFS;
	}
	account->channels += channels;
	account->bytes += bytes;
	return 0;
}

void account_release(struct account *account, uint32_t channels, uint64_t bytes)
{
	if (!account)
		return;
	account->channels -= channels;
	account->bytes -= bytes;
}

struct quota_usage account_usage(const struct account *account)
{
	if (!account)
		return (struct quota_usage){0};
	return (struct quota_usage){
		.channels = account->channels,
		.channels_max = account->quota->limits.channels[account->key.kind],
		.bytes = account->bytes,
		.bytes_max = account->quota->limits.bytes[account->key.kind],
		.refused = account->refused,
	};
}
