/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/descriptors.h"
#include "base/fd_parcel.h"
#include "wire/bytes.h"

/* The frame: magic, format, number of descriptors, bytes of all, where the shelf ends; the shelf; the
 * descriptors; then sections, each with type and length. */
#define HEAD_SIZE	32u
#define FD_SIZE		20u
#define SECTION_SIZE	12u
#define APART_MIN	1024u /* bytes: fewer are copied sooner than written by themselves */
#define WRITTEN_AT_ONCE 256
#define SEALS		(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
static const uint8_t magic[8] = {'x', 'e', 'n', 'm', 's', 'g', 'd', '\n'};

void image_fail(struct image *image, int error)
{
	if (!image->error && image->on_error)
		image->on_error(image->userdata, error);
	if (!image->error)
		image->error = error;
}

void image_expect(struct image *image, bool is_possible)
{
	if (image->is_read && !is_possible)
		image_fail(image, -EINVAL);
}

/* --- made ------------------------------------------------------------------------------------- */

void image_begin(struct image *image)
{
	*image = (struct image){0};
}

/* Returns where the next `size` bytes go; NULL: nowhere. */
static uint8_t *image_grow(struct image *image, size_t size)
{
	size_t capacity = image->capacity ? image->capacity : 4096;
	uint8_t *grown;

	if (image->error)
		return NULL;
	if (size > IMAGE_MAX - image->size - image->elsewhere) {
		image_fail(image, -EFBIG);
		return NULL;
	}
	while (capacity < image->size + size)
		capacity *= 2;
	if (capacity != image->capacity) {
		grown = realloc(image->data, capacity);
		if (!grown) {
			image_fail(image, -ENOMEM);
			return NULL;
		}
		image->data = grown;
		image->capacity = capacity;
	}
	image->size += size;
	return image->data + image->size - size;
}

/* Writes the length of the section that was begun last. */
static void image_end_section(struct image *image)
{
	if (image->at && !image->error)
		put_u64(image->data + image->at - 8,
			image->size - image->at + image->elsewhere - image->from);
}

void image_section(struct image *image, uint32_t type)
{
	uint8_t *head;

	image_end_section(image);
	head = image_grow(image, SECTION_SIZE);
	if (!head)
		return;
	put_u32(head, type);
	put_u64(head + 4, 0);
	image->at = image->size;
	image->from = image->elsewhere;
}

/* Makes room for one more behind `count` items of this size. Returns where they are now, or NULL: out of
 * memory. */
static void *room_for_one(void *items, size_t size, uint32_t count, uint32_t *capacity)
{
	uint32_t more = *capacity ? 2 * *capacity : 64;
	void *grown;

	if (count < *capacity)
		return items;
	grown = realloc(items, more * size);
	if (grown)
		*capacity = more;
	return grown;
}

static struct image_piece *new_piece(struct image *image)
{
	struct image_piece *grown =
		room_for_one(image->pieces, sizeof(*grown), image->piece_count, &image->piece_capacity);

	if (!grown)
		return NULL;
	image->pieces = grown;
	return &image->pieces[image->piece_count++];
}

/* Queued data may be most of an image: it is copied once, into the memfd. */
void image_write(struct image *image, const void *bytes, size_t size)
{
	struct image_piece *piece;
	uint8_t *to;

	if (size < APART_MIN) {
		to = image_grow(image, size);
		if (to && size)
			memcpy(to, bytes, size);
		return;
	}
	if (!image_grow(image, 0))
		return;
	if (size > IMAGE_MAX - image->size - image->elsewhere) {
		image_fail(image, -EFBIG);
		return;
	}
	piece = new_piece(image);
	if (!piece) {
		image_fail(image, -ENOMEM);
		return;
	}
	*piece = (struct image_piece){.before = image->size, .bytes = bytes, .size = size};
	image->elsewhere += size;
}

static void encode_head(const struct image *image, uint8_t *head, uint8_t *fds)
{
	uint64_t all =
		image->shelf.end + (uint64_t)image->fd_count * FD_SIZE + image->size + image->elsewhere;

	memcpy(head, magic, sizeof(magic));
	put_u32(head + 8, image_format);
	put_u32(head + 12, image->fd_count);
	put_u64(head + 16, all);
	put_u64(head + 24, image->shelf.end);
	for (uint32_t i = 0; i < image->fd_count; i++, fds += FD_SIZE) {
		put_u32(fds, image->fds[i].number);
		put_u64(fds + 4, image->fds[i].device);
		put_u64(fds + 12, image->fds[i].inode);
	}
}

