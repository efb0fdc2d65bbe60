/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/told_list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int told_list_copy(struct told_list *list, const struct frame_told *told)
{
	size_t size = told->count ? (size_t)(told->end - told->at) : 0;

	list->text = malloc(size + 1);
	if (!list->text)
		return -ENOMEM;
	if (size)
		memcpy(list->text, told->at, size);
	list->all = *told;
	list->all.at = list->text;
	list->all.end = list->text + size;
	return 0;
}

void told_list_free(struct told_list *list)
{
	free(list->text);
	*list = (struct told_list){0};
}

void told_list_rewind(struct told_list *list)
{
	list->left = list->all;
	told_list_advance(list);
}

void told_list_advance(struct told_list *list)
{
	list->has_entry = frame_told_next(&list->left, &list->entry);
}

int told_list_order(const struct told_list *a, const struct told_list *b)
{
	const struct frame_text *first = &a->entry.name, *second = &b->entry.name;
	int order;

	if (!a->has_entry || !b->has_entry)
		return a->has_entry ? -1 : 1;
	order = memcmp(first->data, second->data, first->size < second->size ? first->size : second->size);
	return order ? order : (first->size > second->size) - (first->size < second->size);
}
