# SPDX-License-Identifier: GPL-2.0-only
# What the tools share: where things are, how they speak, how they fail.
#
# Exit status of every tool: 0 good, 1 a test failed, 2 a guest crashed or
# hung, 3 the set-up is wrong and the message says what to do.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOOLS=$TOP/tools
PATCHES=$TOP/patches
DOWNLOADS=$(realpath -m "${DOWNLOADS:-$TOP/downloads}")
BUILD=$(realpath -m "${BUILD:-$TOP/build}")

# BASE_PIN names another base, see tools/bases.
# shellcheck source=tools/base.pin
. "${BASE_PIN:-$TOOLS/base.pin}"

die() {
	echo "${0##*/}: $*" >&2
	exit 3
}

# A command that fails where nothing is said about it is the set-up's fault.
unexpected() {	# line
	echo "${0##*/}: line $1 failed: is the disk full (df -h $BUILD)?" >&2
	exit 3
}

say() {
	echo "== $*"
}

# Run a stage, say how long it took and keep that for the report.
stage() {
	local name=$1 start=$SECONDS status=0
	shift
	"$@" || status=$?
	local took=$((SECONDS - start))
	say "$name: ${took} s"
	mkdir -p "$BUILD"
	echo "$name $took $status" >> "$BUILD/stages"
	return $status
}

# A user's git configuration must not change the bytes of a patch, and git
# must not refuse a tree because another user owns it.
series_git() {
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 git \
		-c core.abbrev=12 -c diff.algorithm=myers -c diff.renames=true \
		-c core.autocrlf=false -c core.hooksPath=/dev/null \
		-c am.threeWay=false -c diff.noprefix=false -c diff.mnemonicPrefix=false \
		-c commit.gpgSign=false -c gc.auto=0 -c safe.directory='*' \
		-c user.name="direct map series" -c user.email=series@localhost \
		-c advice.detachedHead=false "$@"
}

# With CHECK_ONLY=1 a tool looks at its arguments, and ends where it would begin.
end_of_check() {
	[ -z "${CHECK_ONLY:-}" ] || exit 0
}

# In gigabytes.
memory_available() {
	awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo
}

need_space() {	# directory, gigabytes, for what
	local free
	mkdir -p "$1"
	free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1048576) }')
	[ "$free" -ge "$2" ] ||
		die "$3 needs $2 GB in $1, $free GB are free: make room, or set BUILD= and DOWNLOADS= to another disk"
}

# Entries of the file "series": one a line, comments and blanks skipped.
series_entries() {
	sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$TOP/series"
}

hash_of() {	# a hash over the contents of files
	cat "$@" | sha256sum | cut -d' ' -f1
}

# What is tested: the patches, in their order, and the tests.
series_id() {
	(cd "$TOP" && hash_of series patches/*.patch $(find selftests -type f -name '*.[ch]' | LC_ALL=C sort)) | cut -c1-8
}

# Run one check, a command or a function, keep its verdict in the tally and
# show what it said if it failed.
run_check() {	# name, command
	local name=$1 output status=0
	shift
	mkdir -p "$BUILD"
	output=$("$@" 2>&1) || status=$?
	if [ $status = 0 ]; then
		echo "ok $name"
		printf 'pass\t%s\t\n' "$name" >> "$BUILD/tally"
		return 0
	fi
	echo "not ok $name"
	sed 's/^/    /' <<< "$output"
	printf 'fail\t%s\t\n' "$name" >> "$BUILD/tally"
	return $status
}

# A kernel that is the base with ci/experiments/NAME.patch, see build-experiment.
is_experiment() {	# kernel
	[ -f "$TOP/ci/experiments/$1.patch" ]
}

# Where a kernel's source is, and where it is built: inside the source, so that
# all paths of the build are relative to it and the compiler cache serves a
# clone at any other place. "each" has the first patches of the series only; an
# experiment has a tree of its own; other names are the series with
# kernel-config/NAME.config on top.
kernel_tree() {	# base|series|each|EXPERIMENT|NAME
	if [ "$1" = base ] || [ "$1" = each ] || is_experiment "$1"; then
		echo "$BUILD/$1"
	else
		echo "$BUILD/series"
	fi
}

kernel_out() {	# base|series|each|EXPERIMENT|NAME
	if [ "$1" = series ] || [ "$(kernel_tree "$1")" != "$BUILD/series" ]; then
		echo "$(kernel_tree "$1")/.build"
	else
		echo "$BUILD/series/.build-$1"
	fi
}

# Of lines CONFIG_SYMBOL=VALUE the last word for each symbol.
last_words() {
	grep '^CONFIG_' |
		awk -F= '{ last[$1] = $0 } END { for (symbol in last) print last[symbol] }' | sort
}

# Which of such lines a configuration does not hold.
lost_symbols() {	# .config
	local line
	while read -r line; do
		case $line in
		*=n) ! grep -q "^${line%n}" "$1" || echo "$line" ;;
		*) grep -qxF "$line" "$1" || echo "$line" ;;
		esac
	done
}

# A machine of ci/shapes.list: 1 is its name, 2 the programs, 3 the options of
# run-guest, 4 the reasons. A "|" without blanks is a part of the reasons.
shape_column() {	# shape, number
	sed '/^#/d; s/\([^ ]\)|\([^ ]\)/\1\x01\2/g' "$TOP/ci/shapes.list" |
		awk -F ' *[|] *' -v name="$1" -v column="$2" '
			{ sub(/ *$/, "") } $1 == name { print $column }' | tr '\001' '|'
}

# The kernel it has: one of its own name, or that of the series.
shape_kernel() {	# shape
	if [ -f "$TOP/kernel-config/$1.config" ]; then echo "$1"; else echo series; fi
}

# Options of run-guest for the kernel that complains, as in ci/shapes.list: fewer
# page tables to walk, and no splits of CPA's own test.
DEBUG_GUEST="--append no5lvl --append cpa_test.interval=0"

# Options of QEMU that show a guest this machine's files, read-only, and with it
# what is to be /mnt; see guest/in-host.
host_files() {	# folder, if there is one
	echo "-fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap" \
		"-device virtio-9p-pci,fsdev=host,mount_tag=host"
	[ $# = 0 ] || echo "-fsdev local,id=extra,path=$1,security_model=none,readonly=on" \
		"-device virtio-9p-pci,fsdev=extra,mount_tag=extra"
}

# The mirror that this machine's own apt configuration names.
debian_mirror() {
	[ -z "${MIRROR:-}" ] || { echo "$MIRROR"; return; }
	apt-get indextargets --no-release-info --format '$(SITE)' 'Created-By: Packages' \
		2>/dev/null | grep '/debian/*$' | sort -u | head -n 1
}
