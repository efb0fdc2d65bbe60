/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A session that outlives its vchans, as doc/protocol.md ("Resuming a session") has it: what is lost, twice or wrong if a
 * rule is left out. tests/model/run checks it, and that it finds the mistake when a rule is left out.
 *
 * Three ends: the granting guest, the mapping daemon (domain 0, or a guest that maps), and an image of the granting guest,
 * saved at any time and started at any later one, whatever the guest has done meanwhile. A restored end is the same process
 * with another memory: what its peer wrote there may be stale, what it wrote itself is right, and it goes on until it hears
 * of the restore.
 *
 * A message stands for any number of a session's bytes, and its number for their position. What it carries beside that is who
 * made it: the same position, sent once by the guest and once by its image, are two things.
 *
 * A vchan is a pair of channels. They hold no positions of their own: who reads believes that what comes next is what comes
 * next, as with a ring. Losses come at any time; each end notices them at any later time.
 *
 * What is left out: HELLO, its versions, and by what it names sessions: an attempt begins here where both ends have
 * named the session, and also for a stranger, who in truth doesn't come that far (but one that wins a guess of 64 bits);
 * a vchan that is left after HELLO, to have a larger one, is one that is lost. And credit and channels (the session
 * carries them), and the kinds of content. "Copy, look, commit" is one step here where the look is the last of them: what
 * was copied before a freeze was right.
 */

/*
 * How much of everything, and without which rule: a case of tests/model/run. Settings of one program, since compiling takes
 * longer than most searches. More of anything makes more states.
 */
c_decl {
	\#include <stdlib.h>
	static unsigned char setting(const char *name)
	{
		const char *value = getenv(name);
		return value ? (unsigned char)atoi(value) : 0;
	}
}
byte messages; /* in each direction */
byte losses, moves;
byte restores;	      /* of the guest, in its place */
byte mapper_restores; /* the mapping end is a guest, too */
byte images;	      /* 0 or 1 */
byte strangers;
byte overtakes; /* one claim is proven while another one is being resumed */
byte give_ups; /* resume-for is over */
byte saves;
byte deaths; /* of the guest that has an image */
byte starts; /* of the image */
byte without; /* the number of a rule, or 0 */

/* The rules. */
#define PROOF                    1
#define WAITING_FOR_RESUME       2
#define RAISING_AT_ONCE          3
#define EPOCHS                   4
#define CONFIRMING               5
#define SECOND_CHANCE            6
#define WAITING_FOR_CONFIRMATION 7
#define LATE_GOODBYE             8
#define POSITIONS                9
#define RESUMED_POSITION         10
#define LOOK_AT_INPUT            11
#define LOOK_AFTER_COPY          12
#define LOOK_AT_OUTPUT           13
#define LOOK_BEFORE_COMPLAINT    14
#define GIVING_UP_AT_SUSPEND     15
#define TAKING_OUT               16
#define PRIVATE_COPY             17
#define MOVE_FRAME               18
#define WAITING_FOR_MOVE         19
#define TELLING                  20
#define LOOKING_AT_MOVE          21

#define ROOM 2 /* messages in a ring */

/* ends */
#define GRANTER	 0
#define MAPPER	 1
#define IMAGE	 2
#define STRANGER 3

#define VCHANS 4
#define NONE   7

/* The states of a session (its first vchan is there already), and of an attempt to get another one. */
mtype = { ABSENT, UP, AWAY, ENDED };
mtype = { NOTHING, PROVING, RESUMING };
/* Frames. PING stands for the first frame of an epoch. */
mtype = { PROVE, RESUME, PING, DATA, OFFER, DECLINE, MOVE, GOODBYE };

#define content(who, position) ((who) * 8 + (position))
#define position_of(c)	       ((c) % 8)

