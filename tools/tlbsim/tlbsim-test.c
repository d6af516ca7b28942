// SPDX-License-Identifier: GPL-2.0-only
/*
 * The model on patterns whose counts are worked out by hand. Runs on the host.
 *
 * Geometry: L1 4K 16 sets x 4 ways, 2M 8 x 4, 1G 1 x 8; L2 of 4K and 2M 128 x 12,
 * of 1G 4 x 4; caches of entries that point to tables 2 (of the top level), 4, and
 * 8 x 4 (those that point to PTE tables).
 */
#include <stdlib.h>
#include <string.h>

#include "tlb.h"

#define ROOT	0x1000
#define PUDS	0x2000
#define PMDS	0x3000
#define PTES	0x4000

#define K4	(1UL << 12)
#define M2	(1UL << 21)
#define G1	(1UL << 30)

/*
 * One table for each level: in each 512G, the first 256 GB are mapped by tables
 * and the rest by 1G pages; in each such GB the first 512 MB are mapped by 4K and
 * the rest by 2M pages. The last 4K of each 2M are not mapped, nor is the last 1G
 * of each 512.
 */
#define LARGE_2M	(256 * M2)
#define LARGE_1G	(256 * G1)

static uint64_t read_entry(void *arg, uint64_t phys)
{
	unsigned int index = phys % 4096 / 8;

	(void)arg;
	switch (phys & ~4095UL) {
	case ROOT:
		return PUDS | 1;
	case PUDS:
		return index == 511 ? 0 : index < 256 ? PMDS | 1 : 0x81;
	case PMDS:
		return index < 256 ? PTES | 1 : 0x81;
	case PTES:
		return index == 511 ? 0 : 1;
	}
	printf("not ok: a walk read %#lx, where no table is\n", phys);
	exit(1);
}

static struct tlb *tlb;
static struct tlb_counts counts;
static int failed, nr_tests;

static void begin(void)
{
	tlb_flush(tlb);
	memset(&counts, 0, sizeof(counts));
}

static void use(uint64_t addr)
{
	tlb_access(tlb, addr, &counts);
}

/* @nr addresses at a distance of @stride, one after the other, @rounds times. */
static void use_each(uint64_t addr, uint64_t stride, int nr, int rounds)
{
	int i;

	while (rounds--)
		for (i = 0; i < nr; i++)
			use(addr + i * stride);
}

static void result(int good, const char *what)
{
	printf("%s %d %s\n", good ? "ok" : "not ok", ++nr_tests, what);
	failed |= !good;
}

static void expect(const char *what, uint64_t l1_misses, uint64_t l2_misses,
		   uint64_t refs, uint64_t refs_cached)
{
	int good = counts.l1_misses == l1_misses && counts.l2_misses == l2_misses &&
		   counts.refs == refs && counts.refs_cached == refs_cached;

	if (!good)
		printf("# %lu %lu %lu %lu, expected %lu %lu %lu %lu\n", counts.l1_misses,
		       counts.l2_misses, counts.refs, counts.refs_cached, l1_misses,
		       l2_misses, refs, refs_cached);
	result(good, what);
}

static void sizes(void)
{
	/* A walk of 4 entries, then hits anywhere in the page. */
	begin();
	use(8);
	use(16);
	use(K4 - 8);
	expect("4K: a miss, then hits", 1, 1, 4, 4);

	/* 3 entries, then hits; the next page shares the two above its own. */
	begin();
	use(LARGE_2M);
	use(LARGE_2M + M2 - 8);
	use(LARGE_2M + M2);
	expect("2M: walks of 3", 2, 2, 6, 3 + 1);

	/* 2 entries; the next shares the topmost. */
	begin();
	use(LARGE_1G);
	use(LARGE_1G + G1 - 8);
	use(LARGE_1G + G1);
	expect("1G: walks of 2", 2, 2, 4, 2 + 1);

	begin();
	use_each(0, K4, 3, 1);
	use_each(LARGE_2M, K4, 4, 1);
	use_each(LARGE_1G, K4, 5, 2);
	result(counts.accesses == 17 && counts.leaf[TLB_4K] == 3 &&
	       counts.leaf[TLB_2M] == 4 && counts.leaf[TLB_1G] == 10,
	       "accesses are counted by the size of their page");
}

static void first_level(void)
{
	/* 16 pages on is the same set. 4 fit: 4 misses in both rounds together. */
	begin();
	use_each(0, 16 * K4, 4, 2);
	expect("L1 holds 4 pages of a set", 4, 4, 16, 4 + 3 * 1);

	/* 5 in turn: each goes before it is used again. The L2 has them. */
	begin();
	use_each(0, 16 * K4, 5, 2);
	expect("L1 does not hold 5", 10, 5, 20, 4 + 4 * 1);

	/* a b c d a e: b is the oldest and goes, a stays; then a hits, b misses. */
	begin();
	use_each(0, 16 * K4, 4, 1);
	use(0);
	use(4 * 16 * K4);
	use(0);
	expect("L1: what was used stays", 5, 5, 20, 8);
	use(16 * K4);
	expect("L1: the oldest went, to L2", 6, 5, 20, 8);

	/* 64 pages side by side, twice: 16 sets of 4. */
	begin();
	use_each(0, K4, 64, 2);
	expect("L1 holds 64 pages", 64, 64, 256, 4 + 63);

	/* 2M: 8 sets, so 8 pages on; 1G: 8 pages whatever they are. */
	begin();
	use_each(LARGE_2M, 8 * M2, 5, 2);
	expect("L1 of 2M does not hold 5 of a set", 10, 5, 15, 3 + 4 * 1);
	begin();
	use_each(LARGE_1G, G1, 8, 2);
	expect("L1 of 1G holds 8", 8, 8, 16, 2 + 7);
}

