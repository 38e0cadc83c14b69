/*-------------------------------------------------------------------------
 *
 * registry.h
 *		Which database has a worker: the launcher's and the workers' side of
 *		shared memory.
 *
 * A slot is taken by the launcher before it asks the postmaster for a worker,
 * and given a generation that the worker brings with it: a worker whose
 * generation is not the slot's came too late and leaves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_REGISTRY_H
#define FSYNC_REGISTRY_H

#include "fsync.h"

typedef enum WorkerPhase
{
	WORKER_NONE = 0,
	WORKER_LAUNCHED,			/* the postmaster was asked for it */
	WORKER_PROBING,				/* it looks whether there is something to do */
	WORKER_SETTLED,				/* it found something */
	WORKER_ENDED,				/* the launcher has yet to take note */
} WorkerPhase;

typedef enum WorkerExit
{
	WORKER_EXIT_ERROR = 0,		/* it did not say why */
	WORKER_EXIT_IDLE,			/* nothing to do in this database */
	WORKER_EXIT_STOPPED,		/* asked to, by a signal or a hold */
} WorkerExit;

/* ---- launcher ---- */

typedef struct RegistryEntry
{
	Oid			database;
	WorkerPhase phase;
	WorkerExit	exit;
	uint32		generation;
	bool		wanted;
} RegistryEntry;

extern void registry_launcher_attach(void);

/* True once after a wake-up that found no free slot. */
extern bool registry_take_look_everywhere(void);

/* Copies all used slots into palloc'd memory. */
extern RegistryEntry *registry_entries(int *n);

extern bool registry_is_held(Oid database);

/*
 * Takes the slot for a start; false when it is held, busy or there is none:
 * *no_slot.
 */
extern bool registry_claim(Oid database, uint32 *generation, bool *no_slot);

/* The start came to nothing, or the end was noted: there is no worker now. */
extern void registry_clear(Oid database, uint32 generation);

/* Somebody's wish for a worker was noted; frees a slot nobody needs. */
extern void registry_forget(Oid database);

/* Databases that need a worker and have none, for want of a place. */
extern void registry_set_without_place(const Oid *databases, int n, bool no_slot);

/* ---- sessions ---- */

/* What this database, or others, lack. */
typedef struct RegistryLack
{
	bool		has_launcher;
	bool		has_worker;
	bool		no_process;		/* the postmaster has no place for a worker ... */
	bool		no_slot;		/* ... or shared memory has none */
	int			databases;		/* in all, for which that is so */
	int			repositories;	/* in all, that shared memory has no place for */
} RegistryLack;

extern void registry_get_lack(RegistryLack *lack);

/* ---- worker ---- */

/* So many of its repositories have no place in shared memory. */
extern void registry_worker_lacks(int repositories);

typedef struct RegistryEvents
{
	bool		stop;
	bool		recheck;
	bool		nudged;
} RegistryEvents;

/* Before connecting.  False: this worker is not wanted (any more). */
extern bool registry_worker_attach(Oid database, uint32 generation);
extern void registry_worker_settled(void);

/* Takes the events that came since the last call. */
extern void registry_worker_events(RegistryEvents *events);

/*
 * Says that the worker ends by itself.  With nothing_to_do false is returned,
 * and the worker must look again, if somebody woke it meanwhile.
 */
extern bool registry_worker_leave(bool nothing_to_do);

/* The repository whose rows are being written from now on; NULL: of none, or
 * of all.  For the detection of deadlocks with waiting sessions. */
extern void registry_worker_current(const pg_uuid_t *repository);

#endif							/* FSYNC_REGISTRY_H */
