/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_IMAGE_BYTES_H
#define XENMSG_TESTS_IMAGE_BYTES_H

/* What a daemon hands over, as bytes that a test can cut and change. */

#include "tests/unit/unit.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/image.h"

/* Ends an image that was written, and returns its bytes, which the caller frees. */
static inline uint8_t *image_to_bytes(struct image *image, size_t *size)
{
	int fd = image_seal(image);
	struct stat status;
	uint8_t *bytes;

	assert_true(fd >= 0);
	image_free(image);
	assert_int_equal(fstat(fd, &status), 0);
	*size = (size_t)status.st_size;
	bytes = malloc(*size);
	assert_int_equal(pread(fd, bytes, *size, 0), *size);
	close(fd);
	return bytes;
}

/* Writes a seed for fuzz_image into the folder XENMSG_SEEDS, if it is wanted. */
static inline void image_write_seed(const char *name, const uint8_t *bytes, size_t size)
{
	const char *folder = getenv("XENMSG_SEEDS");
	char path[256];
	FILE *file;

	if (!folder)
		return;
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	assert_int_equal(fclose(file), 0);
}

#endif
