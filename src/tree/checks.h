/*-------------------------------------------------------------------------
 *
 * checks.h
 *		What a message of fsync-tree can mean, each for itself.
 *
 * The decoders of messages.c say whether bytes are a message.  These say
 * whether fsync-tree could have sent it: each value that the worker would
 * store, show, add up or allocate by is looked at here, and nowhere else.
 * What a message may say after what was said before is in talk.h.
 *
 * Every function returns NULL where there is nothing wrong, or else what is,
 * as a part of a sentence ("a negative size"), in static memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_CHECKS_H
#define FSYNC_CHECKS_H

#include "protocol.h"

/* Bytes of a reason, a hint or another sentence. */
#define CHECK_TEXT_MAX		1024

/* Bytes of an identity, and of all mounts. */
#define CHECK_IDENTITY_MAX	160
#define CHECK_MOUNTS_MAX	(1024 * 1024)

/*
 * The path of a file below the root: 1 to max bytes, components between single
 * slashes, none of them "." or "..".
 */
extern const char *check_path(ProtoStr path, size_t max);

extern const char *check_observation(const ProtoObservation *m);
extern const char *check_beliefs_request(const ProtoBeliefsRequest *m);

/*
 * The root's identity, as identity.h has it; not empty.  And the list of
 * mounts: each once, in the order of their paths.
 */
extern const char *check_identity(ProtoStr identity);
extern const char *check_mounts(ProtoStr mounts);

/* All of the state but its identity, which may be the one that was given. */
extern const char *check_state(const ProtoState *m);

/* elapsed_us: since the process was started. */
extern const char *check_progress(const ProtoProgress *m, int64_t elapsed_us);
extern const char *check_scan_done(const ProtoScanDone *m, int64_t elapsed_us);

/* before: what it said last; observations: how many it has sent. */
extern const char *check_statistics(const ProtoStatistics *m, const ProtoStatistics *before,
									uint64_t observations, int64_t elapsed_us);

extern const char *check_verified(const ProtoVerified *m);

/*
 * Takes the path of the next mount out of the list, as it is escaped there;
 * false at its end.  The list passed check_mounts().
 */
extern bool check_next_mount(ProtoStr *mounts, ProtoStr *path, ProtoStr *identity);

/* The order of two such paths, as of the paths that they stand for. */
extern int	check_mount_order(ProtoStr a, ProtoStr b);

#endif							/* FSYNC_CHECKS_H */
