/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xenmsg-keeper: holds the event-channel handle of a daemon whose domain was saved and restored (daemon/keeper.h), until the
 * system goes down. Only xenmsgd starts it. The handle is the descriptor that it was born with; all signals are blocked.
 */
#include <unistd.h>

int main(void)
{
	for (;;)
		pause();
}
