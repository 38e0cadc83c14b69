/*-------------------------------------------------------------------------
 *
 * prune.c
 *		Deletes rows that are old, but for those that cannot go.
 *
 * An application may reference a run or a change, or a trigger of its own may
 * want to keep one.  That is no reason to keep all others for ever.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/resowner.h"

#include "owner.h"
#include "prune.h"

/* The longest wait for a lock, in milliseconds. */
#define LOCK_WAIT_MS		5

/*
 * A lack of privilege is that of a user's trigger, if the owner has all that it
 * needs.
 */
static bool
blames_no_row(const ExtensionObjects *objects, int sqlerrcode)
{
	OwnerTrouble trouble;

	if (sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		return false;
	if (sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		return owner_find_lack(objects, &trouble);
	return session_error_is_transient(sqlerrcode);
}

/* False: the database refuses to delete one of them. */
static bool
try_to_delete(const ExtensionObjects *objects, SessionPlan *plan, Datum *ids, int n,
			  uint64 *deleted)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Datum		values[1];
	ErrorData  *volatile error = NULL;

	values[0] = PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		uint64		gone = session_execute(objects, plan, values, NULL, SPI_OK_DELETE);

		ReleaseCurrentSubTransaction();
		*deleted += gone;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error == NULL)
		return true;
	if (blames_no_row(objects, error->sqlerrcode))
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

static void
delete_what_goes(const ExtensionObjects *objects, SessionPlan *plan, Datum *ids, int n,
				 uint64 *deleted)
{
	CHECK_FOR_INTERRUPTS();
	if (n == 0 || try_to_delete(objects, plan, ids, n, deleted) || n == 1)
		return;
	delete_what_goes(objects, plan, ids, n / 2, deleted);
	delete_what_goes(objects, plan, ids + n / 2, n - n / 2, deleted);
}

uint64
prune_rows(const ExtensionObjects *objects, SessionPlan *plan, Datum *ids, int n)
{
	uint64		deleted = 0;

	session_limit_lock_waits(LOCK_WAIT_MS);
	delete_what_goes(objects, plan, ids, n, &deleted);
	return deleted;
}
