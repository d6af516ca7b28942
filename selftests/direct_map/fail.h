/* SPDX-License-Identifier: GPL-2.0-only */
/* Allocations of the kernel that fail now and then: CONFIG_FAULT_INJECTION. */
#ifndef FAIL_H
#define FAIL_H

#include <errno.h>
#include <stdbool.h>

#define FAIL_SLAB	"failslab"
#define FAIL_PAGES	"fail_page_alloc"

/* What is done again until it is not an allocation that fails. */
#define INSIST(call) ({							\
	int tries_ = 0, result_;					\
									\
	do {								\
		result_ = (call);					\
	} while (result_ == -ENOMEM && ++tries_ < 100);			\
	result_;							\
})

/* Whether the kernel can let @what fail. */
bool fail_available(const char *what);

/*
 * From now on @percent of @what fail: of this process and its children or, with
 * the name of a function of the kernel, of whoever is called by that.
 * 0, or -errno: -ENODEV if the kernel can't do that, -ESRCH if it has no such
 * function.
 */
int fail_start(const char *what, const char *function, int percent);

/* How many failed since then. No more do. */
long fail_stop(const char *what);

#endif
