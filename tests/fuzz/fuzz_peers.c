/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a hostile domain writes into XenStore: the first byte says as what the rest is read. What is taken
 * must be what the protocol allows, and nothing behind the value may be looked at (it is copied into memory
 * of its exact size).
 */
#include <ctype.h>

#include "daemon/peers/peers_parse.h"
#include "tests/fuzz/fuzz.h"
#include "wire/address.h"

static void check_hex(const char *text, size_t size)
{
	check(strlen(text) == size);
	for (size_t i = 0; i < size; i++)
		check(isxdigit((unsigned char)text[i]) || text[i] == '-');
}

static void read_endpoints(const char *value, size_t size)
{
	char text[2000];
	struct offered offered, again;

	if (endpoints_parse(value, size, &offered) < 0)
		return;
	check(!offered.list[offered.count]);
	for (unsigned i = 0; i < offered.count; i++)
		check(endpoint_name_is_valid(offered.list[i], strlen(offered.list[i])) &&
		      offered.kinds[i] <= 8); /* 8: a topic, which is nothing else */
	endpoints_format((const char *const *)offered.list, offered.kinds, offered.count, text, sizeof(text));
	check(endpoints_parse(text, strlen(text), &again) == 0 && again.count <= offered.count);
	for (unsigned i = 0; i < again.count; i++)
		check(!strcmp(offered.list[i], again.list[i]) && offered.kinds[i] == again.kinds[i]);
	free(again.list);
	free(offered.list);
}

static void read_path(const char *path)
{
	char nonce[PEERS_NONCE_SIZE] = "";
	uint32_t domid = 0;
	enum peers_path kind = peers_path_parse(path, 3, &domid, nonce);

	if (kind != PEERS_PATH_OTHER)
		check(domid <= DOMID_MAX && !strncmp(path, "/local/domain", 13));
	if (kind == PEERS_PATH_NODES)
		check_hex(nonce, PEERS_NONCE_SIZE - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char instance[PEERS_INSTANCE_SIZE], *value;
	struct rendezvous_hello hello;
	unsigned major = 0;
	uint32_t number = 0;
	unsigned what;
	int r;

	if (size == 0)
		return 0;
	what = (uint8_t)(data[0] - '0') % 5;
	value = malloc(what == 4 ? size : size - 1); /* paths end with a NUL */
	if (!value)
		return 0;
	memcpy(value, data + 1, size - 1);
	if (what == 4)
		value[size - 1] = '\0';
	switch (what) {
	case 0:
		r = presence_parse(value, size - 1, &major, instance);
		if (r == 0)
			check_hex(instance, PEERS_INSTANCE_SIZE - 1);
		check(r != -EPROTONOSUPPORT || major != PEERS_MAJOR);
		break;
	case 1:
		r = hello_parse(value, size - 1, &major, &hello);
		if (r == 0) {
			check_hex(hello.instance, PEERS_INSTANCE_SIZE - 1);
			check_hex(hello.nonce, PEERS_NONCE_SIZE - 1);
		}
		break;
	case 2:
		read_endpoints(value, size - 1);
		break;
	case 3:
		if (node_number_parse(value, size - 1, &number) == 0)
			check(number > 0);
		break;
	default:
		read_path(value);
		break;
	}
	free(value);
	return 0;
}
