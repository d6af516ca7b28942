// SPDX-License-Identifier: GPL-2.0-only
/*
 * The files in /sys/kernel/mm/pt_reclaim/, and what they keep from happening.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tables.h"

#define SIZE	(16 * MB)	/* no more tables than are noted one by one */
#define TABLES	((long)(SIZE / TABLE))

FIXTURE(controls)
{
	char delay[16];
	char *map;
	long before;
};

FIXTURE_SETUP(controls)
{
	if (!reclaim_available())
		SKIP(return, "no " RECLAIM_DIR "run");
	ASSERT_EQ(read_file(RECLAIM_DIR "delay_ms", self->delay,
			    sizeof(self->delay)), 0);
	/* Nothing comes unasked. */
	ASSERT_EQ(write_file(RECLAIM_DIR "delay_ms", "3600000"), 0);
	self->map = map_aligned(SIZE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1);
	ASSERT_NE(self->map, NULL);
	self->before = vmpte_kb();
	touch(self->map, SIZE, MB);
}

FIXTURE_TEARDOWN(controls)
{
	if (!*self->delay)
		return;
	write_file(RECLAIM_DIR "enabled", "1");
	write_file(RECLAIM_DIR "delay_ms", self->delay);
}

TEST_F(controls, tables_stay_until_a_run)
{
	drop_in_pieces(self->map, SIZE, MB);
	EXPECT_GE(vmpte_kb(), self->before + TABLES * 4);
	ASSERT_EQ(reclaim_run(), 0);
	EXPECT_TRUE(vmpte_settles(self->before + 4, 0));
}

TEST_F(controls, counters_say_what_a_run_did)
{
	long freed = vm_event("pt_reclaim_freed");
	long scanned = vm_event("pt_reclaim_scanned");
	long in_use = vm_event("pt_reclaim_in_use");

	drop_in_pieces(self->map, SIZE, MB);
	/* One is used again. */
	touch(self->map, PAGE, PAGE);
	ASSERT_EQ(reclaim_run(), 0);
	EXPECT_GE(vm_event("pt_reclaim_freed") - freed, TABLES - 1);
	EXPECT_GE(vm_event("pt_reclaim_in_use") - in_use, 1);
	EXPECT_GE(vm_event("pt_reclaim_scanned") - scanned, TABLES);
	EXPECT_TRUE(vmpte_settles(self->before + 8, 0));
}

TEST_F(controls, a_zap_of_whole_tables_counts)
{
	long zapped = vm_event("pt_reclaim_zapped");

	madvise(self->map, SIZE, MADV_DONTNEED);
	EXPECT_GE(vm_event("pt_reclaim_zapped") - zapped, TABLES);
	EXPECT_TRUE(vmpte_settles(self->before + 4, 0));
}

/* What direct I/O invalidates is soon mapped again. */
TEST_F(controls, invalidated_mappings_keep_their_tables)
{
	int file = file_on_disk(TABLE), direct;
	char path[32], *map;
	long tables, zapped;

	if (file < 0)
		SKIP(return, "no directory on a disk, see TMPDIR");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	direct = open(path, O_RDWR | O_DIRECT);
	if (direct < 0)
		SKIP(return, "no direct I/O where TMPDIR is");
	ASSERT_EQ(pwrite(file, self->map, TABLE, 0), (ssize_t)TABLE);
	ASSERT_EQ(fsync(file), 0);
	map = map_aligned(TABLE, PROT_READ | PROT_WRITE, MAP_SHARED, file);
	ASSERT_NE(map, NULL);
	tables = vmpte_kb();
	touch(map, TABLE, PAGE);
	ASSERT_GT(vmpte_kb(), tables);

	zapped = vm_event("pt_reclaim_zapped");
	ASSERT_EQ(pwrite(direct, self->map, TABLE, 0), (ssize_t)TABLE);
	EXPECT_EQ(vm_event("pt_reclaim_zapped"), zapped);
	EXPECT_GT(vmpte_kb(), tables);
	ASSERT_EQ(reclaim_run(), 0);
	EXPECT_TRUE(vmpte_settles(tables, 0));
	close(direct);
	close(file);
}

