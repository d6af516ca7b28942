// SPDX-License-Identifier: GPL-2.0-only
/* The files under /sys/kernel/mm/direct_map_restore/ and their counters. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "dmap.h"

#define SIZE (16UL * 1024 * 1024)
#define FLUSH_ROUNDS 5

FIXTURE(controls)
{
	struct dmap before;
	struct dmap after;
	char delay_ms[32];
};

FIXTURE_SETUP(controls)
{
	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR ": needs CONFIG_DIRECT_MAP_RESTORE");
	if (geteuid())
		SKIP(return, "needs root");

	ASSERT_EQ(dmap_read(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
	dmap_free(&self->before);

	ASSERT_EQ(read_file(RESTORE_DIR "delay_ms", self->delay_ms,
			    sizeof(self->delay_ms)), 0);
	ASSERT_EQ(write_file(RESTORE_DIR "enabled", "1"), 0);
	ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read(&self->before), 0);
}

FIXTURE_TEARDOWN(controls)
{
	write_file(RESTORE_DIR "delay_ms", self->delay_ms);
	write_file(RESTORE_DIR "enabled", "1");
	dmap_free(&self->before);
	dmap_free(&self->after);
}

static void fragment(void)
{
	void *secret = secret_alloc(SIZE);

	if (secret)
		secret_free(secret, SIZE);
}

TEST_F(controls, disabled_restores_nothing)
{
	long restored_2m = vm_event("direct_map_restore_2m");
	long restored_1g = vm_event("direct_map_restore_1g");

	ASSERT_EQ(write_file(RESTORE_DIR "delay_ms", "1"), 0);
	ASSERT_EQ(write_file(RESTORE_DIR "enabled", "0"), 0);
	fragment();
	EXPECT_EQ(restore_run(), 0);
	sleep(2);

	EXPECT_EQ(vm_event("direct_map_restore_2m"), restored_2m);
	EXPECT_EQ(vm_event("direct_map_restore_1g"), restored_1g);
	ASSERT_EQ(dmap_read(&self->after), 0);
	EXPECT_GT(self->after.kb[DMAP_4K], self->before.kb[DMAP_4K]);
}

TEST_F_TIMEOUT(controls, enabled_again_makes_up_for_it, 500)
{
	ASSERT_EQ(write_file(RESTORE_DIR "enabled", "0"), 0);
	fragment();
	ASSERT_EQ(write_file(RESTORE_DIR "enabled", "1"), 0);

	EXPECT_TRUE(dmap_settles_unasked(&self->before, &self->after));
}

TEST_F(controls, run_returns_after_the_pass)
{
	long passes, restored, scanned;

	/* The worker must not be faster. */
	ASSERT_EQ(write_file(RESTORE_DIR "delay_ms", "3600000"), 0);
	fragment();
	passes = vm_event("direct_map_restore_passes");
	scanned = vm_event("direct_map_restore_scanned");
	restored = vm_event("direct_map_restore_2m");
	ASSERT_GE(passes, 0);

	ASSERT_EQ(restore_run(), 0);
	EXPECT_EQ(vm_event("direct_map_restore_passes"), passes + 1);
	EXPECT_GT(vm_event("direct_map_restore_scanned"), scanned);
	EXPECT_GT(vm_event("direct_map_restore_2m"), restored);
	ASSERT_EQ(dmap_read(&self->after), 0);
	EXPECT_TRUE(dmap_no_smaller(&self->before, &self->after));
}

TEST_F(controls, nothing_to_do_scans_nothing)
{
	long scanned = vm_event("direct_map_restore_scanned");

	ASSERT_EQ(restore_run(), 0);
	EXPECT_EQ(vm_event("direct_map_restore_scanned"), scanned);
}

/* Flushes of a pass over one 2M, and the 1G around it. */
static long flushes_of_a_pass(int fd)
{
	long flushes;

	if (pages_do(fd, "np 5 1") || pages_do(fd, "p 5 1"))
		return -1;
	flushes = vm_event("nr_tlb_remote_flush");
	if (restore_run())
		return -1;

	return vm_event("nr_tlb_remote_flush") - flushes;
}

/*
 * One flush before the large page is installed, one after: stale entries of
 * the caller's last change, and then references to the freed table, have to be
 * gone. A pass that restored 2M and 1G pages in one batch each needs four.
 * Others may flush meanwhile, but not each time.
 */
TEST_F(controls, each_batch_flushes_twice)
{
	long restored_1g = vm_event("direct_map_restore_1g");
	long restored_2m = vm_event("direct_map_restore_2m");
	long least = LONG_MAX;
	int i, fd;

	if (vm_event("nr_tlb_remote_flush") < 0)
		SKIP(return, "needs CONFIG_DEBUG_TLBFLUSH");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "one CPU");
	fd = pages_open();
	if (fd < 0)
		SKIP(return, "no " PAGES_FILE ": needs CONFIG_DIRECT_MAP_TEST");

	ASSERT_EQ(write_file(RESTORE_DIR "delay_ms", "3600000"), 0);
	ASSERT_EQ(pages_take_large(fd, &self->before, 512), 0);
	for (i = 0; i < FLUSH_ROUNDS; i++) {
		long flushes = flushes_of_a_pass(fd);

		ASSERT_GE(flushes, 0);
		if (flushes < least)
			least = flushes;
	}
	restored_1g = vm_event("direct_map_restore_1g") - restored_1g;
	restored_2m = vm_event("direct_map_restore_2m") - restored_2m;
	TH_LOG("%ld flushes, %ld times 2M, %ld times 1G", least, restored_2m,
	       restored_1g);
	EXPECT_GE(restored_2m, FLUSH_ROUNDS);
	EXPECT_GE(least, restored_1g >= FLUSH_ROUNDS ? 4 : 2);
	close(fd);
}