static void second_level(void)
{
	/* 128 pages on, 512 KB, is the same set, and in L1 too: 12 never fit there. */
	begin();
	use_each(0, 128 * K4, 12, 2);
	/* Four in each 2M: 3 page tables. */
	expect("L2 holds 12 pages of a set", 24, 12, 48, 4 + 2 * 2 + 9 * 1);

	begin();
	use_each(0, 128 * K4, 13, 2);
	/* 4 tables; on the second round the walk caches have them all. */
	expect("L2 does not hold 13", 26, 26, 104, 4 + 3 * 2 + 9 * 1 + 13);

	/*
	 * 1,536 pages, 12 in each set, are all of it: of three tables the pages
	 * that are mapped, 511, and of a fourth one page for each that lacked, in
	 * their set. L1 has none of the 511 in the second round, and all 3.
	 */
	begin();
	use_each(0, K4, 511, 2);
	use_each(M2, K4, 511, 2);
	use_each(2 * M2, K4, 511, 2);
	use_each(3 * M2 + 127 * K4, 128 * K4, 3, 2);
	use_each(0, K4, 511, 1);
	expect("L2 holds 1,536 pages", 7 * 511 + 3, 1536, 4 * 1536,
	       4 + 3 * 2 + 3 * 510 + 2);

	/*
	 * 6 pages of 4K and 6 of 2M in one set: 128 pages on is 256 MB, thus two of
	 * 2M in each GB. A 13th page, and the oldest is walked for again.
	 */
	begin();
	use_each(0, 128 * K4, 6, 1);
	use_each(LARGE_2M, G1, 6, 1);
	use_each(0, 128 * K4, 6, 1);
	use_each(LARGE_2M, G1, 6, 1);
	result(counts.l2_misses == 12, "L2 holds 4K and 2M in one set");
	use(LARGE_2M + LARGE_2M / 2);
	use(0);
	result(counts.l2_misses == 14, "L2: the oldest goes, whatever its size");

	/* L2 of 1G: 4 sets of 4, so 4 pages on; 9 of one set are more than L1 has. */
	begin();
	use_each(LARGE_1G, 4 * G1, 9, 2);
	expect("L2 of 1G does not hold 5 of a set", 18, 18, 36, 2 + 17);
}

static void walk_caches(void)
{
	/* Another 4K, 2M, 1G, 512G: 1, 2, 3, 4 entries. */
	begin();
	use(0);
	use(K4);
	use(M2);
	use(G1);
	use(512 * G1);
	expect("caches of a walk spare the levels that are shared", 5, 5, 20, 4 + 1 + 2 + 3 + 4);

	/* 8 tables on, 16 MB, is the same set of 4: 5 of them in turn. */
	begin();
	use_each(0, 8 * M2, 5, 1);
	use_each(K4, 8 * M2, 5, 1);
	expect("32 entries that point to PTE tables, 4 in a set", 10, 10, 40, 4 + 4 * 2 + 5 * 2);

	/* 4 entries that point to PMD tables: of 5 in turn none is left, of 4 all. */
	begin();
	use_each(LARGE_2M, G1, 5, 1);
	use_each(LARGE_2M + M2, G1, 5, 1);
	expect("4 entries that point to PMD tables", 10, 10, 30, 3 + 4 * 2 + 5 * 2);
	begin();
	use_each(LARGE_2M, G1, 4, 1);
	use_each(LARGE_2M + M2, G1, 4, 1);
	expect("all 4 of them", 8, 8, 24, 3 + 3 * 2 + 4 * 1);
}

static void flush(void)
{
	begin();
	use(0);
	use(LARGE_1G);
	tlb_flush(tlb);
	use(0);
	use(LARGE_1G);
	expect("a flush leaves nothing", 4, 4, 12, 2 * (4 + 1));
}

static void unmapped(void)
{
	/* 4 entries and 2 entries, each time: what is not there is not cached. */
	begin();
	use_each(511 * K4, 1, 2, 1);
	use_each(511 * G1, 1, 2, 1);
	expect("a page that is not there", 4, 4, 12, 4 + 1 + 1 + 1);
	result(counts.unmapped == 4, "and is counted");
}

/* What the report says, and whether it can be relied on. */
static int reported(const struct tlb_counts *sections, int nr, const char *phrase)
{
	char text[1024] = "";
	FILE *file = fmemopen(text, sizeof(text), "w");
	int err = tlb_report(file, sections, nr);

	fclose(file);
	if (strstr(text, phrase))
		return err;
	printf("# the report lacks \"%s\":\n%s", phrase, text);

	return 1;
}

static void reports(void)
{
	struct tlb_counts sections[2] = {
		{ 10, { 1, 2, 7 }, 5, 4, 12, 9, 0 },
		{ 10, { 1, 2, 7 }, 5, 4, 12, 9, 0 },
	};

	result(!reported(sections, 2, "\n2 10 1 2 7 5 4 12 9 0\n"), "a report");
	result(reported(sections, 0, "error: no marker") == -1, "a report of nothing fails");
	memset(&sections[1], 0, sizeof(sections[1]));
	result(reported(sections, 2, "error: section 2: no access") == -1,
	       "a report without an access fails");
	sections[1] = sections[0];
	sections[1].unmapped = 1;
	result(reported(sections, 2, "error: section 2: pages") == -1,
	       "a report of unmapped pages fails");
}

int main(void)
{
	tlb = tlb_new(ROOT, read_entry, NULL);
	if (!tlb)
		return 1;
	sizes();
	first_level();
	second_level();
	walk_caches();
	flush();
	unmapped();
	reports();
	tlb_free(tlb);
	printf("1..%d\n", nr_tests);

	return failed;
}
