/*-------------------------------------------------------------------------
 *
 * test_sha256_lanes.c
 *		SHA-256 in lanes is SHA-256.
 *
 * Every kernel that this processor can run is compared with the examples of
 * NIST and, on random messages, with libcrypto's EVP interface.
 *
 *-------------------------------------------------------------------------
 */
#include "files.h"
#include "sha256_lanes.h"

#include <openssl/evp.h>

/* "abc", no message, and 448 bits, as in NIST's examples for FIPS 180-4. */
static const struct
{
	const char *message;
	uint8_t		hash[SHA256_HASH];
}			examples[] = {
	{"abc", {
		0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
		0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
	}},
	{"", {
		0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
		0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
	}},
	{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", {
		0x24, 0x8d, 0x6a, 0x61, 0xd2, 0x06, 0x38, 0xb8, 0xe5, 0xc0, 0x26, 0x93, 0x0c, 0x3e, 0x60, 0x39,
		0xa3, 0x3c, 0xe4, 0x59, 0x64, 0xff, 0x21, 0x67, 0xf6, 0xec, 0xed, 0xd4, 0x19, 0xdb, 0x06, 0xc1,
	}},
};

static void
test_examples(const Sha256Kernel *kernel)
{
	int			wrong = 0;

	for (size_t e = 0; e < sizeof(examples) / sizeof(examples[0]); e++)
		for (int lane = 0; lane < kernel->lanes; lane++)
		{
			/* the example in one lane, something else in the others */
			static uint8_t noise[2 * SHA256_BLOCK];
			uint8_t		buffer[SHA256_BLOCK + SHA256_PADDING];
			Sha256State state[SHA256_MAX_LANES];
			uint32_t   *states[SHA256_MAX_LANES];
			const uint8_t *data[SHA256_MAX_LANES];
			uint8_t		hash[SHA256_HASH];
			size_t		len = strlen(examples[e].message);

			for (int i = 0; i < kernel->lanes; i++)
			{
				sha256_start(state[i]);
				states[i] = state[i];
				data[i] = noise;
			}
			memcpy(buffer, examples[e].message, len);
			data[lane] = buffer;
			len += sha256_pad(buffer + len, len);
			kernel->blocks(kernel->lanes, states, data, len / SHA256_BLOCK);
			sha256_result(state[lane], hash);
			wrong += memcmp(hash, examples[e].hash, SHA256_HASH) != 0;
		}
	CHECK(wrong == 0, "%s: NIST's examples, in each lane", kernel->name);
}

#define MESSAGES			40
#define MESSAGE_MAX			(200 * 1024)

typedef struct Message
{
	uint8_t    *data;			/* of this very size, so that a sanitizer sees */
	size_t		len;			/* with padding */
	size_t		taken;
	Sha256State state;
	uint8_t		expected[SHA256_HASH];
} Message;

static void
make_message(Message *message, size_t len)
{
	message->data = malloc(len + SHA256_PADDING);
	FILES_MUST(message->data != NULL);
	for (size_t i = 0; i < len; i++)
		message->data[i] = (uint8_t) unit_random();
	FILES_MUST(EVP_Digest(message->data, len, message->expected, NULL, EVP_sha256(), NULL) == 1);
	message->len = len + sha256_pad(message->data + len, len);
	message->data = realloc(message->data, message->len);
	FILES_MUST(message->data != NULL);
	message->taken = 0;
	sha256_start(message->state);
}

/*
 * Takes all messages to their end by random steps: some of them, in any order,
 * so that each is now in this lane and now in that, by so many blocks as all
 * of these have, or fewer; now and then by another kernel.
 */
static void
take_all(const Sha256Kernel *kernel, Message *messages, int n)
{
	for (;;)
	{
		const Sha256Kernel *now = unit_below(8) == 0 ? &sha256_single : kernel;
		int			most = 1 + (int) unit_below((size_t) now->lanes);
		int			start = (int) unit_below((size_t) n);
		uint32_t   *states[SHA256_MAX_LANES];
		const uint8_t *data[SHA256_MAX_LANES];
		Message    *group[SHA256_MAX_LANES];
		size_t		blocks = SIZE_MAX;
		int			size = 0;

		for (int i = 0; i < n && size < most; i++)
		{
			Message    *message = &messages[(start + i * 7) % n];
			size_t		left = (message->len - message->taken) / SHA256_BLOCK;

			if (left == 0)
				continue;
			states[size] = message->state;
			data[size] = message->data + message->taken;
			group[size++] = message;
			if (left < blocks)
				blocks = left;
		}
		if (size == 0)
			return;
		if (unit_below(2) == 0)
			blocks = 1 + unit_below(blocks);
		now->blocks(size, states, data, blocks);
		for (int i = 0; i < size; i++)
			group[i]->taken += blocks * SHA256_BLOCK;
	}
}