TEST_F(controls, disabled_frees_nothing)
{
	drop_in_pieces(self->map, SIZE / 2, MB);
	ASSERT_EQ(write_file(RECLAIM_DIR "enabled", "0"), 0);
	drop_in_pieces(self->map + SIZE / 2, SIZE / 2, MB);
	ASSERT_EQ(reclaim_run(), 0);
	EXPECT_GE(vmpte_kb(), self->before + TABLES * 4);

	/* What was noted before is freed, what came while it was off is not. */
	ASSERT_EQ(write_file(RECLAIM_DIR "enabled", "1"), 0);
	ASSERT_EQ(reclaim_run(), 0);
	EXPECT_TRUE(vmpte_settles(self->before + TABLES / 2 * 4 + 4, 0));
	EXPECT_GE(vmpte_kb(), self->before + TABLES / 2 * 4);

	/* Until it is emptied again. */
	drop_in_pieces(self->map + SIZE / 2, SIZE / 2, MB);
	ASSERT_EQ(reclaim_run(), 0);
	EXPECT_TRUE(vmpte_settles(self->before + 4, 0));
}

TEST_F_TIMEOUT(controls, delay_counts_from_the_last_use, 60)
{
	time_t end = time(NULL) + 5;
	long freed, empty;

	ASSERT_EQ(reclaim_run(), 0);
	ASSERT_EQ(write_file(RECLAIM_DIR "delay_ms", "2000"), 0);
	madvise(self->map, SIZE, MADV_DONTNEED);
	empty = vmpte_kb();
	freed = vm_event("pt_reclaim_freed");
	while (time(NULL) < end) {
		touch(self->map, PAGE, PAGE);
		madvise(self->map, PAGE, MADV_DONTNEED);
	}
	EXPECT_EQ(vm_event("pt_reclaim_freed"), freed);
	EXPECT_EQ(vmpte_kb(), empty + 4);
	EXPECT_TRUE(vmpte_settles(empty, 30));
	EXPECT_GT(vm_event("pt_reclaim_freed"), freed);
}

TEST_F(controls, a_fork_leaves_no_empty_tables)
{
	int status;
	pid_t pid;

	drop_in_pieces(self->map, SIZE, MB);
	pid = fork();
	if (!pid) {
		long before = vmpte_kb();

		/* The parent's are still there, and so are copies. */
		if (reclaim_run())
			_exit(2);
		_exit(vmpte_kb() > before - TABLES * 4);
	}
	ASSERT_GT(waitpid(pid, &status, 0), 0);
	EXPECT_EQ(status, 0);
}

TEST_F(controls, userfaultfd_keeps_tables_until_it_lets_go)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (unsigned long)self->map, SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(__NR_userfaultfd, UFFD_USER_MODE_ONLY);

	if (fd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(ioctl(fd, UFFDIO_API, &api), 0);
	ASSERT_EQ(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
	drop_in_pieces(self->map, SIZE, MB);
	ASSERT_EQ(reclaim_run(), 0);
	EXPECT_GE(vmpte_kb(), self->before + TABLES * 4);

	ASSERT_EQ(ioctl(fd, UFFDIO_UNREGISTER, &reg.range), 0);
	ASSERT_EQ(reclaim_run(), 0);
	EXPECT_TRUE(vmpte_settles(self->before + 4, 0));
	close(fd);
}

TEST_F(controls, files_are_for_root)
{
	static const char *const names[] = { "enabled", "delay_ms", "run" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char path[64];
		struct stat st;

		snprintf(path, sizeof(path), RECLAIM_DIR "%s", names[i]);
		ASSERT_EQ(stat(path, &st), 0);
		EXPECT_EQ(st.st_mode & 077, 0U);
		EXPECT_EQ(st.st_uid, 0U);
	}
}

TEST_F(controls, bad_values_are_refused)
{
	const struct {
		const char *file, *value;
	} bad[] = {
		{ "enabled", "2" }, { "enabled", "-1" }, { "enabled", "on" },
		{ "enabled", "" }, { "delay_ms", "0" },
		{ "delay_ms", "3600001" }, { "delay_ms", "-5" },
		{ "delay_ms", "1s" }, { "delay_ms", "99999999999999999999" },
		{ "run", "0" }, { "run", "2" }, { "run", "yes" },
	};
	char before[16], after[16], path[64];
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(path, sizeof(path), RECLAIM_DIR "%s", bad[i].file);
		*before = *after = '\0';
		read_file(path, before, sizeof(before));
		EXPECT_EQ(write_file(path, *bad[i].value ? bad[i].value : "\n"),
			  -EINVAL) {
			TH_LOG("%s took \"%s\"", bad[i].file, bad[i].value);
		}
		read_file(path, after, sizeof(after));
		EXPECT_STREQ(before, after);
	}
}

TEST_HARNESS_MAIN