/* --- a session, at each end: this is what an image holds --- */
mtype state[3] = ABSENT;
mtype attempt[3] = NOTHING;
byte current[3] = NONE; /* vchan that carries it */
byte other[3] = NONE;	/* vchan that it moves to */
bool said[3];		/* MOVE lies in `current`, or was read */
bool out_moved[3];	/* it was read: `other` is written to */
bool in_moved[3];	/* the peer's MOVE was read: `other` is read */
byte moved_at[3];	/* what had been put when MOVE was said, without WAITING_FOR_MOVE */
byte next[3] = NONE;	/* vchan of the attempt */
byte epoch[3];
byte confirmed[3];   /* the last epoch in which the peer was heard */
bool heard[3];	     /* ... and that is the present one */
byte peer_epoch[3];  /* what its RESUME said */
byte sent[3];	     /* positions given out: they are kept from `acked` on */
byte put[3];	     /* ... and written into the present ring */
byte acked[3];	     /* the peer has processed them: delivered, as far as this end knows */
byte received[3];    /* processed here */
byte made[12];	     /* [end * 4 + position]: who made what was sent */

/* --- a restore --- */
bool thawed[3];	   /* restored, and not aware of it */
bool blind[3];	   /* the clocks don't show it */
bool dirty[3];	   /* what the peer wrote is stale */
byte visible[3];   /* what the restored producer index claims */
bool dead[3];
bool saving;	   /* the toolstack has written control/shutdown, and the mapper has seen it */

/* --- vchans --- */
chan ring[8] = [8] of { mtype, byte, byte }; /* [vchan * 2 + writer]: 0 the far end, 1 the mapper */
bool used[VCHANS], lost[VCHANS], left[8];
byte far[VCHANS];      /* the other end than the mapper */
byte consumed[8];      /* [vchan * 2 + reader]: the consumer index, as a position */

/* --- what really happened --- */
byte taken[4];	       /* by the mapper's programs: content + 1 */
bool taken_by_guest[4];

bool gave_up, image_exists;

#define side(s)	     ((s) == MAPPER -> 1 : 0)
#define out(s, v)    ring[(v) * 2 + side(s)]
#define in(s, v)     ring[(v) * 2 + 1 - side(s)]
#define far_left(s, v) left[(v) * 2 + 1 - side(s)]

/* In the guest: a look at the clocks between copying and committing. */
#define shows_restore(s) (thawed[s] && !blind[s])
#define input_shows_restore(s) (shows_restore(s) && without != LOOK_AT_INPUT)
#define output_shows_restore(s) (shows_restore(s) && without != LOOK_AT_OUTPUT)

inline leave(s, v)
{
	if
	:: v != NONE && used[v] ->
		left[v * 2 + side(s)] = true;
		if
		:: far_left(s, v) ->
			do
			:: nempty(ring[v * 2]) -> ring[v * 2] ? _, _, _
			:: nempty(ring[v * 2 + 1]) -> ring[v * 2 + 1] ? _, _, _
			:: empty(ring[v * 2]) && empty(ring[v * 2 + 1]) -> break
			od;
			used[v] = false; lost[v] = false; far[v] = 0;
			left[v * 2] = false; left[v * 2 + 1] = false;
			consumed[v * 2] = 0; consumed[v * 2 + 1] = 0
		:: else
		fi
	:: else
	fi
}

inline free_vchan(at)
{
	at = 0;
	do
	:: at < VCHANS && used[at] -> at++
	:: else -> break
	od;
	assert(at < VCHANS)
}

inline leave_attempt(s)
{
	leave(s, next[s]);
	next[s] = NONE; attempt[s] = NOTHING; peer_epoch[s] = 0
}

inline forget_move(s)
{
	other[s] = NONE; said[s] = false; out_moved[s] = false; in_moved[s] = false; moved_at[s] = 0
}

/* The frames in the lost vchans aren't read any more: who sent them sends them again, from a copy of what lies in the one
 * that it writes to. */
inline go_away(s)
{
	if
	:: out_moved[s] && acked[s] < moved_at[s] -> acked[s] = moved_at[s]
	:: else
	fi;
	leave(s, current[s]); leave(s, other[s]);
	current[s] = NONE; forget_move(s);
	state[s] = AWAY
}

/* What doesn't count any more makes no states. */
inline forget(s)
{
	epoch[s] = 0; confirmed[s] = 0; heard[s] = false; sent[s] = 0; put[s] = 0; acked[s] = 0; received[s] = 0;
	thawed[s] = false; blind[s] = false; dirty[s] = false; visible[s] = 0
}

inline end_session(s)
{
	leave(s, current[s]); leave(s, other[s]); leave_attempt(s);
	current[s] = NONE; forget_move(s);
	forget(s);
	state[s] = ENDED;
	assert(gave_up || image_exists) /* else nothing was wrong */
}

