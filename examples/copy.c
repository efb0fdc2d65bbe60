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

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
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

static void show_progress(uint64_t done, uint64_t total, int *percent)
{
	int now = total ? (int)(done * 100 / total) : 100;

	if (now == *percent)
		return;
	*percent = now;
	fprintf(stderr, isatty(STDERR_FILENO) ? "\r%3d %%  %llu of %llu bytes" : "%d %% %llu of %llu bytes\n",
		now, (unsigned long long)done, (unsigned long long)total);
}

static int copy_bytes(int from, int to, uint64_t total)
{
	static char data[65536];
	int percent = -1, r = 0;

	for (uint64_t done = 0; r == 0 && done < total;) {
		size_t size = total - done < sizeof(data) ? (size_t)(total - done) : sizeof(data);

		r = read_all(from, data, size);
		if (r == 0)
			r = write_all(to, data, size);
		if (r == 0)
			show_progress(done += size, total, &percent);
	}
	if (isatty(STDERR_FILENO))
		fputc('\n', stderr);
	return r;
}

static int send_file(struct xenmsg *conn, const char *path, const char *address)
{
	int file = open(path, O_RDONLY | O_CLOEXEC), stream, r = -errno;
	uint64_t size;
	struct stat info;
	char taken;

	if (file < 0)
		return r;
	if (fstat(file, &info) < 0)
		r = -errno;
	else
		r = S_ISREG(info.st_mode) ? 0 : -EINVAL;
	stream = r == 0 ? xenmsg_connect(conn, address, XENMSG_WITHIN(10000)) : r;
	if (stream < 0) {
		close(file);
		return stream;
	}
	size = htole64((uint64_t)info.st_size);
	r = write_all(stream, &size, sizeof(size));
	if (r == 0)
		r = copy_bytes(file, stream, (uint64_t)info.st_size);
	if (r == 0)
		r = read_all(stream, &taken, 1);
	close(stream);
	close(file);
	return r;
}

static int receive_file(struct xenmsg *conn, const char *endpoint, const char *path)
{
	int stream, file, r = xenmsg_listen(conn, endpoint, NULL);
	uint64_t size;

	if (r < 0)
		return r;
	stream = xenmsg_accept(conn, NULL, NULL);
	if (stream < 0)
		return stream;
	file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	r = file < 0 ? -errno : read_all(stream, &size, sizeof(size));
	if (r == 0)
		r = copy_bytes(stream, file, le64toh(size));
	if (file >= 0 && close(file) < 0 && r == 0)
		r = -errno;
	if (r == 0)
		r = write_all(stream, "", 1);
	close(stream);
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
	r = xenmsg_open(&conn, NULL, NULL);
	if (r == 0) {
		r = receive ? receive_file(conn, argv[2], argv[3]) : send_file(conn, argv[1], argv[2]);
		xenmsg_close(conn);
	}
	if (r < 0)
		fprintf(stderr, "copy: %s: %s\n", argv[2], strerror(-r));
	return r < 0;
}
