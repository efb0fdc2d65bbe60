/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_IMAGE_H
#define XENMSG_BASE_IMAGE_H

/*
 * Everything that a daemon hands over to its successor (doc/handover.md): sections of fields, in a sealed
 * memfd that never reaches a disk, and the descriptors that the successor inherits.
 *
 * One function of each part says which fields its section has. It writes them into an image that is being
 * made, and reads them from one that was opened, so that the two can't differ:
 *
 *     image_u32(image, &thing->size);     // writes it, or sets it
 *
 * The reader believes nothing: lengths have a bound, numbers a range, descriptors must be those that were
 * meant. The first error stays, and from then on nothing is written, and what is read is zero. An error
 * within a section may be left behind with that (image_leave_section()): it ends its owner.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Which format this program writes and reads. The build makes the number out of the layout (image-format): a
 * daemon that knows other fields has another one, and isn't read. */
extern const uint32_t image_format;

/* The types of sections. Each is read by the part that writes it; another type isn't read, nor is the image
 * with it. Where the fields of a section stay, but mean something else, it gets another name. */
enum image_section_type {
	IMAGE_HEAD = 1, /* daemon/main/handover.c: its maker, and the daemon's own descriptors */
	IMAGE_SESSION,	/* daemon/local/session_image.c: a program; they are numbered from 0 */
	/* daemon/link/link_image.c: the session with another domain; they are numbered behind the programs */
	IMAGE_LINK,
	/* daemon/topic/topic_image.c: its log, and what it keeps; they are numbered behind the links */
	IMAGE_TOPIC,
	IMAGE_CHANNEL,	 /* daemon/switch/channel_image.c: between two of them, or what is left of one */
	IMAGE_LEDGER,	 /* daemon/switch/hop_image.c: what lies in the rings of one */
	IMAGE_PARTY,	 /* daemon/topic/topic_image.c: a publisher or a subscriber of a topic */
	IMAGE_ENDPOINT,	 /* daemon/serve/router_image.c: what one has bound */
	IMAGE_STANDING,	 /* daemon/serve/questions.c: a question that stands */
	IMAGE_QUESTIONS, /* daemon/serve/questions.c: the hop at which questions to the daemon come */
	IMAGE_STREAM, /* daemon/local/streams_image.c: a byte stream; they are numbered behind the topics */
	/* daemon/activation/activation_image.c: an endpoint that is started on demand; they are numbered
	 * behind the streams */
	IMAGE_ROOM,
	IMAGE_COMMAND, /* the same: a command that was started, and is only to be reaped or stopped */
	IMAGE_CLOSING, /* daemon/switch/work_pool.c: a socket that is only to be closed */
	/* daemon/hosts/hosts_image.c: the other hosts, and the gateway's connection */
	IMAGE_HOSTS,
	IMAGE_COUNTERS, /* daemon/main/handover.c: what was done for whom until now; the last one */
	/* daemon/link/relay.c: what waits for a link; they are numbered behind the waiting rooms */
	IMAGE_WAITING,
	IMAGE_REGISTRY, /* daemon/registry/registry.c, daemon/link/link_registry.c: of other domains */
	IMAGE_POLICY,	/* daemon/policy/host_told.c: what domain 0 has told of the host's policy */
	IMAGE_MEMORY,	/* daemon/switch/memfd_lifetimes.c: memory that programs keep, and its payer */
	IMAGE_TYPES
};

/* Bytes: settings limit what there is, not the image. */
#define IMAGE_MAX     ((size_t)(sizeof(size_t) > 4 ? UINT64_C(1) << 46 : 1u << 30))
#define IMAGE_FDS_MAX 1048576u

/* Bytes whose number is only known when they are read; `data` is the image's own while one is read. */
struct image_bytes {
	const uint8_t *data;
	uint32_t size;
};

/* A descriptor, and which file it was of. */
struct image_fd {
	uint32_t number; /* in the daemon that has made the image */
	int fd;		 /* here */
	uint64_t device, inode;
	bool is_taken;
};

/* Where an image that is read lies. */
struct image_pages {
	unsigned holders;
	uint8_t *data;
	size_t size;
};

/* Bytes that an image which is being made has where they lie, behind so many that are its own. */
struct image_piece {
	size_t before;
	const void *bytes;
	size_t size;
};

/* A memfd for an image that is made later. Bytes that don't change until then are written there before, while
 * everybody is still served. */
struct image_shelf {
	int fd;		 /* 0: there is none */
	uint32_t number; /* of a daemon's shelves; not 0 */
	uint64_t end;	 /* of what was written */
};

/* Where bytes lie on a shelf; all zero: on none. */
struct image_place {
	uint32_t shelf;
	uint64_t at;
};

