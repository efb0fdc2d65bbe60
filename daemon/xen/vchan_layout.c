/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/xen/vchan_layout.h"

#include <errno.h>

#define PAGE_ORDER	  LAYOUT_PAGE_ORDER
#define SMALL_RING_ORDER  10
#define LARGE_RING_ORDER  11
#define MAX_RING_ORDER	  LAYOUT_RING_ORDER_MAX
#define SMALL_RING_OFFSET 1024
#define LARGE_RING_OFFSET 2048

static bool vchan_layout_size_is_possible(uint32_t size)
{
	return size >= 1u << SMALL_RING_ORDER && size <= 1u << MAX_RING_ORDER && (size & (size - 1)) == 0;
}

static int order_of(uint32_t size)
{
	int order = PAGE_ORDER;

	while (size > 1u << order)
		order++;
	return order;
}

int layout_choose(uint32_t left_size, uint32_t right_size, int *left, int *right)
{
	const uint32_t small = 1u << SMALL_RING_ORDER, large = 1u << LARGE_RING_ORDER;

	if (!vchan_layout_size_is_possible(left_size) || !vchan_layout_size_is_possible(right_size))
		return -EINVAL;
	*left = order_of(left_size);
	*right = order_of(right_size);
	if (left_size <= small && right_size <= large) {
		*left = SMALL_RING_ORDER;
		*right = LARGE_RING_ORDER;
	} else if (left_size <= large && right_size <= small) {
		*left = LARGE_RING_ORDER;
		*right = SMALL_RING_ORDER;
	} else if (left_size <= large) {
		*left = LARGE_RING_ORDER;
	} else if (right_size <= large) {
		*right = LARGE_RING_ORDER;
	}
	return 0;
}

uint32_t layout_pages(int order)
{
	return order >= PAGE_ORDER ? 1u << (order - PAGE_ORDER) : 0;
}

void *layout_in_page(struct vchan_interface *page, int order)
{
	return (uint8_t *)page + (order == SMALL_RING_ORDER ? SMALL_RING_OFFSET : LARGE_RING_OFFSET);
}

bool layout_is_possible(int untrusted_left, int untrusted_right)
{
	if (untrusted_left < SMALL_RING_ORDER || untrusted_left > MAX_RING_ORDER)
		return false;
	if (untrusted_right < SMALL_RING_ORDER || untrusted_right > MAX_RING_ORDER)
		return false;
	return untrusted_left != untrusted_right || untrusted_left >= PAGE_ORDER;
}
