#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The public headers compile by themselves, as C11 and as C++ from 2011 on, and their macros are used, without a warning; the
# examples do as C11, too, those of which the headers are there. Each
# function has a comment, which says what it returns.
set -eu
top=${srcdir:-.}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/use.h" <<'END'
static int use(struct xenmsg *conn)
{
	struct xenmsg_message *message;
	int r = xenmsg_send(conn, "5:inbox", "x", 1, XENMSG_WITHIN(1000), NOTHING);

	r |= xenmsg_bind(conn, "inbox", XENMSG_FLAGS(XENMSG_ONLY_CALLS | XENMSG_LEND), NOTHING, NOTHING);
	r |= xenmsg_call(conn, "5:inbox", "x", 1, XENMSG_WITH(-1, 0), NOTHING);
	r |= xenmsg_call(conn, "5:inbox", "x", 1, XENMSG_TRACED(-1, 0, "00-ab"), NOTHING);
	r |= xenmsg_send(conn, "self:news", "x", 1, XENMSG_KEY("a key"), NOTHING);
	r |= xenmsg_bind(conn, "news", XENMSG_KEYS(16), NOTHING, NOTHING);
	r |= xenmsg_subscribe(conn, "5:news", XENMSG_QUEUE(1), NOTHING, NOTHING);
	r |= xenmsg_stream_listen(conn, "streams", XENMSG_FLAGS(XENMSG_FROM_HOSTS), NOTHING, NOTHING);
	r |= xenmsg_recv(conn, &message, 0);
	return r | (xenmsg_version() == XENMSG_VERSION);
}

int main()
{
	return use(NOTHING);
}
END
sed 's/NOTHING/NULL/g; s/main()/main(void)/' "$work/use.h" >"$work/use"
for header in xenmsg.h xenmsg-stream.h; do
	printf '#include <%s>\n' "$header" >"$work/alone.c"
	cp "$work/alone.c" "$work/alone.cc"
	${CC:-cc} -std=c11 -pedantic-errors -Wall -Wextra -Werror -I"$top/include" -c "$work/alone.c" -o "$work/alone.o"
done
printf '#include <xenmsg-stream.h>\n' >"$work/c.c"
cat "$work/use" >>"$work/c.c"
strict="-pedantic-errors -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wcast-qual -Werror"
for standard in c11 c17 gnu2x; do
	${CC:-cc} -std=$standard $strict -Wstrict-prototypes -Wmissing-field-initializers -I"$top/include" -c "$work/c.c" -o "$work/c.o"
done
for example in "$top"/examples/*.c; do
	more=$(pkg-config --cflags glib-2.0 2>/dev/null) || more=
	# shellcheck disable=SC2086  # several words
	more="$more -I$top/sim/commands"
	if ${CC:-cc} $more -I"$top/include" -E "$example" -o "$work/example" 2>/dev/null; then
		${CC:-cc} $more -std=c11 -Wall -Werror -I"$top/include" -fsyntax-only "$example"
	fi
done
sed 's/NOTHING/nullptr/g' "$work/use.h" >"$work/use"
printf '#include <xenmsg-stream.h>\n' >"$work/cc.cc"
cat "$work/use" >>"$work/cc.cc"
for compiler in ${CXX:-c++} clang++; do
	command -v "$compiler" >/dev/null || continue
	more="-Wold-style-cast -Wzero-as-null-pointer-constant -Wextra-semi -Wnon-virtual-dtor"
	case $compiler in
	*clang*) ;;
	*) more="$more -Wuseless-cast -Weffc++" ;;
	esac
	for standard in c++11 c++17 c++20; do
		$compiler -std=$standard $strict $more -I"$top/include" -c "$work/cc.cc" -o "$work/cc.o"
	done
done
python3 - "$top/include/xenmsg.h" "$top/include/xenmsg-stream.h" <<'END'
import re
import sys

FUNCTION = re.compile(r"^XENMSG_API (?:XENMSG_CHECK )?([^;(]*?)\b(xenmsg_\w+)\([^;]*;\n?", re.M)
wrong, functions = [], 0
for path in sys.argv[1:]:
    text, end, comment = open(path, encoding="utf-8").read(), None, ""
    for found in FUNCTION.finditer(text):
        before = text[:found.start()].rstrip()
        functions += 1
        if before.endswith("*/"):
            comment = before[before.rindex("/*"):]
        elif found.start() != end or not comment.startswith("/* Each "):  # the next of a group
            comment = ""
        end = found.end()
        if not comment:
            wrong.append(f"{found[2]} has no comment")
        elif found[1].strip() != "void" and not re.search("return", comment, re.I):
            wrong.append(f"{found[2]} doesn't say what it returns")
assert functions > 60, functions
sys.exit("\n".join(wrong) or 0)
END
