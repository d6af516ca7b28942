// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who pays for exclusive memory: the user, who has a limit of what may be
 * locked, and the memory cgroup. What was paid comes back, by whatever way the
 * memory goes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "exclusive.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

#define PAGES		64L
#define SIZE		(PAGES * PAGE)
/* No users of this machine. Each test has its own. */
#define FIRST_USER	23100
#define OTHER_USER	23099

/* Pages of a mapping that can be touched, from its start, before a signal. */
static long touch(char *map, long pages, int *signal)
{
	long i;

	*signal = 0;
	for (i = 0; i < pages; i++) {
		*signal = signal_of_write(map + i * PAGE, i + 1);
		if (*signal)
			break;
	}

	return i;
}

/* Exits as the user with what is left of its limit, in pages. */
static int count_left(void *arg)
{
	uid_t uid = *(uid_t *)arg;
	int signal;
	char *map;

	if (become_user(uid, SIZE))
		return 255;
	map = exclusive_map(SIZE);
	if (!map)
		return 254;

	return touch(map, PAGES, &signal);
}

static int left_of(uid_t uid)
{
	return in_child(count_left, &uid);
}

FIXTURE(user)
{
	struct child others[2];	/* so that the users do not go away */
	uid_t uid;
	long before;
};

/* Keeps what the kernel knows of a user. */
static int be_there(void *arg)
{
	if (become_user(*(uid_t *)arg, SIZE))
		return 1;
	child_wait();

	return 0;
}

static bool keep_user(struct child *child, uid_t uid)
{
	return child_start(child, be_there, &uid) && child_waits(child);
}

FIXTURE_SETUP(user)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	self->before = exclusive_pages();
	/* Of this test and this process alone. */
	self->uid = FIRST_USER + getpid() % 30000;
	ASSERT_TRUE(keep_user(&self->others[0], self->uid));
	ASSERT_TRUE(keep_user(&self->others[1], OTHER_USER));
}

FIXTURE_TEARDOWN(user)
{
	int i;

	for (i = 0; i < 2; i++) {
		if (self->others[i].pid)
			child_kill(&self->others[i]);
	}
}

/* What a child makes of its share while its parent has another. */
struct share {
	uid_t uid;
	char *map;
	long pages;
	int signal;
};

static int touch_share(void *arg)
{
	struct share *share = arg;
	int signal;

	if (touch(share->map, PAGES, &signal) != share->pages)
		return 1;

	return signal == share->signal ? 0 : 2;
}

static int touch_in_parent_and_child(void *arg)
{
	struct share *share = arg;
	int signal;

	if (become_user(share->uid, SIZE))
		return 1;
	share->map = exclusive_map(SIZE);
	if (!share->map)
		return 2;
	if (touch(share->map, PAGES - 20, &signal) != PAGES - 20)
		return 3;
	share->pages = 20;
	share->signal = SIGBUS;
	if (in_child(touch_share, share))
		return 4;
	/* What the child had is there again. */
	if (touch(share->map, PAGES, &signal) != PAGES)
		return 5;
	/* And now there is nothing for a child. */
	share->pages = 0;

	return in_child(touch_share, share) ? 6 : 0;
}

TEST_F(user, child_and_parent_have_one_limit)
{
	struct share share = { .uid = self->uid };

	EXPECT_EQ(in_child(touch_in_parent_and_child, &share), 0);
	EXPECT_EQ(left_of(self->uid), PAGES);
}

struct holder {
	uid_t uid;
	long pages;
	bool secret;
};

/* Takes its pages, waits until it is told, and is gone. */
static int hold(void *arg)
{
	struct holder *holder = arg;
	char *map;
	int signal;

	if (become_user(holder->uid, SIZE))
		return 1;
	map = holder->secret ? secret_map(SIZE) : exclusive_map(SIZE);
	if (!map)
		return 2;
	if (touch(map, holder->pages, &signal) != holder->pages)
		return 3;
	child_wait();

	return 0;
}

