/*-------------------------------------------------------------------------
 *
 * sha256_lanes.h
 *		SHA-256 (FIPS 180-4) of many messages at once.
 *
 * SHA-256 is a chain of dependent steps and cannot be made faster by vectors,
 * but many chains can be taken a step further at once, each in its own lane of
 * the vectors.  A kernel is a way to do that on some kind of processor; the
 * one with a single lane is libcrypto, which every processor has and which is
 * the fastest for few messages, and for many where there are instructions for
 * SHA but not AVX-512.
 *
 * A message in progress is nothing but its eight words of state, so it may be
 * given to another kernel, or to another lane, from block to block.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FSYNC_SHA256_LANES_H
#define FSYNC_SHA256_LANES_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BLOCK		64
#define SHA256_HASH			32
#define SHA256_MAX_LANES	16

/* The most that sha256_pad() writes. */
#define SHA256_PADDING		(SHA256_BLOCK + 8)

typedef uint32_t Sha256State[8];

typedef struct Sha256Kernel
{
	const char *name;
	int			lanes;

	/*
	 * From so many messages on it is faster than libcrypto, one message after
	 * the other.
	 */
	int			worthwhile;

	/*
	 * Takes each of n messages, at most as many as there are lanes, further
	 * by so many blocks of its data, which need not be aligned.
	 */
	void		(*blocks) (int n, uint32_t *const states[], const uint8_t *const data[],
						   size_t blocks);
} Sha256Kernel;

/*
 * The kernel for this processor, found out once.  As libcrypto does, it
 * leaves unused what the environment variable OPENSSL_ia32cap masks.
 */
extern const Sha256Kernel *sha256_kernel(void);

/* libcrypto's. */
extern const Sha256Kernel sha256_single;

/*
 * The kernel of this index that is built in, or NULL behind the last; *usable
 * says whether this processor has what it needs.
 */
extern const Sha256Kernel *sha256_kernel_at(int index, int *usable);

/*
 * Takes n messages further by so many blocks, with the kernel while that is
 * worthwhile for so few.
 */
extern void sha256_blocks(const Sha256Kernel *kernel, int n, uint32_t *const states[],
						  const uint8_t *const data[], size_t blocks);

extern void sha256_start(Sha256State state);

/*
 * Completes a message: writes the padding of a message of so many bytes behind
 * its last byte, up to the end of a block.  The bytes written, at most
 * SHA256_PADDING.
 */
extern size_t sha256_pad(uint8_t *end, uint64_t length);

/* The hash, when all blocks and the padding were taken. */
extern void sha256_result(const Sha256State state, uint8_t hash[SHA256_HASH]);

/* sha256_avx2.c, sha256_avx512.c */
extern const uint32_t sha256_constants[64];
extern void sha256_blocks_avx2(int n, uint32_t *const states[], const uint8_t *const data[],
							   size_t blocks);
extern void sha256_blocks_avx512(int n, uint32_t *const states[], const uint8_t *const data[],
								 size_t blocks);

#endif							/* FSYNC_SHA256_LANES_H */
