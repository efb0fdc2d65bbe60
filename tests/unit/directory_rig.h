/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_DIRECTORY_RIG_H
#define XENMSG_TESTS_DIRECTORY_RIG_H

/*
 * The directory in its two lives: domain 0's on a XenStore in memory, and guests' that get its frames, so
 * that what a guest knows is what domain 0 lets it know.
 */

#include "tests/unit/unit.h"
#include "tests/unit/fake_store.h"

#include <time.h>

#include <event2/event.h>

#include "base/self.h"
#include "daemon/registry/registry.h"

#define BELIEVED_MS 100
#define KEPT_MS	    2000
#define UUID_A	    "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
#define UUID_B	    "12345678-9abc-4def-8012-3456789abcde"
#define PATIENCE_MS 20000

struct rig;

/* One daemon's directory. */
struct place {
	struct rig *rig;
	struct self self;
	struct registry *registry;
	struct registry_sink sink;
	struct directory *directory;
	struct domains *domains;
	struct names *names;
	struct store store;
	unsigned wants, changes;
	bool has_changed;
	char last_change[300];
	bool told; /* what changes in XenStore, */
	unsigned leaves[16], leaf_changes;
};

struct rig {
	struct event_base *base;
	struct place zero, guests[2]; /* domains 0, 1 and 2 */
	bool hidden[16];	      /* from guest 1 */
	int send_error;
	bool leads; /* it knows the way to one that has gone */
	unsigned asked_to_tell;
	unsigned frames, entries, removed;
	uint32_t longest;
};

struct place *guest(struct rig *rig, uint32_t domid);
uint64_t now_ms(void);

int set_up(void **state);
int tear_down(void **state);
/* The head of a test, whose parameters are the rig and the directory of domain 1, a guest. */
#define DIRECTORY_TEST(name)                                                                                 \
	static void name##_in(struct rig *, struct place *);                                                 \
	TEST_WITH(name, set_up, tear_down)                                                                   \
	{                                                                                                    \
		name##_in(*state, guest(*state, 1));                                                         \
	}                                                                                                    \
	static void name##_in(struct rig *rig, struct place *one)
void turn(struct rig *rig);

#define until(condition)                                                                                     \
	do {                                                                                                 \
		uint64_t end_ms = now_ms() + PATIENCE_MS;                                                    \
		while (!(condition)) {                                                                       \
			if (now_ms() > end_ms)                                                               \
				fail_msg("waited in vain: %s", #condition);                                  \
			turn(rig);                                                                           \
			nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);                              \
		}                                                                                            \
	} while (0)

int resolve(struct place *place, const char *name);
bool is_named(struct place *place, uint32_t domid, const char *name);
void link_up(struct rig *rig, uint32_t domid);
/* And domain 0 has told all that the guest may know. */
void link_up_and_tell(struct rig *rig, uint32_t domid);
/* All that was to be told has been told: a domain that was renamed just now is known by its name. */
void settle(struct rig *rig, uint32_t domid);
void introduce(struct rig *rig, uint32_t domid, const char *name, const char *uuid);
void release(struct rig *rig, uint32_t domid);

#endif
