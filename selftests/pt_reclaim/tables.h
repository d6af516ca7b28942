/* SPDX-License-Identifier: GPL-2.0-only */
/* What the tests of empty page tables share. */
#ifndef TABLES_H
#define TABLES_H

#include <stdbool.h>
#include <stddef.h>

#define KB		1024UL
#define MB		(1024 * KB)
#define GB		(1024 * MB)
#define PAGE		(4 * KB)
#define TABLE		(2 * MB)	/* what a page table maps */

#define RECLAIM_DIR	"/sys/kernel/mm/pt_reclaim/"

/* All numbers are -1 where there is none. */
long vmpte_kb(void);
long vm_event(const char *name);

bool reclaim_available(void);
int reclaim_run(void);
int write_file(const char *path, const char *text);
int read_file(const char *path, char *text, size_t size);

/* VmPTE is at most this much, at once or within seconds. */
bool vmpte_settles(long most_kb, unsigned int seconds);

/* Mapped by tables that hold nothing else. */
char *map_aligned(size_t size, int prot, int flags, int fd);

/* Accesses that the compiler can't do without. */
static inline long get_long(const char *at)
{
	return __atomic_load_n((const long *)at, __ATOMIC_RELAXED);
}

static inline void put_long(char *at, long value)
{
	__atomic_store_n((long *)at, value, __ATOMIC_RELAXED);
}

/* A page in each piece of that size. */
void touch(char *start, size_t size, size_t step);
/* MADV_DONTNEED of each piece. */
void drop_in_pieces(char *start, size_t size, size_t piece);

/* A userfaultfd that takes UFFDIO_MOVE to this range, or -errno. */
int uffd_for_moves(char *to, size_t size);
/* All of the range, holes too; 0 or -errno. */
int uffd_move_all(int uffd, char *to, char *from, size_t size);

/* A file whose pages can be reclaimed, or -1. */
int file_on_disk(size_t size);
/* Pages can be swapped out. */
bool have_swap(void);

#endif
