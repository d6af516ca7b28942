# SPDX-License-Identifier: GPL-2.0-only
# L2 misses of tlb.csv by workload and state: csv and svg are set by tools/tlb-table.
state(name) = sprintf("< awk -F, '$2 == \"%s\" { print $1, $8 }' '%s'", name, csv)
set terminal svg size 760, 400 font "sans,11" background "white"
set output svg
set title "Misses of the modelled L2 TLB, accesses of the kernel to its direct map"
set style data histogram
set style histogram clustered gap 1
set style fill solid
set boxwidth 0.9
set logscale y
set yrange [0.5:*]
set format y "%.0f"
set grid y lt 1 lc "#dddddd"
set key outside bottom horizontal
plot state("fresh") using 2:xtic(1) title "base, fresh boot" lc "#2255aa", \
     state("control") using 2 title "base, control: nothing split" lc "#88aacc", \
     state("fragmented") using 2 title "base, fragmented" lc "#cc4444", \
     state("restored") using 2 title "series, fragmented, restored" lc "#44aa66"
