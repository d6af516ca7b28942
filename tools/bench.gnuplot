# SPDX-License-Identifier: GPL-2.0-only
# Ratios of bench.csv, a line each: csv, svg and inline are set by tools/bench.
rows = int(system(sprintf("wc -l < '%s'", csv))) - 1
set terminal svg size 760, 110 + 18 * rows font "sans,11" background "white"
set output svg
set datafile separator comma
set datafile missing ""
set title "Instructions, series and inline restore against the base (1 = the same)"
set logscale x 2
set xtics (0.25, 0.5, 0.8, "" 0.9, 1, "" 1.1, 1.25, 2, 4, 8)
set grid x y lt 1 lc "#dddddd"
set yrange [rows - 0.5:-0.5]
set arrow from 1, graph 0 to 1, graph 1 nohead lc "#888888"
set key outside bottom horizontal
if (inline) {
	plot csv skip 1 using 6:0:ytic(1) with points pt 4 lc "#cc4444" title "inline restore", \
	     csv skip 1 using 4:0:ytic(1) with points pt 7 ps 0.7 lc "#2255aa" title "series"
} else {
	plot csv skip 1 using 4:0:ytic(1) with points pt 7 ps 0.7 lc "#2255aa" title "series"
}
