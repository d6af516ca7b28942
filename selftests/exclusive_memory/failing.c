// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocations that fail. A mapping may be refused then, or a fault end with a
 * signal. Nothing else breaks, and all is given back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../direct_map/fail.h"
#include "exclusive.h"

#define PAGES		64L
#define SIZE		(PAGES * PAGE)
#define ROUNDS		12
#define SEED		0xfa11fa11000000UL

FIXTURE(failing)
{
	struct dmap before;
	struct dmap after;
	long in_use;
};

FIXTURE_VARIANT(failing)
{
	const char *what;
	const char *function;	/* NULL: all of the process */
	int percent;
};

FIXTURE_VARIANT_ADD(failing, slab) { FAIL_SLAB, NULL, 20 };
FIXTURE_VARIANT_ADD(failing, pages) { FAIL_PAGES, NULL, 20 };
FIXTURE_VARIANT_ADD(failing, slab_of_faults) { FAIL_SLAB, "exclusive_memory_fault", 50 };
FIXTURE_VARIANT_ADD(failing, pages_of_faults) { FAIL_PAGES, "exclusive_memory_fault", 50 };

FIXTURE_SETUP(failing)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	if (!fail_available(variant->what))
		SKIP(return, "no fault injection: needs CONFIG_FAULT_INJECTION");
	ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
	self->in_use = exclusive_pages();
}

FIXTURE_TEARDOWN(failing)
{
	fail_stop(variant->what);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

/* What became of mappings and pages of children, which may be killed for it. */
struct outcome {
	const FIXTURE_VARIANT(failing) *variant;
	long mapped;
	long served;
	long refused;
	long foreign;	/* pages that were not zero */
};

static int take(void *arg)
{
	struct outcome *outcome = arg;
	char *map = exclusive_map(SIZE);
	long i;

	if (!map)
		return 0;
	outcome->mapped++;
	for (i = 0; i < PAGES; i++) {
		if (signal_of_read(map + i * PAGE)) {
			outcome->refused++;
			continue;
		}
		outcome->foreign += !is_zero(map + i * PAGE, PAGE);
		fill(map + i * PAGE, PAGE, SEED);
		outcome->served++;
	}
	/* These split it, which may fail as well. */
	mprotect(map + PAGE, 3 * PAGE, PROT_READ);
	munmap(map + 7 * PAGE, PAGE);
	mremap(map + 9 * PAGE, 5 * PAGE, 5 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
	       NULL);

	return 0;
}

/* Of the fork itself, too, nearly all would fail. */
static int take_and_fail(void *arg)
{
	const FIXTURE_VARIANT(failing) *variant = ((struct outcome *)arg)->variant;

	if (fail_start(variant->what, variant->function, variant->percent))
		return 1;

	return take(arg);
}

TEST_F_TIMEOUT(failing, nothing_breaks_and_all_goes_back, 600)
{
	struct outcome *outcome = mmap(NULL, PAGE, READ_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	long failed = 0;
	int round;

	ASSERT_NE(outcome, MAP_FAILED);
	outcome->variant = variant;
	for (round = 0; round < ROUNDS; round++) {
		EXPECT_EQ(in_child(take_and_fail, outcome), 0);
		failed += fail_stop(variant->what);
		/* So that there is something to allocate in the next one. */
		ASSERT_EQ(restore_run(), 0);
	}
	TH_LOG("%ld mapped, %ld pages served, %ld refused, %ld allocations failed",
	       outcome->mapped, outcome->served, outcome->refused, failed);
	EXPECT_GT(failed, 0);
	EXPECT_GT(outcome->mapped, 0);
	EXPECT_GT(outcome->served, 0);
	EXPECT_EQ(outcome->foreign, 0);
	EXPECT_TRUE(exclusive_settles(self->in_use));

	/* And now nothing fails. */
	outcome->served = 0;
	EXPECT_EQ(in_child(take, outcome), 0);
	EXPECT_EQ(outcome->served, PAGES);
	EXPECT_TRUE(exclusive_settles(self->in_use));
	munmap(outcome, PAGE);
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 60, true));
	EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
	EXPECT_EQ(meminfo_kb("NoDirectMap:"), 0);
}

TEST_HARNESS_MAIN
