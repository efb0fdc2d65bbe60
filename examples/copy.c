/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Copies a file of any size from domain to domain over a byte stream, and shows its progress.
 *
 *   copy --receive ENDPOINT FILE      in domain 5, say: copy --receive files picture.jpg
 *   copy FILE ADDRESS                 in domain 3:      copy picture.jpg 5:files
 *
 * In the shell: `xenmsg listen files >picture.jpg` and `xenmsg connect 5:files <picture.jpg` (with `pv`
 * before it for the progress). The size goes before the bytes, so that the receiver knows whether it has got
 * them all. It confirms that at the end, which tells the sender that the file has been written.
 *
 *   cc copy.c $(pkg-config --cflags --libs xenmsg) -o copy
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for -std=c11 */
#endif

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xenmsg.h>

static int write_all(int fd, const void *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, (const char *)data + done, size - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

/* Reads `size` bytes. Returns 0, -ECONNABORTED if the other end stopped before, or another negative errno. */
static int read_all(int fd, void *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = read(fd, (char *)data + done, size - done);

		if (n == 0)
			return -ECONNABORTED;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

/* Says what is wrong with which file, address or endpoint. Returns the error. */
static int fail(const char *what, int error)
{
	fprintf(stderr, "copy: %s: %s\n", what,
		error == -ECONNABORTED ? "it ended too early" : strerror(-error));
	return error;
}

static void show_progress(uint64_t done, uint64_t total, int *percent)
{
	int now = total ? (int)(done * 100 / total) : 100;

	if (now == *percent)
		return;
	*percent = now;
	fprintf(stderr, isatty(STDERR_FILENO) ? "\r%3d %%  %llu of %llu bytes" : "%d %% %llu of %llu bytes\n",
		now, (unsigned long long)done, (unsigned long long)total);
}

/* A file or a stream, and what it is called. */
struct end {
	int fd;
	const char *name;
};

static int copy_bytes(struct end from, struct end to, uint64_t total)
{
	static char data[65536];
	int percent = -1, r = 0, w = 0;

	for (uint64_t done = 0; r == 0 && w == 0 && done < total;) {
		size_t size = total - done < sizeof(data) ? (size_t)(total - done) : sizeof(data);

		r = read_all(from.fd, data, size);
		if (r == 0)
			w = write_all(to.fd, data, size);
		if (r == 0 && w == 0)
			show_progress(done += size, total, &percent);
	}
	if (isatty(STDERR_FILENO))
		fputc('\n', stderr);
	return r < 0 ? fail(from.name, r) : w < 0 ? fail(to.name, w) : 0;
}

static int send_open_file(struct xenmsg *conn, struct end file, const char *address)
{
	struct end stream = {.name = address};
	uint64_t size;
	struct stat info;
	char taken;
	int r;

	if (fstat(file.fd, &info) < 0 || !S_ISREG(info.st_mode))
		return fail(file.name, -EINVAL);
	stream.fd = xenmsg_connect(conn, address, XENMSG_WITHIN(10000));
	if (stream.fd < 0)
		return fail(address, stream.fd);
	size = htole64((uint64_t)info.st_size);
	r = write_all(stream.fd, &size, sizeof(size));
	if (r < 0)
		fail(address, r);
	else
		r = copy_bytes(file, stream, (uint64_t)info.st_size);
	if (r == 0) {
		r = read_all(stream.fd, &taken, 1);
		if (r < 0)
			fail(address, r);
	}
	close(stream.fd);
	return r;
}

static int send_file(struct xenmsg *conn, const char *path, const char *address)
{
	struct end file = {open(path, O_RDONLY | O_CLOEXEC), path};
	int r;

	if (file.fd < 0)
		return fail(path, -errno);
	r = send_open_file(conn, file, address);
	close(file.fd);
	return r;
}

/* Takes the size and the bytes into a file beside the one that is wanted, which is there only when it is
 * whole. */
static int receive_bytes(struct end stream, const char *path)
{
	char part[PATH_MAX];
	struct end file = {.name = part};
	uint64_t size;
	int r = read_all(stream.fd, &size, sizeof(size));

	if (r < 0)
		return fail(stream.name, r);
	if (snprintf(part, sizeof(part), "%s.part", path) >= (int)sizeof(part))
		return fail(path, -ENAMETOOLONG);
	file.fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (file.fd < 0)
		return fail(part, -errno);
	r = copy_bytes(stream, file, le64toh(size));
	if (close(file.fd) < 0 && r == 0)
		r = fail(part, -errno);
	if (r == 0 && rename(part, path) < 0)
		r = fail(path, -errno);
	if (r < 0)
		unlink(part);
	return r;
}

static int receive_file(struct xenmsg *conn, const char *endpoint, const char *path)
{
	struct end stream = {.name = endpoint};
	int r = xenmsg_listen(conn, endpoint, NULL);

	if (r < 0)
		return fail(endpoint, r);
	stream.fd = xenmsg_accept(conn, NULL, NULL);
	if (stream.fd < 0)
		return fail(endpoint, stream.fd);
	r = receive_bytes(stream, path);
	if (r == 0) {
		r = write_all(stream.fd, "", 1);
		if (r < 0)
			fail(endpoint, r);
	}
	close(stream.fd);
	return r;
}

int main(int argc, char **argv)
{
	int receive = argc == 4 && !strcmp(argv[1], "--receive");
	struct xenmsg *conn;
	int r;

	if (argc != 3 && !receive) {
		fprintf(stderr, "usage: copy FILE ADDRESS | copy --receive ENDPOINT FILE\n");
		return 2;
	}
	signal(SIGPIPE,
	       /* streams are sockets: writing to one whose other end has gone is an error, no death */
	       SIG_IGN);
	r = xenmsg_open(&conn, NULL, NULL);
	if (r < 0)
		return fail("xenmsgd", r) < 0;
	r = receive ? receive_file(conn, argv[2], argv[3]) : send_file(conn, argv[1], argv[2]);
	xenmsg_close(conn);
	return r < 0;
}
