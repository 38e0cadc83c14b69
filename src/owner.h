/*-------------------------------------------------------------------------
 *
 * owner.h
 *		The role that owns the extension's tables, and that it can do nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_OWNER_H
#define FSYNC_OWNER_H

#include "session.h"

/* Made by the install script; all databases of a cluster share it. */
#define OWNER_ROLE			"fsync_owner"

/* Where what may be watched is written down; see registrations.h. */
#define PRIVATE_SCHEMA		"fsync_private"
#define REGISTRATIONS_TABLE	"registrations"

/* What is wrong, and what the user can do about it; in the current context. */
typedef struct OwnerTrouble
{
	char	   *reason;
	char	   *hint;
} OwnerTrouble;

/*
 * True when nothing of the extension may be written, since its tables, or some
 * of them, belong to somebody who could do something; or when the owner lacks
 * USAGE on their schema.  Needs a transaction.
 */
extern bool owner_find_trouble(const ExtensionObjects *objects, OwnerTrouble *trouble);

/* The owner; raises ERRCODE_INVALID_ROLE_SPECIFICATION where there is trouble. */
extern Oid	owner_require_powerless(const ExtensionObjects *objects);

/*
 * Whether the owner can read and write the rows of file_records: when it can,
 * an error for lack of privilege is not about the table but comes of a user's
 * trigger.  Needs a transaction.
 */
extern bool owner_may_write_rows(const ExtensionObjects *objects);

/*
 * What keeps the owner from reading and writing one of its tables; for
 * fsync_status(), as the worker learns it by being refused.
 */
extern bool owner_find_lack(const ExtensionObjects *objects, OwnerTrouble *trouble);

/* Whether a table of this name is one of the extension's. */
extern bool owner_is_table_of_ours(const char *name);

#endif							/* FSYNC_OWNER_H */
