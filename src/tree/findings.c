/*-------------------------------------------------------------------------
 *
 * findings.c
 *		What a scan hands to the engine while it runs.
 *
 *-------------------------------------------------------------------------
 */
#include "findings.h"

#include "clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/* Findings that are handed over together, or after so long. */
#define FINDINGS_BATCH		256
#define FINDINGS_BATCH_US	2000

static void
list_init(FindingList *list)
{
	list->first = NULL;
	list->end = &list->first;
	list->count = 0;
}

/* Moves all of one list to the end of another. */
static void
list_move(FindingList *to, FindingList *from)
{
	if (from->first == NULL)
		return;
	*to->end = from->first;
	to->end = from->end;
	to->count += from->count;
	list_init(from);
}

static Finding *
list_take(FindingList *list)
{
	Finding    *finding = list->first;

	if (finding == NULL)
		return NULL;
	list->first = finding->next;
	if (--list->count == 0)
		list->end = &list->first;
	return finding;
}

static void
list_free(FindingList *list)
{
	Finding    *finding;

	while ((finding = list_take(list)) != NULL)
		free(finding);
}

void
findings_init(Findings *findings, int notify_fd)
{
	list_init(&findings->gathered);
	list_init(&findings->queue);
	list_init(&findings->taken);
	findings->gathered_us = 0;
	findings->waiting = findings->cancelled = false;
	findings->notify_fd = notify_fd;
	pthread_mutex_init(&findings->lock, NULL);
	pthread_cond_init(&findings->room, NULL);
}

void
findings_free(Findings *findings)
{
	list_free(&findings->gathered);
	list_free(&findings->queue);
	list_free(&findings->taken);
	pthread_mutex_destroy(&findings->lock);
	pthread_cond_destroy(&findings->room);
}

bool
findings_add(Findings *findings, FindingKind kind, const char *path, size_t len,
			 ProtoProblem problem, int error)
{
	FindingList *list = &findings->gathered;
	Finding    *finding = malloc(sizeof(Finding) + len + 1);
	int64_t		now;

	if (finding == NULL)
		return false;
	finding->next = NULL;
	finding->kind = kind;
	finding->problem = problem;
	finding->error = error;
	finding->len = len;
	memcpy(finding->path, path, len);
	finding->path[len] = '\0';
	*list->end = finding;
	list->end = &finding->next;
	now = monotonic_us();
	if (list->count++ == 0)
		findings->gathered_us = now;
	/* a problem that is told late may be cured by then */
	if (kind != FINDING_ADDED || list->count >= FINDINGS_BATCH ||
		now - findings->gathered_us >= FINDINGS_BATCH_US)
		findings_flush(findings);
	return true;
}

void
findings_flush(Findings *findings)
{
	bool		first;

	if (findings->gathered.first == NULL)
		return;
	pthread_mutex_lock(&findings->lock);
	while (findings->queue.count >= FINDINGS_QUEUE && !findings->cancelled)
	{
		findings->waiting = true;
		pthread_cond_wait(&findings->room, &findings->lock);
	}
	findings->waiting = false;
	first = findings->queue.first == NULL;
	list_move(&findings->queue, &findings->gathered);
	pthread_mutex_unlock(&findings->lock);
	if (first)
		eventfd_write(findings->notify_fd, 1);
}

Finding *
findings_take(Findings *findings)
{
	if (findings->taken.first == NULL)
	{
		pthread_mutex_lock(&findings->lock);
		list_move(&findings->taken, &findings->queue);
		if (findings->waiting)
			pthread_cond_signal(&findings->room);
		pthread_mutex_unlock(&findings->lock);
	}
	return list_take(&findings->taken);
}

bool
findings_left(Findings *findings)
{
	bool		left = findings->taken.first != NULL;

	if (!left)
	{
		pthread_mutex_lock(&findings->lock);
		left = findings->queue.first != NULL;
		pthread_mutex_unlock(&findings->lock);
	}
	return left;
}

void
findings_cancel(Findings *findings)
{
	pthread_mutex_lock(&findings->lock);
	findings->cancelled = true;
	pthread_cond_signal(&findings->room);
	pthread_mutex_unlock(&findings->lock);
}
