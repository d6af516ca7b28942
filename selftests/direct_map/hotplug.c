// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that goes offline, is removed and comes back, in the middle of a 1G
 * page that was split and restored, and in DIMMs that share 1G.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "dmap.h"

#define BLOCKS	"/sys/devices/system/memory/"
#define ACPI	"/sys/bus/acpi/devices/"
#define DIMM	"PNP0C80:"
#define PAGES	512
#define GB	(1024UL * 1024 * 1024)

static unsigned long block_size;

/* Memory block @nr: "online", "offline", ... or "" if there is none. */
static const char *block_state(unsigned long nr)
{
	static char state[32];
	char path[96];

	snprintf(path, sizeof(path), BLOCKS "memory%lu/state", nr);
	if (read_file(path, state, sizeof(state)))
		*state = '\0';
	state[strcspn(state, "\n")] = '\0';

	return state;
}

static bool block_is(unsigned long nr, const char *state)
{
	return !strcmp(block_state(nr), state);
}

static int read_block_size(void)
{
	char text[32];

	if (read_file(BLOCKS "block_size_bytes", text, sizeof(text)))
		return -1;
	block_size = strtoul(text, NULL, 16);

	return 0;
}

/* Split the 2M at @phys and undo it: a table that can be restored stays. */
static int split_and_undo(int fd, unsigned long phys)
{
	int err = pages_do(fd, "take %#lx %d", phys / getpagesize(), PAGES);

	if (!err)
		err = pages_do(fd, "np 7 3");
	if (!err)
		err = pages_do(fd, "p 7 3");
	if (!err)
		err = pages_do(fd, "free");

	return err;
}

FIXTURE(hotplug)
{
	struct dmap before;
	struct dmap after;
	unsigned long offset;	/* from a physical address to the direct map */
	unsigned long block;	/* one that was put offline, in 1G */
	int fd;
};

FIXTURE_SETUP(hotplug)
{
	if (read_block_size())
		SKIP(return, "no " BLOCKS ": needs CONFIG_MEMORY_HOTPLUG");
	self->fd = pages_open();
	if (self->fd < 0)
		SKIP(return, "no " PAGES_FILE ": needs CONFIG_DIRECT_MAP_TEST");
	ASSERT_EQ(pages_do(self->fd, "alloc 1"), 0);
	self->offset = pages_addr(self->fd) - pages_phys(self->fd);
	ASSERT_EQ(pages_do(self->fd, "free"), 0);
	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read(&self->before), 0);
	if (dmap_hopeless_to_see(&self->before))
		SKIP(return, "%s", dmap_hopeless_to_see(&self->before));
}

FIXTURE_TEARDOWN(hotplug)
{
	if (self->block)
		block_set(self->block, "online");
	if (self->fd >= 0)
		close(self->fd);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

/* Put a block offline that is a part of a 1G page; 0 if there is none. */
static unsigned long offline_in_1G(const struct dmap *map, unsigned long offset)
{
	size_t i = map->nr;

	while (i--) {
		const struct dmap_range *range = &map->ranges[i];
		unsigned long addr = range->end;

		if (range->level != DMAP_1G)
			continue;
		for (; addr > range->start; addr -= block_size) {
			unsigned long nr = (addr - offset) / block_size - 1;

			/* In the middle: neither end of the 1G page. */
			if (addr % GB == 0 || (addr - block_size) % GB == 0)
				continue;
			if (block_is(nr, "online") && !block_set(nr, "offline"))
				return nr;
		}
	}

	return 0;
}

/* Puts one offline for the test; why that can't be, or NULL. */
static const char *offline_a_block(FIXTURE_DATA(hotplug) *self)
{
	if (!self->before.kb[DMAP_1G])
		return "no 1G pages in the direct map of this machine";
	if (block_size >= GB)
		return "memory blocks of 1G or more";
	self->block = offline_in_1G(&self->before, self->offset);

	return self->block ? NULL : "no memory block of a 1G page can go offline";
}

/* The 2M at @phys are memory, and mapped as such. */
static void keeps_what_is_written(struct __test_metadata *_metadata, int fd,
				  unsigned long phys)
{
	ASSERT_EQ(pages_do(fd, "take %#lx %d", phys / getpagesize(), PAGES), 0);
	ASSERT_EQ(pages_do(fd, "fill"), 0);
	EXPECT_EQ(pages_do(fd, "check"), 0);
}

TEST_F_TIMEOUT(hotplug, 1G_is_split_while_a_part_is_offline, 120)
{
	long offline = restore_refusals("offline");
	const char *why_not;
	unsigned long addr;

	why_not = offline_a_block(self);
	if (why_not)
		SKIP(return, "%s", why_not);
	addr = self->block * block_size + self->offset;
	EXPECT_TRUE(dmap_level_at(addr) == DMAP_2M);
	ASSERT_EQ(restore_run(), 0);
	EXPECT_GT(restore_refusals("offline"), offline);
	EXPECT_TRUE(dmap_level_at(addr) == DMAP_2M);

	ASSERT_EQ(block_set(self->block, "online"), 0);
	self->block = 0;
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 0, true));
	EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
}