/* Pieces on their way into the memfd, by writev(2), since what is mapped can't be sealed, and a page that is
 * written whole isn't cleared first. */
struct writing {
	int fd, error;
	struct iovec pieces[WRITTEN_AT_ONCE];
	int count;
};

static void image_flush(struct writing *writing)
{
	struct iovec *at = writing->pieces, *end = at + writing->count;

	while (at < end && !writing->error) {
		ssize_t n = writev(writing->fd, at, (int)(end - at));

		if (n < 0 && errno != EINTR)
			writing->error = -errno;
		while (n > 0) {
			size_t here = (size_t)n < at->iov_len ? (size_t)n : at->iov_len;

			at->iov_base = (uint8_t *)at->iov_base + here;
			at->iov_len -= here;
			n -= (ssize_t)here;
			at += at->iov_len == 0;
		}
	}
	writing->count = 0;
}

static void write_piece(struct writing *writing, const void *bytes, size_t size)
{
	if (!size)
		return;
	if (writing->count == WRITTEN_AT_ONCE)
		image_flush(writing);
	writing->pieces[writing->count++] = (struct iovec){(void *)(uintptr_t)bytes, size};
}

static int image_write_image(const struct image *image, const uint8_t *head, const uint8_t *fds)
{
	struct writing writing = {.fd = image->shelf.fd};
	size_t at = 0;

	if (pwrite(writing.fd, head, HEAD_SIZE, 0) != HEAD_SIZE ||
	    lseek(writing.fd, (off_t)image->shelf.end, SEEK_SET) < 0)
		return errno ? -errno : -EIO;
	write_piece(&writing, fds, (size_t)image->fd_count * FD_SIZE);
	for (size_t i = 0; i < image->piece_count; i++) {
		const struct image_piece *piece = &image->pieces[i];

		write_piece(&writing, image->data + at, piece->before - at);
		write_piece(&writing, piece->bytes, piece->size);
		at = piece->before;
	}
	write_piece(&writing, image->data + at, image->size - at);
	image_flush(&writing);
	return writing.error;
}

