/* SPDX-License-Identifier: GPL-2.0-only */
/* What the tests of PTE-mapped blocks and of unmapped pages share. */
#ifndef POOL_H
#define POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "../direct_map/dmap.h"

#define MB		(1024UL * 1024)
#define PAGE		4096UL
#define BLOCK_PAGES	512

/* Page blocks that are kept for __GFP_PTE_MAPPED, -1 if there is no such type. */
long blocks(void);
/* None is left, at once or within seconds. */
bool blocks_go(unsigned int seconds);
/* No page is unmapped, neither in use nor idle, within seconds. */
bool pool_empties(unsigned int seconds);

/* 2M and 1G pages that were split since boot. */
long splits(void);

/*
 * Interrupts that made CPUs flush their TLBs, or call some other function; -1 if
 * there is one CPU only.
 */
long flush_interrupts(void);

/*
 * Page frame number of a page of this process, 0 if it is not present. Compaction
 * and NUMA balancing unmap even secret memory, to find that it can't move; that is
 * over in a moment.
 */
unsigned long pfn_of(const void *page);

/*
 * Pages from the allocator, through the file of CONFIG_PTE_MAPPED_TEST; see
 * mm/pte_mapped_test.c for the commands. Closing frees them.
 */
#define HELD_FILE "/sys/kernel/debug/pte_mapped_test"

struct held_page {
	unsigned long pfn;
	unsigned int order;
	int node;
	char type;
};

int held_open(void);				/* or -errno */
int held_do(int fd, const char *command, ...);	/* 0, or -errno */
/*
 * Has the kernel read a page of this process: 0, -EFAULT if its direct map does
 * not map it, -ENXIO if the process has none there.
 */
int held_peek(int fd, const void *page);
/* How many there are; what @pages points to is for the caller to free. */
long held_read(int fd, struct held_page **pages);

/* The content of physical memory, as /proc/kcore shows it; 0 or -errno. */
int read_kcore(unsigned long pfn, void *page);

/*
 * Pipes with data, from which a little is read here and there: single pages are
 * free then all over the memory that they use.
 */
struct pipes {
	int (*fds)[2];
	int nr;
};

/*
 * Fill @size of memory, or half of what is there if that is less, and read from
 * every @nth pipe; 0 or -errno.
 */
int pipes_fill(struct pipes *pipes, size_t size, int nth);
void pipes_close(struct pipes *pipes);

/* A cgroup of the test's own. */
struct group {
	char mount[32];
	char path[64];
};

/* One that has @file, as memory.max. Why there is none, or NULL. */
const char *group_make(struct group *group, const char *file);
int group_write(struct group *group, const char *file, const char *text);
int group_enter(struct group *group);
void group_leave(struct group *group);
void group_remove(struct group *group);

bool is_zero(const void *start, size_t size);

#endif
