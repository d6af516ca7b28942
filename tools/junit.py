# SPDX-License-Identifier: GPL-2.0-only
"""Verdicts as a JUnit file.

usage: junit.py TALLY FILE	(of what tools/verdict counts)
"""
import re
import sys
import xml.etree.ElementTree as ET

UNPRINTABLE = re.compile(r"[^\t\n\x20-\x7e]")


def write(path, title, rows):
    """rows: (class, name, pass | fail | skip, detail)."""
    suite = ET.Element("testsuite", name=title, tests=str(len(rows)))
    for group, name, verdict, detail in rows:
        case = ET.SubElement(suite, "testcase", classname=UNPRINTABLE.sub("?", group),
                             name=UNPRINTABLE.sub("?", name))
        clean = UNPRINTABLE.sub("?", detail)
        if verdict == "fail":
            ET.SubElement(case, "failure", message=clean.split("\n")[0]).text = clean
        elif verdict == "skip":
            ET.SubElement(case, "skipped", message=clean)
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def of_tally(path):
    with open(path, encoding="utf-8", errors="replace") as tally:
        for line in tally:
            verdict, name, detail = (line.rstrip("\n").split("\t", 2) + ["", ""])[:3]
            yield name.partition(": ")[0], name, verdict, detail


if __name__ == "__main__":
    write(sys.argv[2], "all that was counted", list(of_tally(sys.argv[1])))
