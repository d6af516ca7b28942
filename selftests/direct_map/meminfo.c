// SPDX-License-Identifier: GPL-2.0-only
/*
 * The DirectMap lines of /proc/meminfo say what a walk of the page tables
 * finds.
 */
#define _GNU_SOURCE
#include <unistd.h>

#include "kselftest_harness.h"
#include "dmap.h"

#define MB (1024UL * 1024)

FIXTURE(meminfo)
{
	struct dmap walk;
	struct dmap said;
};

FIXTURE_SETUP(meminfo)
{
	ASSERT_EQ(dmap_read(&self->walk), 0);
	if (!self->walk.nr)
		SKIP(return, "needs CONFIG_PTDUMP_DEBUGFS and debugfs mounted");
	dmap_free(&self->walk);
}

FIXTURE_TEARDOWN(meminfo)
{
	dmap_free(&self->walk);
}

/*
 * What someone made not present is counted, and is not mapped; an entry that
 * boot left empty is neither.
 */
static void agree(struct __test_metadata *_metadata,
		  FIXTURE_DATA(meminfo) *self)
{
	ASSERT_EQ(dmap_read(&self->walk), 0);
	ASSERT_EQ(dmap_meminfo(&self->said), 0);
	EXPECT_GE(self->said.kb[DMAP_4K], self->walk.kb[DMAP_4K]);
	EXPECT_LE(self->said.kb[DMAP_4K],
		  self->walk.kb[DMAP_4K] + self->walk.kb_absent);
	EXPECT_EQ(self->said.kb[DMAP_2M], self->walk.kb[DMAP_2M]);
	EXPECT_EQ(self->said.kb[DMAP_1G], self->walk.kb[DMAP_1G]);
	dmap_free(&self->walk);
}

TEST_F_TIMEOUT(meminfo, tells_what_a_walk_finds, 60)
{
	agree(_metadata, self);
}

TEST_F_TIMEOUT(meminfo, tells_what_a_walk_finds_after_splits, 120)
{
	void *secret = secret_alloc(64 * MB);

	if (!secret)
		SKIP(return, "no memfd_secret: needs CONFIG_SECRETMEM and secretmem.enable=1");
	secret_free(secret, 64 * MB);
	agree(_metadata, self);
	if (restore_available()) {
		ASSERT_EQ(restore_run(), 0);
		agree(_metadata, self);
	}
}

TEST_HARNESS_MAIN