/* The watch on domid, or a look at the clocks. */
inline hear_of_restore(s)
{
	thawed[s] = false; blind[s] = false; dirty[s] = false; visible[s] = 0;
	if
	:: s == IMAGE -> /* its rings were the guest's */
		current[s] = NONE; forget_move(s); next[s] = NONE; attempt[s] = NOTHING; peer_epoch[s] = 0;
		state[s] = AWAY
	:: else ->
		leave_attempt(s);
		if
		:: state[s] == UP -> go_away(s)
		:: else
		fi
	fi
}

/* Whatever this end believes to be delivered was taken, and what was taken is what this end sent. */
inline check_delivered(s, upto)
{
	d_step {
		i = 0;
		do
		:: i < upto ->
			if
			:: s == MAPPER -> assert(taken_by_guest[i])
			:: else -> assert(taken[i] == content(made[s * 4 + i], i) + 1)
			fi;
			i++
		:: else -> break
		od;
		i = 0
	}
}

inline take_data(s, c)
{
	assert(position_of(c) == received[s]); /* nothing lost, twice or out of order */
	if
	:: s == MAPPER -> taken[received[s]] = c + 1
	:: else -> taken_by_guest[received[s]] = true
	fi;
	received[s]++
}

inline begin_epoch(s)
{
	epoch[s] = (s == MAPPER -> epoch[s] : peer_epoch[s]) + (without == RAISING_AT_ONCE -> 1 : 0);
	heard[s] = false;
	current[s] = next[s]; next[s] = NONE; attempt[s] = NOTHING; peer_epoch[s] = 0;
	state[s] = UP;
	assert(epoch[s] < 16); /* no end of it */
	out(s, current[s]) ! PING, 0, 0
}

#define epoch_is_older(s, e) \
	(without == EPOCHS -> false : (without == CONFIRMING -> (e) + 1 < epoch[s] : \
	(without == SECOND_CHANCE -> (e) < epoch[s] : (e) < confirmed[s])))

inline on_prove(s, secret, e)
{
	if
	:: !secret && without != PROOF -> leave_attempt(s)
	:: else ->
		if
		:: epoch_is_older(s, e) ->
			if
			:: without != TELLING -> out(s, next[s]) ! GOODBYE, 0, 0
			:: else
			fi;
			leave_attempt(s)
		:: else ->
			if
			:: state[s] == UP -> go_away(s)
			:: else
			fi;
			if
			:: attempt[s] != NOTHING ->
				assert(far[next[s]] != STRANGER); /* it learns nothing, and takes nothing from anyone */
				/* The mapper numbers them, and already now: no later attempt has this number, whatever becomes of this one. */
				epoch[s] = epoch[s] + (s == MAPPER && without != RAISING_AT_ONCE -> 1 : 0);
				attempt[s] = RESUMING;
				out(s, next[s]) ! RESUME, received[s], epoch[s];
				if
				:: without == WAITING_FOR_RESUME ->
					put[s] = acked[s];
					peer_epoch[s] = epoch[s] + 1; /* both count */
					begin_epoch(s)
				:: else
				fi
			:: else
			fi
		fi
	fi
}

inline on_resume(s, position)
{
	if
	:: without != POSITIONS && position > sent[s] -> end_session(s) /* this end is the older one */
	:: without != POSITIONS && position < acked[s] -> /* that one is */
		out(s, next[s]) ! GOODBYE, 0, 0; leave_attempt(s)
	:: without == POSITIONS || (position >= acked[s] && position <= sent[s]) ->
		if
		:: without != RESUMED_POSITION -> acked[s] = position; put[s] = position
		:: else -> put[s] = sent[s]
		fi;
		check_delivered(s, acked[s]);
		begin_epoch(s)
	fi
}

#define is_confirmed(s) heard[s]
#define reads(s)     (in_moved[s] -> other[s] : current[s])
#define writes(s)    (out_moved[s] -> other[s] : current[s])
#define may_write(s) (!said[s] || out_moved[s])
#define ring_room(s) (may_write(s) && len(out(s, writes(s))) < ROOM)
/* All of the old vchan was read at both ends. */
#define has_moved(s) (in_moved[s] && said[s] && len(out(s, current[s])) == 0)
/* A restored guest has the ring for itself, and as it was, if the peer had let go of it before. */
#define may_read(s) (!dead[s] && (!thawed[s] || (s == GRANTER && !dirty[s])))