struct image {
	bool is_read;	/* else it is being made */
	bool is_stored; /* being made for another process, to which the service manager gives it */
	int error;	/* a negative errno; 0: all is well so far */
	/* Hears of an error of one that is read before anybody acts on it; NULL: nobody does. */
	void (*on_error)(void *userdata, int error);
	void *userdata;
	uint8_t *data;
	size_t size, capacity;
	struct image_piece *pieces;
	uint32_t piece_count, piece_capacity;
	size_t elsewhere;	   /* bytes in them */
	struct image_pages *pages; /* of one that is read; has the data */
	size_t at, end;		   /* where the present section continues, and ends */
	struct image_shelf shelf;  /* of one that is being made */
	size_t shelf_end;	   /* of one that is read: before this lies what was on the shelf */
	size_t from;		   /* of one that is being made: `elsewhere` when the section began */
	uint32_t owners[2];	   /* whose the present section is, where it says so (image_owner()) */
	struct image_fd *fds;
	uint32_t fd_count, fd_capacity;
};

/* Begins to make an image for a reader who knows all sections: `reads` may be set to less. */
void image_begin(struct image *image);
/* Makes a shelf, with this number: its holder can give it pages, too. 0 or a negative errno. */
int image_shelf_begin(struct image_shelf *shelf, uint32_t number);
/* Writes bytes there that stay as they are. Returns 0, or a negative errno: they aren't there. */
int image_shelve(struct image_shelf *shelf, const void *bytes, size_t size, struct image_place *place);
/* Puts what was made into a memfd, together with the descriptors. Returns it, close-on-exec, or a negative
 * errno, also of what was wrong before. */
int image_seal(struct image *image);
/* Reads an image whole from its memfd, and checks its frame and its descriptors. -EINVAL: it isn't one;
 * -EPROTONOSUPPORT: one of another format; -EBADF: a descriptor isn't what it was; -ENOMEM. */
int image_open(struct image *image, int fd);
/* As image_open(), of one whose descriptors have come as others: `fds`, `count` of them, in the order of its
 * list, which are the image's from now on, also after an error other than -ENOMEM. */
int image_open_carried(struct image *image, int fd, const int *fds, uint32_t count);
/* Returns a socket that carries all descriptors of the image (fd_parcel.h), close-on-exec, or a negative
 * errno. */
int image_carry(const struct image *image);
/* Returns a descriptor of one that was read that nobody has taken, and that is the caller's now; -1: there is
 * none. */
int image_take_rest(struct image *image);
/* Adds one to those, which isn't in its list. 0 or -ENOMEM. */
int image_add_rest(struct image *image, int fd);
/* Frees the image. Of one that was read the descriptors that nobody took are closed. */
void image_free(struct image *image);

/* Notes an error; only the first counts. */
void image_fail(struct image *image, int error);
/* Fails with -EINVAL unless what was read is possible. Of an image that is being made nothing is checked. */
void image_expect(struct image *image, bool is_possible);

/* Begins a section to be written, which the next one ends. */
void image_section(struct image *image, uint32_t type);
/* Returns the type of the next section to be read, 0 at the end or after an error. The one before must have
 * been read to its end. */
uint32_t image_next(struct image *image);

/* Ends the section that is read, wherever in it the reader is. Returns its error, -EINVAL if there is more in
 * it, or 0: the next one may be read then. An error of the frame stays. */
int image_leave_section(struct image *image);
#define IMAGE_NOBODY UINT32_MAX
/* Notes whose the section is, by a number in the image, as soon as that was read; `which` of two. */
static inline void image_owner(struct image *image, unsigned which, uint32_t number)
{
	image->owners[which] = number;
}

/* Lets bytes that were read stay where they are when the image is freed, until they are released. */
struct image_pages *image_hold(struct image *image);
void image_release(struct image_pages *pages);

/* Writes bytes that stay where they are, and as they are, until the image is sealed. */
void image_write(struct image *image, const void *bytes, size_t size);

void image_u8(struct image *image, uint8_t *value);
void image_u32(struct image *image, uint32_t *value);
void image_u64(struct image *image, uint64_t *value);
void image_bool(struct image *image, bool *value);
/* A number from 0 to `most`. */
void image_u8_upto(struct image *image, uint8_t *value, uint8_t most);
void image_upto(struct image *image, uint32_t *value, uint32_t most);
/* So many bytes as both know. */
void image_raw(struct image *image, void *data, uint32_t size);
/* At most `most` bytes; written, many stay where they are, as image_write() says. */
void image_bytes(struct image *image, struct image_bytes *bytes, uint32_t most);
/* The same for bytes that may lie on the shelf of this image already. */
void image_bytes_at(struct image *image, struct image_bytes *bytes, uint32_t most,
		    const struct image_place *place);
/* A text without zeros in an array of `room` bytes. */
void image_text(struct image *image, char *text, uint32_t room);
/* A text of at most `most` bytes, or NULL; read, it is the caller's. */
void image_string(struct image *image, char **text, uint32_t most);
/* A descriptor, or -1. It may be listed once; read, it is close-on-exec, and the caller's, under the number
 * that it has here. */
void image_fd(struct image *image, int *fd);

#endif
