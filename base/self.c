/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/self.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

int self_new_instance(struct self *self)
{
	uint8_t *id = self->instance;

	if (getrandom(id, sizeof(self->instance), 0) != sizeof(self->instance))
		return -EIO;
	id[6] = (uint8_t)((id[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
	id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
	uuid_print(id, self->instance_text);
	return 0;
}

bool uuid_parse(const char *text, size_t size, uint8_t uuid[16])
{
	static const char digits[] = "0123456789abcdefABCDEF";
	const char *digit;
	unsigned count = 0;

	if (size != SELF_UUID_TEXT_SIZE - 1)
		return false;
	for (size_t i = 0; i < size; i++) {
		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (text[i] != '-')
				return false;
			continue;
		}
		digit = memchr(digits, text[i], sizeof(digits) - 1);
		if (!digit)
			return false;
		uuid[count / 2] =
			(uint8_t)(uuid[count / 2] << 4 | (digit - digits - (digit > digits + 15 ? 6 : 0)));
		count++;
	}
	return true;
}

void uuid_print(const uint8_t uuid[16], char text[SELF_UUID_TEXT_SIZE])
{
	for (unsigned i = 0; i < 16; i++)
		text += sprintf(text, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", uuid[i]);
}

void self_renumber(struct self *self, uint32_t domid)
{
	self->former[self->former_count++ % SELF_FORMER_MAX] = self->domid;
	self->domid = domid;
}

bool self_has_or_had(const struct self *self, uint32_t domid)
{
	for (unsigned i = 0; i < self->former_count && i < SELF_FORMER_MAX; i++)
		if (self->former[i] == domid)
			return true;
	return self->domid == domid;
}
