// SPDX-License-Identifier: GPL-2.0-only
/*
 * What keeps a range from being restored: each reason is met, counted under
 * its name, and the range stays split for as long as the reason holds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "dmap.h"

#define PAGES	512
#define PAGE	5		/* the one in the way */
#define TRACING	"/sys/kernel/tracing/"

FIXTURE(gate)
{
	struct dmap before;
	struct dmap after;
	unsigned long addr;
	int fd;
};

FIXTURE_SETUP(gate)
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
}

FIXTURE_TEARDOWN(gate)
{
	if (self->fd >= 0)
		close(self->fd);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

/* A pass refuses for @reason, and leaves the 2M split; another does not try. */
static void is_refused(struct __test_metadata *_metadata,
		       FIXTURE_DATA(gate) *self, const char *reason)
{
	long count = restore_refusals(reason), scanned;

	ASSERT_GE(count, 0);
	ASSERT_EQ(restore_run(), 0);
	EXPECT_GT(restore_refusals(reason), count);
	EXPECT_TRUE(dmap_level_at(self->addr) == DMAP_4K);

	scanned = vm_event("direct_map_restore_scanned");
	ASSERT_EQ(restore_run(), 0);
	EXPECT_EQ(vm_event("direct_map_restore_scanned"), scanned);
	EXPECT_TRUE(dmap_level_at(self->addr) == DMAP_4K);
}

static void is_restored(struct __test_metadata *_metadata,
			FIXTURE_DATA(gate) *self)
{
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 0, true));
	EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
}

TEST_F_TIMEOUT(gate, not_present, 60)
{
	ASSERT_EQ(pages_do(self->fd, "np %d 1", PAGE), 0);
	is_refused(_metadata, self, "not_present");
	ASSERT_EQ(pages_do(self->fd, "p %d 1", PAGE), 0);
	is_restored(_metadata, self);
}

TEST_F_TIMEOUT(gate, attributes, 60)
{
	ASSERT_EQ(pages_do(self->fd, "ro %d 1", PAGE), 0);
	is_refused(_metadata, self, "attributes");
	ASSERT_EQ(pages_do(self->fd, "rw %d 1", PAGE), 0);
	is_restored(_metadata, self);
}

TEST_F_TIMEOUT(gate, poisoned_page, 60)
{
	ASSERT_EQ(pages_do(self->fd, "poison %d 1", PAGE), 0);
	is_refused(_metadata, self, "hwpoison");
	ASSERT_EQ(pages_do(self->fd, "unpoison %d 1", PAGE), 0);
	is_restored(_metadata, self);
}

TEST_F_TIMEOUT(gate, marked_4k, 60)
{
	ASSERT_EQ(pages_do(self->fd, "4k %d 1", PAGE), 0);
	is_refused(_metadata, self, "kernel_4k");
	ASSERT_EQ(pages_do(self->fd, "non4k %d 1", PAGE), 0);
	is_restored(_metadata, self);
}

TEST_F_TIMEOUT(gate, split_2M_in_1G, 60)
{
	long count;

	if (!self->before.kb[DMAP_1G])
		SKIP(return, "no 1G pages in the direct map of this machine");

	ASSERT_EQ(pages_do(self->fd, "np %d 1", PAGE), 0);
	count = restore_refusals("page_table");
	ASSERT_EQ(restore_run(), 0);
	EXPECT_GT(restore_refusals("page_table"), count);
	ASSERT_EQ(pages_do(self->fd, "p %d 1", PAGE), 0);
	is_restored(_metadata, self);
}

/* Number of the MTRR that covers @size at @base, -1 if there is none. */
static int find_mtrr(unsigned long base, unsigned long size)
{
	FILE *file = fopen("/proc/mtrr", "r");
	unsigned long at, kb;
	char line[128];
	int nr, found = -1;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "reg%d: base=%lx (%*dMB), size=%luKB", &nr,
			   &at, &kb) == 3 && at == base && kb * 1024 == size)
			found = nr;
	}
	fclose(file);

	return found;
}

