// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the reclaim of page tables may cost others: little memory, and no wait
 * for a process that exits or for what it had mounted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tables.h"

FIXTURE(bounds)
{
	char delay[16];
};

FIXTURE_SETUP(bounds)
{
	if (!reclaim_available())
		SKIP(return, "no " RECLAIM_DIR "run");
	ASSERT_EQ(read_file(RECLAIM_DIR "delay_ms", self->delay,
			    sizeof(self->delay)), 0);
	ASSERT_EQ(write_file(RECLAIM_DIR "delay_ms", "3600000"), 0);
}

FIXTURE_TEARDOWN(bounds)
{
	if (*self->delay)
		write_file(RECLAIM_DIR "delay_ms", self->delay);
}

static void touch_and_drop(char *map, size_t size, size_t step, size_t piece)
{
	touch(map, size, step);
	drop_in_pieces(map, size, piece);
}

TEST_F_TIMEOUT(bounds, more_tables_than_are_noted, 60)
{
	long overflows = vm_event("pt_reclaim_overflows");
	long walks = vm_event("pt_reclaim_walks");
	long freed = vm_event("pt_reclaim_freed");
	char *map = map_aligned(GB, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1);
	long before = vmpte_kb();

	ASSERT_NE(map, NULL);
	touch_and_drop(map, GB, MB, MB);
	EXPECT_GE(vmpte_kb(), before + 512 * 4);
	EXPECT_GT(vm_event("pt_reclaim_overflows"), overflows);
	ASSERT_EQ(reclaim_run(), 0);
	EXPECT_GT(vm_event("pt_reclaim_walks"), walks);
	EXPECT_GE(vm_event("pt_reclaim_freed"), freed + 512);
	EXPECT_TRUE(vmpte_settles(before + 8, 0));
}

TEST_F_TIMEOUT(bounds, 50_GB_over_and_over, 1800)
{
	size_t size = 50 * GB;
	char *map = map_aligned(size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int round;

	ASSERT_NE(map, NULL);
	for (round = 0; round < 3; round++) {
		/* A part at a time: it need not fit into memory. */
		size_t pos;

		for (pos = 0; pos < size; pos += GB)
			touch_and_drop(map + pos, GB, 64 * KB, 64 * KB);
		ASSERT_EQ(reclaim_run(), 0);
		EXPECT_LT(vmpte_kb(), 3 * 1024);
	}
}

/* A child that leaves what is yet to be looked at. */
static pid_t child_with_candidates(const char *path, int tables)
{
	pid_t pid = fork();
	size_t size = tables * TABLE;
	char *map;
	int fd;

	if (pid)
		return pid;
	fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, size))
		_exit(1);
	map = map_aligned(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	if (!map)
		_exit(2);
	touch_and_drop(map, size, MB, MB);
	_exit(0);
}

static long mm_structs(void)
{
	char line[256];
	long active = -1;
	FILE *file;

	/* Not those that KASAN has in quarantine. */
	write_file("/sys/kernel/slab/mm_struct/shrink", "1");
	file = fopen("/proc/slabinfo", "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "mm_struct %ld", &active) == 1)
			break;
	}
	if (file)
		fclose(file);

	return active;
}

TEST_F_TIMEOUT(bounds, exit_takes_a_process_off_the_list, 60)
{
	long dropped = vm_event("pt_reclaim_dropped");
	long mms = mm_structs();
	int i, status;

	for (i = 0; i < 200; i++) {
		ASSERT_GT(waitpid(child_with_candidates("/tmp/bounds", i % 2 ? 4 : 32),
				  &status, 0), 0);
		ASSERT_EQ(status, 0);
	}
	unlink("/tmp/bounds");
	EXPECT_GE(vm_event("pt_reclaim_dropped") - dropped, 200);
	/* Slabs that are only partly in use count as if they were in use. */
	if (mms >= 0)
		EXPECT_LT(mm_structs(), mms + 100);
}

static atomic_bool over;

static void *run_all_the_time(void *arg)
{
	while (!over)
		reclaim_run();

	return arg;
}

/* What a process has mapped is gone when the process is. */
static void mount_use_unmount(struct __test_metadata *_metadata, int rounds,
			      int tables)
{
	char dir[] = "/tmp/bounds.XXXXXX", path[64];
	int i, status;

	mkdir("/tmp", 0755);
	ASSERT_NE(mkdtemp(dir), NULL);
	snprintf(path, sizeof(path), "%s/file", dir);
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(mount("bounds", dir, "tmpfs", 0, NULL), 0);
		ASSERT_GT(waitpid(child_with_candidates(path, i % 2 ? 4 : tables),
				  &status, 0), 0);
		ASSERT_EQ(status, 0);
		ASSERT_EQ(umount(dir), 0)
			TH_LOG("%s after %d rounds", strerror(errno), i);
	}
	rmdir(dir);
}

TEST_F_TIMEOUT(bounds, umount_does_not_wait_for_a_pass, 60)
{
	mount_use_unmount(_metadata, 50, 64);
}

TEST_F_TIMEOUT(bounds, umount_while_passes_are_made, 120)
{
	pthread_t thread;

	over = false;
	ASSERT_EQ(pthread_create(&thread, NULL, run_all_the_time, NULL), 0);
	mount_use_unmount(_metadata, 100, 512);
	over = true;
	pthread_join(thread, NULL);
}

TEST_HARNESS_MAIN