inline move_is_read(s)
{
	out_moved[s] = true; acked[s] = put[s]; check_delivered(s, acked[s])
}

inline move_is_over(s)
{
	leave(s, current[s]);
	current[s] = other[s]; forget_move(s)
}

proctype session(byte s)
{
	byte c, i;
	bool looked;

end:	do
	/* A program's message gets its position. */
	:: atomic { !dead[s] && state[s] == UP && sent[s] < messages && !thawed[s] && put[s] == sent[s] && ring_room(s) ->
		made[s * 4 + sent[s]] = s;
		out(s, writes(s)) ! DATA, content(s, sent[s]), 0;
		sent[s]++; put[s]++ }
	:: atomic { !dead[s] && state[s] == UP && sent[s] < messages && thawed[s] ->
		if
		:: output_shows_restore(s) -> hear_of_restore(s)
		:: else -> made[s * 4 + sent[s]] = s; sent[s]++ /* into pages that are its own now: nobody sees it */
		fi }
	/* What the peer hasn't processed goes out again. */
	:: atomic { !dead[s] && state[s] == UP && !thawed[s] && put[s] < sent[s] && ring_room(s) ->
		out(s, writes(s)) ! DATA, content(made[s * 4 + put[s]], put[s]), 0; put[s]++ }
	/* The consumer index. */
	:: atomic { !dead[s] && state[s] == UP && !thawed[s] && consumed[writes(s) * 2 + 1 - side(s)] > acked[s] ->
		acked[s] = consumed[writes(s) * 2 + 1 - side(s)]; check_delivered(s, acked[s]) }

	/* Input. */
	:: atomic { may_read(s) && state[s] == UP && in(s, reads(s)) ? [DATA, c, i] ->
		in(s, reads(s)) ? DATA, c, i;
		take_data(s, c); c = 0;
		consumed[reads(s) * 2 + side(s)] = received[s] }
	:: atomic { may_read(s) && state[s] == UP && in(s, reads(s)) ? [PING, c, i] ->
		in(s, reads(s)) ? PING, c, i; confirmed[s] = epoch[s]; heard[s] = true;
		consumed[reads(s) * 2 + side(s)] = received[s] }

	/* The other vchan: the mapping end isn't there before it has read of it. That it was offered others a moment ago is one
	 * reason to decline, and no pages may be another one. */
	:: atomic { moves && s == GRANTER && !dead[s] && !thawed[s] && state[s] == UP && attempt[s] == NOTHING &&
		    other[s] == NONE && put[s] == sent[s] && ring_room(s) ->
		moves--;
		free_vchan(i);
		used[i] = true; far[i] = s; left[i * 2 + 1] = true;
		other[s] = i;
		out(s, current[s]) ! OFFER, i, epoch[s]; i = 0 }
	:: atomic { s == MAPPER && may_read(s) && state[s] == UP && in(s, reads(s)) ? [OFFER, c, i] ->
		in(s, reads(s)) ? OFFER, c, i;
		assert(other[s] == NONE && i == epoch[s]);
		if
		:: used[c] && left[c * 2 + 1] && !left[c * 2] -> left[c * 2 + 1] = false; other[s] = c
		:: out(s, current[s]) ! DECLINE, 0, i
		fi;
		c = 0; i = 0 }
	:: atomic { s == GRANTER && may_read(s) && state[s] == UP && in(s, reads(s)) ? [DECLINE, c, i] ->
		in(s, reads(s)) ? DECLINE, c, i;
		assert(other[s] != NONE && !said[s] && !in_moved[s] && i == epoch[s]);
		leave(s, other[s]); other[s] = NONE; i = 0 }
	/* A move: the mapping end says so first, and each end goes on when it was heard. */
	:: atomic { !dead[s] && state[s] == UP && !thawed[s] && other[s] != NONE && !said[s] && put[s] == sent[s] &&
		    (s == MAPPER || in_moved[s] || without == MOVE_FRAME) ->
		said[s] = true;
		if
		:: without != MOVE_FRAME -> out(s, current[s]) ! MOVE, 0, 0
		:: else -> in_moved[s] = true; out_moved[s] = true
		fi;
		if
		:: without == WAITING_FOR_MOVE -> out_moved[s] = true; moved_at[s] = put[s]
		:: else
		fi }
	:: atomic { may_read(s) && state[s] == UP && other[s] != NONE && !in_moved[s] && in(s, current[s]) ? [MOVE, c, i] ->
		in(s, current[s]) ? MOVE, c, i; in_moved[s] = true;
		if
		:: without != LOOKING_AT_MOVE && !thawed[s] && !out_moved[s] && has_moved(s) -> move_is_read(s); move_is_over(s)
		:: without != LOOKING_AT_MOVE && !thawed[s] && out_moved[s] && has_moved(s) -> move_is_over(s)
		:: else
		fi }
	:: atomic { !dead[s] && state[s] == UP && !thawed[s] && said[s] && !out_moved[s] && len(out(s, current[s])) == 0 -> move_is_read(s) }
	:: atomic { !dead[s] && state[s] == UP && !thawed[s] && out_moved[s] && (has_moved(s) || without == MOVE_FRAME) -> move_is_over(s) }
	/* Stale input. */
	:: atomic { !dead[s] && thawed[s] && dirty[s] && state[s] == UP && visible[s] > received[s] && !input_shows_restore(s) ->
		assert(false) }
	:: atomic { !dead[s] && s == IMAGE && thawed[s] && !dirty[s] && blind[s] && state[s] == UP && visible[s] > received[s] ->
		take_data(s, content(MAPPER, received[s])) }
	:: atomic { without == LOOK_AFTER_COPY && !dead[s] && !thawed[s] && !looked -> looked = true }
	:: atomic { looked && !dead[s] && thawed[s] && dirty[s] && state[s] == UP && visible[s] > received[s] -> assert(false) }
	:: atomic { without == LOOK_BEFORE_COMPLAINT && !dead[s] && thawed[s] && dirty[s] && state[s] == UP ->
		end_session(s) } /* an index that went backwards */
	:: atomic { !dead[s] && thawed[s] -> hear_of_restore(s) }

	/* The attempt. */
	:: atomic { may_read(s) && attempt[s] == PROVING && in(s, next[s]) ? [PROVE, c, i] ->
		in(s, next[s]) ? PROVE, c, i; on_prove(s, c, i); c = 0; i = 0 }
	:: atomic { may_read(s) && attempt[s] == RESUMING && in(s, next[s]) ? [RESUME, c, i] ->
		in(s, next[s]) ? RESUME, c, i; peer_epoch[s] = i; i = 0; on_resume(s, c); c = 0; i = 0 }
	:: atomic { may_read(s) && attempt[s] != NOTHING && in(s, next[s]) ? [GOODBYE, c, i] -> end_session(s) }
	/* This end began the epoch, and the other one then found it to be the older. */
	:: atomic { may_read(s) && state[s] == UP && without != LATE_GOODBYE && in(s, reads(s)) ? [GOODBYE, c, i] -> end_session(s) }
	:: atomic { without == WAITING_FOR_RESUME && may_read(s) && state[s] == UP && in(s, reads(s)) ? [RESUME, c, i] ->
		in(s, reads(s)) ? RESUME, c, i; c = 0; i = 0 }

	/* Losses. */
	:: atomic { !dead[s] && !thawed[s] && attempt[s] != NOTHING &&
		    (lost[next[s]] || (far_left(s, next[s]) && empty(in(s, next[s])))) -> leave_attempt(s) }
	:: atomic { !dead[s] && !thawed[s] && state[s] == UP && (lost[current[s]] ||
		    (far_left(s, current[s]) && !has_moved(s) && (without == LATE_GOODBYE || !(in(s, current[s]) ?? [GOODBYE, c, i])))) -> go_away(s) }
	:: atomic { !dead[s] && !thawed[s] && state[s] == UP && other[s] != NONE && (s == MAPPER || in_moved[s]) &&
		    (lost[other[s]] || far_left(s, other[s])) -> go_away(s) }
	:: atomic { !dead[s] && !thawed[s] && state[s] == AWAY && give_ups -> give_ups--; gave_up = true; end_session(s) }
	od
}

