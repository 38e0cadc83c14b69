/*-------------------------------------------------------------------------
 *
 * talk.h
 *		What fsync-tree may say next: the rules of the conversation.
 *
 * The worker's end feeds it every frame that it sends and every frame that it
 * receives, before it acts on it.  fsync-tree is believed in what it says of
 * its own directory and in nothing else: what it says must be whole and
 * possible (checks.h), and be an answer to something where it is one.
 *
 *		HELLO				first, and once
 *		STATE				the identity that was given, unless none was or a
 *							scan with force was asked for
 *		OBSERVATIONS		of real time, or of a scan that was asked for; not
 *							more of them than batch_size lets it send together
 *		BELIEFS_REQUEST		each with a number of its own
 *		SCAN_DONE, FLUSHED, PONG, VERIFIED
 *							one for each that was asked for
 *
 * Neither memory nor time grow with what fsync-tree says.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_TALK_H
#define FSYNC_TALK_H

#include "checks.h"

/* Scans of which is known whether they go on. */
#define TALK_SCANS			8

/* Ranges without a row that are remembered, see mounts. */
#define TALK_EMPTY_RANGES	256

typedef struct TalkScan
{
	int64_t		id;				/* 0: none */
	bool		done;
} TalkScan;

/* A range of rows that was asked for: all that is below a directory. */
typedef struct TalkRange
{
	int64_t		request_id;
	char	   *directory;
	uint32_t	len;
	bool		empty;			/* it was answered: there is none */
} TalkRange;

typedef struct Talk
{
	int64_t		began_us;		/* of the clock that talk_hear() is given */
	bool		greeted;		/* HELLO has come */
	uint32_t	batch_size;		/* the largest that was given */

	/* the root */
	char		identity[CHECK_IDENTITY_MAX];
	uint32_t	identity_len;	/* 0: none yet */
	bool		may_replace;	/* the next one that is another is right */
	ProtoBuf	mounts;			/* the accepted ones, as a list */
	bool		any_mounts;		/* whatever it says is right */
	bool		mounts_given;	/* some list was given, or has been heard */
	TalkRange	ranges[TALK_EMPTY_RANGES];
	unsigned	next_range;

	/* what was asked for */
	TalkScan	scans[TALK_SCANS];
	unsigned	next_scan;
	int64_t    *flushes;		/* tokens */
	size_t		n_flushes;
	size_t		flushes_capacity;
	bool		flushes_lost;	/* out of memory: some are not known */
	int64_t		ping;
	bool		pinged;
	int64_t		verify_run;
	uint32_t	verify_left;	/* verdicts that are still to come */
	bool		verifying;

	/* what it said */
	int64_t		last_request;
	uint64_t	observations;
	ProtoStatistics statistics;

	size_t		noted;			/* bytes that wait to be sent and are noted */
} Talk;

/* now_us is of any clock that only goes forward. */
extern void talk_init(Talk *talk, int64_t now_us);
extern void talk_free(Talk *talk);

/*
 * Around sending: takes note of the frames that were added to the buffer since
 * the last time, and of what is left in it.
 */
extern void talk_note(Talk *talk, const ProtoBuf *out);
extern void talk_noted(Talk *talk, const ProtoBuf *out);

/*
 * Takes note of a frame that has come.  Returns NULL, or what is wrong with it
 * as a part of a sentence, in static memory: then nothing of it may be used.
 */
extern const char *talk_hear(Talk *talk, uint8_t type, ProtoReader body, int64_t now_us);

#endif							/* FSYNC_TALK_H */
