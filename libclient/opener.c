/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/opener.h"

#include <sys/mman.h>

void opener_note(struct opener *opener)
{
	void *page =
		mmap(NULL, sizeof(*opener->word), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*opener = (struct opener){.pid = getpid()};
	if (page == MAP_FAILED)
		return;
	if (madvise(page, sizeof(*opener->word), MADV_WIPEONFORK) < 0) { /* Linux before 4.14 */
		munmap(page, sizeof(*opener->word));
		return;
	}
	opener->word = page;
	*opener->word = 1;
}

void opener_forget(struct opener *opener)
{
	if (opener->word)
		munmap(opener->word, sizeof(*opener->word));
	opener->word = NULL;
}
