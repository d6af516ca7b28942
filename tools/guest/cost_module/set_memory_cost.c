// SPDX-License-Identifier: GPL-2.0-only
/*
 * What changes of a page's permissions cost where the direct map is split
 * already, in nanoseconds. Under QEMU's -icount shift=0 one nanosecond is one
 * instruction.
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

typedef int (*addr_function)(unsigned long addr, int numpages);
typedef int (*page_function)(struct page *page);

static unsigned long ro, rw, invalid, valid;
module_param(ro, ulong, 0);
module_param(rw, ulong, 0);
module_param(invalid, ulong, 0);
module_param(valid, ulong, 0);

/* Results, for each pair of calls. */
static unsigned long set_memory_pair, direct_map_pair, page_pair, order_2_pair;
module_param(set_memory_pair, ulong, 0444);
module_param(direct_map_pair, ulong, 0444);
module_param(page_pair, ulong, 0444);
module_param(order_2_pair, ulong, 0444);

static unsigned long alloc_and_free(unsigned int order)
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

static int __init cost_init(void)
{
	const int order = get_order(PMD_SIZE);
	struct page *page = alloc_pages(GFP_KERNEL, order);
	unsigned long addr;
	u64 start;
	int i;

	if (!page)
		return -ENOMEM;
	addr = (unsigned long)page_address(page);

	/* The first split is not what is measured. */
	((addr_function)ro)(addr, 1);

	start = ktime_get_ns();
	for (i = 0; i < ROUNDS; i++) {
		((addr_function)ro)(addr + PAGE_SIZE, 1);
		((addr_function)rw)(addr + PAGE_SIZE, 1);
	}
	set_memory_pair = (ktime_get_ns() - start) / ROUNDS;

	start = ktime_get_ns();
	for (i = 0; i < ROUNDS; i++) {
		((page_function)invalid)(page + 2);
		((page_function)valid)(page + 2);
	}
	direct_map_pair = (ktime_get_ns() - start) / ROUNDS;

	((addr_function)rw)(addr, 1);
	__free_pages(page, order);

	page_pair = alloc_and_free(0);
	order_2_pair = alloc_and_free(2);

	return 0;
}
module_init(cost_init);

static void __exit cost_exit(void)
{
}
module_exit(cost_exit);

MODULE_DESCRIPTION("Cost of changes of the direct map");
MODULE_LICENSE("GPL");
