// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dmap.h"
#include "fail.h"

#define DEBUGFS	"/sys/kernel/debug/"
/* It counts down. */
#define TIMES	1000000

static int set(const char *what, const char *name, const char *value)
{
	char path[96];

	snprintf(path, sizeof(path), DEBUGFS "%s/%s", what, name);

	/* What is opened for it can fail as well. */
	return INSIST(write_file(path, value));
}

static int set_number(const char *what, const char *name, unsigned long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", value);

	return set(what, name, text);
}

/* Where a function of the kernel is. */
static int find_function(const char *name, unsigned long *start,
			 unsigned long *end)
{
	FILE *file = fopen("/proc/kallsyms", "r");
	unsigned long addr;
	char line[512], symbol[256], type;

	if (!file)
		return -errno;
	*start = 0;
	*end = ~0UL;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx %c %255s", &addr, &type, symbol) == 3 &&
		    !strcmp(symbol, name))
			*start = addr;
	}
	rewind(file);
	/* The next one, whatever their order is. */
	while (*start && fgets(line, sizeof(line), file)) {
		addr = strtoul(line, NULL, 16);
		if (addr > *start && addr < *end)
			*end = addr;
	}
	fclose(file);

	return *start ? 0 : -ESRCH;
}

bool fail_available(const char *what)
{
	return !set(what, "probability", "0");
}

int fail_start(const char *what, const char *function, int percent)
{
	unsigned long start = 0, end = ~0UL;
	int err;

	if (!fail_available(what))
		return -ENODEV;
	if (function) {
		err = find_function(function, &start, &end);
		if (err)
			return err;
	}
	err = set_number(what, "require-start", start);
	err = err ?: set_number(what, "require-end", end);
	err = err ?: set(what, "stacktrace-depth", function ? "32" : "0");
	err = err ?: set(what, "task-filter", function ? "N" : "Y");
	err = err ?: set(what, "ignore-gfp-wait", "N");
	err = err ?: set(what, "verbose", "0");
	err = err ?: set(what, "interval", "1");
	err = err ?: set_number(what, "times", TIMES);
	if (!err && !strcmp(what, FAIL_PAGES))
		err = set(what, "min-order", "0");
	if (!err && !function)
		err = write_file("/proc/self/make-it-fail", "1");

	return err ?: set_number(what, "probability", percent);
}

long fail_stop(const char *what)
{
	char path[96], text[32];

	set(what, "probability", "0");
	INSIST(write_file("/proc/self/make-it-fail", "0"));
	snprintf(path, sizeof(path), DEBUGFS "%s/times", what);
	if (read_file(path, text, sizeof(text)))
		return -1;

	return TIMES - atol(text);
}
