/*-------------------------------------------------------------------------
 *
 * judgement.h
 *		Which rule decides about a path, in words; and how a session asks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_JUDGEMENT_H
#define FSYNC_JUDGEMENT_H

#include "beneath.h"
#include "filter.h"
#include "protocol.h"

typedef struct Judgement
{
	bool		known;			/* else tracked means nothing */
	bool		tracked;
	const char *source;			/* what kind of rule decides */
	char		rule[2048];		/* as it was written; "": none */
	char	   *rule_file;		/* from malloc, or NULL */
	size_t		decided_len;	/* of the path, which the rule speaks of */
	char		detail[512];
} Judgement;

/* What the names say.  rules are those of the directory that path is in. */
extern void judge_names(Judgement *judgement, const Filter *filter,
						const FilterRules *rules, const char *path, size_t len,
						bool is_directory);

/* The path as a whole is refused, for what no pattern says. */
extern void judge_refuse(Judgement *judgement, const char *source, size_t len,
						 const char *format,...) __attribute__((format(printf, 4, 5)));

/* What there is at the path, where the names do not refuse it; no directory. */
extern void judge_file(Judgement *judgement, const Filter *filter, const ProtoInit *init,
					   const FileInfo *info, size_t len);

/*
 * Reads the next PROTO_INIT from standard input; init points into buf.  False:
 * there is none, or of another version.
 */
extern bool question_read(ProtoBuf *buf, ProtoInit *init);

/* Writes all frames of buf to standard output. */
extern bool answer_write(ProtoBuf *buf);

#endif							/* FSYNC_JUDGEMENT_H */