/* A table that was not restored because it was offline is not forgotten. */
TEST_F_TIMEOUT(hotplug, 2M_split_before_offline_comes_back, 500)
{
	const char *why_not;
	unsigned long phys;

	why_not = offline_a_block(self);
	if (why_not)
		SKIP(return, "%s", why_not);
	phys = self->block * block_size;
	ASSERT_EQ(block_set(self->block, "online"), 0);
	ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(write_file(RESTORE_DIR "enabled", "0"), 0);
	ASSERT_EQ(split_and_undo(self->fd, phys), 0);
	ASSERT_EQ(block_set(self->block, "offline"), 0);
	ASSERT_EQ(write_file(RESTORE_DIR "enabled", "1"), 0);
	ASSERT_EQ(restore_run(), 0);
	EXPECT_TRUE(dmap_level_at(phys + self->offset) == DMAP_4K);

	ASSERT_EQ(block_set(self->block, "online"), 0);
	self->block = 0;
	EXPECT_TRUE(dmap_settles_unasked(&self->before, &self->after));
	EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
}

TEST_F_TIMEOUT(hotplug, block_of_1G_removed_and_added, 120)
{
	const char *why_not;
	unsigned long phys;

	why_not = offline_a_block(self);
	if (why_not)
		SKIP(return, "%s", why_not);
	phys = self->block * block_size;

	/* One of its tables is queued when it goes. */
	ASSERT_EQ(block_set(self->block, "online"), 0);
	ASSERT_EQ(write_file(RESTORE_DIR "enabled", "0"), 0);
	ASSERT_EQ(split_and_undo(self->fd, phys), 0);
	ASSERT_EQ(block_set(self->block, "offline"), 0);
	ASSERT_EQ(pages_do(self->fd, "remove %#lx %#lx", phys, block_size), 0);
	ASSERT_EQ(write_file(RESTORE_DIR "enabled", "1"), 0);
	EXPECT_TRUE(block_is(self->block, ""));
	EXPECT_TRUE(dmap_level_at(phys + self->offset) == DMAP_LEVELS);
	EXPECT_TRUE(dmap_level_at(phys + self->offset + block_size) == DMAP_2M);
	ASSERT_EQ(restore_run(), 0);

	ASSERT_EQ(pages_do(self->fd, "add 0 %#lx %#lx", phys, block_size), 0);
	ASSERT_EQ(block_set(self->block, "online"), 0);
	self->block = 0;
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 0, true));
	EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));

	keeps_what_is_written(_metadata, self->fd, phys);
}