TEST_F(user, processes_have_one_limit)
{
	struct holder holder = { self->uid, 40, false };
	struct child child;

	ASSERT_TRUE(child_start(&child, hold, &holder));
	ASSERT_TRUE(child_waits(&child));
	EXPECT_EQ(left_of(self->uid), PAGES - 40);
	child_go_on(&child);
	EXPECT_EQ(child_end(&child), 0);
	EXPECT_EQ(left_of(self->uid), PAGES);
}

TEST_F(user, secret_memory_counts_as_well)
{
	struct holder holder = { self->uid, 40, true };
	struct child child;
	int fd = syscall(__NR_memfd_secret, 0);

	if (fd < 0)
		SKIP(return, "no memfd_secret: needs CONFIG_SECRETMEM and secretmem.enable=1");
	close(fd);
	ASSERT_TRUE(child_start(&child, hold, &holder));
	ASSERT_TRUE(child_waits(&child));
	EXPECT_EQ(left_of(self->uid), PAGES - 40);
	child_go_on(&child);
	EXPECT_EQ(child_end(&child), 0);
	EXPECT_EQ(left_of(self->uid), PAGES);
}

static int secret_beside(void *arg)
{
	char *map, *secret;
	int signal;

	if (become_user(*(uid_t *)arg, SIZE))
		return 1;
	map = exclusive_map(SIZE);
	secret = secret_map(SIZE);
	if (!map || !secret)
		return 2;
	if (touch(map, 40, &signal) != 40)
		return 3;
	if (touch(secret, PAGES, &signal) != PAGES - 40 || signal != SIGBUS)
		return 4;
	munmap(map, SIZE);

	return touch(secret, PAGES, &signal) == PAGES ? 0 : 5;
}

TEST_F(user, secret_memory_has_what_is_left)
{
	int fd = syscall(__NR_memfd_secret, 0);

	if (fd < 0)
		SKIP(return, "no memfd_secret: needs CONFIG_SECRETMEM and secretmem.enable=1");
	close(fd);
	EXPECT_EQ(in_child(secret_beside, &self->uid), 0);
}

TEST_F(user, at_its_limit_does_not_stop_another)
{
	struct holder holder = { self->uid, PAGES, false };
	struct child child;

	ASSERT_TRUE(child_start(&child, hold, &holder));
	ASSERT_TRUE(child_waits(&child));
	EXPECT_EQ(left_of(self->uid), 0);
	EXPECT_EQ(left_of(OTHER_USER), PAGES);
	child_go_on(&child);
	EXPECT_EQ(child_end(&child), 0);
}

static int hold_as_root(void *arg)
{
	struct rlimit limit = { PAGE, PAGE };
	int signal;
	char *map;

	(void)arg;
	if (setrlimit(RLIMIT_MEMLOCK, &limit))
		return 1;
	map = exclusive_map(2 * SIZE);

	return map && touch(map, 2 * PAGES, &signal) == 2 * PAGES ? 0 : 2;
}

TEST_F(user, with_CAP_IPC_LOCK_has_no_limit)
{
	EXPECT_EQ(in_child(hold_as_root, NULL), 0);
}

/* Real user @uid, and root still to be had. */
static int switch_user(uid_t uid)
{
	if (setresuid(-1, 0, -1))
		return -errno;

	return setresuid(uid, uid, 0) ? -errno : 0;
}

static int touch_and_become_another(void *arg)
{
	struct rlimit limit = { SIZE, SIZE };
	uid_t uid = *(uid_t *)arg;
	int signal;
	char *map;

	if (setrlimit(RLIMIT_MEMLOCK, &limit) || switch_user(uid))
		return 1;
	map = exclusive_map(SIZE);
	if (!map || touch(map, 40, &signal) != 40)
		return 2;
	if (switch_user(OTHER_USER))
		return 3;
	child_wait();
	/* Given back by who is another one now. */
	munmap(map, SIZE / 2);
	child_wait();

	return 0;
}

