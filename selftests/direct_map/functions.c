// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whatever function changes the permissions of a part of a large page splits
 * it. Once the change is undone, the large page comes back with the attributes
 * that it had.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "dmap.h"

#define PAGES		512
#define MAX_CALLS	3

FIXTURE(function)
{
	struct dmap before;
	struct dmap split;
	struct dmap after;
	unsigned long addr;
	int fd;
};

/* Both lists end with NULL. */
FIXTURE_VARIANT(function)
{
	const char *change[MAX_CALLS + 1];
	const char *undo[MAX_CALLS + 1];
	bool map;		/* change them through a mapping of their own */
	bool no_matter;		/* nobody relies on it: may not split or last */
	bool page_by_page;	/* many calls for single pages */
};

FIXTURE_VARIANT_ADD(function, ro_rw)
{
	.change = { "ro" },
	.undo = { "rw" },
};

FIXTURE_VARIANT_ADD(function, ro_rw_page_by_page)
{
	.change = { "ro" },
	.undo = { "rw" },
	.page_by_page = true,
};

FIXTURE_VARIANT_ADD(function, x_nx)
{
	.change = { "ro", "x" },
	.undo = { "nx", "rw" },
};

FIXTURE_VARIANT_ADD(function, rox)
{
	.change = { "rox" },
	.undo = { "nx", "rw" },
};

FIXTURE_VARIANT_ADD(function, uc_wb)
{
	.change = { "uc" },
	.undo = { "wb" },
};

FIXTURE_VARIANT_ADD(function, wc_wb)
{
	.change = { "wc" },
	.undo = { "wb" },
};

FIXTURE_VARIANT_ADD(function, np_p)
{
	.change = { "np" },
	.undo = { "p" },
};

FIXTURE_VARIANT_ADD(function, np_p_page_by_page)
{
	.change = { "np" },
	.undo = { "p" },
	.page_by_page = true,
};

FIXTURE_VARIANT_ADD(function, ro_np_p_rw)
{
	.change = { "ro", "np" },
	.undo = { "p", "rw" },
};

FIXTURE_VARIANT_ADD(function, nonglobal_global)
{
	.change = { "nonglobal" },
	.undo = { "global" },
	.no_matter = true,
};

FIXTURE_VARIANT_ADD(function, decrypted_encrypted)
{
	.change = { "decrypted" },
	.undo = { "encrypted" },
	.no_matter = true,
};

FIXTURE_VARIANT_ADD(function, pages_uc_wb)
{
	.change = { "pages_uc" },
	.undo = { "pages_wb" },
};

FIXTURE_VARIANT_ADD(function, pages_ro_rw)
{
	.change = { "pages_ro" },
	.undo = { "pages_rw" },
};

FIXTURE_VARIANT_ADD(function, array_uc_wb)
{
	.change = { "array_uc" },
	.undo = { "array_wb" },
};

FIXTURE_VARIANT_ADD(function, array_wc_wb)
{
	.change = { "array_wc" },
	.undo = { "array_wb" },
};

FIXTURE_VARIANT_ADD(function, direct_map_invalid_default)
{
	.change = { "invalid" },
	.undo = { "default" },
};

FIXTURE_VARIANT_ADD(function, direct_map_not_valid_valid)
{
	.change = { "not_valid" },
	.undo = { "valid" },
};

FIXTURE_VARIANT_ADD(function, poison_unpoison)
{
	.change = { "poison" },
	.undo = { "unpoison" },
};

FIXTURE_VARIANT_ADD(function, alias_ro_rw)
{
	.change = { "ro" },
	.undo = { "rw" },
	.map = true,
};

FIXTURE_VARIANT_ADD(function, alias_rox)
{
	.change = { "rox" },
	.undo = { "nx", "rw" },
	.map = true,
};

FIXTURE_VARIANT_ADD(function, alias_np_p)
{
	.change = { "np" },
	.undo = { "p" },
	.map = true,
};

FIXTURE_SETUP(function)
{
	self->fd = pages_open();
	if (self->fd < 0)
		SKIP(return, "no " PAGES_FILE ": needs CONFIG_DIRECT_MAP_TEST");
	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR "run");

	ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read(&self->before), 0);
	if (dmap_hopeless_to_see(&self->before))
		SKIP(return, "%s", dmap_hopeless_to_see(&self->before));
	ASSERT_EQ(pages_take_large(self->fd, &self->before, PAGES), 0);
	self->addr = pages_addr(self->fd);
	ASSERT_EQ(pages_do(self->fd, "fill"), 0);
	if (variant->map)
		ASSERT_EQ(pages_do(self->fd, "map"), 0);
}

FIXTURE_TEARDOWN(function)
{
	if (self->fd >= 0)
		close(self->fd);
	dmap_free(&self->before);
	dmap_free(&self->split);
	dmap_free(&self->after);
}

static int call(int fd, const char *const *names, bool page_by_page, int first,
		int nr)
{
	int i, err;

	for (; *names; names++) {
		if (!page_by_page) {
			err = pages_do(fd, "%s %d %d", *names, first, nr);
			if (err)
				return err;
			continue;
		}
		for (i = 0; i < nr; i++) {
			err = pages_do(fd, "%s %d 1", *names, first + i);
			if (err)
				return err;
		}
	}

	return 0;
}

static void there_and_back(struct __test_metadata *_metadata,
			   FIXTURE_DATA(function) *self,
			   const FIXTURE_VARIANT(function) *variant,
			   int first, int nr)
{
	const struct dmap_range *range;
	int err;

	ASSERT_EQ(call(self->fd, variant->change, variant->page_by_page,
		       first, nr), 0)
		TH_LOG("change: %s", strerror(errno));
	ASSERT_EQ(dmap_read(&self->split), 0);
	/* A neighbour: what was changed need not be mapped now. */
	range = dmap_find(&self->split, self->addr +
			  (first ? 0 : nr) % PAGES * getpagesize());
	if (nr < PAGES && !variant->no_matter)
		EXPECT_TRUE(range && range->level == DMAP_4K);

	/* It stays as it is for as long as the change lasts. */
	ASSERT_EQ(restore_run(), 0);
	dmap_free(&self->after);
	ASSERT_EQ(dmap_read(&self->after), 0);
	if (!variant->no_matter)
		EXPECT_TRUE(dmap_same_attrs(&self->split, &self->after));

	err = call(self->fd, variant->undo, variant->page_by_page, first, nr);
	/* With PTI nothing is global. */
	ASSERT_TRUE(!err || (variant->no_matter && err == -EOPNOTSUPP))
		TH_LOG("undo: %s", strerror(-err));
	dmap_free(&self->after);
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 0, true));
	EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
	EXPECT_EQ(pages_do(self->fd, "check"), 0);
}

TEST_F_TIMEOUT(function, some_pages, 120)
{
	there_and_back(_metadata, self, variant, 17, 30);
}

TEST_F_TIMEOUT(function, whole_2M, 120)
{
	there_and_back(_metadata, self, variant, 0, PAGES);
}

TEST_HARNESS_MAIN