/* Nor is the new memory mapped as the old was. */
TEST_F_TIMEOUT(hotplug, bad_page_is_gone_with_its_block, 120)
{
	const char *why_not;
	unsigned long block, phys, bad;

	why_not = offline_a_block(self);
	if (why_not)
		SKIP(return, "%s", why_not);
	block = self->block;
	phys = block * block_size;
	bad = phys + 7 * getpagesize();
	ASSERT_EQ(pages_do(self->fd, "hide %#lx", bad / getpagesize()), 0);
	EXPECT_TRUE(dmap_level_at(bad - getpagesize() + self->offset) == DMAP_4K);
	EXPECT_TRUE(dmap_level_at(bad + self->offset) == DMAP_LEVELS);
	ASSERT_EQ(pages_do(self->fd, "remove %#lx %#lx", phys, block_size), 0);

	/* Not for anybody's use before it is known to be mapped. */
	self->block = 0;
	ASSERT_EQ(pages_do(self->fd, "add 0 %#lx %#lx", phys, block_size), 0);
	ASSERT_TRUE(dmap_level_at(bad + self->offset) == DMAP_2M);
	ASSERT_EQ(block_set(block, "online"), 0);
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 0, true));
	EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));

	keeps_what_is_written(_metadata, self->fd, phys);
}

#define MAX_DIMMS 8

struct dimm {
	char name[32];
	unsigned long first, nr;	/* blocks */
};

/* The blocks of a DIMM are the physical nodes of its ACPI device. */
static bool find_blocks(struct dimm *dimm)
{
	char path[352], text[32];
	struct dirent *entry;
	DIR *dir;

	dimm->first = -1UL;
	dimm->nr = 0;
	snprintf(path, sizeof(path), ACPI "%s", dimm->name);
	dir = opendir(path);
	if (!dir)
		return false;
	while ((entry = readdir(dir))) {
		unsigned long block;

		snprintf(path, sizeof(path), ACPI "%s/%s/phys_index",
			 dimm->name, entry->d_name);
		if (strncmp(entry->d_name, "physical_node", 13) ||
		    read_file(path, text, sizeof(text)))
			continue;
		block = strtoul(text, NULL, 16);
		if (block < dimm->first)
			dimm->first = block;
		dimm->nr++;
	}
	closedir(dir);

	return dimm->nr;
}

static int find_dimms(struct dimm *dimms)
{
	DIR *dir = opendir(ACPI);
	struct dirent *entry;
	int nr = 0;

	if (!dir)
		return 0;
	while (nr < MAX_DIMMS && (entry = readdir(dir))) {
		struct dimm *dimm = &dimms[nr];

		if (strncmp(entry->d_name, DIMM, strlen(DIMM)))
			continue;
		snprintf(dimm->name, sizeof(dimm->name), "%.31s", entry->d_name);
		nr += find_blocks(dimm);
	}
	closedir(dir);

	return nr;
}

static int dimm_set(const struct dimm *dimm, const char *state)
{
	unsigned long i;
	int err = 0;

	for (i = 0; i < dimm->nr && !err; i++) {
		if (!block_is(dimm->first + i, state))
			err = block_set(dimm->first + i, state);
	}

	return err;
}

static int dimm_eject(const struct dimm *dimm)
{
	char path[96];

	snprintf(path, sizeof(path), ACPI "%s/eject", dimm->name);

	return write_file(path, "1");
}

/* As many passes as there are tables to look at, and then one. */
static int split_dimm(int fd, const struct dimm *dimm)
{
	unsigned long phys = dimm->first * block_size;
	unsigned long end = phys + dimm->nr * block_size;
	int err = 0, splits;

	for (splits = 0; phys < end && splits < 16; phys += 2UL << 20) {
		err = split_and_undo(fd, phys);
		splits += !err;
	}

	return splits ? 0 : err;
}

static bool wait_gone(unsigned long block)
{
	int tries = 300;

	while (*block_state(block) && tries--)
		usleep(100000);

	return !*block_state(block);
}