TEST_F(user, who_took_it_is_who_gets_it_back)
{
	struct child child;

	ASSERT_TRUE(child_start(&child, touch_and_become_another, &self->uid));
	ASSERT_TRUE(child_waits(&child));
	EXPECT_EQ(left_of(self->uid), PAGES - 40);
	EXPECT_EQ(left_of(OTHER_USER), PAGES);
	child_go_on(&child);
	ASSERT_TRUE(child_waits(&child));
	EXPECT_EQ(left_of(self->uid), PAGES - 40 + PAGES / 2);
	EXPECT_EQ(left_of(OTHER_USER), PAGES);
	child_go_on(&child);
	EXPECT_EQ(child_end(&child), 0);
	EXPECT_EQ(left_of(self->uid), PAGES);
	EXPECT_EQ(left_of(OTHER_USER), PAGES);
}

/* Ways by which the memory goes: each time all of it can be had again. */
static bool by_munmap(char *map)
{
	return !munmap(map, SIZE);
}

static bool by_munmap_in_pieces(char *map)
{
	long i;

	for (i = 0; i < PAGES; i++) {
		if (munmap(map + (i * 37 % PAGES) * PAGE, PAGE))
			return false;
	}

	return true;
}

static bool by_dontneed(char *map)
{
	return !madvise(map, SIZE, MADV_DONTNEED) && !munmap(map, SIZE);
}

static bool by_dontneed_locked(char *map)
{
	return !madvise(map, SIZE, MADV_DONTNEED_LOCKED) && !munmap(map, SIZE);
}

static bool by_guards(char *map)
{
	return !madvise(map, SIZE, MADV_GUARD_INSTALL) &&
	       !madvise(map, SIZE, MADV_GUARD_REMOVE) && !munmap(map, SIZE);
}

static bool by_mapping_over_it(char *map)
{
	return ordinary_map_at(map, SIZE) && !munmap(map, SIZE);
}

static bool by_shrinking(char *map)
{
	return mremap(map, SIZE, PAGE, 0) == map && !munmap(map, PAGE);
}

static bool by_moving_and_unmapping(char *map)
{
	char *place = ordinary_map(SIZE);

	return mremap(map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place &&
	       !munmap(place, SIZE);
}

static bool by_moving_it_over_others(char *map)
{
	size_t half = SIZE / 2;

	return !munmap(map, half) && exclusive_map_at(map, half) &&
	       mremap(map, half, half, MREMAP_MAYMOVE | MREMAP_FIXED,
		      map + half) == map + half && !munmap(map + half, half);
}

static int end_in_child(void *arg)
{
	char *map = *(char **)arg;
	int signal;

	if (touch(map, PAGES, &signal) != PAGES)
		return 1;
	/* With all of it in use, by a signal. */
	raise(SIGKILL);

	return 2;
}

static bool by_death(char *map)
{
	return !munmap(map, SIZE) && (map = exclusive_map(SIZE)) &&
	       in_child(end_in_child, &map) == -SIGKILL && !munmap(map, SIZE);
}

static int exit_in_child(void *arg)
{
	char *map = *(char **)arg;
	int signal;

	return touch(map, PAGES, &signal) != PAGES;
}

static bool by_exit(char *map)
{
	return !munmap(map, SIZE) && (map = exclusive_map(SIZE)) &&
	       in_child(exit_in_child, &map) == 0 && !munmap(map, SIZE);
}

#define AFTER_EXEC "EXCLUSIVE_AFTER_EXEC"

static void __attribute__((constructor(101))) after_exec(void)
{
	if (getenv(AFTER_EXEC))
		_exit(0);
}

static int exec_in_child(void *arg)
{
	if (exit_in_child(arg))
		return 1;
	setenv(AFTER_EXEC, "1", 1);
	execl("/proc/self/exe", "limits", NULL);

	return 2;
}

static bool by_exec(char *map)
{
	return !munmap(map, SIZE) && (map = exclusive_map(SIZE)) &&
	       in_child(exec_in_child, &map) == 0 && !munmap(map, SIZE);
}

FIXTURE(way)
{
	struct child other;
	uid_t uid;
	long before;
};

FIXTURE_VARIANT(way)
{
	bool (*go)(char *map);
};

FIXTURE_VARIANT_ADD(way, munmap) { by_munmap };
FIXTURE_VARIANT_ADD(way, munmap_in_pieces) { by_munmap_in_pieces };
FIXTURE_VARIANT_ADD(way, dontneed) { by_dontneed };
FIXTURE_VARIANT_ADD(way, dontneed_locked) { by_dontneed_locked };
FIXTURE_VARIANT_ADD(way, guards) { by_guards };
FIXTURE_VARIANT_ADD(way, mapped_over) { by_mapping_over_it };
FIXTURE_VARIANT_ADD(way, shrunk) { by_shrinking };
FIXTURE_VARIANT_ADD(way, moved) { by_moving_and_unmapping };
FIXTURE_VARIANT_ADD(way, moved_over) { by_moving_it_over_others };
FIXTURE_VARIANT_ADD(way, exit) { by_exit };
FIXTURE_VARIANT_ADD(way, kill) { by_death };
FIXTURE_VARIANT_ADD(way, exec) { by_exec };

FIXTURE_SETUP(way)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	self->before = exclusive_pages();
	self->uid = FIRST_USER + getpid() % 30000;
	ASSERT_TRUE(keep_user(&self->other, self->uid));
}

