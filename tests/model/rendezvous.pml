/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How two daemons find each other through XenStore (doc/protocol.md 5.1, daemon/peers/rendezvous_step.h), and that neither waits
 * in vain: whatever goes wrong, and at whichever step, both are connected by the same vchan in the end, or nobody wants a link
 * and nothing is left of one. tests/model/run checks it, and that it finds the mistake when a rule is left out.
 *
 * Two daemons, of which one maps and one grants, and XenStore between them. At any step either may leave the vchan, time out, die,
 * be restarted or restored, lack pages, miss an event or lose a write; which of the two goes on is any order, so one may stand still for as long as it
 * takes; and that domain 0's daemon does is an event that is missed. From time to time each looks again for what it may have
 * missed; nothing else may be needed for that.
 *
 * A daemon that has died may never come back: then the other one neither waits nor keeps a vchan when its time is up.
 *
 * There is no time: a request that has timed out has done so at any step. What was granted and isn't known to anybody any more
 * is taken for new, and so is a nonce.
 */
c_decl {
	\#include <stdlib.h>
	static unsigned char setting(const char *name)
	{
		const char *value = getenv(name);
		return value ? (unsigned char)atoi(value) : 0;
	}
}
byte leaves;   /* of a vchan, by whoever has it: a session goes on over the next one */
byte fails;    /* of a mapping, half done */
byte misses;   /* of an event */
byte losses;   /* of a write, with the connection to XenStore */
byte timeouts; /* of a request; another one may come */
byte ends;     /* of an attempt, when its time is up */
byte restarts; /* of a daemon, or a restore of its domain */
byte deaths;   /* of a daemon: what it has written stands there, and another one may begin */
byte shorts;   /* of pages: they come free again */
byte looks;    /* again, while there is something else to do */
byte once;     /* the granter grants once for each nonce that somebody has connected under, as in version 0.1 */
byte without;  /* the number of a rule, or 0 */

/* The rules. */
#define ANOTHER_AFTER_MAPPING 1 /* who has had a vchan that was given up takes another nonce */
#define ANOTHER_IF_UNANSWERED 2 /* so does who looks again and finds no hello */
#define LOOKING_AT_HELLO      3 /* who has granted, or awaits, looks at it again, */
#define SAYING_AGAIN	      4 /* and says again what it has said */
#define GIVING_UP_TOGETHER    5 /* who has granted, or awaits, leaves that when the hello goes */
#define SWEEPING	      6 /* who takes back its hello sees to it that it goes */

#define MAPPER	0
#define GRANTER 1
#define NONE	7
#define NONCES	5
#define VCHANS	4

mtype = { IDLE, HELLO, AWAIT, MAPPED, PAGES, GRANTED, CONNECTED };

/* XenStore */
byte hello[2]; /* the nonce in each one's, or 0 */
byte nodes;    /* the nonce under which the granter has published, or 0, */
byte offered = NONE; /* and what */

/* what each daemon knows */
mtype state[2] = IDLE;
bool wanted[2], goes_on[2];
byte ours[2];	/* the last nonce of its own */
byte seen[2];	/* the other one's, as last read */
byte tried[2];	/* which of them was answered last */
bool spent;	/* that of the mapper, if `once` */
bool due[2];	/* the other one's hello is to be read, */
bool nodes_due; /* and by the mapper the nodes, */
byte found = NONE; /* which showed this */
byte vchan[2] = NONE;
bool sweep[2];	/* its hello stands there, and must go */
bool gone[2];	/* the other one has died that had the hello `tried` */

bool dead[2];

/* of each vchan */
bool live[VCHANS], closed[VCHANS]; /* the mapper's byte: connected, has let go; */
bool left[VCHANS];		   /* the granter has given it up */

bool over; /* nothing goes wrong any more */
byte i;

inline tell(s) /* the other daemon, of a change */
{
	if
	:: due[1 - s] = true
	:: misses -> misses--
	fi
}

inline say(s, nonce)
{
	hello[s] = nonce;
	tell(s)
}

inline unpublish()
{
	nodes = 0; offered = NONE
}

/* Leaves what is granted, awaited or connected. */
inline step_back(s, to)
{
	if
	:: vchan[s] != NONE && s == GRANTER -> left[vchan[s]] = true
	:: vchan[s] != NONE && s == MAPPER -> live[vchan[s]] = false; closed[vchan[s]] = true
	:: else
	fi;
	vchan[s] = NONE;
	if
	:: s == GRANTER -> unpublish()
	:: else -> found = NONE
	fi;
	state[s] = to
}

inline begin_anew(s)
{
	step_back(s, HELLO);
	i = 1;
	do
	:: i == hello[s] || i == seen[1 - s] || i == tried[1 - s] || (s == MAPPER && i == nodes) || i == ours[s] -> i++
	:: else -> break
	od;
	assert(i <= NONCES);
	ours[s] = i;
	i = 0;
	sweep[s] = false;
	if
	:: say(s, ours[s])
	:: losses -> losses--
	fi
}

