// SPDX-License-Identifier: GPL-2.0-only
/*
 * Allocations fail while page tables become empty: in page faults, which are made
 * again, in fork() and in mremap(), which take back what they did. Nothing is lost
 * but the call, and what was left empty goes later.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tables.h"

#define SIZE	(32 * TABLE)
#define STEP	(64 * KB)
#define KEPT	(8 * TABLE)
#define ROUNDS	40
/* It counts down. */
#define TIMES	"1000000"

FIXTURE(failing)
{
	char *dropped;
	char *places;	/* room for what is kept, twice */
	char *kept;
	long before;
};

FIXTURE_VARIANT(failing)
{
	const char *what;
};

FIXTURE_VARIANT_ADD(failing, pages) { "fail_page_alloc" };
FIXTURE_VARIANT_ADD(failing, slab) { "failslab" };

/* What is opened or allocated for it can fail as well. */
#define INSIST(call) ({							\
	int tries_ = 0, result_;					\
									\
	do {								\
		result_ = (call);					\
	} while (result_ == -ENOMEM && ++tries_ < 100);			\
	result_;							\
})

static int set(const char *what, const char *name, const char *value)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", what, name);

	return INSIST(write_file(path, value));
}

/* Of what this process and its children ask for: some forks fail, some do not. */
static int fail_start(const char *what)
{
	int err = set(what, "task-filter", "Y");

	err = err ?: set(what, "require-start", "0");
	err = err ?: set(what, "require-end", "18446744073709551615");
	err = err ?: set(what, "stacktrace-depth", "0");
	err = err ?: set(what, "ignore-gfp-wait", "N");
	err = err ?: set(what, "verbose", "0");
	err = err ?: set(what, "interval", "1");
	err = err ?: set(what, "times", TIMES);
	set(what, "min-order", "0");	/* slabs have none */
	err = err ?: write_file("/proc/self/make-it-fail", "1");

	return err ?: set(what, "probability", "1");
}

static long fail_stop(const char *what)
{
	char path[96], text[32];

	set(what, "probability", "0");
	INSIST(write_file("/proc/self/make-it-fail", "0"));
	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/times", what);
	if (read_file(path, text, sizeof(text)))
		return -1;

	return atol(TIMES) - atol(text);
}

static void fill(char *start)
{
	size_t pos;

	for (pos = 0; pos < KEPT; pos += STEP)
		put_long(start + pos, pos + 1);
}

static bool is_filled(const char *start)
{
	size_t pos;

	for (pos = 0; pos < KEPT; pos += STEP) {
		if (get_long(start + pos) != (long)pos + 1)
			return false;
	}

	return true;
}

FIXTURE_SETUP(failing)
{
	if (!reclaim_available())
		SKIP(return, "no " RECLAIM_DIR ": needs CONFIG_PT_RECLAIM");
	if (set(variant->what, "probability", "0"))
		SKIP(return, "no fault injection: needs CONFIG_FAULT_INJECTION");
	ASSERT_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
	self->dropped = map_aligned(SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1);
	self->places = map_aligned(3 * KEPT, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1);
	ASSERT_NE(self->dropped, NULL);
	ASSERT_NE(self->places, NULL);
	self->kept = self->places;
	ASSERT_EQ(mprotect(self->kept, KEPT, PROT_READ | PROT_WRITE), 0);
	fill(self->kept);
	ASSERT_EQ(reclaim_run(), 0);
	self->before = vmpte_kb();
}

FIXTURE_TEARDOWN(failing)
{
	fail_stop(variant->what);
}

/* A page away from where tables begin: entry by entry, into tables that are new. */
static bool move_kept(FIXTURE_DATA(failing) *self)
{
	char *to = self->places + (self->kept == self->places ? 2 * KEPT - PAGE : 0);

	if (mremap(self->kept, KEPT, KEPT, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
	    MAP_FAILED)
		return false;
	self->kept = to;

	return true;
}

/* What it has of the parent is what the parent has. */
static bool fork_kept(FIXTURE_DATA(failing) *self, int *wrong)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return false;
	if (!pid)
		_exit(!is_filled(self->kept));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	*wrong += status != 0;

	return true;
}

TEST_F_TIMEOUT(failing, later_all_tables_go, 300)
{
	long tables = vm_event("nr_page_table_pages"), failed;
	int i, forked = 0, moved = 0, wrong = 0;

	ASSERT_EQ(fail_start(variant->what), 0);
	for (i = 0; i < ROUNDS; i++) {
		touch(self->dropped, SIZE, STEP);
		forked += fork_kept(self, &wrong);
		drop_in_pieces(self->dropped, SIZE / 2, STEP);
		moved += move_kept(self);
		drop_in_pieces(self->dropped + SIZE / 2, SIZE / 2, STEP);
		wrong += !is_filled(self->kept);
		ASSERT_EQ(INSIST(reclaim_run()), 0);
	}
	failed = fail_stop(variant->what);
	TH_LOG("%d of %d forks, %d moves, %ld allocations failed", forked, ROUNDS,
	       moved, failed);
	EXPECT_GT(failed, 0);
	EXPECT_GT(forked, 0);
	EXPECT_LT(forked, ROUNDS);
	EXPECT_GT(moved, 0);
	EXPECT_EQ(wrong, 0);

	/* Allocations do not fail any more, and nor does anything else. */
	EXPECT_TRUE(fork_kept(self, &wrong));
	EXPECT_TRUE(move_kept(self));
	EXPECT_TRUE(is_filled(self->kept));
	EXPECT_EQ(wrong, 0);
	touch(self->dropped, SIZE, STEP);
	drop_in_pieces(self->dropped, SIZE, STEP);
	ASSERT_EQ(reclaim_run(), 0);
	EXPECT_TRUE(vmpte_settles(self->before + 16, 10));
	EXPECT_LE(vm_event("nr_page_table_pages"), tables + 256);
}

TEST_HARNESS_MAIN
