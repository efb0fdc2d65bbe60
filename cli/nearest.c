/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/nearest.h"

#include <string.h>

/* Returns how many letters have to be added, left out, replaced or swapped with the next one to turn one into
 * the other, at most `most` + 1. */
static size_t distance(const char *one, const char *other, size_t most)
{
	size_t left_out, added, replaced, swapped = most + 1, least;

	if (!*one || !*other || !most) {
		size_t rest = *one && *other && strcmp(one, other) == 0 ? 0 : strlen(one) + strlen(other);

		return rest > most ? most + 1 : rest;
	}
	if (*one == *other)
		return distance(one + 1, other + 1, most);
	left_out = 1 + distance(one + 1, other, most - 1);
	added = 1 + distance(one, other + 1, most - 1);
	replaced = 1 + distance(one + 1, other + 1, most - 1);
	if (one[0] == other[1] && one[1] == other[0])
		swapped = 1 + distance(one + 2, other + 2, most - 1);
	least = left_out < added ? left_out : added;
	least = least < swapped ? least : swapped;
	return least < replaced ? least : replaced;
}

struct nearest nearest_to(const char *typed)
{
	return (struct nearest){.typed = typed, .far = strlen(typed) > 3 ? 2 : 1};
}

void nearest_try(struct nearest *nearest, const char *word)
{
	size_t far = distance(nearest->typed, word, nearest->far);

	if (far == 0) /* that is what was typed */
		return;
	if (far < nearest->far || (far == nearest->far && !nearest->meant)) {
		nearest->far = far;
		nearest->meant = word;
	}
}
