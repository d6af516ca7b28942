// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module's text and read-only data are protected where they lie and in the
 * direct map, and made writable again when it goes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "dmap.h"

#define CYCLES 30

FIXTURE(module)
{
	struct dmap before;
	struct dmap after;
	char name[64];
	int fd;
};

FIXTURE_SETUP(module)
{
	const char *path = test_module(self->name, sizeof(self->name));

	if (!path)
		SKIP(return, MODULE_ENV " names no module to load");
	self->fd = open(path, O_RDONLY);
	ASSERT_GE(self->fd, 0);

	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
}

FIXTURE_TEARDOWN(module)
{
	close(self->fd);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

TEST_F_TIMEOUT(module, no_range_smaller_after_30_cycles, 300)
{
	int i;

	for (i = 0; i < CYCLES; i++) {
		ASSERT_EQ(syscall(__NR_finit_module, self->fd, "", 0), 0)
			TH_LOG("finit_module: %s", strerror(errno));
		ASSERT_EQ(syscall(__NR_delete_module, self->name, O_NONBLOCK), 0)
			TH_LOG("delete_module(%s): %s", self->name, strerror(errno));
	}

	EXPECT_TRUE(dmap_settles(&self->before, &self->after,
				 restore_available() ? 30 : 5,
				 restore_available()));
	if (self->before.nr)
		EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
}

TEST_HARNESS_MAIN
