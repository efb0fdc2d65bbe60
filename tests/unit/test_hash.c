/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The hash of our tables: nobody who chooses names can choose where they fall. */
#include "tests/unit/unit.h"

#include <unistd.h>

static bool is_short; /* of memory */
#define uthash_malloc(size) (is_short ? NULL : malloc(size))
#include "wire/ut.h"

#define NAMES	  1000u
#define SAME_BITS 10u /* of the hash that uthash has without a key */
#define NAME_SIZE 16u
/* Of 1000 names in as many places or more, by chance: that one has this many has a chance of 1 in 10^9. */
#define LONGEST 16u

struct entry {
	char name[NAME_SIZE];
	UT_hash_handle hh;
};

/* By `openssl mac -macopt c-rounds:1 -macopt d-rounds:3 SIPHASH`, with the key 00 01 ... 0f. */
TEST(siphash_is_as_others_compute_it)
{
	static const uint64_t key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
	static const struct {
		size_t size;
		uint64_t hash;
	} registry[] = {{0, 0xabac0158050fc4dc},
			{1, 0xc9f49bf37d57ca93},
			{15, 0xd320d86d2a519956},
			{40, 0xc1d2363299e41531}};
	uint8_t data[40];

	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	for (unsigned i = 0; i < sizeof(registry) / sizeof(*registry); i++)
		assert_true(siphash13(key, data, registry[i].size) == registry[i].hash);
}

/* Finds the next name that falls together with all that were found. */
static void find_name(char name[NAME_SIZE], unsigned *number)
{
	unsigned hash;

	do {
		snprintf(name, NAME_SIZE, "n%u", (*number)++);
		HASH_JEN(name, strlen(name), hash);
	} while (hash & ((1u << SAME_BITS) - 1));
}

TEST(names_chosen_to_fall_together_dont)
{
	struct entry *entries = calloc(NAMES, sizeof(*entries)), *table = NULL;
	unsigned number = 0, longest = 0;

	for (unsigned i = 0; i < NAMES; i++) {
		find_name(entries[i].name, &number);
		HASH_ADD_STR(table, name, &entries[i]);
	}
	for (unsigned i = 0; i < table->hh.tbl->num_buckets; i++)
		if (table->hh.tbl->buckets[i].count > longest)
			longest = table->hh.tbl->buckets[i].count;
	assert_in_range(longest, 1, LONGEST);
	HASH_CLEAR(hh, table);
	free(entries);
}

/* Whether as many are there as should be, each of which is found by its name. */
static void check_table(struct entry *table, unsigned count)
{
	struct entry *entry, *found;

	assert_int_equal(HASH_COUNT(table), count);
	for (entry = table; entry; entry = entry->hh.next) {
		HASH_FIND_STR(table, entry->name, found);
		assert_ptr_equal(found, entry);
	}
}

/* In the first, which needs a table, or in any other one, which may need a larger one. */
TEST(what_lacks_memory_is_not_in_the_table_and_all_others_are)
{
	struct entry *entries = calloc(NAMES, sizeof(*entries)), *table = NULL;
	unsigned refused = 0;

	for (unsigned i = 0; i < NAMES; i++) {
		snprintf(entries[i].name, NAME_SIZE, "n%u", i);
		is_short = true;
		HASH_ADD_STR(table, name, &entries[i]);
		is_short = false;
		if (HASH_ADDED(&entries[i]))
			continue;
		check_table(table, i);
		refused++;
		HASH_ADD_STR(table, name, &entries[i]);
		assert_true(HASH_ADDED(&entries[i]));
	}
	assert_in_range(refused, 2, NAMES / 10);
	check_table(table, NAMES);
	HASH_CLEAR(hh, table);
	free(entries);
}

TEST(another_key_needs_no_memory)
{
	struct numbered_entry {
		uint32_t number;
		UT_hash_handle hh;
	} entries[NAMES], *table = NULL, *found;

	for (uint32_t i = 0; i < NAMES; i++) {
		entries[i].number = i;
		HASH_ADD_INT(table, number, &entries[i]);
		is_short = true;
		HASH_REKEY(hh, number, &entries[i], NAMES + i);
		is_short = false;
	}
	for (uint32_t i = 0; i < 2 * NAMES; i++) {
		HASH_FIND_INT(table, &i, found);
		assert_ptr_equal(found, i < NAMES ? NULL : &entries[i - NAMES]);
	}
	HASH_CLEAR(hh, table);
}

/* Another process has another key, so what is learned of one helps with no other one. */
TEST(each_process_has_a_key_of_its_own)
{
	char command[64], theirs[16];
	FILE *other;

	snprintf(command, sizeof(command), "/proc/%d/exe --hash", getpid());
	other = popen(command, "re");
	assert_non_null(other);
	assert_non_null(fgets(theirs, sizeof(theirs), other));
	assert_int_equal(pclose(other), 0);
	assert_int_not_equal(strtoul(theirs, NULL, 16), keyed_hash("name", 4));
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--hash")) {
		printf("%08x\n", keyed_hash("name", 4));
		return 0;
	}
	return unit_run();
}
