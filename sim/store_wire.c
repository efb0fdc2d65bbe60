/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim/store_wire.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* The rest of a payload. */
struct cursor {
	const char *at;
	size_t left;
};

int sim_wire_message_length(const void *data, size_t len)
{
	struct xsd_sockmsg header;

	if (len < sizeof(header))
		return 0;
	memcpy(&header, data, sizeof(header));
	if (header.len > XENSTORE_PAYLOAD_MAX)
		return -EMSGSIZE;
	return (int)(sizeof(header) + header.len);
}

/* Takes the next string, which must end within the payload. */
static const char *take_string(struct cursor *cursor)
{
	const char *string = cursor->at;
	const char *end = cursor->left ? memchr(cursor->at, '\0', cursor->left) : NULL;

	if (!end)
		return NULL;
	cursor->left -= (size_t)(end - cursor->at) + 1;
	cursor->at = end + 1;
	return string;
}

static bool parse_number(const char *text, unsigned limit, unsigned *number)
{
	unsigned long value;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || *end || value > limit)
		return false;
	*number = (unsigned)value;
	return true;
}

static bool take_number(struct cursor *cursor, unsigned limit, unsigned *number)
{
	const char *text = take_string(cursor);

	return text && parse_number(text, limit, number);
}

bool sim_wire_parse_perm(const char *text, struct sim_perm *perm)
{
	switch (*text) {
	case 'n':
		perm->access = SIM_PERM_NONE;
		break;
	case 'r':
		perm->access = SIM_PERM_READ;
		break;
	case 'w':
		perm->access = SIM_PERM_WRITE;
		break;
	case 'b':
		perm->access = SIM_PERM_BOTH;
		break;
	default:
		return false;
	}
	return parse_number(text + 1, UINT16_MAX, &perm->domid);
}

int sim_wire_print_perm(char text[16], const struct sim_perm *perm)
{
	static const char letters[] = {'n', 'r', 'w', 'b'};

	return snprintf(text, 16, "%c%u", letters[perm->access & SIM_PERM_BOTH], perm->domid & UINT16_MAX);
}

static bool take_perms(struct cursor *cursor, struct sim_request *request)
{
	do {
		const char *text = take_string(cursor);

		if (!text || request->n_perms == SIM_WIRE_PERMS_MAX ||
		    !sim_wire_parse_perm(text, &request->perms[request->n_perms]))
			return false;
		request->n_perms++;
	} while (cursor->left);
	return true;
}

int sim_wire_decode(struct sim_request *request, const void *message, size_t len)
{
	struct cursor cursor = {(const char *)message + sizeof(request->header),
				len - sizeof(request->header)};
	const char *text;
	bool valid;

	memcpy(&request->header, message, sizeof(request->header));
	request->untrusted_path = request->token = NULL;
	request->value = NULL;
	request->value_len = 0;
	request->n_perms = request->domid = request->target = 0;
	request->commit = false;

	switch (request->header.type) {
	case XS_DIRECTORY:
	case XS_READ:
	case XS_GET_PERMS:
	case XS_MKDIR:
	case XS_RM:
		valid = (request->untrusted_path = take_string(&cursor)) && !cursor.left;
		break;
	case XS_WRITE:
		/* The value is whatever follows, NULs included. */
		valid = (request->untrusted_path = take_string(&cursor));
		request->value = cursor.at;
		request->value_len = cursor.left;
		break;
	case XS_SET_PERMS:
		valid = (request->untrusted_path = take_string(&cursor)) && take_perms(&cursor, request);
		break;
	case XS_WATCH:
	case XS_UNWATCH:
		valid = (request->untrusted_path = take_string(&cursor)) &&
			(request->token = take_string(&cursor)) && !cursor.left;
		break;
	case XS_TRANSACTION_END:
		text = take_string(&cursor);
		valid = text && (strcmp(text, "T") == 0 || strcmp(text, "F") == 0);
		request->commit = valid && *text == 'T';
		break;
	case XS_GET_DOMAIN_PATH:
	case XS_IS_DOMAIN_INTRODUCED:
	case XS_INTRODUCE: /* the page and event channel that follow mean nothing here */
	case XS_RELEASE:
	case XS_RESUME:
		valid = take_number(&cursor, UINT16_MAX, &request->domid);
		break;
	case XS_SET_TARGET:
		valid = take_number(&cursor, UINT16_MAX, &request->domid) &&
			take_number(&cursor, UINT16_MAX, &request->target);
		break;
	case XS_CONTROL:
	case XS_TRANSACTION_START:
	case XS_RESET_WATCHES:
		valid = true; /* what they carry doesn't matter */
		break;
	default:
		return -ENOSYS;
	}
	return valid ? 0 : -EINVAL;
}

const char *sim_wire_error_name(int error)
{
	/* It isn't in the table: libxenstore turns a name that it doesn't know into EINVAL. */
	if (error == -EDQUOT)
		return "EQUOTA";
	for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++)
		if (xsd_errors[i].errnum == -error)
			return xsd_errors[i].errstring;
	return "EINVAL";
}
