# SPDX-License-Identifier: GPL-2.0-only
# Everything is a tool in tools/; this names them and their order. See README.md.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

TOP := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
ifneq (,$(or $(findstring :,$(CURDIR)),$(word 2,$(CURDIR))))
$(error the kernel does not build below a folder with a blank or a colon in its name: $(CURDIR))
endif
# A user's own tree is built beside the pinned one.
BUILD ?= $(TOP)build$(if $(LINUX),-own)
DOWNLOADS ?= $(TOP)downloads
KERNEL ?= series
override BUILD := $(abspath $(BUILD))
override DOWNLOADS := $(abspath $(DOWNLOADS))
T := $(TOP)tools

export BUILD DOWNLOADS LINUX REV TARBALL MIRROR ACCEL STORM_SECONDS COMPILERS JOBS

# For tools that are to look at their arguments only, see check_first.
unexport CHECK_ONLY

# With -s only what was asked for goes to standard output.
ifneq (,$(findstring s,$(filter-out --%,$(firstword -$(MAKEFLAGS)))))
QUIET := 1>&2
endif

.PHONY: help
help:
	@echo 'make run        fetch, build and boot base and series; show the direct map healed'
	@echo 'make test       everything that is tested; the last line counts'
	@echo 'make baseline   the selftests on the unpatched base, where they must fail'
	@echo 'make matrix     the selftests on each machine of ci/shapes.list (SHAPES=…, JOBS=2)'
	@echo 'make debug      the selftests on a kernel with KASAN, lockdep, … (PROGRAMS=…)'
	@echo 'make faults     break the series on purpose: each time a test must notice'
	@echo 'make each-patch compilers, sparse and warnings after every patch (FULL=1: boots too)'
	@echo 'make regress    the kernel'"'"'s own selftests, base against series'
	@echo 'make stress     stress-ng and more on the debug kernel (MINUTES=10)'
	@echo 'make bases      the series on other kernels; make host: on another Debian (SUITE=)'
	@echo 'make test-all   test, debug, matrix, faults, each-patch, regress, stress, bases, host'
	@echo 'make one TEST=… one selftest alone (KERNEL=base on the base)'
	@echo 'make shell      a shell in a guest (KERNEL=base: of the base)'
	@echo 'make image      build and print the path of the kernel image (KERNEL=base)'
	@echo 'make mbox       write the mailbox and print its path'
	@echo 'make tree       the series as a git tree to edit, in build/edit'
	@echo 'make patches    write that tree back to patches/ and series'
	@echo 'make tlb        TLB misses of the direct map, modelled: fresh, fragmented, restored'
	@echo 'make evidence   bench, scale, tlb, dmap, check-docs, check-results'
	@echo 'make dmap       pictures of the direct map before, during, after; base and series'
	@echo 'make bench-metal  TLB misses on this machine, booted into the series or a base'
	@echo 'make check-docs the documentation that the series adds builds without a warning'
	@echo 'make check-results  tables of README and the cover letter are those of ci/results/'
	@echo 'make bench      what it costs: base, series and inline restore (TWICE=1)'
	@echo 'make scale      how the work grows with memory and CPUs, and what follows'
	@echo 'make objdiff    the page allocator with the option off: the same instructions'
	@echo 'make doctor     look at the machine, install what is missing'
	@echo 'make clean      remove what was built; make distclean: downloads too'
	@echo
	@echo 'LINUX=/path [REV=rev]  a git tree of your own as the base'
	@echo 'ACCEL=kvm|tcg  MIRROR=url  TARBALL=file  BUILD=dir  DOWNLOADS=dir'

.PHONY: doctor source base-tree series-tree
doctor:
	@$(T)/doctor $(QUIET)

source: doctor
	@$(if $(LINUX),,. $(T)/lib.sh; stage source $(T)/fetch-source $(QUIET))

base-tree: source
	@. $(T)/lib.sh; stage base-tree $(T)/base-tree $(QUIET)

series-tree: base-tree
	@. $(T)/lib.sh; stage apply $(T)/apply-series $(QUIET)

# Kernels of the series with a fragment of their own in kernel-config/.
VARIANTS := debug xen-pv preempt-lazy preempt-rt no-restore no-pte-mapped no-exclusive all-off

.PHONY: kernel-base kernel-series guest-base guest-series image
.PHONY: $(VARIANTS:%=kernel-%) $(VARIANTS:%=guest-%)
kernel-base: base-tree
	@. $(T)/lib.sh; stage build-base $(T)/build-kernel base $(QUIET)

