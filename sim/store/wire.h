/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * XenStore's wire protocol (xen/io/xs_wire.h, docs/misc/xenstore.txt): a header of four native integers and
 * at most 4096 bytes of strings. Requests are decoded only here, and are untrusted before.
 */
#ifndef XENMSG_SIM_STORE_WIRE_H
#define XENMSG_SIM_STORE_WIRE_H

#include <errno.h> /* before xs_wire.h, which makes its table of errors only then */
#include <stdint.h>
#include <xen/io/xs_wire.h>

#include "sim/store/tree.h"

#define SIM_WIRE_PERMS_MAX (XENSTORE_PAYLOAD_MAX / 3) /* "n0" and its NUL */

/* A decoded request. Pointers lead into the message and are valid as long as it is. The type decides which
 * fields are set. */
struct store_message {
	struct xsd_sockmsg header;
	const char *untrusted_path;
	const char *token;
	const void *value;
	size_t value_len;
	struct sim_perm perms[SIM_WIRE_PERMS_MAX];
	unsigned n_perms;
	int64_t domid;
	int64_t target;
	bool commit;
	bool asks_quota; /* XS_CONTROL: of domid */
};

/* Returns the length of the message that begins here, 0 while its header is incomplete, or -EMSGSIZE if it is
 * too long to be answered at all. */
int sim_wire_message_length(const void *data, size_t len);

/* Decodes one complete message. Returns 0, -EINVAL: arguments don't have the form of this type, -ENOSYS: no
 * such type. The header is valid in any case. */
int sim_wire_decode(struct store_message *request, const void *message, size_t len);

/* Returns the protocol's name of a negative errno. */
const char *sim_wire_error_name(int error);

/* Prints a permission, with its NUL. Returns the length without it. */
#define SIM_WIRE_PERM_SIZE 24
int sim_wire_print_perm(char text[SIM_WIRE_PERM_SIZE], const struct sim_perm *perm);

#endif
