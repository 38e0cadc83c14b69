/*-------------------------------------------------------------------------
 *
 * sha256_rounds.h
 *		The compression function of SHA-256 on vectors: one message a lane.
 *
 * A template: the including file defines the vector type, its operations and
 * the name of the function, and how a block of each message is turned into
 * sixteen vectors.  Names and numbers are those of FIPS 180-4, sections 4.1.2,
 * 5.3.3 and 6.2.2.
 *
 *		LANES				messages at once
 *		TARGET				attributes of the functions
 *		Vector				LANES words of 32 bits
 *		ADD(x, y)			modulo 2^32
 *		XOR3(x, y, z)
 *		ROTR(x, n), SHR(x, n)
 *		CH(x, y, z), MAJ(x, y, z)
 *		SPREAD(word)		the word in each lane
 *		LOAD(words), STORE(words, x)	LANES words that follow each other
 *		load_block(w, data)	word t of each message's block into w[t]
 *		BLOCKS				the function's name
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#define SIGMA0(x)		XOR3(ROTR(x, 2), ROTR(x, 13), ROTR(x, 22))
#define SIGMA1(x)		XOR3(ROTR(x, 6), ROTR(x, 11), ROTR(x, 25))
#define SCHEDULE0(x)	XOR3(ROTR(x, 7), ROTR(x, 18), SHR(x, 3))
#define SCHEDULE1(x)	XOR3(ROTR(x, 17), ROTR(x, 19), SHR(x, 10))

/*
 * Step t with the word w.  The variables are not moved along as in the
 * standard: the next step is written with their names moved.
 */
#define STEP(a, b, c, d, e, f, g, h, w, k) \
	do { \
		Vector		t1 = ADD(ADD(ADD(h, SIGMA1(e)), ADD(SPREAD(k), w)), CH(e, f, g)); \
		d = ADD(d, t1); \
		h = ADD(ADD(t1, SIGMA0(a)), MAJ(a, b, c)); \
	} while (0)

/* Word t, which takes the place of word t - 16. */
#define NEXT_WORD(w, t) \
	(w[t] = ADD(ADD(w[t], SCHEDULE0(w[((t) + 1) % 16])), \
				ADD(w[((t) + 9) % 16], SCHEDULE1(w[((t) + 14) % 16]))))

#define EIGHT_STEPS(WORD, w, t, k) \
	STEP(a, b, c, d, e, f, g, h, WORD(w, t), (k)[t]); \
	STEP(h, a, b, c, d, e, f, g, WORD(w, (t) + 1), (k)[(t) + 1]); \
	STEP(g, h, a, b, c, d, e, f, WORD(w, (t) + 2), (k)[(t) + 2]); \
	STEP(f, g, h, a, b, c, d, e, WORD(w, (t) + 3), (k)[(t) + 3]); \
	STEP(e, f, g, h, a, b, c, d, WORD(w, (t) + 4), (k)[(t) + 4]); \
	STEP(d, e, f, g, h, a, b, c, WORD(w, (t) + 5), (k)[(t) + 5]); \
	STEP(c, d, e, f, g, h, a, b, WORD(w, (t) + 6), (k)[(t) + 6]); \
	STEP(b, c, d, e, f, g, h, a, WORD(w, (t) + 7), (k)[(t) + 7])

#define FIRST_WORD(w, t)	(w[t])

TARGET
void
BLOCKS(int n, uint32_t *const states[], const uint8_t *const data[], size_t blocks)
{
	uint32_t	words[8][LANES];
	const uint8_t *from[LANES];
	Vector		state[8];

	/* a lane without a message does what the first one does, in vain */
	for (int lane = 0; lane < LANES; lane++)
	{
		const uint32_t *words_of = states[lane < n ? lane : 0];

		from[lane] = data[lane < n ? lane : 0];
		for (int i = 0; i < 8; i++)
			words[i][lane] = words_of[i];
	}
	for (int i = 0; i < 8; i++)
		state[i] = LOAD(words[i]);

	for (; blocks > 0; blocks--)
	{
		Vector		w[16];
		Vector		a = state[0];
		Vector		b = state[1];
		Vector		c = state[2];
		Vector		d = state[3];
		Vector		e = state[4];
		Vector		f = state[5];
		Vector		g = state[6];
		Vector		h = state[7];

		load_block(w, from);
		EIGHT_STEPS(FIRST_WORD, w, 0, sha256_constants);
		EIGHT_STEPS(FIRST_WORD, w, 8, sha256_constants);
		for (const uint32_t *k = sha256_constants + 16; k < sha256_constants + 64; k += 16)
		{
			EIGHT_STEPS(NEXT_WORD, w, 0, k);
			EIGHT_STEPS(NEXT_WORD, w, 8, k);
		}
		state[0] = ADD(state[0], a);
		state[1] = ADD(state[1], b);
		state[2] = ADD(state[2], c);
		state[3] = ADD(state[3], d);
		state[4] = ADD(state[4], e);
		state[5] = ADD(state[5], f);
		state[6] = ADD(state[6], g);
		state[7] = ADD(state[7], h);
		for (int lane = 0; lane < LANES; lane++)
			from[lane] += SHA256_BLOCK;
	}

	for (int i = 0; i < 8; i++)
		STORE(words[i], state[i]);
	for (int lane = 0; lane < n; lane++)
		for (int i = 0; i < 8; i++)
			states[lane][i] = words[i][lane];
}
