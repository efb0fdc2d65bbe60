/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/payload.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nettle/base64.h>

bool payload_is_utf8(const void *data, size_t size)
{
	const uint8_t *at = data, *end = at + size;

	while (at < end) {
		uint8_t lead = *at++;
		uint8_t low = 0x80, high = 0xbf; /* limits of the second byte */
		int more;

		if (lead < 0x80)
			continue;
		if (lead >= 0xc2 && lead <= 0xdf)
			more = 1;
		else if (lead >= 0xe0 && lead <= 0xef)
			more = 2;
		else if (lead >= 0xf0 && lead <= 0xf4)
			more = 3;
		else
			return false;
		if (lead == 0xe0)
			low = 0xa0;
		else if (lead == 0xed)
			high = 0x9f;
		else if (lead == 0xf0)
			low = 0x90;
		else if (lead == 0xf4)
			high = 0x8f;
		for (; more > 0; more--) {
			if (at == end || *at < low || *at > high)
				return false;
			at++;
			low = 0x80;
			high = 0xbf;
		}
	}
	return true;
}

char *payload_base64(const void *data, size_t size)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *bytes = data;
	char *text = malloc((size + 2) / 3 * 4 + 1), *to = text;

	if (!text)
		return NULL;
	for (size_t at = 0; at < size; at += 3) {
		size_t there = size - at < 3 ? size - at : 3;
		uint32_t three = (uint32_t)bytes[at] << 16;

		three |= there > 1 ? (uint32_t)bytes[at + 1] << 8 : 0;
		three |= there > 2 ? bytes[at + 2] : 0;
		for (size_t digit = 0; digit < 4; digit++, three <<= 6)
			*to++ = digit > there ? '=' : digits[three >> 18 & 63];
	}
	*to = '\0';
	return text;
}

int payload_read(int fd, size_t most, char **data, size_t *size)
{
	size_t capacity = 0;

	*data = NULL;
	*size = 0;
	for (;;) {
		ssize_t n;

		if (*size == capacity) {
			char *grown;

			if (*size > most)
				return -EMSGSIZE;
			capacity = capacity ? capacity * 2 : 65536;
			grown = realloc(*data, capacity);
			if (!grown)
				return -ENOMEM;
			*data = grown;
		}
		n = read(fd, *data + *size, capacity - *size);
		if (n == 0)
			return 0;
		if (n < 0 && errno == EAGAIN) { /* another program has made it non-blocking */
			struct pollfd input = {.fd = fd, .events = POLLIN};

			poll(&input, 1, -1);
		} else if (n < 0 && errno != EINTR) {
			return -errno;
		}
		if (n > 0)
			*size += (size_t)n;
	}
}

int payload_take_lines(char *data, size_t *size, bool end,
		       int (*take)(void *userdata, const char *line, size_t size), void *userdata)
{
	size_t from = 0;
	int r = 0;

	while (r == 0 && from < *size) {
		char *newline = memchr(data + from, '\n', *size - from);
		size_t length = newline ? (size_t)(newline - data) - from : *size - from;

		if (!newline && !end)
			break;
		r = take(userdata, data + from, length);
		from += length + (newline ? 1 : 0);
	}
	memmove(data, data + from, *size - from);
	*size -= from;
	return r;
}
