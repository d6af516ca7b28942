// SPDX-License-Identifier: GPL-2.0-only
/*
 * When a page table goes no CPU keeps a translation of what it mapped, also
 * where reclaim has unmapped the page and put off the flush.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tables.h"

#define ROUNDS	20

static char *page;
static atomic_long reads;
static atomic_int reader_tid;
static atomic_bool over, reclaimed, passed, failed;

static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Keeps a translation of the page in the TLB of one CPU. */
static void *read_all_the_time(void *arg)
{
	pin_to((long)arg);
	reader_tid = gettid();
	while (!over) {
		get_long(page);
		reads++;
	}

	return NULL;
}

/* Page faults of the reader, which makes none but for the page; -1 if unknown. */
static long reader_faults(void)
{
	char path[64], text[512], *after;
	long minor, major;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", reader_tid);
	if (read_file(path, text, sizeof(text)))
		return -1;
	after = strrchr(text, ')');
	if (!after || sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %ld %*u %ld",
			     &minor, &major) != 2)
		return -1;

	return minor + major;
}

/*
 * A memory cgroup of this process alone: what it reclaims is unmapped without
 * the mmu_gather that MADV_PAGEOUT has, which others see and flush for.
 */
static char cgroups[32];
static char cgroup[64];

static int in_cgroup(const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", cgroup, file);

	return write_file(path, text);
}

static void leave_cgroup(void)
{
	in_cgroup("../cgroup.procs", "0");
	rmdir(cgroup);
	umount2(cgroups, MNT_DETACH);
	rmdir(cgroups);
}

static bool enter_cgroup(void)
{
	snprintf(cgroups, sizeof(cgroups), "/tmp/pt_reclaim.XXXXXX");
	if (!mkdtemp(cgroups))
		return false;
	if (mount("none", cgroups, "cgroup2", 0, NULL)) {
		rmdir(cgroups);
		return false;
	}
	snprintf(cgroup, sizeof(cgroup), "%s/test", cgroups);
	if (!mkdir(cgroup, 0755) &&
	    !in_cgroup("../cgroup.subtree_control", "+memory") &&
	    !in_cgroup("cgroup.procs", "0"))
		return true;
	leave_cgroup();

	return false;
}

/* Is the page mapped? For want of a better answer, if that can't be told. */
static bool page_is_mapped(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	unsigned long long entry = 1ULL << 63;

	if (fd >= 0 &&
	    pread(fd, &entry, sizeof(entry),
		  (unsigned long)page / PAGE * sizeof(entry)) < 0)
		entry = 1ULL << 63;
	close(fd);

	return entry >> 63;
}

static void *reclaim_memory(void *arg)
{
	in_cgroup("memory.reclaim", "64K swappiness=0");
	reclaimed = true;

	return arg;
}

static void *make_a_pass(void *arg)
{
	failed = reclaim_run() != 0;
	passed = true;

	return arg;
}

/* More reads than can be under way; not if reclaim or the pass is over before. */
static bool more_reads(bool in_pass)
{
	long until = reads + 1000;

	while (reads < until) {
		if (in_pass && (reclaimed || passed))
			return false;
		sched_yield();
	}

	return true;
}

static void sleep_ms(long ms)
{
	struct timespec time = { .tv_nsec = ms * 1000000 };

	nanosleep(&time, NULL);
}

TEST(no_cpu_reads_what_was_mapped_before)
{
	int fd = file_on_disk(2 * TABLE), round;
	long faults, tables;
	pthread_t reader, reclaimer, pass;
	char *map;

	if (!reclaim_available())
		SKIP(return, "no " RECLAIM_DIR "run");
	if (fd < 0)
		SKIP(return, "no file on a disk: set TMPDIR");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "one CPU");
	if (!enter_cgroup())
		SKIP(return, "no cgroup2 with a memory controller");

	/* Next to a table that stays, so that no other is freed with this. */
	map = map_aligned(2 * TABLE, PROT_READ, MAP_SHARED, fd);
	ASSERT_NE(map, NULL);
	get_long(map + TABLE);
	madvise(map, 2 * TABLE, MADV_RANDOM);
	page = map;
	pin_to(0);
	ASSERT_EQ(pthread_create(&reader, NULL, read_all_the_time, (void *)1), 0);

	for (round = 0; round < ROUNDS; round++) {
		more_reads(false);
		faults = reader_faults();
		tables = vmpte_kb();
		ASSERT_GE(faults, 0);
		reclaimed = false;
		passed = false;
		ASSERT_EQ(pthread_create(&reclaimer, NULL, reclaim_memory, NULL), 0);
		sleep_ms(round);
		ASSERT_EQ(pthread_create(&pass, NULL, make_a_pass, NULL), 0);
		while (!passed && (vmpte_kb() >= tables || page_is_mapped()))
			sched_yield();
		/*
		 * Without a table a read needs a fault first. Not each round
		 * gets there: the page is soon read in again.
		 */
		if (more_reads(true))
			EXPECT_GT(reader_faults(), faults);
		pthread_join(pass, NULL);
		EXPECT_FALSE(failed);
		pthread_join(reclaimer, NULL);
	}
	over = true;
	pthread_join(reader, NULL);
	leave_cgroup();
}

TEST_HARNESS_MAIN