/* Both ends have found each other through XenStore, and a vchan is there. */
inline begin_attempt(f)
{
	free_vchan(v);
	used[v] = true; far[v] = f;
	next[f] = v; next[MAPPER] = v;
	attempt[f] = PROVING; attempt[MAPPER] = PROVING;
	ring[v * 2] ! PROVE, 1, epoch[f];
	ring[v * 2 + 1] ! PROVE, 1, epoch[MAPPER];
	v = 0
}

/* The mapper answers one at a time, and begins no epoch while the last one may still fail or succeed. */
#define mapper_answers \
	(!thawed[MAPPER] && attempt[MAPPER] == NOTHING && \
	 (state[MAPPER] == AWAY || (state[MAPPER] == UP && (is_confirmed(MAPPER) || without == WAITING_FOR_CONFIRMATION))))
#define asks(f) (!dead[f] && state[f] == AWAY && !thawed[f] && attempt[f] == NOTHING)

inline mapper_lets_go()
{
	if
	:: next[MAPPER] != NONE && far[next[MAPPER]] == GRANTER -> leave_attempt(MAPPER)
	:: else
	fi;
	if
	:: state[MAPPER] == UP && far[current[MAPPER]] == GRANTER -> go_away(MAPPER)
	:: else
	fi;
	if
	:: without == TAKING_OUT -> acked[MAPPER] = sent[MAPPER]
	:: else
	fi
}