int image_shelf_begin(struct image_shelf *shelf, uint32_t number)
{
	int fd = memfd_create("xenmsg-handover", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	*shelf = (struct image_shelf){.fd = fd, .number = number, .end = HEAD_SIZE};
	return 0;
}

int image_shelve(struct image_shelf *shelf, const void *bytes, size_t size, struct image_place *place)
{
	if (size > IMAGE_MAX - shelf->end)
		return -EFBIG;
	for (size_t at = 0; at < size;) {
		ssize_t n =
			pwrite(shelf->fd, (const uint8_t *)bytes + at, size - at, (off_t)(shelf->end + at));

		if (n <= 0 && errno != EINTR)
			return n < 0 ? -errno : -EIO;
		at += n > 0 ? (size_t)n : 0;
	}
	*place = (struct image_place){.shelf = shelf->number, .at = shelf->end};
	shelf->end += size;
	return 0;
}

static int by_number(const void *left, const void *right)
{
	uint32_t a = ((const struct image_fd *)left)->number, b = ((const struct image_fd *)right)->number;

	return a < b ? -1 : a > b;
}

/* Puts the descriptors in order. One that has two owners would be closed twice. */
static int sort_fds(struct image *image)
{
	if (image->fd_count)
		qsort(image->fds, image->fd_count, sizeof(*image->fds), by_number);
	for (uint32_t i = 1; i < image->fd_count; i++)
		if (image->fds[i].number == image->fds[i - 1].number)
			return -EBADF;
	return 0;
}

int image_seal(struct image *image)
{
	uint8_t head[HEAD_SIZE], *fds = malloc((size_t)image->fd_count * FD_SIZE + 1);
	int r = image->error, fd;

	if (r == 0)
		r = sort_fds(image);
	if (!image->shelf.fd && r == 0)
		r = image_shelf_begin(&image->shelf, 0);
	image_end_section(image);
	if (r == 0 && !fds)
		r = -ENOMEM;
	if (r == 0) {
		encode_head(image, head, fds);
		r = image_write_image(image, head, fds);
	}
	free(fds);
	fd = image->shelf.fd ? image->shelf.fd : -1;
	image->shelf.fd = 0;
	if (r == 0 && ftruncate(fd, lseek(fd, 0, SEEK_CUR)) < 0)
		r = -errno;
	if (r == 0 && fcntl(fd, F_ADD_SEALS, SEALS) < 0)
		r = -errno;
	if (r == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return r;
}

/* --- opened ----------------------------------------------------------------------------------- */

/* Takes the frame and the list of descriptors, without looking at these. */
static int read_frame(struct image *image)
{
	const uint8_t *at = image->data;

	if (image->size < HEAD_SIZE || memcmp(at, magic, sizeof(magic)) != 0)
		return -EINVAL;
	if (get_u32(at + 8) != image_format)
		return -EPROTONOSUPPORT;
	image->fd_count = get_u32(at + 12);
	image->shelf_end = get_u64(at + 24);
	if (get_u64(at + 16) != image->size || image->fd_count > IMAGE_FDS_MAX ||
	    image->shelf_end < HEAD_SIZE || image->shelf_end > image->size ||
	    (image->size - image->shelf_end) / FD_SIZE < image->fd_count) {
		image->fd_count = 0;
		return -EINVAL;
	}
	image->fds = calloc(image->fd_count + 1, sizeof(*image->fds));
	if (!image->fds) {
		image->fd_count = 0;
		return -ENOMEM;
	}
	at += image->shelf_end;
	for (uint32_t i = 0; i < image->fd_count; i++, at += FD_SIZE) {
		image->fds[i] = (struct image_fd){.number = get_u32(at),
						  .fd = (int)get_u32(at),
						  .device = get_u64(at + 4),
						  .inode = get_u64(at + 12)};
		/* Those of the standard streams are no program's, and one that was named twice would be
		 * closed twice. */
		if (image->fds[i].number <= STDERR_FILENO || image->fds[i].number > INT32_MAX ||
		    (i && image->fds[i].number <= image->fds[i - 1].number)) {
			image->fd_count = 0;
			return -EINVAL;
		}
	}
	image->end = (size_t)(at - image->data);
	image->at = image->end;
	return 0;
}

/* Checks that each descriptor is of the file that was meant, and lets no program that is started have it. */
static int check_fds(struct image *image)
{
	int r = 0;

	for (uint32_t i = 0; i < image->fd_count; i++) {
		struct image_fd *entry = &image->fds[i];
		struct stat status;

		if (fstat(entry->fd, &status) < 0 || status.st_dev != entry->device ||
		    status.st_ino != entry->inode || fcntl(entry->fd, F_SETFD, FD_CLOEXEC) < 0) {
			entry->is_taken = true; /* it isn't ours to close */
			r = -EBADF;
		}
	}
	return r;
}

void image_release(struct image_pages *pages)
{
	if (!pages || --pages->holders)
		return;
	munmap(pages->data, pages->size);
	free(pages);
}

struct image_pages *image_hold(struct image *image)
{
	image->pages->holders++;
	return image->pages;
}

/* Reads all of the memfd, without looking at the descriptors. The pages that stay (image_hold()) may be
 * written to, which the memfd doesn't see. */
static int open_memfd(struct image *image, int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct image_pages *pages;
	struct stat status;

	*image = (struct image){.is_read = true};
	if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &status) < 0 || status.st_size <= 0 ||
	    (uint64_t)status.st_size > IMAGE_MAX + (uint64_t)IMAGE_FDS_MAX * FD_SIZE)
		return image->error = -EINVAL;
	pages = calloc(1, sizeof(*pages));
	if (!pages)
		return image->error = -ENOMEM;
	*pages = (struct image_pages){.holders = 1, .size = (size_t)status.st_size};
	pages->data = mmap(NULL, pages->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (pages->data == MAP_FAILED) {
		image->error = -errno;
		free(pages);
		return image->error;
	}
	image->pages = pages;
	image->data = pages->data;
	image->size = pages->size;
	return image->error = read_frame(image);
}

int image_open(struct image *image, int fd)
{
	int r = open_memfd(image, fd);

	return r < 0 ? r : (image->error = check_fds(image));
}

int image_open_carried(struct image *image, int fd, const int *fds, uint32_t count)
{
	int r = open_memfd(image, fd);

	if (r == 0 && count == image->fd_count) {
		for (uint32_t i = 0; i < count; i++)
			image->fds[i].fd = fds[i];
		return image->error = check_fds(image);
	}
	image->fd_count = 0;
	if (r == -ENOMEM)
		return r;
	descriptors_close(fds, count);
	return image->error = r < 0 ? r : -EBADF;
}

int image_carry(const struct image *image)
{
	int *fds = calloc(image->fd_count + 1, sizeof(*fds)), r;

	if (!fds)
		return -ENOMEM;
	for (uint32_t i = 0; i < image->fd_count; i++)
		fds[i] = image->is_read ? image->fds[i].fd : (int)image->fds[i].number;
	r = fd_parcel_fill(fds, image->fd_count);
	free(fds);
	return r;
}

int image_add_rest(struct image *image, int fd)
{
	struct image_fd *fds = realloc(image->fds, (image->fd_count + 1) * sizeof(*fds));

	if (!fds)
		return -ENOMEM;
	image->fds = fds;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fds[image->fd_count++] = (struct image_fd){.fd = fd};
	return 0;
}

int image_take_rest(struct image *image)
{
	while (image->is_read && image->fd_count > 0) {
		const struct image_fd *last = &image->fds[--image->fd_count];

		if (!last->is_taken)
			return last->fd;
	}
	return -1;
}

void image_free(struct image *image)
{
	for (uint32_t i = 0; image->is_read && i < image->fd_count; i++)
		if (!image->fds[i].is_taken)
			close(image->fds[i].fd);
	free(image->fds);
	free(image->pieces);
	if (image->is_read)
		image_release(image->pages);
	else
		free(image->data);
	*image = (struct image){.error = -EINVAL};
}

uint32_t image_next(struct image *image)
{
	uint64_t length;
	uint32_t type;

	image_expect(image, image->at == image->end);
	if (image->error || image->at == image->size)
		return 0;
	if (image->size - image->at < SECTION_SIZE) {
		image_fail(image, -EINVAL);
		return 0;
	}
	image->owners[0] = image->owners[1] = IMAGE_NOBODY;
	type = get_u32(image->data + image->at);
	length = get_u64(image->data + image->at + 4);
	image->at += SECTION_SIZE;
	if (!type || length > image->size - image->at) {
		image_fail(image, -EINVAL);
		return 0;
	}
	image->end = image->at + (size_t)length;
	return type;
}

int image_leave_section(struct image *image)
{
	int error;

	image_expect(image, image->at == image->end);
	error = image->error;
	image->at = image->end;
	image->error = 0;
	return error;
}

/* --- fields ----------------------------------------------------------------------------------- */

/* Returns where the next `size` bytes of the section lie; NULL: they don't. */
static const uint8_t *image_take(struct image *image, size_t size)
{
	image_expect(image, size <= image->end - image->at);
	if (image->error)
		return NULL;
	image->at += size;
	return image->data + image->at - size;
}

void image_raw(struct image *image, void *data, uint32_t size)
{
	const uint8_t *from;
	uint8_t *to;

	if (!image->is_read) {
		to = image_grow(image, size);
		if (to && size)
			memcpy(to, data, size);
		return;
	}
	from = image_take(image, size);
	if (!from)
		memset(data, 0, size);
	else if (size)
		memcpy(data, from, size);
}

void image_u8(struct image *image, uint8_t *value)
{
	image_raw(image, value, 1);
}

void image_u32(struct image *image, uint32_t *value)
{
	uint8_t bytes[4];

	put_u32(bytes, *value);
	image_raw(image, bytes, sizeof(bytes));
	*value = get_u32(bytes);
}

void image_u64(struct image *image, uint64_t *value)
{
	uint8_t bytes[8];

	put_u64(bytes, *value);
	image_raw(image, bytes, sizeof(bytes));
	*value = get_u64(bytes);
}

void image_bool(struct image *image, bool *value)
{
	uint8_t byte = image->is_read ? 0 : *value; /* what is read into may be no bool yet */

	image_u8(image, &byte);
	image_expect(image, byte <= 1);
	*value = byte == 1;
}

void image_u8_upto(struct image *image, uint8_t *value, uint8_t most)
{
	image_u8(image, value);
	image_expect(image, *value <= most);
}

void image_upto(struct image *image, uint32_t *value, uint32_t most)
{
	image_u32(image, value);
	image_expect(image, *value <= most);
	if (image->error && image->is_read)
		*value = 0;
}

void image_bytes(struct image *image, struct image_bytes *bytes, uint32_t most)
{
	image_upto(image, &bytes->size, most);
	if (image->is_read)
		bytes->data = image_take(image, bytes->size);
	else
		image_write(image, bytes->data, bytes->size);
	if (!bytes->data)
		bytes->size = 0;
}

void image_bytes_at(struct image *image, struct image_bytes *bytes, uint32_t most,
		    const struct image_place *place)
{
	uint64_t at = !image->is_read && place->shelf && place->shelf == image->shelf.number ? place->at : 0;

	image_u64(image, &at);
	if (!at) {
		image_bytes(image, bytes, most);
		return;
	}
	image_upto(image, &bytes->size, most);
	image_expect(image,
		     at >= HEAD_SIZE && at <= image->shelf_end && bytes->size <= image->shelf_end - at);
	if (image->is_read)
		bytes->data = image->error ? NULL : image->data + at;
	if (!bytes->data)
		bytes->size = 0;
}

/* Whether there is no zero in it. */
static bool image_is_text(const struct image_bytes *bytes)
{
	return !bytes->size || !memchr(bytes->data, 0, bytes->size);
}

void image_text(struct image *image, char *text, uint32_t room)
{
	struct image_bytes bytes = {.data = (const uint8_t *)text};

	if (!image->is_read)
		bytes.size = (uint32_t)strnlen(text, room - 1);
	image_bytes(image, &bytes, room - 1);
	image_expect(image, image_is_text(&bytes));
	if (!image->is_read)
		return;
	memset(text, 0, room);
	if (!image->error && bytes.size)
		memcpy(text, bytes.data, bytes.size);
}

void image_string(struct image *image, char **text, uint32_t most)
{
	struct image_bytes bytes = {.data = (const uint8_t *)*text};
	bool is_there = *text != NULL;

	if (!image->is_read && is_there)
		bytes.size = (uint32_t)strlen(*text);
	image_bool(image, &is_there);
	if (is_there)
		image_bytes(image, &bytes, most);
	if (!image->is_read)
		return;
	image_expect(image, image_is_text(&bytes));
	*text = NULL;
	if (!is_there || image->error)
		return;
	*text = calloc(bytes.size + 1u, 1);
	if (!*text)
		image_fail(image, -ENOMEM);
	else if (bytes.size)
		memcpy(*text, bytes.data, bytes.size);
}

/* --- descriptors ------------------------------------------------------------------------------ */

/* Returns where the descriptor stands in the list, which is in the order of their numbers, or would stand. */
static uint32_t find_fd(const struct image *image, uint32_t number)
{
	uint32_t low = 0, high = image->fd_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (image->fds[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Lists a descriptor of an image that is being made; sort_fds() puts them in order. */
static void list_fd(struct image *image, int fd)
{
	struct image_fd *grown;
	struct stat status;

	if (fd <= STDERR_FILENO || fstat(fd, &status) < 0 || image->fd_count == IMAGE_FDS_MAX) {
		image_fail(image, -EBADF);
		return;
	}
	grown = room_for_one(image->fds, sizeof(*grown), image->fd_count, &image->fd_capacity);
	if (!grown) {
		image_fail(image, -ENOMEM);
		return;
	}
	image->fds = grown;
	image->fds[image->fd_count++] =
		(struct image_fd){.number = (uint32_t)fd, .device = status.st_dev, .inode = status.st_ino};
}

void image_fd(struct image *image, int *fd)
{
	uint32_t number = (uint32_t)*fd, place;

	if (!image->is_read && *fd >= 0 && !image->error)
		list_fd(image, *fd);
	image_u32(image, &number);
	if (!image->is_read)
		return;
	*fd = -1;
	if (image->error || number == UINT32_MAX)
		return;
	place = find_fd(image, number);
	if (place == image->fd_count || image->fds[place].number != number || image->fds[place].is_taken) {
		image_fail(image, -EINVAL);
		return;
	}
	image->fds[place].is_taken = true;
	*fd = image->fds[place].fd;
}