inline withdraw(s)
{
	step_back(s, IDLE);
	goes_on[s] = false;
	if
	:: hello[s] -> say(s, 0)
	:: hello[s] && losses -> losses--; sweep[s] = true
	:: else
	fi
}

inline lose(s) /* a session that has lost its vchan wants another one */
{
	withdraw(s); wanted[s] = true; due[s] = true;
	if
	:: dead[1 - s] -> gone[s] = true
	:: skip /* it is taken for one that has only left */
	fi
}

inline publish()
{
	offered = vchan[GRANTER]; nodes = tried[GRANTER];
	if
	:: nodes_due = true
	:: misses -> misses--
	fi
}

inline grant()
{
	i = 0;
	do
	:: i == vchan[MAPPER] || i == found || i == offered -> i++
	:: else -> break
	od;
	assert(i < VCHANS);
	live[i] = false; closed[i] = false; left[i] = false;
	vchan[GRANTER] = i; state[GRANTER] = GRANTED;
	i = 0;
	if
	:: publish()
	:: losses -> losses--
	fi
}

/* What the facts lead to; of two steps the second is taken when something is due. */
inline step(s)
{
	if
	:: state[s] == IDLE && wanted[s] && gone[s] -> wanted[s] = false /* an error */
	:: state[s] == IDLE && !gone[s] && (wanted[s] || (seen[s] && seen[s] != tried[s])) ->
		goes_on[s] = false; begin_anew(s); due[s] = true
	:: state[s] == HELLO && seen[s] && s == MAPPER -> tried[s] = seen[s]; state[s] = AWAIT; nodes_due = true
	:: state[s] == HELLO && seen[s] && s == GRANTER && (!spent || seen[s] != tried[s]) ->
		tried[s] = seen[s]; spent = false;
		if
		:: grant()
		:: shorts -> shorts--; state[s] = PAGES
		fi
	:: state[s] == HELLO && !seen[s] && !wanted[s] && !goes_on[s] -> withdraw(s)
	:: (state[s] == AWAIT || state[s] == PAGES || state[s] == GRANTED) && without != GIVING_UP_TOGETHER && !seen[s] ->
		step_back(s, HELLO); due[s] = true
	:: state[s] == AWAIT && seen[s] && seen[s] != tried[s] -> tried[s] = seen[s]; found = NONE; nodes_due = true
	:: state[s] == GRANTED && seen[s] && seen[s] != tried[s] -> step_back(s, HELLO); due[s] = true
	:: state[s] == AWAIT && seen[s] && seen[s] == tried[s] && found != NONE && !due[s] -> map()
	:: state[s] == CONNECTED && seen[s] != tried[s] -> lose(s)
	:: else
	fi
}

inline map()
{
	if
	:: !left[found] ->
		vchan[MAPPER] = found; live[found] = true; found = NONE; state[MAPPER] = MAPPED
	:: left[found] -> found = NONE; nodes_due = true /* its pages have gone */
	:: !left[found] && fails -> fails--; closed[found] = true; found = NONE; nodes_due = true
	:: left[found] -> /* still there, as one that was given up */
		vchan[MAPPER] = found; live[found] = true; found = NONE; state[MAPPER] = MAPPED
	fi
}

inline read_hello(s)
{
	due[s] = false;
	seen[s] = hello[1 - s];
	gone[s] = gone[s] && seen[s] && seen[s] == tried[s];
	if
	:: gone[s] -> seen[s] = 0
	:: !seen[s] ->
		if
		:: tried[s] -> goes_on[s] = false
		:: else
		fi;
		tried[s] = 0;
		spent = spent && s == MAPPER
	:: else
	fi;
	step(s)
}

inline look_again(s)
{
	if
	:: state[s] == HELLO || without != LOOKING_AT_HELLO -> due[s] = true
	:: else
	fi;
	if
	:: state[s] == AWAIT -> nodes_due = true
	:: else
	fi;
	if
	:: state[s] == HELLO && !seen[s] && without != ANOTHER_IF_UNANSWERED -> begin_anew(s)
	:: state[s] != HELLO && without == SAYING_AGAIN
	:: else ->
		say(s, ours[s]);
		if
		:: state[s] == GRANTED -> publish()
		:: else
		fi
	fi
}

#define is_trying(s) (!dead[s] && (state[s] == HELLO || state[s] == AWAIT || state[s] == PAGES || state[s] == GRANTED))

/* Its vchan goes with it. */
inline die(s)
{
	if
	:: vchan[s] != NONE && s == GRANTER -> left[vchan[s]] = true
	:: vchan[s] != NONE && s == MAPPER -> live[vchan[s]] = false; closed[vchan[s]] = true
	:: else
	fi;
	vchan[s] = NONE; state[s] = IDLE;
	if
	:: s == MAPPER -> found = NONE; nodes_due = false
	:: else
	fi;
	goes_on[s] = false; wanted[s] = false; sweep[s] = false; gone[s] = false; due[s] = false;
	tried[s] = 0; seen[s] = 0; spent = spent && s == MAPPER
}