/* Which of the two defences there is: domain 0 let go in time, or the clocks show it. */
inline freeze(s)
{
	thawed[s] = true;
	visible[s] = (state[s] == UP -> put[MAPPER] : 0);
	dirty[s] = !saving;
	if
	:: saving || without == GIVING_UP_AT_SUSPEND -> blind[s] = true
	:: blind[s] = false
	fi;
	saving = false
}

inline make_image()
{
	d_step {
		state[IMAGE] = state[GRANTER]; attempt[IMAGE] = attempt[GRANTER]; current[IMAGE] = current[GRANTER];
		other[IMAGE] = other[GRANTER]; next[IMAGE] = next[GRANTER]; epoch[IMAGE] = epoch[GRANTER];
		confirmed[IMAGE] = confirmed[GRANTER]; peer_epoch[IMAGE] = peer_epoch[GRANTER]; heard[IMAGE] = heard[GRANTER];
		sent[IMAGE] = sent[GRANTER]; put[IMAGE] = put[GRANTER]; acked[IMAGE] = acked[GRANTER];
		received[IMAGE] = received[GRANTER];
		v = 0;
		do
		:: v < messages -> made[IMAGE * 4 + v] = made[GRANTER * 4 + v]; v++
		:: else -> break
		od;
		v = 0
	}
}

inline destroy_guest()
{
	leave(GRANTER, current[GRANTER]); leave(GRANTER, other[GRANTER]); leave(GRANTER, next[GRANTER]);
	current[GRANTER] = NONE; forget_move(GRANTER); next[GRANTER] = NONE;
	state[GRANTER] = ENDED; attempt[GRANTER] = NOTHING; peer_epoch[GRANTER] = 0;
	forget(GRANTER);
	dead[GRANTER] = true
}

#define all_delivered(s) (state[s] == UP && sent[s] == messages && received[s] == messages && acked[s] == messages)

/* Nothing more can happen. */
inline judge()
{
	if
	:: gave_up -> assert(state[MAPPER] != UP || state[far[current[MAPPER]]] == UP)
	:: !gave_up && !image_exists ->
		assert(all_delivered(GRANTER) && all_delivered(MAPPER) && other[GRANTER] == NONE && other[MAPPER] == NONE)
	:: !gave_up && image_exists ->
		/* at most one goes on, and one does if the guest is still there; the others know that they don't */
		if
		:: state[MAPPER] == UP ->
			v = far[current[MAPPER]];
			assert(all_delivered(MAPPER) && all_delivered(v));
			assert(v == GRANTER || dead[GRANTER] || state[GRANTER] == ENDED);
			assert(v == IMAGE || dead[IMAGE] || state[IMAGE] == ENDED)
		:: else ->
			assert(state[MAPPER] == AWAY && dead[GRANTER] && (dead[IMAGE] || state[IMAGE] == ENDED))
		fi
	fi
}

