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

#define CYCLES		30
#define HELD_SIZE	MB	/* from one module to the next */

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
	write_file(RESTORE_DIR "enabled", "1");
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

/* Pages in a pipe, which nobody else can have. */
static int hold(int ends[2])
{
	static char data[HELD_SIZE];

	if (pipe(ends) || fcntl(ends[1], F_SETPIPE_SZ, HELD_SIZE) < 0 ||
	    write(ends[1], data, HELD_SIZE) != HELD_SIZE)
		return -errno;

	return 0;
}

TEST_F_TIMEOUT(execmem, few_splits_where_memory_is_in_pieces, 300)
{
	int i, held[CYCLES][2];
	long split;

	/* Pieces enough for all modules, and for what is held between them. */
	ASSERT_EQ(pipes_fill(&self->pipes, 1024 * MB, 2), 0);
	/*
	 * Text has a cache of large pages, each of which is split for the first
	 * module in it: once, as long as nobody restores it between two modules.
	 */
	if (restore_available())
		ASSERT_EQ(write_file(RESTORE_DIR "enabled", "0"), 0);
	ASSERT_EQ(cycle(self), 0);
	split = splits();
	for (i = 0; i < CYCLES; i++) {
		/* Not the same 2M each time. */
		ASSERT_EQ(hold(held[i]), 0);
		ASSERT_EQ(cycle(self), 0);
	}
	split = splits() - split;
	if (restore_available())
		ASSERT_EQ(write_file(RESTORE_DIR "enabled", "1"), 0);
	TH_LOG("%ld splits", split);
	/* The cache of text goes when it is empty: some are of another one. */
	EXPECT_LE(split, CYCLES / 3);
	while (i--) {
		close(held[i][0]);
		close(held[i][1]);
	}
	EXPECT_TRUE(dmap_settles(&self->before, &self->after,
				 restore_available() ? 30 : 5,
				 restore_available()));
}

TEST_HARNESS_MAIN
