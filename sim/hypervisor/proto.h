/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The protocol between a process inside a simulated domain (through libxensim) and the hypervisor process:
 * one request, one reply, each one packet of a SOCK_SEQPACKET Unix socket. The socket that a process
 * connected to says which domain it belongs to, so no request names its own domain. Descriptors travel as
 * SCM_RIGHTS of the reply.
 *
 * Both ends are built together and live on one machine, so the structures travel as they are; the hypervisor
 * still checks every length and number, since a request is untrusted.
 */
#ifndef XENMSG_SIM_PROTO_H
#define XENMSG_SIM_PROTO_H

#include <signal.h>
#include <stdint.h>

#define SIM_PAGE_SIZE 4096u

/* Pages in one share or one map request; a larger mapping takes several requests. */
#define SIM_MAX_SHARE 4096u
#define SIM_MAX_MAP   128u

/* Xen's first 8 references belong to the toolstack (console, XenStore). */
#define SIM_FIRST_REF 9u

#define SIM_NO_NOTIFY UINT32_MAX
#define SIM_NO_FRAME  UINT32_MAX

/* A domain's frames, of which a program may map some: those of its kernel's two rings, as its home in
 * XenStore names them, and the page that a reference grants, so far behind the first one. */
#define SIM_STORE_FRAME	  1u
#define SIM_CONSOLE_FRAME 2u
#define SIM_FIRST_FRAME	  0x1000u

/* The page that a domain's processes read, in the file "signs" beside its root. */
struct sim_signs {
	uint32_t pauses;       /* how often it went on after a pause */
	uint32_t store_stalls; /* whether XenStore answers its kernel nothing */
};

/* What the environment of a process in a domain says. */
#define SIM_ENV_CONTROL "XENSIM_CONTROL" /* this protocol's socket */
#define SIM_ENV_ROOT	"XENSIM_ROOT"	 /* stands for /sys/hypervisor, /dev/xen and the like */
#define SIM_ENV_DOMID	"XENSIM_DOMID"	 /* the domid at the time of exec; a restore changes the real one */
/* Of libxensim-trace: its file, and the time of CLOCK_MONOTONIC when that began. */
#define SIM_ENV_TRACE	    "XENSIM_TRACE"
#define SIM_ENV_TRACE_START "XENSIM_TRACE_START"
#define SIM_ENV_UUID	    "XENSIM_UUID" /* by which the hypervisor finds the processes of a domain */

/* Sent to the threads of a restored domain before they go on: what they map of others is gone, and what
 * they granted are copies (preload/gnt.c), unless the domain goes on where it was stopped. Its value has the
 * number of the restore, 1 to 3 in turn, by which each is carried out once, and by how many milliseconds
 * clocks have moved (preload/clock.c). */
#define SIM_SIGNAL_RESTORED (SIGRTMIN + 13)
#define SIM_RESTORE(number, in_place, clock)                                                                 \
	((uint32_t)(number) << 30 | (in_place ? 1u << 29 : 0) | (uint32_t)(clock))
#define SIM_RESTORE_NUMBER(value)   ((uint32_t)(value) >> 30)
#define SIM_RESTORE_IN_PLACE(value) (((uint32_t)(value) >> 29 & 1) != 0)
#define SIM_RESTORE_CLOCK(value)    ((int)((uint32_t)(value)&SIM_RESTORE_CLOCK_MAX))
#define SIM_RESTORE_CLOCK_MAX	    0x1fffffffu

