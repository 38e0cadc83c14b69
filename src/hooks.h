/*-------------------------------------------------------------------------
 *
 * hooks.h
 *		Statements of other sessions that a worker must know of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_HOOKS_H
#define FSYNC_HOOKS_H

/* Once, while the library is preloaded. */
extern void hooks_install(void);

#endif							/* FSYNC_HOOKS_H */
