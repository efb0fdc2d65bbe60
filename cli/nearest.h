/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_NEAREST_H
#define XENMSG_CLI_NEAREST_H

/* Finds what was meant by a word that is none: the nearest of those that there are, by how many letters have
 * to be added, left out, replaced or swapped. */

#include <stddef.h>

struct nearest {
	const char *typed;
	const char *meant; /* the nearest so far; NULL: none is near, so it is another word */
	size_t far;	   /* how far it may be, or is */
};

struct nearest nearest_to(const char *typed);
/* Compares another word, which stays valid. Of several as near the first stays. */
void nearest_try(struct nearest *nearest, const char *word);

#endif
