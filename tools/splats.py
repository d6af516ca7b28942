# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel's console says when something is wrong."""
import re

PANIC = re.compile(r"Kernel panic - not syncing|end Kernel panic")

SPLAT = re.compile("|".join((
    r"WARNING: CPU|WARNING: (.* )?at \S+:\d+|WARNING: possible|WARNING: suspicious|WARNING: Kernel stack"
    r"|WARNING: inconsistent|WARNING: bad unlock|WARNING: \S+:\d+ at ",
    # What else lockdep says.
    r"WARNING: \S+-(un)?safe -> \S+-(un)?safe|WARNING: (held lock|lock held|[Nn]ested lock|bad contention|chain_key)"
    r"|still has locks held|trying to register non-static key|\*\*\* DEADLOCK \*\*\*|lockdep is turned off",
    # All that a log may have which ends there.
    r"-+\[ cut here \]-+",
    r"\bBUG: |kernel BUG at|BUG kmalloc|BUG \S+ \(",
    r"\bOops\b|general protection fault|Unable to handle kernel|PANIC: "
    r"|(divide error|invalid opcode|stack segment|segment not present|alignment check|int3|bounds): [0-9a-f]{4}\b",
    r"KASAN: |KCSAN: |UBSAN: ",
    r"scheduling while atomic|sleeping function called from invalid context",
    r"blocked for more than \d+ seconds|soft lockup|hard LOCKUP|rcu: INFO:"
    r"|rcu_(sched|preempt) (self-)?detected stall|kthread starved for|ODEBUG: ",
    r"Out of memory: Killed process|usercopy: Kernel memory (exposure|overwrite)",
    r"Bad page state|Bad page map|Bad rss-counter|non-zero pgtables_bytes",
    r"page_table_check|CPA .*(protect|conflict).*PFN",
    r"list_(add|del) corruption|refcount_t: |Found insecure W\+X",
    r"double free|unreferenced object|new suspected memory leaks|CPA detected W\^X|NOT PASSED\. Please report",
    r"pagealloc: (memory corruption|single bit error|corrupted page)|unchecked MSR access",
)))

# What matches and is not a splat.
HARMLESS = re.compile("|".join((
    r"debug: unmapping init|page_table_check: (enabled|disabled)",
    r"x86/mm: Checked W\+X mappings: passed",
    # What CONFIG_CPA_DEBUG asks for at boot, and must not get.
    r"CPA +protect +Rodata RO: ",
)))


def find_panic(line):
    return PANIC.search(line)


def find_splats(lines):
    """Numbers of the lines that a maintainer would not accept."""
    return [number for number, line in enumerate(lines)
            if (SPLAT.search(line) or PANIC.search(line))
            and not HARMLESS.search(line)]
