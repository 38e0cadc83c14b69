/*-------------------------------------------------------------------------
 *
 * sha256_lanes.c
 *		SHA-256 of many messages at once: which kernel, and what all of them
 *		share.
 *
 *-------------------------------------------------------------------------
 */

/*
 * The one interface of libcrypto that takes a message further block by block
 * from a state that others computed.  It is called old-fashioned since 3.0,
 * but EVP, which is to replace it, keeps the state to itself.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "sha256_lanes.h"

#include <openssl/sha.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* FIPS 180-4, 4.2.2 */
const uint32_t sha256_constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* 5.3.3 */
static const Sha256State initial = {
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static void
blocks_single(int n, uint32_t *const states[], const uint8_t *const data[], size_t blocks)
{
	for (int i = 0; i < n; i++)
	{
		SHA256_CTX	context;

		SHA256_Init(&context);
		memcpy(context.h, states[i], sizeof(Sha256State));
		SHA256_Update(&context, data[i], blocks * SHA256_BLOCK);
		memcpy(states[i], context.h, sizeof(Sha256State));
	}
}

const Sha256Kernel sha256_single = {"libcrypto", 1, 1, blocks_single};

#ifdef __x86_64__

/* ---------------------------------------------------------------------
 * What the processor has
 * ---------------------------------------------------------------------
 */

/* CPUID leaf 7, EBX. */
#define CPU_AVX2			(UINT64_C(1) << 5)
#define CPU_AVX512F			(UINT64_C(1) << 16)
#define CPU_SHA				(UINT64_C(1) << 29)
#define CPU_AVX512BW		(UINT64_C(1) << 30)

/*
 * On a core of Zen 4, in GB/s: libcrypto 0.5, with instructions for SHA 1.7; a
 * lane of AVX2 or AVX-512 0.21, so that eight are as fast as these
 * instructions, and sixteen twice as fast.
 */
static const Sha256Kernel avx2 = {"AVX2", 8, 3, sha256_blocks_avx2};
static const Sha256Kernel avx512 = {"AVX-512", 16, 3, sha256_blocks_avx512};
static const Sha256Kernel avx512_beside_sha = {"AVX-512", 16, 10, sha256_blocks_avx512};

/* __builtin_cpu_supports() also asks whether the kernel saves the registers. */
static uint64_t
processor_has(void)
{
	uint32_t	eax = 7;
	uint32_t	ebx = 0;
	uint32_t	ecx = 0;
	uint32_t	edx;
	uint64_t	vectors = 0;

	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx2"))
		vectors |= CPU_AVX2;
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
		vectors |= CPU_AVX512F | CPU_AVX512BW;
	if (vectors != 0)
		__asm__ ("cpuid" : "+a" (eax), "=b" (ebx), "+c" (ecx), "=d" (edx));
	return vectors | (ebx & CPU_SHA);
}

/*
 * Without what OPENSSL_ia32cap(3) forbids.  Its second number, behind a colon,
 * is of leaf 7: the bits to leave out if it begins with a tilde, else those to
 * have.  A value without it means that there is nothing of leaf 7.
 */
static uint64_t
permitted(uint64_t has)
{
	const char *value = getenv("OPENSSL_ia32cap");
	const char *number;

	if (value == NULL)
		return has;
	number = strchr(value, ':');
	if (number == NULL)
		return 0;
	if (number[1] == '~')
		return has & ~strtoull(number + 2, NULL, 0);
	return has & strtoull(number + 1, NULL, 0);
}

static const Sha256Kernel *
choose(void)
{
	uint64_t	has = permitted(processor_has());

	if ((has & CPU_AVX512F) != 0 && (has & CPU_AVX512BW) != 0)
		return (has & CPU_SHA) != 0 ? &avx512_beside_sha : &avx512;
	if ((has & CPU_AVX2) != 0 && (has & CPU_SHA) == 0)
		return &avx2;
	return &sha256_single;
}

const Sha256Kernel *
sha256_kernel_at(int index, int *usable)
{
	uint64_t	has = processor_has();

	switch (index)
	{
		case 0:
			*usable = 1;
			return &sha256_single;
		case 1:
			*usable = (has & CPU_AVX2) != 0;
			return &avx2;
		case 2:
			*usable = (has & CPU_AVX512F) != 0;
			return &avx512;
		default:
			return NULL;
	}
}

#else

static const Sha256Kernel *
choose(void)
{
	return &sha256_single;
}

const Sha256Kernel *
sha256_kernel_at(int index, int *usable)
{
	*usable = 1;
	return index == 0 ? &sha256_single : NULL;
}

#endif							/* __x86_64__ */

static const Sha256Kernel *chosen;

static void
choose_once(void)
{
	chosen = choose();
}

const Sha256Kernel *
sha256_kernel(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, choose_once);
	return chosen;
}

/* ---------------------------------------------------------------------
 * Messages
 * ---------------------------------------------------------------------
 */

void
sha256_blocks(const Sha256Kernel *kernel, int n, uint32_t *const states[],
			  const uint8_t *const data[], size_t blocks)
{
	if (n < kernel->worthwhile)
		kernel = &sha256_single;
	kernel->blocks(n, states, data, blocks);
}

void
sha256_start(Sha256State state)
{
	memcpy(state, initial, sizeof(initial));
}

static void
put_big_endian(uint8_t *to, uint64_t value, int bytes)
{
	for (int i = bytes; i-- > 0; value >>= 8)
		to[i] = (uint8_t) value;
}

size_t
sha256_pad(uint8_t *end, uint64_t length)
{
	/* a byte 0x80, zeros, and the length in bits as eight bytes */
	size_t		zeros = (size_t) (-(length + 9) % SHA256_BLOCK);

	end[0] = 0x80;
	memset(end + 1, 0, zeros);
	put_big_endian(end + 1 + zeros, length * 8, 8);
	return zeros + 9;
}

void
sha256_result(const Sha256State state, uint8_t hash[SHA256_HASH])
{
	for (int i = 0; i < 8; i++)
		put_big_endian(hash + 4 * i, state[i], 4);
}
