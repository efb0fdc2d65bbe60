/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/origin.h"

#include <sys/mman.h>

void origin_note(struct origin *origin)
{
	void *page =
		mmap(NULL, sizeof(*origin->word), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*origin = (struct origin){.pid = getpid()};
	if (page == MAP_FAILED)
		return;
	if (madvise(page, sizeof(*origin->word), MADV_WIPEONFORK) < 0) { /* Linux before 4.14 */
		munmap(page, sizeof(*origin->word));
		return;
	}
	origin->word = page;
	*origin->word = 1;
}

void origin_forget(struct origin *origin)
{
	if (origin->word)
		munmap(origin->word, sizeof(*origin->word));
	origin->word = NULL;
}