enum sim_op {
	SIM_OP_SHARE = 1,	 /* grant count fresh pages */
	SIM_OP_UNSHARE,		 /* the owner's mapping of a share is gone */
	SIM_OP_MAP,		 /* map count pages of others */
	SIM_OP_UNMAP,		 /* the mapping is gone */
	SIM_OP_UNMAP_PAGES,	 /* its pages are gone, and it isn't: gntdev still has it */
	SIM_OP_NOTIFY,		 /* gives a share or a mapping an unmap notification, or another */
	SIM_OP_COPY,		 /* -> the page of a reference, to be copied from or to */
	SIM_OP_EVTCHN_OPEN,	 /* new handle: eventfd and page in the reply */
	SIM_OP_EVTCHN_CLOSE,	 /* closes a handle and all its ports */
	SIM_OP_BIND_UNBOUND,	 /* -> port */
	SIM_OP_BIND_INTERDOMAIN, /* -> port */
	SIM_OP_BIND_VIRQ,	 /* -> port; of the interrupt `port` */
	SIM_OP_UNBIND,
	SIM_OP_RESTRICT,     /* a handle to one other domain */
	SIM_OP_EVTCHN_ADOPT, /* the handle that has this eventfd (port), which came over exec */
	/* A process about to fork: this new connection is the child's, and has all that these ids name, too;
	 * and then the child, of its number (id). */
	SIM_OP_INHERIT,
	SIM_OP_BE,
	/* where notifications of a port go now; count 1: ENOTCONN if the handle hasn't that port */
	SIM_OP_PEER,
	/* What Xen tells the toolstack. */
	SIM_OP_DOMAIN,	    /* the first domain whose number is domid or above: a struct sim_domain */
	SIM_OP_PORT_STATUS, /* of the port of domid: a struct sim_port */
	/* And what it does to a domain. */
	SIM_OP_PAUSE,	/* once more */
	SIM_OP_UNPAUSE, /* once less */
	SIM_OP_DESTROY,
	SIM_OP_SHUT_DOWN, /* at once, for the reason `count` */
	/* A paused guest without a home, which libxl looks after: of number domid, or of the next one if that
	 * is 0; its UUID as four words in refs. -> domid in id */
	SIM_OP_CREATE,
	SIM_OP_KERNELS_PORT, /* -> the next port that a toolstack makes for the kernel of domid */
	SIM_OP_SAVE,	/* count 0: it is about to tell domid to suspend; 1: the image has been written */
	SIM_OP_RESUME,	/* it goes on after all */
	SIM_OP_RESTORE, /* who was saved with this UUID (four words in refs) goes on as domid */
	/* Memory of another domain by its frames, which may be there in part. */
	SIM_OP_MAP_FRAMES,
};

/* Both are answers in the values of a reply. */
struct sim_domain {
	uint32_t domid;
	uint32_t pvh; /* else it is a PV guest, or domain 0 */
	uint32_t paused;
	uint32_t dead;	   /* a zombie */
	uint32_t shutdown; /* 0: it isn't; else one more than the reason */
	uint8_t uuid[16];
};

struct sim_port {
	uint32_t state; /* enum sim_port_state */
	uint32_t domid; /* the other end */
	uint32_t port;	/* there, of a port that is connected; the number of a virtual interrupt */
};

enum sim_port_state { SIM_PORT_CLOSED, SIM_PORT_UNBOUND, SIM_PORT_CONNECTED, SIM_PORT_VIRQ };

/* One structure for all requests keeps the checks in one place. */
struct sim_request {
	uint32_t op;
	uint32_t id;	   /* share, mapping or event channel handle */
	uint32_t domid;	   /* the other domain */
	uint32_t port;	   /* local port; for BIND_INTERDOMAIN the remote one, for BIND_VIRQ the interrupt */
	uint32_t count;	   /* pages; of CREATE the words of the UUID */
	uint32_t writable; /* of CREATE: it is PVH */
	uint32_t notify_offset; /* byte to clear at the end of a mapping, SIM_NO_NOTIFY for none */
	uint32_t notify_port;	/* port to notify then, SIM_NO_NOTIFY for none */
	uint32_t refs
		[]; /* MAP: 2 * count numbers, domid and reference; INHERIT: count ids; MAP_FRAMES: frames */
};

/* error: 0 or a negative errno. Fields that an operation doesn't use are 0. */
struct sim_reply {
	int32_t error;
	uint32_t id;
	uint32_t port;	   /* of BIND_*; of PEER the remote port */
	uint32_t sequence; /* PEER: the port's sequence number that this answer belongs to */
	uint32_t count;
	/* SHARE: count references. MAP, MAP_FRAMES: count pairs of (index of the descriptor, page offset in
	 * it), or of SIM_NO_FRAME and an errno. DOMAIN, PORT_STATUS: a structure, of count words. */
	uint32_t values[];
};

#endif