FIXTURE_TEARDOWN(way)
{
	if (self->other.pid)
		child_kill(&self->other);
}

struct rounds {
	uid_t uid;
	bool (*go)(char *map);
};

static int take_and_give(void *arg)
{
	struct rounds *rounds = arg;
	int i, signal;

	if (become_user(rounds->uid, SIZE))
		return 1;
	for (i = 0; i < 4; i++) {
		char *map = exclusive_map(SIZE);

		if (!map)
			return 2;
		if (touch(map, PAGES, &signal) != PAGES)
			return 3;
		if (!rounds->go(map))
			return 4;
		if (status_kb("VmLck:"))
			return 5;
	}

	return 0;
}

TEST_F(way, user_gets_all_of_it_again)
{
	struct rounds rounds = { self->uid, variant->go };

	EXPECT_EQ(in_child(take_and_give, &rounds), 0);
	EXPECT_EQ(left_of(self->uid), PAGES);
	EXPECT_TRUE(exclusive_settles(self->before));
}

/* Memory cgroups. */
#define GROUP_PAGES	4096L
#define GROUP_SIZE	(GROUP_PAGES * PAGE)	/* 16 MB */
/* What CPUs keep charged for a while, page tables and the like. */
#define SLACK		(2 * MB)

FIXTURE(group)
{
	struct group group;
	char *map;
	long before;
};

FIXTURE_SETUP(group)
{
	const char *missing;

	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	missing = group_make(&self->group, "memory.max");
	if (missing)
		SKIP(return, "%s", missing);
	self->before = exclusive_pages();
}

FIXTURE_TEARDOWN(group)
{
	if (self->map)
		munmap(self->map, GROUP_SIZE);
	group_remove(&self->group);
}

TEST_F(group, is_charged_until_it_is_given_back)
{
	long before, full = GROUP_SIZE - SLACK, none = SLACK;

	ASSERT_EQ(group_enter(&self->group), 0);
	self->map = exclusive_map(GROUP_SIZE);
	ASSERT_NE(self->map, NULL);
	before = group_value(&self->group, "memory.current");
	fill_pattern(self->map, GROUP_SIZE);
	EXPECT_GE(group_value(&self->group, "memory.current"), before + full);
	ASSERT_EQ(madvise(self->map, GROUP_SIZE, MADV_DONTNEED), 0);
	EXPECT_LE(group_value(&self->group, "memory.current"), before + none);
	fill_pattern(self->map, GROUP_SIZE);
	EXPECT_GE(group_value(&self->group, "memory.current"), before + full);
	munmap(self->map, GROUP_SIZE);
	self->map = NULL;
	EXPECT_LE(group_value(&self->group, "memory.current"), before + none);
}