proctype world()
{
	byte v, i;

end:	do
	:: atomic { mapper_answers && !saving && asks(GRANTER) -> begin_attempt(GRANTER) }
	:: atomic { mapper_answers && !saving && asks(IMAGE) -> begin_attempt(IMAGE) }
	/* Each claim is an attempt of its own, until it has proven to be the session's: then it takes the place of what there is. */
	:: atomic { overtakes && attempt[MAPPER] != NOTHING && !thawed[MAPPER] && !saving && asks(GRANTER) ->
		overtakes--; leave_attempt(MAPPER); begin_attempt(GRANTER) }
	:: atomic { overtakes && attempt[MAPPER] != NOTHING && !thawed[MAPPER] && !saving && asks(IMAGE) ->
		overtakes--; leave_attempt(MAPPER); begin_attempt(IMAGE) }
	:: atomic { state[MAPPER] == ENDED && asks(GRANTER) -> end_session(GRANTER) } /* it has no such session */
	:: atomic { state[MAPPER] == ENDED && asks(IMAGE) -> end_session(IMAGE) }
	:: atomic { saving -> saving = false } /* the save failed */

	:: atomic { losses ->
		losses--;
		if
		:: used[0] && far[0] != STRANGER -> lost[0] = true
		:: used[1] && far[1] != STRANGER -> lost[1] = true
		:: used[2] && far[2] != STRANGER -> lost[2] = true
		:: else
		fi }
	:: atomic { strangers && attempt[MAPPER] == NOTHING && state[MAPPER] != ENDED && !thawed[MAPPER] ->
		strangers--;
		free_vchan(v);
		used[v] = true; far[v] = STRANGER; left[v * 2] = true;
		next[MAPPER] = v; attempt[MAPPER] = PROVING;
		ring[v * 2] ! PROVE, 0, epoch[MAPPER];
		ring[v * 2] ! RESUME, sent[MAPPER], 0;
		ring[v * 2 + 1] ! PROVE, 1, epoch[MAPPER];
		v = 0 }

	:: atomic { saves && !saving && !dead[GRANTER] && !thawed[GRANTER] && state[MAPPER] != ENDED ->
		saves--; saving = true; mapper_lets_go() }
	:: atomic { restores && !dead[GRANTER] && !thawed[GRANTER] && state[GRANTER] != ENDED ->
		restores--; freeze(GRANTER) }
	:: atomic { mapper_restores && !thawed[MAPPER] && state[MAPPER] != ENDED ->
		mapper_restores--;
		thawed[MAPPER] = true; dirty[MAPPER] = true; /* it reads 0xff, which shows by itself */
		if
		:: without == PRIVATE_COPY -> acked[MAPPER] = sent[MAPPER]
		:: else
		fi;
		visible[MAPPER] = messages }
	:: atomic { images && !dead[GRANTER] && !thawed[GRANTER] && state[GRANTER] != ENDED ->
		images--; image_exists = true; deaths = 1; starts = 1;
		make_image(); freeze(IMAGE) }
	:: atomic { deaths && !dead[GRANTER] -> deaths--; destroy_guest() }
	:: atomic { starts -> starts--; dead[IMAGE] = false }
	/* Nothing more goes wrong. */
	:: atomic { losses + moves + restores + mapper_restores + images + strangers + overtakes + saves + give_ups + deaths + starts ->
		losses = 0; moves = 0; restores = 0; mapper_restores = 0; images = 0; strangers = 0; overtakes = 0; saves = 0; give_ups = 0;
		deaths = 0; starts = 0 }
	:: atomic { timeout -> judge(); break }
	od
}

init {
	atomic {
		c_code {
			now.messages = setting("MESSAGES"); now.losses = setting("LOSSES"); now.moves = setting("MOVES");
			now.restores = setting("RESTORES"); now.mapper_restores = setting("MAPPER_RESTORES");
			now.images = setting("IMAGES"); now.strangers = setting("STRANGERS"); now.give_ups = setting("GIVE_UPS");
			now.overtakes = setting("OVERTAKES");
			now.without = setting("WITHOUT");
		}
		saves = restores + images;
		dead[IMAGE] = true;
		used[0] = true;
		state[GRANTER] = UP; state[MAPPER] = UP;
		current[GRANTER] = 0; current[MAPPER] = 0;
		epoch[GRANTER] = 1; epoch[MAPPER] = 1;
		ring[0] ! PING, 0, 0; ring[1] ! PING, 0, 0;
		run session(GRANTER); run session(MAPPER);
		if
		:: images -> run session(IMAGE)
		:: else
		fi;
		run world()
	}
}
