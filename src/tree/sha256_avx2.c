/*-------------------------------------------------------------------------
 *
 * sha256_avx2.c
 *		SHA-256 of eight messages in the lanes of AVX2 vectors.
 *
 * Only called where the processor has AVX2.
 *
 *-------------------------------------------------------------------------
 */
#ifdef __x86_64__

#include "sha256_lanes.h"

#include <immintrin.h>

#define LANES			8
#define TARGET			__attribute__((target("avx2")))
#define BLOCKS			sha256_blocks_avx2

typedef __m256i Vector;

#define ADD(x, y)		_mm256_add_epi32(x, y)
#define XOR(x, y)		_mm256_xor_si256(x, y)
#define XOR3(x, y, z)	XOR(XOR(x, y), z)
#define CH(x, y, z)		XOR(z, _mm256_and_si256(x, XOR(y, z)))
#define MAJ(x, y, z)	XOR(y, _mm256_and_si256(XOR(x, y), XOR(y, z)))
#define ROTR(x, n)		XOR(_mm256_srli_epi32(x, n), _mm256_slli_epi32(x, 32 - (n)))
#define SHR(x, n)		_mm256_srli_epi32(x, n)
#define SPREAD(word)	_mm256_set1_epi32((int) (word))
#define LOAD(words)		_mm256_loadu_si256((const __m256i *) (words))
#define STORE(words, x)	_mm256_storeu_si256((__m256i *) (words), x)

/*
 * Four vectors of four words each, in each half of a vector: turns rows into
 * columns within the halves.
 */
#define TRANSPOSE_HALVES(r0, r1, r2, r3) \
	do { \
		Vector		low01 = _mm256_unpacklo_epi32(r0, r1); \
		Vector		high01 = _mm256_unpackhi_epi32(r0, r1); \
		Vector		low23 = _mm256_unpacklo_epi32(r2, r3); \
		Vector		high23 = _mm256_unpackhi_epi32(r2, r3); \
		r0 = _mm256_unpacklo_epi64(low01, low23); \
		r1 = _mm256_unpackhi_epi64(low01, low23); \
		r2 = _mm256_unpacklo_epi64(high01, high23); \
		r3 = _mm256_unpackhi_epi64(high01, high23); \
	} while (0)

/* Eight words of each message. */
TARGET
static inline void
load_half_block(Vector w[8], const uint8_t *const data[LANES], size_t offset)
{
	/* the words of a message are big-endian */
	const Vector swap = _mm256_broadcastsi128_si256(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11,
																 4, 5, 6, 7, 0, 1, 2, 3));
	Vector		rows[8];

#pragma GCC unroll 8
	for (int lane = 0; lane < 8; lane++)
		rows[lane] = _mm256_shuffle_epi8(LOAD(data[lane] + offset), swap);
	TRANSPOSE_HALVES(rows[0], rows[1], rows[2], rows[3]);
	TRANSPOSE_HALVES(rows[4], rows[5], rows[6], rows[7]);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
	{
		w[i] = _mm256_permute2x128_si256(rows[i], rows[i + 4], 0x20);
		w[i + 4] = _mm256_permute2x128_si256(rows[i], rows[i + 4], 0x31);
	}
}

TARGET
static inline void
load_block(Vector w[16], const uint8_t *const data[LANES])
{
	load_half_block(w, data, 0);
	load_half_block(w + 8, data, SHA256_BLOCK / 2);
}

#include "sha256_rounds.h"

#endif							/* __x86_64__ */
