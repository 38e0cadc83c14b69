/*-------------------------------------------------------------------------
 *
 * registrations.h
 *		What may be watched: the private table fsync_private.registrations.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_REGISTRATIONS_H
#define FSYNC_REGISTRATIONS_H

#include "session.h"

#include "utils/uuid.h"

typedef struct Registration
{
	pg_uuid_t	id;
	char	   *root;			/* what may be watched: an absolute path without
								 * symbolic links */
	char	   *given;			/* the same as it was given */
	char	   *identity;		/* of the root, as last accepted; "": none yet */
	Oid			database;		/* where it was registered */
	int64		system;
} Registration;

/* All of them (Registration *), in the current context; needs a transaction. */
extern List *registrations_load(const ExtensionObjects *objects);
extern const Registration *registrations_find(List *registrations, const pg_uuid_t *id);

/* How a row of fsync_repositories stands to what was registered. */
typedef enum RegistrationFit
{
	REGISTRATION_FITS,
	REGISTRATION_MISSING,		/* not registered, or not in this database: by a
								 * dump, a copy, an INSERT */
	REGISTRATION_OTHER_ROOT,	/* the row names another directory */
} RegistrationFit;

/* The registration may be NULL: there is none. */
extern RegistrationFit registration_fit(const Registration *registration, const char *root);

/* Texts for a state, where it does not fit. */
#define REGISTRATION_MISSING_REASON	"the repository was not added in this database"
#define REGISTRATION_MISSING_HINT \
	"Call fsync_activate_repository() to track its directory here."
#define REGISTRATION_OTHER_ROOT_REASON \
	"watch_root was changed: it is not the directory that was registered"
#define REGISTRATION_OTHER_ROOT_HINT \
	"Set it back, or call fsync_activate_repository() to register path and user_area."

/*
 * Writes one, in place of a former of the same id, for this database and
 * cluster; after the right to register was asked for.  identity: NULL where it
 * is not known yet.
 */
extern void registration_store(const ExtensionObjects *objects, const pg_uuid_t *id,
							   const char *root, const char *given, const char *identity);

/* The worker has accepted this root, and has locked the repository's row. */
extern void registration_accept(const ExtensionObjects *objects, const pg_uuid_t *id,
								const char *identity);

/* Removes one; NULL: all. */
extern void registration_remove(const ExtensionObjects *objects, const pg_uuid_t *id);

#endif							/* FSYNC_REGISTRATIONS_H */
