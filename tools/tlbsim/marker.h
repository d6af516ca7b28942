/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Instructions that do nothing and that no compiler makes: "nopl" with a
 * displacement that says start or stop to the plugin.
 */
#ifndef MARKER_H
#define MARKER_H

#define MARKER_START	0x746c6201
#define MARKER_STOP	0x746c6200
#define MARKER_SIZE	7

#define MARKER(disp) \
	asm volatile(".byte 0x0f, 0x1f, 0x80\n\t.long %c0" : : "i" (disp) : "memory")

#endif
