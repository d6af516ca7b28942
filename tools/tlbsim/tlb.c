// SPDX-License-Identifier: GPL-2.0-only
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tlb.h"

#define PRESENT		0x1
#define LARGE		0x80
#define ADDR_MASK	0x000ffffffffff000ULL

#define TOP_SHIFT	39
#define LEVELS		4
#define MAX_ENTRIES	1536

/* The ways of a set lie beside each other, the one used last first. */
struct cache {
	unsigned int sets, ways;
	uint64_t tags[MAX_ENTRIES];
};

struct tlb {
	uint64_t root;
	tlb_read_entry read;
	void *arg;
	struct cache l1[TLB_SIZES];
	struct cache l2, l2_1g;		/* 4K and 2M share the large one */
	struct cache walk[LEVELS - 1];	/* entries that point to tables, from the top */
};

static const unsigned int size_shift[TLB_SIZES] = { 12, 21, 30 };

/* As in a server of the Skylake line; its walk caches are not documented. */
static void set_geometry(struct tlb *tlb)
{
	tlb->l1[TLB_4K] = (struct cache){ .sets = 16, .ways = 4 };
	tlb->l1[TLB_2M] = (struct cache){ .sets = 8, .ways = 4 };
	tlb->l1[TLB_1G] = (struct cache){ .sets = 1, .ways = 8 };
	tlb->l2 = (struct cache){ .sets = 128, .ways = 12 };
	tlb->l2_1g = (struct cache){ .sets = 4, .ways = 4 };
	tlb->walk[0] = (struct cache){ .sets = 1, .ways = 2 };
	tlb->walk[1] = (struct cache){ .sets = 1, .ways = 4 };
	tlb->walk[2] = (struct cache){ .sets = 8, .ways = 4 };
}

struct tlb *tlb_new(uint64_t root, tlb_read_entry read, void *arg)
{
	struct tlb *tlb = calloc(1, sizeof(*tlb));

	if (!tlb)
		return NULL;
	tlb->root = root;
	tlb->read = read;
	tlb->arg = arg;
	set_geometry(tlb);

	return tlb;
}

void tlb_free(struct tlb *tlb)
{
	free(tlb);
}

void tlb_flush(struct tlb *tlb)
{
	set_geometry(tlb);
}

/* Never 0, which is an empty way; pages of two sizes never have the same. */
static uint64_t tag_of(uint64_t vaddr, unsigned int shift)
{
	return (vaddr >> shift) << 6 | shift;
}

static uint64_t *set_of(struct cache *cache, uint64_t tag)
{
	return cache->tags + (tag >> 6) % cache->sets * cache->ways;
}

static void to_front(uint64_t *set, unsigned int way, uint64_t tag)
{
	memmove(set + 1, set, way * sizeof(*set));
	set[0] = tag;
}

static bool lookup(struct cache *cache, uint64_t tag)
{
	uint64_t *set = set_of(cache, tag);
	unsigned int way;

	for (way = 0; way < cache->ways; way++) {
		if (set[way] == tag) {
			to_front(set, way, tag);
			return true;
		}
	}

	return false;
}

/* @tag must not be there. */
static void insert(struct cache *cache, uint64_t tag)
{
	to_front(set_of(cache, tag), cache->ways - 1, tag);
}

static struct cache *l2_of(struct tlb *tlb, enum tlb_size size)
{
	return size == TLB_1G ? &tlb->l2_1g : &tlb->l2;
}

/* How many levels from the top the caches spare a walk. */
static int levels_spared(struct tlb *tlb, uint64_t vaddr)
{
	int level = LEVELS - 1;

	while (level && !lookup(&tlb->walk[level - 1],
				tag_of(vaddr, TOP_SHIFT - 9 * (level - 1))))
		level--;

	return level;
}

/* The size of the page, TLB_SIZES if there is none. */
static enum tlb_size walk(struct tlb *tlb, uint64_t vaddr, struct tlb_counts *counts)
{
	int spared = levels_spared(tlb, vaddr), level;
	uint64_t table = tlb->root;

	for (level = 0; level < LEVELS; level++) {
		unsigned int shift = TOP_SHIFT - 9 * level;
		uint64_t entry = tlb->read(tlb->arg, table + (vaddr >> shift) % 512 * 8);

		counts->refs++;
		counts->refs_cached += level >= spared;
		if (!(entry & PRESENT))
			break;
		if (level == LEVELS - 1 || (level && entry & LARGE))
			return LEVELS - 1 - level;
		if (level >= spared)
			insert(&tlb->walk[level], tag_of(vaddr, shift));
		table = entry & ADDR_MASK;
	}

	return TLB_SIZES;
}

void tlb_access(struct tlb *tlb, uint64_t vaddr, struct tlb_counts *counts)
{
	enum tlb_size size;

	counts->accesses++;
	for (size = 0; size < TLB_SIZES; size++) {
		if (lookup(&tlb->l1[size], tag_of(vaddr, size_shift[size]))) {
			counts->leaf[size]++;
			return;
		}
	}
	counts->l1_misses++;

	for (size = 0; size < TLB_SIZES; size++) {
		if (lookup(l2_of(tlb, size), tag_of(vaddr, size_shift[size])))
			break;
	}
	if (size == TLB_SIZES) {
		counts->l2_misses++;
		size = walk(tlb, vaddr, counts);
		if (size == TLB_SIZES) {
			counts->unmapped++;
			return;
		}
		insert(l2_of(tlb, size), tag_of(vaddr, size_shift[size]));
	}
	insert(&tlb->l1[size], tag_of(vaddr, size_shift[size]));
	counts->leaf[size]++;
}

int tlb_report(FILE *file, const struct tlb_counts *sections, int nr)
{
	int i, err = 0;

	fprintf(file, "section accesses 4k 2m 1g l1_misses l2_misses refs refs_cached unmapped\n");
	for (i = 0; i < nr; i++) {
		const struct tlb_counts *c = &sections[i];

		fprintf(file, "%d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
			" %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
			i + 1, c->accesses, c->leaf[TLB_4K], c->leaf[TLB_2M], c->leaf[TLB_1G],
			c->l1_misses, c->l2_misses, c->refs, c->refs_cached, c->unmapped);
		if (!c->accesses) {
			fprintf(file, "error: section %d: no access to the direct map was seen\n", i + 1);
			err = -1;
		}
		if (c->unmapped) {
			fprintf(file, "error: section %d: pages were used that the walk does not find\n", i + 1);
			err = -1;
		}
	}
	if (!nr) {
		fprintf(file, "error: no marker was seen\n");
		err = -1;
	}

	return err;
}
