/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A model of data TLBs and of the walk that fills them, for one CPU: two levels,
 * set-associative, least recently used goes first. Four levels of x86-64 page
 * tables.
 */
#ifndef TLB_H
#define TLB_H

#include <stdint.h>
#include <stdio.h>

enum tlb_size { TLB_4K, TLB_2M, TLB_1G, TLB_SIZES };

struct tlb_counts {
	uint64_t accesses;
	uint64_t leaf[TLB_SIZES];	/* accesses by the size of their page */
	uint64_t l1_misses;
	uint64_t l2_misses;		/* walks */
	uint64_t refs;			/* entries of page tables that walks read */
	uint64_t refs_cached;		/* the same with paging-structure caches */
	uint64_t unmapped;		/* walks that found no page */
};

/* The entry of a page table at a physical address; 0 where there is none. */
typedef uint64_t (*tlb_read_entry)(void *arg, uint64_t phys);

struct tlb;

/* @root: physical address of the topmost table. NULL if there is no memory. */
struct tlb *tlb_new(uint64_t root, tlb_read_entry read, void *arg);
void tlb_free(struct tlb *tlb);

/* Nothing is cached any more, as after a flush that includes global entries. */
void tlb_flush(struct tlb *tlb);

/* One access; what it comes to is added to @counts. */
void tlb_access(struct tlb *tlb, uint64_t vaddr, struct tlb_counts *counts);

/*
 * A line of names and one for each section of a run. Returns -1, and says so in
 * a line that begins with "error:", if there is nothing that can be relied on.
 */
int tlb_report(FILE *file, const struct tlb_counts *sections, int nr);

#endif
