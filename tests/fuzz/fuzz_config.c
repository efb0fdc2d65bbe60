/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The configuration file: any bytes are taken or refused with a message, and what was taken is within its
 * limits. */

#include "base/config.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config config;
	char *error;
	FILE *file;
	int r;

	if (size == 0) /* fmemopen takes it for an error */
		return 0;
	file = fmemopen((void *)(uintptr_t)data, size, "r");
	if (!file)
		return 0;
	if (config_init(&config) < 0) {
		fclose(file);
		return 0;
	}
	r = config_load_stream(&config, file, "fuzz", &error);
	if (r == -EINVAL)
		check(error && !strncmp(error, "fuzz:", 5));
	if (r == 0) {
		check(!error);
		check(config.min_ring_size >= 1024 && config.min_ring_size <= config.ring_size);
		check(config.max_ring_size >= config.ring_size && config.max_ring_size <= 1u << 20);
		check((config.ring_size & (config.ring_size - 1)) == 0);
		check(config.heartbeat_ms >= 100 && config.dead_after_ms >= 2 * config.heartbeat_ms);
		check(memchr(config.socket, 0, sizeof(config.socket)) && config.socket[0] == '/');
		check(config.max_message >= 1 && config.max_clients >= 2);
		/* Less of something for all, and nobody's share would be any. */
		check(config.max_clients >= 2 && config.max_endpoints >= 2 && config.max_channels >= 2 &&
		      config.max_queued_bytes >= 2 * 128 * 1024);
	}
	free(error);
	config_free(&config);
	fclose(file);
	return 0;
}
