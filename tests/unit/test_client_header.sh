#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The public header compiles by itself, as C11 and as C++17, without a warning.
set -eu
top=${srcdir:-.}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#include <xenmsg.h>\nint main(void) { return 0; }\n' >"$work/c.c"
printf '#include <xenmsg.h>\nint main() { return xenmsg_fd(nullptr) != 0; }\n' >"$work/cc.cc"
${CC:-cc} -std=c11 -pedantic-errors -Wall -Wextra -Werror -I"$top/include" -c "$work/c.c" -o "$work/c.o"
if command -v "${CXX:-c++}" >/dev/null; then
	${CXX:-c++} -std=c++17 -pedantic-errors -Wall -Wextra -Werror -I"$top/include" -c "$work/cc.cc" -o "$work/cc.o"
fi