/* Who moved on leaves the charge where it was, and it comes back there. */
TEST_F(group, has_its_charge_back_when_the_process_is_elsewhere)
{
	long before;

	ASSERT_EQ(group_enter(&self->group), 0);
	self->map = exclusive_map(GROUP_SIZE);
	ASSERT_NE(self->map, NULL);
	before = group_value(&self->group, "memory.current");
	fill_pattern(self->map, GROUP_SIZE);
	group_leave(&self->group);
	EXPECT_GE(group_value(&self->group, "memory.current"),
		  before + (long)(GROUP_SIZE - SLACK));
	munmap(self->map, GROUP_SIZE);
	self->map = NULL;
	EXPECT_LE(group_value(&self->group, "memory.current"), before + (long)SLACK);
}

static int take_all(void *arg)
{
	FIXTURE_DATA(group) *self = arg;
	char *map;

	if (group_enter(&self->group))
		return 1;
	map = exclusive_map(2 * GROUP_SIZE);
	if (!map)
		return 2;
	fill_pattern(map, 2 * GROUP_SIZE);

	return 0;
}

TEST_F_TIMEOUT(group, at_its_limit_its_process_is_killed, 120)
{
	ASSERT_EQ(group_set(&self->group, "memory.max", GROUP_SIZE), 0);
	group_set(&self->group, "memory.swap.max", 0);
	EXPECT_EQ(in_child(take_all, self), -SIGKILL);
	EXPECT_GE(group_event(&self->group, "oom_kill"), 1);
	/* And all is given back. */
	EXPECT_TRUE(exclusive_settles(self->before));
	EXPECT_LE(group_value(&self->group, "memory.current"), (long)(2 * SLACK));
	EXPECT_TRUE(pool_empties(60));
}

static int take_and_free(void *arg)
{
	FIXTURE_DATA(group) *self = arg;
	size_t most = GROUP_SIZE - 2 * SLACK;
	char *map;
	int i;

	if (group_enter(&self->group))
		return 1;
	for (i = 0; i < 100; i++) {
		map = exclusive_map(most);
		if (!map)
			return 2;
		fill_pattern(map, most);
		if (i & 1 ? madvise(map, most, MADV_DONTNEED) : 0)
			return 3;
		if (i & 1)
			fill_pattern(map, most);
		munmap(map, most);
	}

	return 0;
}

/* What was given back does not count until somebody zeroes it. */
TEST_F_TIMEOUT(group, near_its_limit_memory_comes_and_goes, 400)
{
	ASSERT_EQ(group_set(&self->group, "memory.max", GROUP_SIZE), 0);
	group_set(&self->group, "memory.swap.max", 0);
	EXPECT_EQ(in_child(take_and_free, self), 0);
	EXPECT_EQ(group_event(&self->group, "oom_kill"), 0);
	EXPECT_EQ(group_event(&self->group, "oom"), 0);
}

static int child_of_the_group(void *arg)
{
	FIXTURE_DATA(group) *self = arg;

	fill_pattern(self->map, GROUP_SIZE);
	child_wait();

	return 0;
}

TEST_F(group, is_charged_for_what_a_child_has)
{
	struct child child;
	long before;

	ASSERT_EQ(group_enter(&self->group), 0);
	self->map = exclusive_map(GROUP_SIZE);
	ASSERT_NE(self->map, NULL);
	fill_pattern(self->map, GROUP_SIZE);
	before = group_value(&self->group, "memory.current");
	ASSERT_TRUE(child_start(&child, child_of_the_group, self));
	ASSERT_TRUE(child_waits(&child));
	EXPECT_GE(group_value(&self->group, "memory.current"),
		  before + (long)(GROUP_SIZE - SLACK));
	child_go_on(&child);
	EXPECT_EQ(child_end(&child), 0);
	EXPECT_LE(group_value(&self->group, "memory.current"), before + (long)SLACK);
}

TEST_HARNESS_MAIN
