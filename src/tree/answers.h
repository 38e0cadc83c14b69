/*-------------------------------------------------------------------------
 *
 * answers.h
 *		What fsync-tree says to a session that asks about a whole tree.
 *
 * "fsync-tree preview" and "fsync-tree ignored" read one or two PROTO_INIT from
 * their standard input and write frames of these types to their standard
 * output.  Compiled into both programs, like protocol.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_ANSWERS_H
#define FSYNC_ANSWERS_H

#include "protocol.h"

/* Types of frames, beside those of ProtoType. */
#define ANSWER_PREVIEW	'1'		/* AnswerPreview: the only one */
#define ANSWER_IGNORED	'2'		/* AnswerIgnored: one each */
#define ANSWER_END		'3'		/* AnswerEnd: behind these */

/* So many paths of a preview, and bytes of all that is ignored, at most. */
#define ANSWER_MAX_PATHS	100
#define ANSWER_MAX_BYTES	(8 * 1024 * 1024)

/* How a walk ended. */
typedef enum AnswerResult
{
	ANSWER_COMPLETE = 0,
	ANSWER_TIMED_OUT,			/* what is told is not all */
	ANSWER_CUT,					/* the same: there were enough */
	ANSWER_NO_ROOT,				/* the root cannot be opened: error is the errno */
	ANSWER_OTHER_ROOT,			/* it is another directory than was registered,
								 * or one of the server's */
} AnswerResult;

typedef struct AnswerEnd
{
	uint8_t		result;			/* AnswerResult */
	int32_t		error;
	int64_t		unreadable;		/* directories, and files of rules, of which
								 * nothing is known */
} AnswerEnd;

/* What other settings would come to. */
typedef struct AnswerPreview
{
	AnswerEnd	end;
	int64_t		added;			/* files that would be tracked, and are not now */
	int64_t		removed;
	ProtoStr	first_added;	/* lists of paths, the first in path order */
	ProtoStr	first_removed;
} AnswerPreview;

/* What is on the disk and not tracked. */
typedef struct AnswerIgnored
{
	bool		directory;		/* and nothing in it is looked at */
	ProtoStr	path;			/* any bytes but zero */
	ProtoStr	source;			/* as in ProtoWhy, from here on */
	ProtoStr	rule;
	ProtoStr	rule_file;
	ProtoStr	detail;
} AnswerIgnored;

extern void answer_put_end(ProtoBuf *buf, const AnswerEnd *m);
extern bool answer_get_end(ProtoReader *r, AnswerEnd *m);
extern void answer_put_preview(ProtoBuf *buf, const AnswerPreview *m);
extern bool answer_get_preview(ProtoReader *r, AnswerPreview *m);
extern void answer_put_ignored(ProtoBuf *buf, const AnswerIgnored *m);
extern bool answer_get_ignored(ProtoReader *r, AnswerIgnored *m);

#endif							/* FSYNC_ANSWERS_H */