/* Fails if a length, a split, a lane or its neighbours matter. */
static void
test_random(const Sha256Kernel *kernel)
{
	int			wrong = 0;

	for (int round = 0; round < 10; round++)
	{
		Message		messages[MESSAGES];

		for (int i = 0; i < MESSAGES; i++)
			make_message(&messages[i], round == 0 ? (size_t) (i + 40) :
						 i % 4 == 0 ? unit_below(MESSAGE_MAX) : unit_below(2000));
		take_all(kernel, messages, MESSAGES);
		for (int i = 0; i < MESSAGES; i++)
		{
			uint8_t		hash[SHA256_HASH];

			sha256_result(messages[i].state, hash);
			wrong += memcmp(hash, messages[i].expected, SHA256_HASH) != 0;
			free(messages[i].data);
		}
	}
	CHECK(wrong == 0, "%s: random lengths and splits give what libcrypto gives", kernel->name);
}

/* Fails if the length is counted in too few bits. */
static void
test_long_padding(void)
{
	uint8_t		padding[SHA256_PADDING];
	const uint8_t bits[8] = {0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x08};
	size_t		n = sha256_pad(padding, (UINT64_C(1) << 43) + 1);

	CHECK((1 + n) % SHA256_BLOCK == 0, "the padding ends a block");
	CHECK(memcmp(padding + n - 8, bits, 8) == 0, "the length of eight terabytes and a byte");
}

/* The kernel's name under this value of OPENSSL_ia32cap. */
static void
check_choice(const char *value, const char *expected)
{
	int			ends[2];
	char		name[32] = "";
	pid_t		pid;
	int			status;

	FILES_MUST(pipe(ends) == 0);
	pid = fork();
	FILES_MUST(pid >= 0);
	if (pid == 0)
	{
		const char *chosen;

		FILES_MUST(setenv("OPENSSL_ia32cap", value, 1) == 0);
		chosen = sha256_kernel()->name;
		FILES_MUST(write(ends[1], chosen, strlen(chosen)) == (ssize_t) strlen(chosen));
		files_end_child(0);
	}
	close(ends[1]);
	FILES_MUST(waitpid(pid, &status, 0) == pid && status == 0);
	FILES_MUST(read(ends[0], name, sizeof(name) - 1) > 0);
	close(ends[0]);
	CHECK(strcmp(name, expected) == 0, "OPENSSL_ia32cap=%s: %s, is %s", value, expected, name);
}

static void
test_choice(void)
{
	bool		avx2 = false;
	bool		avx512 = false;
	int			usable;
	const Sha256Kernel *kernel;

	for (int i = 0; (kernel = sha256_kernel_at(i, &usable)) != NULL; i++)
	{
		avx2 |= strcmp(kernel->name, "AVX2") == 0 && usable;
		avx512 |= strcmp(kernel->name, "AVX-512") == 0 && usable;
	}
	check_choice(":0", "libcrypto");
	check_choice("0x1234", "libcrypto");
	check_choice(":~0x40010020", "libcrypto");
	check_choice(":~0x10020", "libcrypto");
	check_choice(":~0xffffffffffffffff", "libcrypto");
	if (avx2)
	{
		check_choice(":~0x20010000", "AVX2");
		check_choice("~0x200000200000000:~0x60000000", "AVX2");
		check_choice(":0x20", "AVX2");
	}
	else
		SKIP("the choice of AVX2", "not on this processor");
	if (avx512)
	{
		check_choice(":~0", "AVX-512");
		check_choice(":~0x20000000", "AVX-512");
		check_choice(":0x60010020", "AVX-512");
		check_choice(":~536870912", "AVX-512");
		check_choice(":0x40010020", "AVX-512");
	}
	else
		SKIP("the choice of AVX-512", "not on this processor");
}

int
main(void)
{
	const Sha256Kernel *kernel;
	int			usable;

	for (int i = 0; (kernel = sha256_kernel_at(i, &usable)) != NULL; i++)
	{
		if (!usable)
		{
			SKIP(kernel->name, "not on this processor");
			continue;
		}
		test_examples(kernel);
		test_random(kernel);
	}
	test_long_padding();
	test_choice();
	return unit_done();
}
