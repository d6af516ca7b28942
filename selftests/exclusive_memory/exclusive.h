/* SPDX-License-Identifier: GPL-2.0-only */
/* What the tests of MAP_EXCLUSIVE share. */
#ifndef EXCLUSIVE_H
#define EXCLUSIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "../pte_mapped/pool.h"

#ifndef MAP_EXCLUSIVE
#define MAP_EXCLUSIVE	0x0a
#endif

#define KB		1024UL
#define PATTERN		0x5eed5eed5eed5eedUL	/* what the driver looks for */
#define READ_WRITE	(PROT_READ | PROT_WRITE)

/* Why there is no such memory on this kernel, or NULL. */
const char *no_exclusive(void);

/* Memory that nobody has touched yet; NULL on error, for errno. */
void *exclusive_map(size_t size);
void *ordinary_map(size_t size);
/* The same where something else may be mapped. */
void *exclusive_map_at(void *where, size_t size);
void *ordinary_map_at(void *where, size_t size);

/* Pages of such memory that are in use by anybody, as /proc/vmstat has it. */
long exclusive_pages(void);
/* They are as many, at once or within seconds. */
bool exclusive_settles(long pages);

/* Each page differs from the others, and each word of a page. */
void fill(void *start, size_t size, unsigned long seed);
bool holds(const void *start, size_t size, unsigned long seed);
/* As many pages that hold what fill() writes, among @size of anything. */
long count_filled(const void *data, size_t size, unsigned long seed);
/* All words the same. */
void fill_pattern(void *start, size_t size);

/* Accesses that the compiler can't do without. */
static inline long get_long(const void *at)
{
	return __atomic_load_n((const long *)at, __ATOMIC_RELAXED);
}

static inline void put_long(void *at, long value)
{
	__atomic_store_n((long *)at, value, __ATOMIC_RELAXED);
}

/* The signal that an access ends with, or 0. For several threads, too. */
int signal_of_read(const void *at);
int signal_of_write(void *at, long value);

/* Page frame numbers of all pages of a range. */
void pfns_of(const void *start, long nr, unsigned long *pfns);
/* As many as are not what they were. */
long pfns_differ(const void *start, long nr, const unsigned long *pfns);
bool is_swapped(const void *page);

/* A line of the mapping at @at in /proc/self/smaps, with the colon; or -1. */
long smaps_kb(const void *at, const char *name);
/* Whether its VmFlags have a flag. */
bool smaps_flag(const void *at, const char *flag);
/* A line of /proc/self/status, or -1. */
long status_kb(const char *name);

/*
 * A child that runs @run and ends with what it returns. It stops at each
 * child_wait() until it is told to go on.
 */
struct child {
	pid_t pid;
	int to, from;
};

bool child_start(struct child *child, int (*run)(void *), void *arg);
void child_wait(void);			/* in the child */
bool child_waits(struct child *child);	/* it got there */
void child_go_on(struct child *child);
/* Its exit status, or minus the signal that ended it. */
int child_end(struct child *child);
void child_kill(struct child *child);
/* From start to end, for those that don't wait. */
int in_child(int (*run)(void *), void *arg);

/*
 * From now on another user, with so much memory that it may lock; 0 or -errno.
 * Who has not been that user before finds nothing taken.
 */
int become_user(uid_t uid, size_t limit);

/* Of a memory cgroup. */
int group_set(struct group *group, const char *file, size_t value);
long group_value(struct group *group, const char *file);
/* A line of memory.events. */
long group_event(struct group *group, const char *name);

/*
 * A block device that is there until it is closed, for I/O without a copy; or
 * -1. File systems may copy where they find no pages.
 */
#define NO_DIRECT_DEVICE "no loop device for direct I/O: needs CONFIG_BLK_DEV_LOOP"

int direct_device(size_t size);
bool have_swap(void);

#endif
