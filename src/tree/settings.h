/*-------------------------------------------------------------------------
 *
 * settings.h
 *		From what the worker says at first to what it asks for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SETTINGS_H
#define FSYNC_SETTINGS_H

#include "filter.h"
#include "protocol.h"

/* The filter of a PROTO_INIT; NULL when out of memory, or a pattern is bad. */
extern Filter *settings_filter(const ProtoInit *init);

#endif							/* FSYNC_SETTINGS_H */
