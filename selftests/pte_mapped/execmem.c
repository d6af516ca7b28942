// SPDX-License-Identifier: GPL-2.0-only
/*
 * The data of a module that is not written to is protected page by page, in the
 * direct map too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pool.h"

#define CYCLES 30

FIXTURE(execmem)
{
	struct dmap before;
	struct dmap after;
	struct pipes pipes;
	char name[64];
	int fd;
};

FIXTURE_SETUP(execmem)
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

FIXTURE_TEARDOWN(execmem)
{
	close(self->fd);
	if (self->pipes.nr)
		pipes_close(&self->pipes);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

static int cycle(FIXTURE_DATA(execmem) *self)
{
	if (syscall(__NR_finit_module, self->fd, "", 0) ||
	    syscall(__NR_delete_module, self->name, O_NONBLOCK))
		return -errno;

	return 0;
}

TEST_F_TIMEOUT(execmem, few_splits_where_memory_is_in_pieces, 300)
{
	static char data[4 * PAGE];
	int i, more[CYCLES][2];
	long split;

	ASSERT_EQ(pipes_fill(&self->pipes, 1024 * MB, 32), 0);
	/* Once, for the text: it has a cache of large pages. */
	ASSERT_EQ(cycle(self), 0);
	split = splits();
	for (i = 0; i < CYCLES; i++) {
		/* Not the same pages each time. */
		ASSERT_EQ(pipe(more[i]), 0);
		ASSERT_EQ(write(more[i][1], data, sizeof(data)),
			  (ssize_t)sizeof(data));
		ASSERT_EQ(cycle(self), 0);
	}
	split = splits() - split;
	TH_LOG("%ld splits", split);
	EXPECT_LE(split, 3);
	while (i--) {
		close(more[i][0]);
		close(more[i][1]);
	}
	EXPECT_TRUE(dmap_settles(&self->before, &self->after,
				 restore_available() ? 30 : 5,
				 restore_available()));
}

TEST_HARNESS_MAIN
