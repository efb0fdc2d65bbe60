/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_IMAGE_BYTES_H
#define XENMSG_TESTS_IMAGE_BYTES_H

/* What a daemon hands over, as bytes that a test can cut and change. */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/image.h"

/* For unit tests and fuzzers alike. */
static inline void image_must(bool is_so)
{
	if (!is_so)
		abort();
}

/* Ends an image that was written, and returns its bytes, which the caller frees. */
static inline uint8_t *image_to_bytes(struct image *image, size_t *size)
{
	int fd = image_seal(image);
	struct stat status;
	uint8_t *bytes;

	image_must(fd >= 0);
	image_free(image);
	image_must(fstat(fd, &status) == 0);
	*size = (size_t)status.st_size;
	bytes = malloc(*size);
	image_must(pread(fd, bytes, *size, 0) == (ssize_t)*size);
	close(fd);
	return bytes;
}

/* Reads bytes as an image. Descriptors count as what they were. In place of each that is another one here, or
 * none, stands one of the image's own: whatever has such a number here isn't the image's to close. */
static inline int image_open_bytes(struct image *image, const void *bytes, size_t size)
{
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	image_must(fd >= 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size);
	image_must(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
	if (image_open(image, fd) == -EBADF) {
		image->error = 0;
		for (uint32_t i = 0; i < image->fd_count; i++) {
			if (image->fds[i].is_taken)
				image->fds[i].fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
			image->fds[i].is_taken = false;
		}
	}
	close(fd);
	return image->error;
}

/* Writes a seed for fuzz_image into the folder `image` of XENMSG_SEEDS, if it is wanted. */
static inline void image_write_seed(const char *name, const uint8_t *bytes, size_t size)
{
	const char *folder = getenv("XENMSG_SEEDS");
	char path[256];
	FILE *file;

	if (!folder)
		return;
	snprintf(path, sizeof(path), "%s/image/%s", folder, name);
	file = fopen(path, "wb");
	image_must(file != NULL);
	image_must(fwrite(bytes, 1, size, file) == size);
	image_must(fclose(file) == 0);
}

/* Cuts bytes that can be read at each length up to `all`, and behind it some, and changes bits of each byte
 * likewise: one in `each` of them. What is cut is refused, what is changed is refused or harmless. They are a
 * seed of this name, too. */
static inline void image_spoil(const char *name, uint8_t *bytes, size_t size, size_t all, unsigned each,
			       int (*read_bytes)(const uint8_t *bytes, size_t size))
{
	image_write_seed(name, bytes, size);
	for (size_t at = 0; at < size; at += at < all ? 1 : 997)
		image_must(read_bytes(bytes, at) < 0);
	for (size_t i = 0; i < size; i += i < all ? 1 : 1009)
		for (unsigned bit = 0; bit < 8; bit += each) {
			bytes[i] ^= (uint8_t)(1u << bit);
			read_bytes(bytes, size);
			bytes[i] ^= (uint8_t)(1u << bit);
		}
	image_must(read_bytes(bytes, size) == 0);
}

#endif
