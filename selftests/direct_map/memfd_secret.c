// SPDX-License-Identifier: GPL-2.0-only
/*
 * memfd_secret takes its pages out of the direct map and so splits large
 * pages. Freed, the pages come back: does their mapping?
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "dmap.h"

#define MB (1024UL * 1024)

FIXTURE(memfd_secret)
{
	struct dmap before;
	struct dmap after;
	void *secret;
	size_t size;
};

FIXTURE_VARIANT(memfd_secret)
{
	size_t size;
};

FIXTURE_VARIANT_ADD(memfd_secret, 16M)
{
	.size = 16 * MB,
};

FIXTURE_VARIANT_ADD(memfd_secret, 256M)
{
	.size = 256 * MB,
};

FIXTURE_SETUP(memfd_secret)
{
	int fd = syscall(__NR_memfd_secret, 0);

	if (fd < 0)
		SKIP(return, "no memfd_secret: needs CONFIG_SECRETMEM and secretmem.enable=1");
	close(fd);

	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));

	self->size = variant->size;
	self->secret = secret_alloc(self->size);
	ASSERT_NE(self->secret, NULL);
}

FIXTURE_TEARDOWN(memfd_secret)
{
	if (self->secret)
		secret_free(self->secret, self->size);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

/*
 * Without something to ask for a pass, time has to do. A kernel that restores
 * by itself does so within seconds.
 */
static bool comes_back(const struct dmap *before, struct dmap *after)
{
	if (!restore_available())
		return dmap_settles(before, after, 5, false);

	return !restore_run() && !dmap_read(after) &&
	       dmap_no_smaller(before, after);
}

TEST_F_TIMEOUT(memfd_secret, splits_large_pages, 120)
{
	ASSERT_EQ(dmap_read(&self->after), 0);
	/* Not by what is mapped by 4K: the secret pages are not mapped at all. */
	EXPECT_LT(self->after.kb[DMAP_2M] + self->after.kb[DMAP_1G],
		  self->before.kb[DMAP_2M] + self->before.kb[DMAP_1G]);
}

TEST_F_TIMEOUT(memfd_secret, no_range_smaller_after_one_run, 120)
{
	secret_free(self->secret, self->size);
	self->secret = NULL;
	EXPECT_TRUE(comes_back(&self->before, &self->after));
}

static bool lacks_1G(const struct dmap *before)
{
	struct dmap now;
	bool lacks;

	if (dmap_read(&now))
		return false;
	lacks = now.kb[DMAP_1G] < before->kb[DMAP_1G];
	dmap_free(&now);

	return lacks;
}

/* Where the first pages come from nothing may be mapped by 1G: take more. */
static bool splits_1G(FIXTURE_DATA(memfd_secret) *self)
{
	while (!lacks_1G(&self->before)) {
		secret_free(self->secret, self->size);
		self->secret = NULL;
		self->size *= 2;
		if (self->size > 4096 * MB)
			return false;
		self->secret = secret_alloc(self->size);
		if (!self->secret)
			return false;
	}

	return true;
}

TEST_F_TIMEOUT(memfd_secret, 1G_comes_back, 120)
{
	if (!self->before.kb[DMAP_1G])
		SKIP(return, "no 1G pages in the direct map of this machine");
	ASSERT_TRUE(splits_1G(self));

	secret_free(self->secret, self->size);
	self->secret = NULL;
	comes_back(&self->before, &self->after);
	EXPECT_GE(self->after.kb[DMAP_1G], self->before.kb[DMAP_1G]);
}

/*
 * The pass in between finds nothing to restore, and forgets the tables that
 * the splits queued.
 */
TEST_F_TIMEOUT(memfd_secret, 1G_comes_back_after_a_pass_in_between, 120)
{
	if (!self->before.kb[DMAP_1G])
		SKIP(return, "no 1G pages in the direct map of this machine");
	ASSERT_TRUE(splits_1G(self));
	if (restore_available())
		ASSERT_EQ(restore_run(), 0);

	secret_free(self->secret, self->size);
	self->secret = NULL;
	comes_back(&self->before, &self->after);
	EXPECT_GE(self->after.kb[DMAP_1G], self->before.kb[DMAP_1G]);
}

TEST_F_TIMEOUT(memfd_secret, attributes_as_before, 120)
{
	if (!self->before.nr)
		SKIP(return, "needs CONFIG_PTDUMP_DEBUGFS and debugfs mounted");

	secret_free(self->secret, self->size);
	self->secret = NULL;
	comes_back(&self->before, &self->after);
	EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
}

/* Even where nothing is restored, what is present again is as it was. */
TEST_F_TIMEOUT(memfd_secret, freed_pages_are_global_again, 120)
{
	int i;

	if (!self->before.nr)
		SKIP(return, "needs CONFIG_PTDUMP_DEBUGFS and debugfs mounted");

	if (restore_available())
		ASSERT_EQ(write_file(RESTORE_DIR "enabled", "0"), 0);
	secret_free(self->secret, self->size);
	self->secret = NULL;
	/* A pool may keep them for a while. */
	for (i = 0; i < 30; i++) {
		dmap_free(&self->after);
		ASSERT_EQ(dmap_read(&self->after), 0);
		if (self->after.kb_absent <= self->before.kb_absent &&
		    dmap_same_attrs(&self->before, &self->after))
			break;
		sleep(1);
	}
	EXPECT_LT(i, 30);
	if (restore_available())
		ASSERT_EQ(write_file(RESTORE_DIR "enabled", "1"), 0);
}

TEST_F_TIMEOUT(memfd_secret, comes_back_unasked, 500)
{
	secret_free(self->secret, self->size);
	self->secret = NULL;
	EXPECT_TRUE(restore_available() ?
		    dmap_settles_unasked(&self->before, &self->after) :
		    dmap_settles(&self->before, &self->after, 5, false));
}

TEST_F_TIMEOUT(memfd_secret, pages_in_use_stay_out, 120)
{
	unsigned long kb = self->size / 1024;

	if (!self->before.nr)
		SKIP(return, "needs CONFIG_PTDUMP_DEBUGFS and debugfs mounted");
	if (restore_available())
		ASSERT_EQ(restore_run(), 0);

	ASSERT_EQ(dmap_read(&self->after), 0);
	EXPECT_EQ(dmap_mapped_kb(&self->before) - dmap_mapped_kb(&self->after), kb);
}

TEST_F_TIMEOUT(memfd_secret, data_survives_a_pass, 120)
{
	size_t i;

	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR "run");
	ASSERT_EQ(restore_run(), 0);

	for (i = 0; i < self->size; i += getpagesize())
		ASSERT_EQ(*(size_t *)((char *)self->secret + i), ~i);
}

TEST_HARNESS_MAIN