TEST_F_TIMEOUT(hotplug, one_of_two_dimms_in_1G_is_ejected, 180)
{
	struct dimm dimms[MAX_DIMMS], *out = NULL, *stays = NULL;
	int i, j, nr = find_dimms(dimms);

	for (i = 0; i < nr; i++) {
		for (j = 0; j < nr; j++) {
			if (i != j && dimms[i].first * block_size / GB ==
				      dimms[j].first * block_size / GB) {
				out = &dimms[i];
				stays = &dimms[j];
			}
		}
	}
	if (!out)
		SKIP(return, "no two DIMMs share 1G: plug two of 512 MB");

	ASSERT_EQ(dimm_set(out, "online"), 0);
	ASSERT_EQ(dimm_set(stays, "online"), 0);
	dmap_free(&self->before);
	ASSERT_EQ(dmap_read(&self->before), 0);

	/* Restored ones, and then some that are queued when they go. */
	ASSERT_EQ(split_dimm(self->fd, out), 0);
	ASSERT_EQ(split_dimm(self->fd, stays), 0);
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 0, true));
	ASSERT_EQ(write_file(RESTORE_DIR "enabled", "0"), 0);
	ASSERT_EQ(split_dimm(self->fd, out), 0);
	ASSERT_EQ(split_dimm(self->fd, stays), 0);

	ASSERT_EQ(dimm_set(out, "offline"), 0);
	ASSERT_EQ(dimm_eject(out), 0);
	ASSERT_TRUE(wait_gone(out->first));
	ASSERT_EQ(write_file(RESTORE_DIR "enabled", "1"), 0);
	ASSERT_EQ(restore_run(), 0);
	EXPECT_TRUE(dmap_level_at(out->first * block_size + self->offset) ==
		    DMAP_LEVELS);
	EXPECT_TRUE(dmap_level_at(stays->first * block_size + self->offset) ==
		    DMAP_2M);

	keeps_what_is_written(_metadata, self->fd, stays->first * block_size);
}

/*
 * The harness reads this line and does it, through QEMU's monitor. Elsewhere
 * nobody does, and the test skips.
 */
static void ask_qemu(const char *command)
{
	printf("# qemu: %s\n", command);
	fflush(stdout);
}

static bool find_new_dimm(const struct dimm *old, int nr_old, struct dimm *new)
{
	struct dimm now[MAX_DIMMS];
	int i, j, nr, tries = 300;

	while (tries--) {
		nr = find_dimms(now);
		for (i = 0; i < nr; i++) {
			for (j = 0; j < nr_old; j++) {
				if (now[i].first == old[j].first)
					break;
			}
			if (j == nr_old) {
				*new = now[i];
				return true;
			}
		}
		usleep(100000);
	}

	return false;
}

/*
 * The memory of a DIMM is gone before it is: one that is plugged in that moment is
 * taken for the old one, which did not go.
 */
static bool wait_unplugged(const struct dimm *dimm)
{
	char path[96], text[32];
	int tries = 600;

	snprintf(path, sizeof(path), ACPI "%s/status", dimm->name);
	while (!read_file(path, text, sizeof(text)) && atoi(text) && tries--)
		usleep(100000);
	sleep(1);

	return tries >= 0;
}

TEST_F_TIMEOUT(hotplug, dimm_plugged_and_unplugged, 240)
{
	struct dimm old[MAX_DIMMS], dimm;
	int round, nr = find_dimms(old);
	long tables = page_tables();

	for (round = 0; round < 3; round++) {
		ask_qemu("device_add pc-dimm,id=plug,memdev=spare");
		if (!find_new_dimm(old, nr, &dimm)) {
			ASSERT_EQ(round, 0);
			SKIP(return, "nobody plugs a DIMM: no slot, or not in QEMU");
		}
		ASSERT_EQ(dimm_set(&dimm, "online"), 0);
		dmap_free(&self->before);
		ASSERT_EQ(dmap_read(&self->before), 0);

		ASSERT_EQ(split_dimm(self->fd, &dimm), 0);
		dmap_free(&self->after);
		EXPECT_TRUE(dmap_settles(&self->before, &self->after, 0, true));
		EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));

		/* Gone while its tables are queued. */
		ASSERT_EQ(split_dimm(self->fd, &dimm), 0);
		ask_qemu("device_del plug");
		ASSERT_TRUE(wait_gone(dimm.first));
		ASSERT_TRUE(wait_unplugged(&dimm));
		ASSERT_EQ(restore_run(), 0);
	}
	/* Those of each round's splits are gone, and not counted any more. */
	EXPECT_TRUE(page_tables_settle(tables + 16));
}

TEST_HARNESS_MAIN