TEST_F_TIMEOUT(gate, mtrr, 60)
{
	unsigned long base = pages_phys(self->fd) + (1UL << 20);
	char line[128];
	int nr;

	snprintf(line, sizeof(line), "base=%#lx size=0x10000 type=uncachable\n",
		 base);
	if (write_file("/proc/mtrr", line))
		SKIP(return, "no MTRR to be had: needs CONFIG_MTRR and a CPU with it");

	ASSERT_EQ(pages_do(self->fd, "np %d 1", PAGE), 0);
	ASSERT_EQ(pages_do(self->fd, "p %d 1", PAGE), 0);
	is_refused(_metadata, self, "mtrr");

	nr = find_mtrr(base, 0x10000);
	ASSERT_GE(nr, 0);
	snprintf(line, sizeof(line), "disable=%d\n", nr);
	ASSERT_EQ(write_file("/proc/mtrr", line), 0);

	/* An MTRR tells nobody; a change in the range makes it looked at. */
	ASSERT_EQ(pages_do(self->fd, "np %d 1", PAGE), 0);
	ASSERT_EQ(pages_do(self->fd, "p %d 1", PAGE), 0);
	is_restored(_metadata, self);
}

static bool file_says(const char *path, const char *word)
{
	static char text[64 * 1024];

	return !read_all(path, text, sizeof(text)) && strstr(text, word);
}

/* Has the CPU 1G pages, and are they not forbidden? */
static bool gbpages_allowed(void)
{
	return file_says("/proc/cpuinfo", "pdpe1gb") &&
	       !file_says("/proc/cmdline", "nogbpages");
}

TEST_F_TIMEOUT(gate, no_1G_pages, 60)
{
	long count = restore_refusals("no_gbpages");

	if (self->before.kb[DMAP_1G])
		SKIP(return, "this machine has 1G pages: boot with nogbpages");
	if (gbpages_allowed())
		SKIP(return, "too little memory for a 1G page: boot with nogbpages");

	ASSERT_EQ(pages_do(self->fd, "np %d 1", PAGE), 0);
	ASSERT_EQ(pages_do(self->fd, "p %d 1", PAGE), 0);
	is_restored(_metadata, self);
	EXPECT_GT(restore_refusals("no_gbpages"), count);
	EXPECT_EQ(self->after.kb[DMAP_1G], 0UL);
}

/*
 * What boot mapped by 4K, at the edges of memory and of the kernel, stays so.
 * Nobody owns all of these pages, so they are only touched.
 */
TEST_F_TIMEOUT(gate, edges_of_memory, 120)
{
	static const char * const reasons[] = {
		"boot_table", "first_range", "not_memory", "kernel_4k",
		"attributes",
	};
	const unsigned long size = getpagesize();
	unsigned long offset = self->addr - pages_phys(self->fd);
	size_t i, j, touched = 0;

	for (i = 0; i < self->before.nr; i++) {
		const struct dmap_range *range = &self->before.ranges[i];
		long count = 0;
		int err;

		if (range->level != DMAP_4K)
			continue;
		for (j = 0; j < sizeof(reasons) / sizeof(*reasons); j++)
			count -= restore_refusals(reasons[j]);
		err = pages_do(self->fd, "touch %#lx",
			       (range->start - offset) / size);
		if (err == -EOPNOTSUPP)
			SKIP(return, "kernel mappings are not global: PTI?");
		if (err)
			continue;
		touched++;
		ASSERT_EQ(restore_run(), 0);
		for (j = 0; j < sizeof(reasons) / sizeof(*reasons); j++)
			count += restore_refusals(reasons[j]);
		EXPECT_GT(count, 0)
			TH_LOG("%#lx: nobody refused it", range->start);
	}
	EXPECT_GT(touched, 0U);

	ASSERT_EQ(dmap_read(&self->after), 0);
	EXPECT_TRUE(dmap_no_smaller(&self->before, &self->after));
	EXPECT_EQ(self->after.kb[DMAP_4K], self->before.kb[DMAP_4K]);
}

#define KFENCE_INTERVAL "/sys/module/kfence/parameters/sample_interval"

