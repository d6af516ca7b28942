// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocations fail while permissions change and large pages are restored. A
 * change may fail then, and only that. Later everything is made up for.
 */
#include <errno.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "dmap.h"
#include "fail.h"

#define PAGES	512
#define ROUNDS	40

FIXTURE(failing)
{
	struct dmap before;
	struct dmap after;
	int fd;
};

FIXTURE_VARIANT(failing)
{
	const char *what;
	const char *function;	/* NULL: all that this process asks for */
	bool refused;		/* changes are refused for it */
};

FIXTURE_VARIANT_ADD(failing, slab) { .what = FAIL_SLAB };
FIXTURE_VARIANT_ADD(failing, pages) { .what = FAIL_PAGES, .refused = true };
FIXTURE_VARIANT_ADD(failing, pages_of_splits)
{
	.what = FAIL_PAGES,
	.function = "change_page_attr_set_clr",
	.refused = true,
};

FIXTURE_SETUP(failing)
{
	self->fd = pages_open();
	if (self->fd < 0)
		SKIP(return, "no " PAGES_FILE ": needs CONFIG_DIRECT_MAP_TEST");
	if (!fail_available(variant->what))
		SKIP(return, "no fault injection: needs CONFIG_FAULT_INJECTION");
	ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
	ASSERT_EQ(pages_take_large(self->fd, &self->before, PAGES), 0);
}

FIXTURE_TEARDOWN(failing)
{
	fail_stop(variant->what);
	if (self->fd >= 0)
		close(self->fd);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

static const struct {
	const char *change;
	const char *undo;
} calls[] = {
	{ "ro", "rw" }, { "np", "p" }, { "uc", "wb" }, { "invalid", "default" },
	{ "pages_ro", "pages_rw" }, { "array_uc", "array_wb" },
};

#define NR_CALLS (sizeof(calls) / sizeof(*calls))

TEST_F_TIMEOUT(failing, later_all_is_made_up_for, 200)
{
	int refused = 0, done = 0, i;
	long failed;

	ASSERT_EQ(fail_start(variant->what, variant->function, 30), 0);
	for (i = 0; i < ROUNDS; i++) {
		int n = i % NR_CALLS, err;

		err = pages_do(self->fd, "%s 7 3", calls[n].change);
		/* Arrays of pages have one error for all. */
		refused += err == -ENOMEM || err == -EINVAL;
		done += !err;
		/* What was split is there to undo it, but not what that needs. */
		EXPECT_EQ(INSIST(pages_do(self->fd, "%s 7 3", calls[n].undo)), 0);
		/* So that the next one has to split again. */
		ASSERT_EQ(INSIST(restore_run()), 0);
	}
	failed = fail_stop(variant->what);
	TH_LOG("%d changes, %d refused, %ld allocations failed", done, refused, failed);
	EXPECT_GT(failed, 0);
	EXPECT_EQ(refused > 0, variant->refused);
	EXPECT_GT(done, 0);
	EXPECT_EQ(refused + done, ROUNDS);

	ASSERT_EQ(pages_do(self->fd, "free"), 0);
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 0, true));
	EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
}

TEST_HARNESS_MAIN
