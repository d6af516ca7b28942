// SPDX-License-Identifier: GPL-2.0-only
/*
 * A BPF program is made read-only where it lies in vmalloc space, and so is
 * its alias in the direct map.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "dmap.h"

#define PROGRAMS 3000

FIXTURE(bpf)
{
	struct dmap before;
	struct dmap after;
	int fds[PROGRAMS];
	int nr;
};

FIXTURE_SETUP(bpf)
{
	struct rlimit limit = { PROGRAMS + 64, PROGRAMS + 64 };
	int fd = load_bpf_program();

	if (fd < 0)
		SKIP(return, "can't load a BPF program: needs root and CONFIG_BPF_SYSCALL");
	close(fd);
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	/* The first program's pack of 2M stays. */
	sleep(1);
	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
}

FIXTURE_TEARDOWN(bpf)
{
	while (self->nr)
		close(self->fds[--self->nr]);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

TEST_F_TIMEOUT(bpf, no_range_smaller_after_3000_programs, 300)
{
	int i;

	for (i = 0; i < PROGRAMS; i++) {
		int fd = load_bpf_program();

		ASSERT_GE(fd, 0);
		close(fd);
	}
	/* Programs are freed by RCU and a work of their own. */
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 30,
				 restore_available()));
}

TEST_F_TIMEOUT(bpf, no_range_smaller_after_3000_programs_at_once,
	       300)
{
	for (self->nr = 0; self->nr < PROGRAMS; self->nr++) {
		self->fds[self->nr] = load_bpf_program();
		ASSERT_GE(self->fds[self->nr], 0);
	}
	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
	while (self->nr)
		close(self->fds[--self->nr]);

	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 30,
				 restore_available()));
}

TEST_HARNESS_MAIN
