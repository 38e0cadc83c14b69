/*-------------------------------------------------------------------------
 *
 * unit.h
 *		The whole harness of the unit tests: checks that print TAP.
 *
 * A test program calls CHECK and its relatives, each with a sentence of what
 * holds, and ends with "return unit_done();".  A failed check says where and
 * what it saw, and the program goes on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_UNIT_H
#define FSYNC_UNIT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int	unit_count = 0;
static int	unit_failures = 0;

__attribute__((format(printf, 4, 5), unused))
static bool
unit_check(bool good, const char *file, int line, const char *format,...)
{
	va_list		args;

	printf("%sok %d - ", good ? "" : "not ", ++unit_count);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	if (!good)
	{
		unit_failures++;
		printf("# at %s line %d\n", file, line);
	}
	fflush(stdout);
	return good;
}

__attribute__((unused))
static bool
unit_check_int(long long got, long long expected, const char *file, int line,
			   const char *name)
{
	bool		good = unit_check(got == expected, file, line, "%s", name);

	if (!good)
		printf("# got %lld, expected %lld\n", got, expected);
	return good;
}

__attribute__((unused))
static bool
unit_check_str(const char *got, const char *expected, const char *file,
			   int line, const char *name)
{
	bool		good = unit_check(strcmp(got, expected) == 0, file, line, "%s", name);

	if (!good)
		printf("# got \"%s\", expected \"%s\"\n", got, expected);
	return good;
}

#define CHECK(cond, ...) \
	unit_check((cond), __FILE__, __LINE__, __VA_ARGS__)
#define CHECK_EQ_INT(got, expected, name) \
	unit_check_int((got), (expected), __FILE__, __LINE__, (name))
#define CHECK_EQ_STR(got, expected, name) \
	unit_check_str((got), (expected), __FILE__, __LINE__, (name))
#define SKIP(name, reason) \
	printf("ok %d - %s # SKIP %s\n", ++unit_count, (name), (reason))

__attribute__((unused))
static int
unit_done(void)
{
	printf("1..%d\n", unit_count);
	return unit_failures > 0 ? 1 : 0;
}

/* The same numbers in each run, so that a failure can be seen again. */
static uint64_t unit_random_state = 0x9e3779b97f4a7c15;

__attribute__((unused))
static uint64_t
unit_random(void)
{
	/* xorshift64* */
	unit_random_state ^= unit_random_state >> 12;
	unit_random_state ^= unit_random_state << 25;
	unit_random_state ^= unit_random_state >> 27;
	return unit_random_state * 0x2545f4914f6cdd1d;
}

__attribute__((unused))
static size_t
unit_below(size_t n)
{
	return (size_t) (unit_random() % n);
}

#endif							/* FSYNC_UNIT_H */
