// SPDX-License-Identifier: GPL-2.0-only
/*
 * What calls cost that user space can't make one by one, in nanoseconds. Under
 * QEMU's -icount shift=0 one nanosecond is one instruction.
 *
 * Changes of a page's permissions are measured twice: with another page of the
 * same 2M that stays changed, so that the 2M is split all the time, and alone,
 * where a restore in the caller would find all of it equal after each pair.
 *
 * The functions are not exported, and a kernel that exports them for this is
 * not the one to be measured: their addresses come as parameters, out of
 * /proc/kallsyms.
 */
#include <linux/gfp.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>

#define ROUNDS	4000
#define TRIES	4

typedef int (*addr_function)(unsigned long addr, int numpages);
typedef int (*page_function)(struct page *page);

static unsigned long ro, rw, invalid, valid;
module_param(ro, ulong, 0);
module_param(rw, ulong, 0);
module_param(invalid, ulong, 0);
module_param(valid, ulong, 0);

/* Results, for each pair of calls. */
static unsigned long set_memory_pair, set_memory_pair_alone;
module_param(set_memory_pair, ulong, 0444);
module_param(set_memory_pair_alone, ulong, 0444);
static unsigned long direct_map_pair, direct_map_pair_alone;
module_param(direct_map_pair, ulong, 0444);
module_param(direct_map_pair_alone, ulong, 0444);
static unsigned long order_0_pair, order_2_pair, order_9_pair;
module_param(order_0_pair, ulong, 0444);
module_param(order_2_pair, ulong, 0444);
module_param(order_9_pair, ulong, 0444);

static unsigned long try_alloc_and_free(unsigned int order)
{
	u64 start = ktime_get_ns();
	int i;

	for (i = 0; i < ROUNDS; i++) {
		struct page *page = alloc_pages(GFP_KERNEL, order);

		if (page)
			__free_pages(page, order);
	}

	return (ktime_get_ns() - start) / ROUNDS;
}

/* What comes in between, an interrupt and its work, only adds. */
static unsigned long alloc_and_free(unsigned int order)
{
	unsigned long cost = try_alloc_and_free(order);
	int i;

	for (i = 1; i < TRIES; i++)
		cost = min(cost, try_alloc_and_free(order));

	return cost;
}

static unsigned long ro_and_rw(struct page *page)
{
	unsigned long addr = (unsigned long)page_address(page);
	u64 start = ktime_get_ns();
	int i;

	for (i = 0; i < ROUNDS; i++) {
		((addr_function)ro)(addr, 1);
		((addr_function)rw)(addr, 1);
	}

	return (ktime_get_ns() - start) / ROUNDS;
}

static unsigned long invalid_and_valid(struct page *page)
{
	u64 start = ktime_get_ns();
	int i;

	for (i = 0; i < ROUNDS; i++) {
		((page_function)invalid)(page);
		((page_function)valid)(page);
	}

	return (ktime_get_ns() - start) / ROUNDS;
}

static int __init bench_init(void)
{
	const int order = get_order(PMD_SIZE);
	struct page *page = alloc_pages(GFP_KERNEL, order);
	unsigned long neighbour;

	if (!page)
		return -ENOMEM;
	/* In the middle: what looks for it looks at half of the entries. */
	neighbour = (unsigned long)page_address(page) + PMD_SIZE / 2;

	((addr_function)ro)(neighbour, 1);
	set_memory_pair = ro_and_rw(page + 1);
	direct_map_pair = invalid_and_valid(page + 2);
	((addr_function)rw)(neighbour, 1);
	set_memory_pair_alone = ro_and_rw(page + 1);
	direct_map_pair_alone = invalid_and_valid(page + 2);
	__free_pages(page, order);

	order_0_pair = alloc_and_free(0);
	order_2_pair = alloc_and_free(2);
	order_9_pair = alloc_and_free(order);

	return 0;
}
module_init(bench_init);

static void __exit bench_exit(void)
{
}
module_exit(bench_exit);

MODULE_DESCRIPTION("Cost of calls that change the direct map, and of allocations");
MODULE_LICENSE("GPL");
