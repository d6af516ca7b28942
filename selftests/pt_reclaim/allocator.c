// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a real allocator does to page tables: a load goes down bit by bit and
 * jemalloc, left alone, gives what is free back to the kernel each time. No
 * MADV_DONTNEED of its is as large as what a page table maps.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifdef HAVE_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

#include "kselftest_harness.h"
#include "tables.h"

#ifdef HAVE_JEMALLOC

/* One arena, that a thread of jemalloc's purges soon after it idles. */
const char *malloc_conf = "narenas:1,background_thread:true,dirty_decay_ms:200,muzzy_decay_ms:0";

/* Too large for the threads' own caches, which don't decay. */
#define OBJECT		(48 * KB)
#define OBJECTS		(8 * 1024)	/* 384 MB of them */
#define ROUNDS		4

static size_t stat_of(const char *name)
{
	unsigned long long epoch = 1;
	size_t value = 0, size = sizeof(value);

	mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
	mallctl(name, &value, &size, NULL, 0);
	return value;
}

/* All that is free has been given back. */
static bool purged(void)
{
	int wait;

	for (wait = 0; wait < 600; wait++) {
		if (!stat_of("stats.arenas.0.pdirty") &&
		    !stat_of("stats.arenas.0.pmuzzy"))
			return true;
		usleep(100 * 1000);
	}
	return false;
}

FIXTURE(allocator)
{
	char **objects;
	long before;
};

FIXTURE_VARIANT(allocator)
{
	/* One object in so many stays allocated, 0 for none. */
	int keep;
};

FIXTURE_VARIANT_ADD(allocator, all_freed) { .keep = 0 };
FIXTURE_VARIANT_ADD(allocator, some_kept) { .keep = 512 };

FIXTURE_SETUP(allocator)
{
	bool on = true;
	int i;

	/* The harness forked, and the thread that purges is the parent's. */
	ASSERT_EQ(mallctl("background_thread", NULL, NULL, &on, sizeof(on)), 0);
	ASSERT_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
	self->before = vmpte_kb();
	self->objects = calloc(OBJECTS, sizeof(*self->objects));
	ASSERT_NE(self->objects, NULL);
	for (i = 0; i < OBJECTS; i++) {
		self->objects[i] = malloc(OBJECT);
		ASSERT_NE(self->objects[i], NULL);
		memset(self->objects[i], i & 0xff, OBJECT);
	}
	srand(1);
}

FIXTURE_TEARDOWN(allocator)
{
}

/* Free what a draw says, in an order that has nothing to do with addresses. */
static void free_some(char **objects, int keep, int one_in)
{
	int i, step = 7919;

	for (i = 0; i < OBJECTS; i++) {
		int at = (long)i * step % OBJECTS;

		if (!objects[at] || (keep && !(at % keep)) || rand() % one_in)
			continue;
		free(objects[at]);
		objects[at] = NULL;
	}
}

TEST_F_TIMEOUT(allocator, page_tables_go_when_the_load_does, 300)
{
	long full = vmpte_kb(), most;
	int i, round;

	for (round = ROUNDS; round > 0; round--) {
		free_some(self->objects, variant->keep, round);
		ASSERT_TRUE(purged());
	}
	reclaim_run();
	/* A table for each object, and what jemalloc needs for itself. */
	most = self->before + 64;
	if (variant->keep)
		most += OBJECTS / variant->keep * 4;
	EXPECT_TRUE(vmpte_settles(most, 10)) {
		TH_LOG("VmPTE %ld kB before the load and %ld kB with it",
		       self->before, full);
	}
	for (i = 0; i < OBJECTS; i++) {
		char *object = self->objects[i];

		if (!object)
			continue;
		EXPECT_EQ(object[0], (char)i);
		EXPECT_EQ(object[OBJECT - 1], (char)i);
	}
}

#else

TEST(allocator)
{
	SKIP(return, "built without jemalloc");
}

#endif

TEST_HARNESS_MAIN
