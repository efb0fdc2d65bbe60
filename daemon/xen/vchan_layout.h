/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_VCHAN_LAYOUT_H
#define XENMSG_DAEMON_VCHAN_LAYOUT_H

/*
 * Where the rings of a vchan lie (xen/io/libxenvchan.h): those of 1 and 2 KiB in the first page, larger ones
 * in pages of their own; the grant references of more than 1 MiB don't fit into the first page. A ring's size
 * is 1 << order. This is arithmetic alone: vchan.c has the memory.
 */

#include <stdbool.h>
#include <stdint.h>

#define LAYOUT_PAGE_ORDER     12
#define LAYOUT_PAGE_BYTES     (1u << LAYOUT_PAGE_ORDER)
#define LAYOUT_RING_ORDER_MAX 20
#define LAYOUT_RING_PAGES_MAX (1u << (LAYOUT_RING_ORDER_MAX - LAYOUT_PAGE_ORDER))

struct vchan_interface;

/* Chooses the orders for two sizes as libxenvchan_server_init() does: in one page where possible, and never
 * the same place in it twice. -EINVAL: a size isn't a power of two from 1 KiB to 1 MiB. */
int layout_choose(uint32_t left_size, uint32_t right_size, int *left_order, int *right_order);
/* Whether the orders that a peer has written into the first page are possible. */
bool layout_is_possible(int untrusted_left_order, int untrusted_right_order);
/* Returns how many pages of its own a ring has, behind the first one. */
uint32_t layout_pages(int order);
/* Returns where a ring without pages of its own lies. */
void *layout_in_page(struct vchan_interface *page, int order);

#endif
