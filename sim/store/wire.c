/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sim/store/wire.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

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

/* A part of a payload. */
struct payload_piece {
	const char *text;
	size_t len;
};

/* Cuts a piece at its NULs, as oxenstored does, into at most max pieces; the last one is the rest. Returns
 * how many there are. */
static unsigned split(struct payload_piece rest, struct payload_piece *pieces, unsigned max)
{
	unsigned count = 0;
	const char *nul;

	while (count < max - 1 && rest.len && (nul = memchr(rest.text, '\0', rest.len))) {
		pieces[count++] = (struct payload_piece){rest.text, (size_t)(nul - rest.text)};
		rest.len -= (size_t)(nul - rest.text) + 1;
		rest.text = nul + 1;
	}
	pieces[count++] = rest;
	return count;
}

/* Brings a number to the 63 bits of OCaml's. */
static int64_t wrap(uint64_t number)
{
	return (int64_t)(number << 1) >> 1;
}

static unsigned digit(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : UINT_MAX;
}

/* Reads a number as OCaml's int_of_string does, which oxenstored uses: with a sign, in any base (0x10), and
 * with underscores. */
static bool parse_number(struct payload_piece piece, int64_t *number)
{
	const char *at = piece.text, *end = piece.text + piece.len;
	uint64_t value = 0, limit = (uint64_t)1 << 62;
	bool negative = at < end && *at == '-';
	unsigned base = 10;

	if (at < end && (*at == '-' || *at == '+'))
		at++;
	if (end - at > 2 && at[0] == '0' && strchr("xXoObBuU", at[1])) {
		base = strchr("xX", at[1]) ? 16 : strchr("oO", at[1]) ? 8 : strchr("bB", at[1]) ? 2 : 10;
		limit = (uint64_t)1 << 63;
		at += 2;
	}
	if (at == end || digit(*at) >= base)
		return false;
	for (; at < end; at++) {
		if (*at == '_')
			continue;
		if (digit(*at) >= base || value > UINT64_MAX / base ||
		    __builtin_add_overflow(value * base, digit(*at), &value))
			return false;
	}
	if (limit == (uint64_t)1 << 62 && negative)
		limit++;
	if (value >= limit)
		return false;
	*number = wrap(negative ? -value : value);
	return true;
}

/* Reads the first digits that there are, as oxenstored does elsewhere. Without any it is 0. */
static int64_t first_digits(struct payload_piece piece)
{
	const char *at = piece.text, *end = piece.text + piece.len;
	uint64_t value = 0;

	while (at < end && digit(*at) > 9)
		at++;
	for (; at < end && digit(*at) <= 9; at++)
		value = value * 10 + digit(*at);
	return wrap(value);
}

static bool parse_perm(struct payload_piece piece, struct sim_perm *perm)
{
	if (piece.len == 0)
		return false;
	switch (*piece.text) {
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
	return parse_number((struct payload_piece){piece.text + 1, piece.len - 1}, &perm->domid);
}

int sim_wire_print_perm(char text[SIM_WIRE_PERM_SIZE], const struct sim_perm *perm)
{
	static const char letters[] = {'n', 'r', 'w', 'b'};

	return snprintf(text, SIM_WIRE_PERM_SIZE, "%c%" PRIu64, letters[perm->access & SIM_PERM_BOTH],
			(uint64_t)perm->domid & INT64_MAX);
}

/* What follows the last NUL is left out. */
static bool parse_perms(struct payload_piece rest, struct store_message *request)
{
	struct payload_piece two[2];

	while (split(rest, two, 2) == 2) {
		if (request->n_perms == SIM_WIRE_PERMS_MAX ||
		    !parse_perm(two[0], &request->perms[request->n_perms]))
			return false;
		request->n_perms++;
		rest = two[1];
	}
	return request->n_perms > 0;
}

static bool is_text(struct payload_piece piece, const char *text)
{
	return piece.len == strlen(text) && memcmp(piece.text, text, piece.len) == 0;
}

int sim_wire_decode(struct store_message *request, const void *message, size_t len)
{
	const struct payload_piece payload = {(const char *)message + sizeof(request->header),
					      len - sizeof(request->header)};
	struct payload_piece two[2], all[8];
	unsigned count = split(payload, all, 8);
	bool has_two = split(payload, two, 2) == 2;
	/* There is one string and nothing behind it. */
	bool is_one = has_two && two[1].len == 0;
	bool valid;

	memcpy(&request->header, message, sizeof(request->header));
	request->untrusted_path = has_two ? two[0].text : NULL;
	request->token = NULL;
	request->value = has_two ? two[1].text : NULL;
	request->value_len = has_two ? two[1].len : 0;
	request->n_perms = 0;
	request->domid = request->target = 0;
	request->commit = request->asks_quota = false;

	switch (request->header.type) {
	case XS_DIRECTORY:
	case XS_READ:
	case XS_GET_PERMS:
	case XS_MKDIR:
	case XS_RM:
		valid = is_one;
		break;
	case XS_WRITE:
		/* The value is whatever follows, NULs included. */
		valid = has_two;
		break;
	case XS_DIRECTORY_PART:
		/* Of C xenstored alone, whose atoi() takes no digits for 0. */
		valid = count == 3 && all[2].len == 0;
		request->domid = valid && all[1].len && digit(*all[1].text) <= 9 ? first_digits(all[1]) : 0;
		break;
	case XS_SET_PERMS:
		valid = has_two && parse_perms(two[1], request);
		break;
	case XS_WATCH:
	case XS_UNWATCH:
		valid = count == 3 && all[2].len == 0;
		request->token = valid ? all[1].text : NULL;
		break;
	case XS_TRANSACTION_END:
		request->commit = is_text(all[0], "T");
		valid = request->commit || is_text(all[0], "F");
		break;
	case XS_GET_DOMAIN_PATH:
		valid = is_one;
		request->domid = first_digits(all[0]);
		break;
	case XS_IS_DOMAIN_INTRODUCED:
	case XS_RESUME:
		valid = parse_number(all[0], &request->domid);
		break;
	case XS_RELEASE:
		valid = is_one && parse_number(all[0], &request->domid);
		break;
	case XS_INTRODUCE: /* the page and event channel that follow mean nothing here */
		valid = count >= 3 && parse_number(all[0], &request->domid) &&
			parse_number(all[1], &request->target) && parse_number(all[2], &request->target);
		break;
	case XS_SET_TARGET:
		valid = count == 3 && all[2].len == 0;
		request->domid = first_digits(all[0]);
		request->target = valid ? first_digits(all[1]) : 0;
		break;
	case XS_CONTROL:
		valid = true;
		request->asks_quota =
			count > 1 && is_text(all[0], "quota") && parse_number(all[1], &request->domid);
		break;
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