/* Its pages change behind CPA's back: every one of them has the mark. */
TEST_F_TIMEOUT(gate, kfence_pool, 120)
{
	unsigned long kb = self->before.kb[DMAP_4K];
	long marked = restore_refusals("kernel_4k");
	char interval[16];

	if (read_file(KFENCE_INTERVAL, interval, sizeof(interval)))
		SKIP(return, "no KFENCE");
	if (atol(interval))
		SKIP(return, "KFENCE is on since boot");
	ASSERT_EQ(write_file(KFENCE_INTERVAL, "100"), 0);
	ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read(&self->after), 0);
	EXPECT_GT(self->after.kb[DMAP_4K], kb);
	EXPECT_GT(restore_refusals("kernel_4k"), marked);
	ASSERT_EQ(write_file(KFENCE_INTERVAL, "0"), 0);
}

/* Restore is on, or one of the system's reasons says why it can't be. */
TEST(system_reason)
{
	static const char * const reasons[] = {
		"debug_pagealloc", "xen_pv", "erratum_383", "encrypted_guest",
		"snp_host", "no_memory",
	};
	bool off = false;
	char text[16];
	int found = 0;
	size_t i;

	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR "run");
	if (restore_refusals("not_present") < 0)
		SKIP(return, "no refusals: needs CONFIG_DEBUG_FS and debugfs mounted");

	ASSERT_EQ(read_file(RESTORE_DIR "enabled", text, sizeof(text)), 0);
	if (*text == '0')
		off = write_file(RESTORE_DIR "enabled", "1") == -EOPNOTSUPP;
	for (i = 0; i < sizeof(reasons) / sizeof(*reasons); i++)
		found += restore_refusals(reasons[i]);
	EXPECT_EQ(found, off);
}

/* The events of a split, a refusal and a restore of one 2M page. */
TEST_F_TIMEOUT(gate, trace_points, 60)
{
	static char text[1 << 20];
	char want[3][96];
	int i;

	if (access(TRACING "events/direct_map/enable", F_OK))
		SKIP(return, "no trace points: needs CONFIG_EVENT_TRACING");
	ASSERT_EQ(write_file(TRACING "events/direct_map/enable", "1"), 0);
	ASSERT_EQ(pages_do(self->fd, "np %d 1", PAGE), 0);
	ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(pages_do(self->fd, "p %d 1", PAGE), 0);
	ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(write_file(TRACING "events/direct_map/enable", "0"), 0);

	snprintf(want[0], sizeof(want[0]),
		 "direct_map_split: addr=%#lx level=2M", self->addr);
	snprintf(want[1], sizeof(want[1]),
		 "direct_map_refuse: addr=%#lx level=2M reason=not_present",
		 self->addr);
	snprintf(want[2], sizeof(want[2]),
		 "direct_map_restore: addr=%#lx level=2M", self->addr);
	ASSERT_EQ(read_all(TRACING "trace", text, sizeof(text)), 0);
	for (i = 0; i < 3; i++)
		EXPECT_NE(strstr(text, want[i]), NULL)
			TH_LOG("not in the trace: %s", want[i]);
}

/*
 * 1,000 splits and healings of one 2M page, each given time to be restored,
 * are looked at a few dozen times: 4 looks are free, then each waits twice as
 * long as the one before, up to 256 delays.
 */
TEST_F_TIMEOUT(gate, thousand_cycles_are_scanned_seldom, 300)
{
	char delay[16] = "";
	long scanned;
	int i;

	ASSERT_EQ(read_file(RESTORE_DIR "delay_ms", delay, sizeof(delay)), 0);
	ASSERT_EQ(write_file(RESTORE_DIR "delay_ms", "10"), 0);
	usleep(200000);
	scanned = vm_event("direct_map_restore_scanned");
	for (i = 0; i < 1000; i++) {
		ASSERT_EQ(pages_do(self->fd, "np %d 1", PAGE), 0);
		ASSERT_EQ(pages_do(self->fd, "p %d 1", PAGE), 0);
		usleep(20000);
	}
	scanned = vm_event("direct_map_restore_scanned") - scanned;
	TH_LOG("%ld scans", scanned);
	EXPECT_GT(scanned, 0);
	EXPECT_LT(scanned, 150);

	ASSERT_EQ(write_file(RESTORE_DIR "delay_ms", delay), 0);
	is_restored(_metadata, self);
}

TEST_HARNESS_MAIN