kernel-series: series-tree
	@. $(T)/lib.sh; stage build-series $(T)/build-kernel series $(QUIET)

guest-base: kernel-base series-tree
	@. $(T)/lib.sh; stage guest-base $(T)/build-guest base $(QUIET)

guest-series: kernel-series
	@. $(T)/lib.sh; stage guest-series $(T)/build-guest series $(QUIET)

$(VARIANTS:%=kernel-%): kernel-%: series-tree
	@. $(T)/lib.sh; stage build-$* $(T)/build-kernel $* $(QUIET)

$(VARIANTS:%=guest-%): guest-%: kernel-%
	@. $(T)/lib.sh; stage guest-$* $(T)/build-guest $* $(QUIET)

image: kernel-$(KERNEL)
	@. $(T)/lib.sh; echo "$$(kernel_out $(KERNEL))/arch/x86/boot/bzImage"

.PHONY: run
run: begin guest-base guest-series
	@. $(T)/lib.sh; stage demo-base $(T)/guest-job base $(BUILD)/run/demo-base 'demo /bin/demo'
	@. $(T)/lib.sh; stage demo-series $(T)/guest-job series $(BUILD)/run/demo-series 'demo /bin/demo'
	@$(T)/demo-table $(BUILD)/run/demo-base $(BUILD)/run/demo-series
	@$(T)/scan-console $(BUILD)/run/demo-base $(BUILD)/run/demo-series

# Stages of a test run go on after a failure; verdict says what they came to.
.PHONY: begin test baseline
.PHONY: check-series check-harness check-baseline
begin:
	@mkdir -p $(BUILD); rm -f $(BUILD)/tally $(BUILD)/stages $(BUILD)/status $(BUILD)/junit-*.xml

# What is built first has a line of its own: with -n too make runs a line that calls
# make. It leaves a file if all was built.
define build_first
	@rm -f $(BUILD)/built; [ -s $(BUILD)/stages ] && grep -q ' 3$$' $(BUILD)/stages || \
		{ $(MAKE) -k $(1) && touch $(BUILD)/built; } || true
endef
built := [ ! -f $(BUILD)/built ] ||
# Before that, since it takes long: what can be known to be wrong of the arguments.
define check_first
	@set -f; CHECK_ONLY=1 $(2) $(3) || echo "$(1) 0 $$?" >> $(BUILD)/stages
endef

test: begin
	@$(MAKE) -k check-harness check-series || true
	@rm -f $(BUILD)/built; $(MAKE) -k guest-series guest-base && touch $(BUILD)/built || true
	@$(built) $(T)/test-guests $(TEST_SHAPES) || true
	@$(T)/verdict check-harness check-series selftests baseline $(TEST_SHAPES:%=shape-%)

check-harness: doctor
	@. $(T)/lib.sh; stage check-harness $(TOP)ci/tests/run

check-series: series-tree
	@. $(T)/lib.sh; stage check-series $(T)/check-series

check-baseline: guest-base
	@. $(T)/lib.sh; stage baseline $(T)/selftests base

# Machines that differ in what can be restored at all.
TEST_SHAPES := debug_pagealloc phenom nogbpages

# SHAPES=… for some of them: their rows become new in what is kept. The debug
# kernel has a run of its own. JOBS= of them at once.
ALL_SHAPES := $(filter-out debug,$(shell sed -n 's/^\([a-z][^ ]*\) .*/\1/p' $(TOP)ci/shapes.list))
SHAPES ?= $(ALL_SHAPES)
.PHONY: matrix
matrix: begin
	$(call check_first,matrix,$(T)/matrix,$(SHAPES))
	$(call build_first,series-tree)
	@$(built) $(T)/matrix $(SHAPES) || true
	@$(T)/tally-table $(if $(filter-out $(SHAPES),$(ALL_SHAPES)),,--whole) matrix 1 $(SHAPES:%=shape-%) || true
	@$(T)/verdict $(SHAPES:%=shape-%)

baseline: begin
	@$(MAKE) -k check-baseline || true
	@$(T)/verdict baseline

.PHONY: one has-test
has-test:
	@test -n "$(TEST)" || { echo 'say TEST=…, a name from ci/selftests.list' >&2; exit 3; }

