/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/self.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

int self_new_instance(struct self *self)
{
	uint8_t *id = self->instance;

	if (getrandom(id, sizeof(self->instance), 0) != sizeof(self->instance))
		return -EIO;
	id[6] = (uint8_t)((id[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
	id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
	snprintf(self->instance_text, sizeof(self->instance_text),
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", id[0], id[1], id[2],
		 id[3], id[4], id[5], id[6], id[7], id[8], id[9], id[10], id[11], id[12], id[13], id[14],
		 id[15]);
	return 0;
}

bool instance_parse(const char *text, uint8_t instance[16])
{
	unsigned char high, low;

	for (int i = 0; i < 16; i++) {
		text += *text == '-';
		if (sscanf(text, "%1hhx%1hhx", &high, &low) != 2)
			return false;
		instance[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	return *text == '\0';
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