TEST_F(controls, collapses_are_counted)
{
	long collapses = vm_event("direct_map_level2_collapses");
	long restored = vm_event("direct_map_restore_2m");

	fragment();
	ASSERT_EQ(restore_run(), 0);
	EXPECT_EQ(vm_event("direct_map_level2_collapses") - collapses,
		  vm_event("direct_map_restore_2m") - restored);
}

TEST_F_TIMEOUT(controls, splits_and_restores_balance, 300)
{
	long splits = vm_event("direct_map_level2_splits");
	long restored = vm_event("direct_map_restore_2m");
	int i;

	for (i = 0; i < 20; i++) {
		fragment();
		ASSERT_EQ(restore_run(), 0);
	}
	EXPECT_GT(vm_event("direct_map_level2_splits"), splits);
	EXPECT_EQ(vm_event("direct_map_level2_splits") - splits,
		  vm_event("direct_map_restore_2m") - restored);
}

TEST_F_TIMEOUT(controls, page_tables_are_freed, 300)
{
	long tables;
	int i;

	/* Let the first round allocate what stays. */
	fragment();
	ASSERT_EQ(restore_run(), 0);
	tables = page_tables();

	for (i = 0; i < 50; i++) {
		fragment();
		ASSERT_EQ(restore_run(), 0);
	}
	/* A table leaked in every round would make it fifty and more. */
	EXPECT_TRUE(page_tables_settle(tables + 24));
}

FIXTURE(bad_value)
{
	char before[32];
};

FIXTURE_VARIANT(bad_value)
{
	const char *file;
	const char *value;
};

FIXTURE_VARIANT_ADD(bad_value, enabled_2)
{
	.file = RESTORE_DIR "enabled",
	.value = "2",
};

FIXTURE_VARIANT_ADD(bad_value, enabled_negative)
{
	.file = RESTORE_DIR "enabled",
	.value = "-1",
};

FIXTURE_VARIANT_ADD(bad_value, enabled_word)
{
	.file = RESTORE_DIR "enabled",
	.value = "yes please",
};

FIXTURE_VARIANT_ADD(bad_value, enabled_blank)
{
	.file = RESTORE_DIR "enabled",
	.value = "\n",
};

FIXTURE_VARIANT_ADD(bad_value, enabled_trailing)
{
	.file = RESTORE_DIR "enabled",
	.value = "1 1",
};

FIXTURE_VARIANT_ADD(bad_value, run_0)
{
	.file = RESTORE_DIR "run",
	.value = "0",
};

FIXTURE_VARIANT_ADD(bad_value, run_2)
{
	.file = RESTORE_DIR "run",
	.value = "2",
};

FIXTURE_VARIANT_ADD(bad_value, run_word)
{
	.file = RESTORE_DIR "run",
	.value = "now",
};

FIXTURE_VARIANT_ADD(bad_value, run_blank)
{
	.file = RESTORE_DIR "run",
	.value = "\n",
};

FIXTURE_VARIANT_ADD(bad_value, delay_0)
{
	.file = RESTORE_DIR "delay_ms",
	.value = "0",
};

FIXTURE_VARIANT_ADD(bad_value, delay_negative)
{
	.file = RESTORE_DIR "delay_ms",
	.value = "-1",
};

FIXTURE_VARIANT_ADD(bad_value, delay_too_long)
{
	.file = RESTORE_DIR "delay_ms",
	.value = "3600001",
};

FIXTURE_VARIANT_ADD(bad_value, delay_overflow)
{
	.file = RESTORE_DIR "delay_ms",
	.value = "4294967296",
};

FIXTURE_VARIANT_ADD(bad_value, delay_word)
{
	.file = RESTORE_DIR "delay_ms",
	.value = "soon",
};

FIXTURE_SETUP(bad_value)
{
	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR ": needs CONFIG_DIRECT_MAP_RESTORE");
	if (geteuid())
		SKIP(return, "needs root");

	/* run can't be read: both stay empty. */
	read_file(variant->file, self->before, sizeof(self->before));
}

FIXTURE_TEARDOWN(bad_value)
{
}

TEST_F(bad_value, is_refused_and_changes_nothing)
{
	char after[32] = "";

	EXPECT_EQ(write_file(variant->file, variant->value), -EINVAL);
	read_file(variant->file, after, sizeof(after));
	EXPECT_STREQ(after, self->before);
}

FIXTURE(unprivileged)
{
};

FIXTURE_VARIANT(unprivileged)
{
	const char *file;
};

FIXTURE_VARIANT_ADD(unprivileged, enabled)
{
	.file = RESTORE_DIR "enabled",
};

FIXTURE_VARIANT_ADD(unprivileged, run)
{
	.file = RESTORE_DIR "run",
};

FIXTURE_VARIANT_ADD(unprivileged, delay_ms)
{
	.file = RESTORE_DIR "delay_ms",
};

FIXTURE_SETUP(unprivileged)
{
	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR ": needs CONFIG_DIRECT_MAP_RESTORE");
	if (geteuid())
		SKIP(return, "needs root, to give it up");
}

FIXTURE_TEARDOWN(unprivileged)
{
}

TEST_F(unprivileged, writer_gets_EACCES)
{
	ASSERT_EQ(setresgid(65534, 65534, 65534), 0);
	ASSERT_EQ(setresuid(65534, 65534, 65534), 0);
	EXPECT_EQ(write_file(variant->file, "1"), -EACCES);
}

TEST_HARNESS_MAIN