one: begin has-test
	$(call check_first,selftest,$(T)/selftests,$(KERNEL) $(TEST))
	$(call build_first,guest-$(KERNEL))
	@$(built) { . $(T)/lib.sh; stage selftest $(T)/selftests $(KERNEL) $(TEST); } || true
	@$(T)/verdict selftest

# What needs no guest of its own stands in one stage: the name, what is built
# first, the tool, and how much of a test's name makes a row of its table.
define long_run
	$(call check_first,$(1),$(firstword $(3)),$(wordlist 2,999,$(3)))
	$(call build_first,$(2))
	@set -f; $(built) { . $(T)/lib.sh; stage $(1) $(3); } || true
	@$(if $(4),$(T)/tally-table $(if $(5),,--whole) $(1) $(4) $(1) || true)
	@$(T)/verdict $(1)
endef

.PHONY: debug faults each-patch regress stress bases host test-all
# PROGRAMS=… for some of them, as SUITE:PROGRAM.
debug: begin
	$(call long_run,debug,guest-debug,$(T)/selftests debug $(PROGRAMS),program,$(PROGRAMS))

faults: begin
	$(call long_run,faults,guest-series guest-debug,$(T)/faults $(FAULT),2,$(FAULT))

each-patch: begin
	$(call long_run,each-patch,$(if $(FULL),guest-series,series-tree),$(T)/each-patch $(if $(FULL),--boot),2,$(if $(FULL),$(COMPILERS),some))

regress: begin
	$(call long_run,regress,guest-base guest-series,$(T)/regress $(PROGRAMS),2,$(PROGRAMS))

MINUTES ?= 10
stress: begin
	$(call long_run,stress,guest-debug,$(T)/stress $(MINUTES),2)

bases: begin
	$(call long_run,bases,doctor,$(T)/bases $(BASES))

# Another release of Debian as the host, SUITE=.
SUITE ?= trixie
host: begin
	$(call long_run,host,doctor,$(T)/other-host $(SUITE) $(GOALS),3)

# All of it: a day on 2 cores, and half of one more for a boot after each patch.
# Each leaves its table in ci/results/.
test-all:
	@bad=; for goal in test debug matrix faults "each-patch FULL=1" regress stress bases host; do \
		$(MAKE) $$goal || bad="$$bad $$goal"; \
	done; [ -z "$$bad" ] || { echo "failed:$$bad"; exit 1; }

# What the cover letter says in figures, all of it.
EVIDENCE := bench scale tlb dmap check-docs check-results
.PHONY: evidence
evidence:
	@bad=; for goal in $(EVIDENCE); do \
		$(MAKE) $$goal || bad="$$bad $$goal"; \
	done; [ -z "$$bad" ] || { echo "failed:$$bad"; exit 1; }

# Misses of a modelled TLB, pictures of the direct map, and what its pages cost on
# a real machine.
.PHONY: tlb dmap bench-metal check-docs check-results
tlb: begin guest-base guest-series
	@. $(T)/lib.sh; stage tlb $(T)/tlb-table $(if $(TWICE),--twice)

dmap: begin guest-base guest-series
	@. $(T)/lib.sh; stage dmap $(T)/dmap-demo

bench-metal:
	@$(T)/bench-metal $(METAL)

check-docs: series-tree
	@PACKAGES="python3-sphinx python3-yaml" $(T)/doctor
	@. $(T)/lib.sh; stage check-docs $(T)/check-docs

check-results:
	@$(T)/check-results

.PHONY: shell bench scale objdiff
shell: guest-$(KERNEL)
	@$(T)/guest-job $(KERNEL) $(BUILD)/run/shell shell --interactive

# TWICE=1 measures everything two times, and insists that it agrees.
bench: begin
	$(call build_first,guest-base guest-series)
	@$(built) { . $(T)/lib.sh; stage bench $(T)/bench $(if $(TWICE),--twice); } || true
	@$(T)/verdict bench

scale: guest-series
	@$(T)/scale-table

objdiff: kernel-base kernel-series
	@$(T)/objdiff

.PHONY: mbox tree patches
mbox: base-tree
	@$(T)/make-mbox $(BUILD)/base $(BUILD)/series.mbox
	@echo $(abspath $(BUILD)/series.mbox)

tree: base-tree
	@$(T)/edit-tree

patches: base-tree
	@$(T)/export-patches $(BUILD)/edit

.PHONY: clean distclean
clean:
	@$(T)/clean

distclean:
	@$(T)/clean --all
