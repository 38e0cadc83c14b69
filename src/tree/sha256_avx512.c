/*-------------------------------------------------------------------------
 *
 * sha256_avx512.c
 *		SHA-256 of sixteen messages in the lanes of AVX-512 vectors.
 *
 * Only called where the processor has AVX512F and AVX512BW.
 *
 *-------------------------------------------------------------------------
 */
#ifdef __x86_64__

#include "sha256_lanes.h"

#include <immintrin.h>

#define LANES			16
#define TARGET			__attribute__((target("avx512f,avx512bw")))
#define BLOCKS			sha256_blocks_avx512

typedef __m512i Vector;

/* The operand of VPTERNLOG is the truth table, with x as the highest bit. */
#define ADD(x, y)		_mm512_add_epi32(x, y)
#define XOR3(x, y, z)	_mm512_ternarylogic_epi32(x, y, z, 0x96)
#define CH(x, y, z)		_mm512_ternarylogic_epi32(x, y, z, 0xca)
#define MAJ(x, y, z)	_mm512_ternarylogic_epi32(x, y, z, 0xe8)
#define ROTR(x, n)		_mm512_ror_epi32(x, n)
#define SHR(x, n)		_mm512_srli_epi32(x, n)
#define SPREAD(word)	_mm512_set1_epi32((int) (word))
#define LOAD(words)		_mm512_loadu_si512(words)
#define STORE(words, x)	_mm512_storeu_si512(words, x)

/*
 * Four vectors of four words each, in each of the four quarters of a vector:
 * turns rows into columns within the quarters.
 */
#define TRANSPOSE_QUARTERS(r0, r1, r2, r3) \
	do { \
		Vector		low01 = _mm512_unpacklo_epi32(r0, r1); \
		Vector		high01 = _mm512_unpackhi_epi32(r0, r1); \
		Vector		low23 = _mm512_unpacklo_epi32(r2, r3); \
		Vector		high23 = _mm512_unpackhi_epi32(r2, r3); \
		r0 = _mm512_unpacklo_epi64(low01, low23); \
		r1 = _mm512_unpackhi_epi64(low01, low23); \
		r2 = _mm512_unpacklo_epi64(high01, high23); \
		r3 = _mm512_unpackhi_epi64(high01, high23); \
	} while (0)

/* The same with whole quarters as elements: r[i] has quarter q of row i. */
#define TRANSPOSE_VECTORS(r0, r1, r2, r3) \
	do { \
		Vector		low01 = _mm512_shuffle_i32x4(r0, r1, 0x44); \
		Vector		high01 = _mm512_shuffle_i32x4(r0, r1, 0xee); \
		Vector		low23 = _mm512_shuffle_i32x4(r2, r3, 0x44); \
		Vector		high23 = _mm512_shuffle_i32x4(r2, r3, 0xee); \
		r0 = _mm512_shuffle_i32x4(low01, low23, 0x88); \
		r1 = _mm512_shuffle_i32x4(low01, low23, 0xdd); \
		r2 = _mm512_shuffle_i32x4(high01, high23, 0x88); \
		r3 = _mm512_shuffle_i32x4(high01, high23, 0xdd); \
	} while (0)

TARGET
static inline void
load_block(Vector w[16], const uint8_t *const data[LANES])
{
	/* the words of a message are big-endian */
	const Vector swap = _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11,
															4, 5, 6, 7, 0, 1, 2, 3));
	Vector		rows[16];

#pragma GCC unroll 16
	for (int lane = 0; lane < 16; lane++)
		rows[lane] = _mm512_shuffle_epi8(_mm512_loadu_si512(data[lane]), swap);
#pragma GCC unroll 4
	for (int i = 0; i < 16; i += 4)
		TRANSPOSE_QUARTERS(rows[i], rows[i + 1], rows[i + 2], rows[i + 3]);
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
	{
		TRANSPOSE_VECTORS(rows[i], rows[i + 4], rows[i + 8], rows[i + 12]);
		w[i] = rows[i];
		w[i + 4] = rows[i + 4];
		w[i + 8] = rows[i + 8];
		w[i + 12] = rows[i + 12];
	}
}

#include "sha256_rounds.h"

#endif							/* __x86_64__ */