inline restart(s)
{
	die(s);
	dead[s] = false;
	if
	:: s == GRANTER -> unpublish()
	:: else
	fi;
	say(s, 0);
	due[s] = true;
	if
	:: wanted[s] = true
	:: skip
	fi
}

proctype daemon(byte s)
{
end:	do
	:: atomic { !dead[s] && due[s] -> read_hello(s) }
	:: atomic { !dead[s] && s == MAPPER && nodes_due ->
		nodes_due = false;
		if
		:: state[s] == AWAIT ->
			found = (nodes == ours[s] -> offered : NONE);
			if
			:: found != NONE -> due[s] = true /* the answer can overtake the word of a change */
			:: else
			fi
		:: else
		fi }
	/* The look behind the mapping: it may have been given up since. */
	:: atomic { s == MAPPER && state[s] == MAPPED ->
		if
		:: !left[vchan[s]] -> state[s] = CONNECTED; wanted[s] = false; goes_on[s] = false; due[s] = true
		:: left[vchan[s]] && without != ANOTHER_AFTER_MAPPING -> begin_anew(s)
		:: else -> step_back(s, AWAIT)
		fi }
	:: atomic { s == GRANTER && state[s] == GRANTED && live[vchan[s]] ->
		state[s] = CONNECTED; spent = once; unpublish(); wanted[s] = false; goes_on[s] = false; due[s] = true }
	:: atomic { state[s] == PAGES && seen[s] -> tried[s] = seen[s]; grant(); due[s] = true }
	:: atomic { sweep[s] && without != SWEEPING -> sweep[s] = false; say(s, 0) }
	:: atomic { s == GRANTER && state[s] == GRANTED && closed[vchan[s]] -> step_back(s, HELLO); due[s] = true }
	:: atomic { state[s] == CONNECTED && ((s == MAPPER && left[vchan[s]]) || (s == GRANTER && closed[vchan[s]])) -> lose(s) }

	/* What goes wrong. */
	:: atomic { leaves && state[s] == CONNECTED -> leaves--; lose(s) }
	:: atomic { timeouts && wanted[s] && is_trying(s) -> timeouts--; wanted[s] = false; goes_on[s] = true }
	:: atomic { !over && !dead[s] && !wanted[s] && state[s] != CONNECTED && state[s] != MAPPED -> wanted[s] = true; step(s) }
	:: atomic { ends && is_trying(s) -> ends--; wanted[s] = false; withdraw(s) }
	:: atomic { restarts && !dead[s] -> restarts--; restart(s); step(s) }
	:: atomic { deaths && !dead[s] -> deaths--; die(s); dead[s] = true }
	:: atomic { !over && dead[s] -> restart(s); step(s) }
	:: atomic { looks && is_trying(s) -> looks--; look_again(s) }
	od
}

#define is_settled \
	((state[0] == CONNECTED && state[1] == CONNECTED && vchan[0] == vchan[1]) || \
	 (state[0] == IDLE && state[1] == IDLE && !wanted[0] && !wanted[1] && (dead[0] || !hello[0]) && (dead[1] || !hello[1])))

inline time_is_up(s)
{
	if
	:: is_trying(s) -> wanted[s] = false; withdraw(s)
	:: else
	fi
}

inline nothing_goes_wrong()
{
	over = true;
	leaves = 0; fails = 0; misses = 0; losses = 0; timeouts = 0; ends = 0; restarts = 0; deaths = 0; shorts = 0; looks = 0
}

proctype world()
{
	byte rounds;

end:	do
	:: atomic { !over -> nothing_goes_wrong() }
	/* Nothing more happens but that both look again, in either order. */
	:: atomic { timeout ->
		if
		:: !over -> nothing_goes_wrong()
		:: over && is_settled -> break
		:: over && !is_settled && rounds == 2 && (dead[0] || dead[1]) -> rounds++; time_is_up(0); time_is_up(1)
		:: over && !is_settled && !(rounds == 2 && (dead[0] || dead[1])) ->
			assert(rounds < 2);
			rounds++;
			if
			:: is_trying(0) -> look_again(0)
			:: else
			fi;
			if
			:: is_trying(1) -> look_again(1)
			:: else
			fi
		fi }
	od
}

init {
	atomic {
		c_code {
			now.leaves = setting("LEAVES"); now.fails = setting("FAILS"); now.misses = setting("MISSES");
			now.timeouts = setting("TIMEOUTS"); now.ends = setting("ENDS"); now.restarts = setting("RESTARTS");
			now.looks = setting("LOOKS"); now.losses = setting("LOSSES");
			now.deaths = setting("DEATHS"); now.shorts = setting("SHORTS");
			now.once = setting("ONCE"); now.without = setting("WITHOUT");
		}
		run daemon(MAPPER); run daemon(GRANTER); run world()
	}
}
