/* A GPT's whole step on a CPU: tokens of many sequences in, logits out, with no Python between the products.
 *
 * The weights are read where torch keeps them: matrices (out, in), row by row, in fp32 or fp16, or quantized as
 * model/quantized.py lays them out. Activations, sums and the cache are fp32.
 *
 * Every sum has one order, whatever else is in the batch: a token's numbers are the same bits alone, beside others, in
 * a chunk of a prompt and read anew. That is what makes a request's text depend on nothing but the request.
 *
 * Vectors are the compiler's own (gcc and clang): it makes AVX-512, AVX2 or NEON of them.
 */

#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __AVX2__
#include <immintrin.h>
#endif
#ifdef __AVX512F__
#define L 16   /* floats in a vector */
#define TOKENS 6   /* of a tile: with 4 rows 24 sums, which with what they are made of fit 32 registers */
#else
#define L 8
#define TOKENS 2
#endif
#define ROWS 4
#define BLOCK 16   /* positions in a block of the cache */
#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * L)));
typedef int32_t vi __attribute__((vector_size(4 * L)));

enum { F32, F16, INT8, INT4 };

typedef struct {
    const void *weight;   /* (rows, columns) */
    const float *scale;   /* INT8: (rows,); INT4: (rows, columns / group) */
    const float *bias;    /* (rows,), or none */
    int32_t kind, rows, columns, group;
} Matrix;

typedef struct {
    const float *weight, *bias;   /* without a bias it is RMSNorm, with one LayerNorm; without a weight there is none */
} Norm;

typedef struct {
    Norm attention_norm, mlp_norm, q_norm, k_norm;
    Matrix q, k, v, o, gate, up, down;   /* without a gate the MLP is GELU's, with one SwiGLU */
} Layer;

typedef struct {
    const Layer *layers;
    const float *embed;       /* (vocabulary, n_embd) */
    const float *positions;   /* learned ones (n_ctx, n_embd), or none */
    const float *rope;        /* cosine and signed sine (2, rope_n, head_dim), or none */
    Norm norm;
    Matrix head;
    float eps;
    int32_t n_layer, n_head, n_kv_head, head_dim, n_embd, n_inner, rope_n, threads;
} Model;

typedef struct {
    float *keys;            /* (n_layer, n_blocks, n_kv_head, head_dim, BLOCK) */
    float *values;          /* (n_layer, n_blocks, n_kv_head, BLOCK, head_dim rounded up to whole vectors) */
    const int32_t *ids, *positions, *rows;   /* (tokens,): what each is, where it stands, whose table is its own */
    const int32_t *tables;  /* (sequences, table_width): the blocks of each */
    const int32_t *read;    /* (n_read,): the tokens whose logits are asked for */
    float *logits;          /* (n_read, vocabulary) */
    float *scratch;         /* `scratch_floats` of them */
    int32_t n_tokens, n_read, n_blocks, table_width;
} Batch;

INLINE vf load(const float *p) { vf v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, vf v) { memcpy(p, &v, sizeof v); }
INLINE vf all(float x) { return x - (vf){}; }
INLINE vf choose(vi where, vf a, vf b) { return (vf)((where & (vi)a) | (~where & (vi)b)); }

/* Half the lanes to the other half, until one is left. */
INLINE float sum(vf v) {
#ifdef __AVX512F__
    return _mm512_reduce_add_ps((__m512)v);
#endif
    float part[L];
    store(part, v);
    for (int n = L / 2; n; n /= 2)
        for (int i = 0; i < n; i++) part[i] += part[i + n];
    return part[0];
}

/* The sums of four vectors, in one order for each: a tile's last step, which of short rows is much of the work. */
INLINE void sums(vf a, vf b, vf c, vf d, float *y) {
#if defined __AVX512F__
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps((__m512)a, (__m512)b), _mm512_unpackhi_ps((__m512)a, (__m512)b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps((__m512)c, (__m512)d), _mm512_unpackhi_ps((__m512)c, (__m512)d));
    const __m512 each = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(each),
                                      _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(each), 1)));
    _mm_storeu_ps(y, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
#elif defined __AVX2__
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps((__m256)a, (__m256)b), _mm256_unpackhi_ps((__m256)a, (__m256)b));
    const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps((__m256)c, (__m256)d), _mm256_unpackhi_ps((__m256)c, (__m256)d));
    const __m256 each = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
    _mm_storeu_ps(y, _mm_add_ps(_mm256_castps256_ps128(each), _mm256_extractf128_ps(each, 1)));
#else
    y[0] = sum(a), y[1] = sum(b), y[2] = sum(c), y[3] = sum(d);
#endif
}

/* e^x to 2 units in the last place: 2^n and a polynomial of what is left (Cephes). */
INLINE vf exponential(vf x) {
    x = choose(x > 88.0f, all(88.0f), choose(x < -87.0f, all(-87.0f), x));
    const vf n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    const vf r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vf p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const vi exponent = (__builtin_convertvector(n, vi) + 127) << 23;
    vf power;
    memcpy(&power, &exponent, sizeof power);
    return p * power;
}

/* ---- products ---- */

/* Where row r of a matrix begins. */
INLINE const char *row_of(const Matrix *m, int r) {
    static const int half_bytes[] = {8, 4, 2, 1};
    return (const char *)m->weight + (int64_t)r * m->columns * half_bytes[m->kind] / 2;
}

INLINE float half(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
    uint32_t bits = (rest << 13) + (112u << 23);
    float f;
    if (rest < 0x0400) {   /* 2^-14 is the smallest with a whole mantissa */
        f = rest * 5.9604645e-8f;
        return sign ? -f : f;
    }
    if (rest >= 0x7c00) bits = 0x7f800000 | rest << 13;
    bits |= sign;
    memcpy(&f, &bits, 4);
    return f;
}

INLINE float weight(int kind, const char *row, int c) {
    if (kind == F32) return ((const float *)row)[c];
    return kind == F16 ? half(((const uint16_t *)row)[c]) : (float)((const int8_t *)row)[c];
}

/* L weights of a row from column c on, before the scale. */
INLINE vf weights(int kind, const char *row, int c) {
    if (kind == F32) return load((const float *)row + c);
#if defined __AVX512F__   /* gcc takes the numbers one by one where it is not told how */
    if (kind == F16) return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(row + 2 * c)));
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(row + c))));
#elif defined __AVX2__ && defined __F16C__
    if (kind == F16) return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + 2 * c)));
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(row + c))));
#else
    vf w;
    for (int i = 0; i < L; i++) w[i] = weight(kind, row, c + i);
    return w;
#endif
}

/* L weights of INT4 with their scale, from the low or the high halves of the bytes at p. */
INLINE vf nibbles(const char *p, int high, float scale) {
#if defined __AVX512F__
    const vf table = (vf){-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7} * scale;
    __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    if (high) b = _mm512_srli_epi32(b, 4);
    return (vf)_mm512_permutexvar_ps(b, (__m512)table);   /* it looks at the last 4 bits alone */
#else
#if defined __AVX2__
    const vi b = (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
#else
    vi b;
    for (int i = 0; i < L; i++) b[i] = ((const uint8_t *)p)[i];
#endif
    return __builtin_convertvector((high ? b >> 4 : b & 15) - 8, vf) * scale;
#endif
}

/* The sums of `rows` rows with `tokens` tokens, y[t][r] = scale_r (W x)_r, each along its columns in order. */
INLINE void tile(const Matrix *m, const int kind, const int rows, const int tokens, int r0, const float *x, int ldx,
                 float *y, int ldy) {
    const int C = m->columns, whole = C - C % L;
    const int64_t ahead = ROWS * (row_of(m, 1) - row_of(m, 0));   /* of few tokens the next rows are late otherwise */
    const char *row[ROWS];
    vf acc[ROWS][TOKENS];
    for (int r = 0; r < rows; r++) row[r] = row_of(m, r0 + r);
    for (int r = 0; r < rows; r++)
        for (int t = 0; t < tokens; t++) acc[r][t] = (vf){};
    if (kind == INT4) {
        const int groups = C / m->group;
        for (int c = 0; c < C; c += 32)
            for (int i = 0; i < 16; i += L)
                for (int r = 0; r < rows; r++) {
                    if (tokens <= 2) __builtin_prefetch(row[r] + ahead + c / 2);
                    const float scale = m->scale[(int64_t)(r0 + r) * groups + c / m->group];
                    const vf low = nibbles(row[r] + c / 2 + i, 0, scale), high = nibbles(row[r] + c / 2 + i, 1, scale);
                    for (int t = 0; t < tokens; t++) {
                        const float *v = x + (int64_t)t * ldx + c + i;
                        acc[r][t] += low * load(v);
                        acc[r][t] += high * load(v + 16);
                    }
                }
    } else {
        for (int c = 0; c < whole; c += L) {
            vf w[ROWS];
            for (int r = 0; r < rows; r++) {
                if (tokens <= 2) __builtin_prefetch(row[r] + ahead + c * (kind == F32 ? 4 : kind == F16 ? 2 : 1));
                w[r] = weights(kind, row[r], c);
            }
            for (int t = 0; t < tokens; t++) {
                const vf v = load(x + (int64_t)t * ldx + c);
                for (int r = 0; r < rows; r++) acc[r][t] += w[r] * v;
            }
        }
    }
    for (int t = 0; t < tokens; t++) {
        const vf zero = {};
        float part[4], *to = y + (int64_t)t * ldy + r0;
        const int done = rows == ROWS && kind != INT8 && whole == C;
        sums(acc[0][t], rows > 1 ? acc[1][t] : zero, rows > 1 ? acc[2][t] : zero, rows > 1 ? acc[3][t] : zero,
             done ? to : part);
        if (done) continue;
        for (int r = 0; r < rows; r++) {
            float total = part[r];
            if (kind != INT4)
                for (int c = whole; c < C; c++) total += weight(kind, row[r], c) * x[(int64_t)t * ldx + c];
            if (kind == INT8) total *= m->scale[r0 + r];
            to[r] = total;
        }
    }
}

#define CASE(kind, rows, tokens) \
    case (kind) * 64 + (rows) * 8 + (tokens): tile(m, kind, rows, tokens, r, x, ldx, y, ldy); break;
#if TOKENS == 6
#define CASES(kind, rows) CASE(kind, rows, 1) CASE(kind, rows, 2) CASE(kind, rows, 3) CASE(kind, rows, 4) \
    CASE(kind, rows, 5) CASE(kind, rows, 6)
#else
#define CASES(kind, rows) CASE(kind, rows, 1) CASE(kind, rows, 2)
#endif

static __attribute__((noinline)) void one_tile(const Matrix *m, int rows, int tokens, int r, const float *x, int ldx,
                                               float *y, int ldy) {
    switch (m->kind * 64 + rows * 8 + tokens) {
        CASES(F32, 1) CASES(F32, ROWS) CASES(F16, 1) CASES(F16, ROWS)
        CASES(INT8, 1) CASES(INT8, ROWS) CASES(INT4, 1) CASES(INT4, ROWS)
    }
}

/* y[t][r] = (W x[t])_r + bias_r for r from `first` to before `last`. A strip of rows stays in the second cache while
 * all tokens pass by it. */
static void product(const Matrix *m, int first, int last, const float *x, int ldx, int n, float *y, int ldy) {
    int strip = (1 << 18) / (4 * m->columns);
    strip = strip < ROWS ? ROWS : strip - strip % ROWS;
    for (int start = first; start < last; start += strip) {
        const int end = start + strip < last ? start + strip : last;
        for (int t = 0; t < n; t += TOKENS) {
            const int tokens = n - t < TOKENS ? n - t : TOKENS;
            const float *xt = x + (int64_t)t * ldx;
            float *yt = y + (int64_t)t * ldy;
            int r = start;
            for (; r + ROWS <= end; r += ROWS) one_tile(m, ROWS, tokens, r, xt, ldx, yt, ldy);
            for (; r < end; r++) one_tile(m, 1, tokens, r, xt, ldx, yt, ldy);
        }
    }
    if (m->bias)
        for (int t = 0; t < n; t++)
            for (int r = first; r < last; r++) y[(int64_t)t * ldy + r] += m->bias[r];
}

/* ---- the other parts ---- */

static void norm(const Norm *by, float eps, const float *x, int n, float *y) {
    const int whole = n - n % L;
    float mean = 0, square;
    if (by->bias) {
        vf total = {};
        for (int i = 0; i < whole; i += L) total += load(x + i);
        mean = sum(total);
        for (int i = whole; i < n; i++) mean += x[i];
        mean /= n;
    }
    vf squares = {};
    for (int i = 0; i < whole; i += L) { const vf d = load(x + i) - mean; squares += d * d; }
    square = sum(squares);
    for (int i = whole; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    const float over = 1 / sqrtf(square / n + eps);
    for (int i = 0; i < n; i++) y[i] = (x[i] - mean) * over * by->weight[i] + (by->bias ? by->bias[i] : 0);
}

/* Each pair (i, i + n/2) turned by its position's angle. */
static void turn(const float *cosine, const float *sine, float *x, int n) {
    for (int i = 0; i < n / 2; i++) {
        const float a = x[i], b = x[i + n / 2];
        x[i] = a * cosine[i] + b * sine[i];
        x[i + n / 2] = b * cosine[i + n / 2] + a * sine[i + n / 2];
    }
}

/* x of SwiGLU: silu(gate) x; of GELU in its tanh form: 0.5 x (1 + tanh u) = x sigmoid(2 u). n may be rounded up. */
static void activate(const float *gate, float *x, int n) {
    for (int i = 0; i < n; i += L) {
        float part[2][L] = {{0}};
        const int m = n - i < L ? n - i : L;
        memcpy(part[0], x + i, 4 * m);
        if (gate) memcpy(part[1], gate + i, 4 * m);
        const vf v = load(part[0]), g = load(part[1]);
        const vf y = gate ? g / (1.0f + exponential(-g)) * v
                          : v / (1.0f + exponential(-1.5957691216f * (v + 0.044715f * v * v * v)));
        store(part[0], y);
        memcpy(x + i, part[0], 4 * m);
    }
}

/* One query's attention over positions 0 … p of its sequence; `scores` holds a float for each, rounded up to blocks. */
static void attend(const float *q, int D, int Dp, const float *keys, const float *values, int64_t stride_k,
                   int64_t stride_v, const int32_t *table, int p, float *scores, float *y) {
    const int blocks = p / BLOCK + 1;
    const float over = 1 / sqrtf((float)D);
    float most = -INFINITY, total = 0;
    for (int b = 0; b < blocks; b++) {
        const float *k = keys + table[b] * stride_k;
        for (int i = 0; i < BLOCK; i += L) {
            vf part[4] = {};
            int d = 0;
            for (; d + 4 <= D; d += 4)
                for (int u = 0; u < 4; u++) part[u] += q[d + u] * load(k + (d + u) * BLOCK + i);
            for (; d < D; d++) part[0] += q[d] * load(k + d * BLOCK + i);
            store(scores + b * BLOCK + i, ((part[0] + part[1]) + (part[2] + part[3])) * over);
        }
    }
    for (int j = 0; j <= p; j++) most = scores[j] > most ? scores[j] : most;
    for (int j = p + 1; j < blocks * BLOCK; j++) scores[j] = -INFINITY;
    vf sums = {};
    for (int j = 0; j < blocks * BLOCK; j += L) {
        vf e = exponential(load(scores + j) - most);
        for (int i = 0; i < L; i++) e[i] = j + i <= p ? e[i] : 0;
        store(scores + j, e);
        sums += e;
    }
    total = sum(sums);
    for (int d = 0; d < Dp; d += 4 * L) {
        const int m = Dp - d < 4 * L ? (Dp - d) / L : 4;
        vf acc[4] = {};
        for (int b = 0; b < blocks; b++) {
            const float *v = values + table[b] * stride_v + d;
            const int last = p - b * BLOCK < BLOCK - 1 ? p - b * BLOCK : BLOCK - 1;
            for (int j = 0; j <= last; j++)
                for (int u = 0; u < m; u++) acc[u] += scores[b * BLOCK + j] * load(v + j * Dp + u * L);
        }
        for (int u = 0; u < m; u++) {
            float part[L];
            store(part, acc[u] / total);
            const int left = D - d - u * L;
            memcpy(y + d + u * L, part, 4 * (left < L ? left : L));
        }
    }
}

/* ---- a step ---- */

typedef struct { int first, last; } Range;

/* A thread's share of n things, in multiples of `of`. */
static Range share(int n, int of, int thread, int threads) {
    const int64_t parts = (n + of - 1) / of;
    const int first = (int)(parts * thread / threads) * of, last = (int)(parts * (thread + 1) / threads) * of;
    return (Range){first < n ? first : n, last < n ? last : n};
}

/* y[t] = x[t] normed, of these tokens. */
static void norms(const Norm *by, float eps, const float *x, int C, Range tokens, float *y) {
    for (int t = tokens.first; t < tokens.last; t++) norm(by, eps, x + (int64_t)t * C, C, y + (int64_t)t * C);
}

/* x[t] += W y[t] + bias, of these rows: what a layer adds to the residual stream. `room` is as large as x. */
static void add(const Matrix *m, Range rows, const float *y, int n, float *room, float *x) {
    product(m, rows.first, rows.last, y, m->columns, n, room, m->rows);
    for (int t = 0; t < n; t++)
        for (int r = rows.first; r < rows.last; r++) x[(int64_t)t * m->rows + r] += room[(int64_t)t * m->rows + r];
}

/* All threads have come here. OpenMP's own barrier sends who waits to sleep after some microseconds, and beside another
 * busy process the waking takes milliseconds, a hundred times a token; who yields is there at once. */
typedef struct { int here, turn; } Barrier;

static void meet(Barrier *at, int threads) {
    const int turn = __atomic_load_n(&at->turn, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&at->here, 1, __ATOMIC_ACQ_REL) == threads) {
        at->here = 0;
        __atomic_store_n(&at->turn, turn + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&at->turn, __ATOMIC_ACQUIRE) == turn; spins++)
        if (spins > 2000) sched_yield();
}

static int wide(int n) { return (n + L - 1) / L * L; }

int32_t vector_floats(void) { return L; }

/* Floats that a step of so many tokens needs beside the cache, of which a token sees at most `longest`. */
int64_t scratch_floats(const Model *m, int32_t n_tokens, int32_t longest) {
    const int64_t heads = (int64_t)m->n_head * m->head_dim, keys = (int64_t)m->n_kv_head * m->head_dim;
    const int64_t a_token = 2 * m->n_embd + 2 * heads + 2 * keys + 2 * m->n_inner;
    return n_tokens * a_token + (int64_t)m->threads * (longest + 2 * BLOCK);
}

void step(const Model *m, const Batch *b) {
    const int N = b->n_tokens, C = m->n_embd, D = m->head_dim, Dp = wide(D), I = m->n_inner;
    const int H = m->n_head, K = m->n_kv_head, HD = H * D, KD = K * D, group = H / K;
    float *x = b->scratch, *normed = x + (int64_t)N * C, *q = normed + (int64_t)N * C, *k = q + (int64_t)N * HD;
    float *v = k + (int64_t)N * KD, *mixed = v + (int64_t)N * KD, *up = mixed + (int64_t)N * HD;
    float *gate = up + (int64_t)N * I, *all_scores = gate + (int64_t)N * I;
    const int64_t stride_k = (int64_t)K * D * BLOCK, stride_v = (int64_t)K * BLOCK * Dp;
    Barrier barrier = {0, 0};
    int longest = 0;
    for (int t = 0; t < N; t++) longest = b->positions[t] > longest ? b->positions[t] : longest;

#ifdef _OPENMP
#pragma omp parallel num_threads(m->threads)
#endif
    {
#ifdef _OPENMP
        const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
#else
        const int thread = 0, threads = 1;
#endif
        float *scores = all_scores + (int64_t)thread * (longest + 2 * BLOCK);
        const Range tokens = share(N, 1, thread, threads);

        for (int t = tokens.first; t < tokens.last; t++) {
            const float *e = m->embed + (int64_t)b->ids[t] * C;
            const float *at = m->positions ? m->positions + (int64_t)b->positions[t] * C : 0;
            for (int i = 0; i < C; i++) x[(int64_t)t * C + i] = e[i] + (at ? at[i] : 0);
        }
        for (int layer = 0; layer < m->n_layer; layer++) {
            const Layer *l = m->layers + layer;
            float *keys = b->keys + layer * b->n_blocks * stride_k, *values = b->values + layer * b->n_blocks * stride_v;
            norms(&l->attention_norm, m->eps, x, C, tokens, normed);
            meet(&barrier, threads);
            Range rows = share(HD, ROWS, thread, threads);
            product(&l->q, rows.first, rows.last, normed, C, N, q, HD);
            rows = share(KD, ROWS, thread, threads);
            product(&l->k, rows.first, rows.last, normed, C, N, k, KD);
            product(&l->v, rows.first, rows.last, normed, C, N, v, KD);
            meet(&barrier, threads);
            const Range heads = share(N * K, 1, thread, threads);
            for (int i = heads.first; i < heads.last; i++) {
                const int t = i / K, h = i % K, p = b->positions[t];
                const int64_t block = b->tables[(int64_t)b->rows[t] * b->table_width + p / BLOCK];
                float *kh = k + (int64_t)t * KD + h * D, *vh = v + (int64_t)t * KD + h * D;
                for (int g = 0; g < group; g++) {
                    float *qh = q + (int64_t)t * HD + (h * group + g) * D;
                    if (l->q_norm.weight) norm(&l->q_norm, m->eps, qh, D, qh);
                    if (m->rope) turn(m->rope + (int64_t)p * D, m->rope + (int64_t)(m->rope_n + p) * D, qh, D);
                }
                if (l->k_norm.weight) norm(&l->k_norm, m->eps, kh, D, kh);
                if (m->rope) turn(m->rope + (int64_t)p * D, m->rope + (int64_t)(m->rope_n + p) * D, kh, D);
                float *to_k = keys + block * stride_k + (int64_t)h * D * BLOCK + p % BLOCK;
                float *to_v = values + block * stride_v + (int64_t)(h * BLOCK + p % BLOCK) * Dp;
                for (int d = 0; d < D; d++) to_k[d * BLOCK] = kh[d];
                memcpy(to_v, vh, 4 * D);
            }
            meet(&barrier, threads);
            for (int i = thread; i < N * H; i += threads) {   /* later tokens see more: dealt out in turn */
                const int t = i / H, h = i % H;
                attend(q + (int64_t)t * HD + h * D, D, Dp, keys + (int64_t)(h / group) * D * BLOCK,
                       values + (int64_t)(h / group) * BLOCK * Dp, stride_k, stride_v,
                       b->tables + (int64_t)b->rows[t] * b->table_width, b->positions[t], scores,
                       mixed + (int64_t)t * HD + h * D);
            }
            meet(&barrier, threads);
            add(&l->o, share(C, ROWS, thread, threads), mixed, N, normed, x);
            meet(&barrier, threads);
            norms(&l->mlp_norm, m->eps, x, C, tokens, normed);
            meet(&barrier, threads);
            rows = share(I, ROWS, thread, threads);
            product(&l->up, rows.first, rows.last, normed, C, N, up, I);
            if (l->gate.weight) product(&l->gate, rows.first, rows.last, normed, C, N, gate, I);
            for (int t = 0; t < N; t++) {
                const int64_t at = (int64_t)t * I + rows.first;
                activate(l->gate.weight ? gate + at : 0, up + at, rows.last - rows.first);
            }
            meet(&barrier, threads);
            add(&l->down, share(C, ROWS, thread, threads), up, N, normed, x);
            meet(&barrier, threads);
        }
        const Range asked = share(b->n_read, 1, thread, threads);
        for (int i = asked.first; i < asked.last; i++)
            norm(&m->norm, m->eps, x + (int64_t)b->read[i] * C, C, normed + (int64_t)i * C);
        meet(&barrier, threads);
        const Range rows = share(m->head.rows, ROWS, thread, threads);
        product(&m->head, rows.first, rows.last, normed, C, b->n_read, b->logits, m->head.rows);
    }
}

/* ---- drawing ---- */

/* The first token at which the probabilities of softmax(logits / temperature), added up in order, reach `uniform` of
 * their sum: first which vector of them, then which in it. -1 where the logits are no numbers.
 * `scratch` holds n floats, rounded up to whole vectors. */
static int32_t draw(const float *logits, int32_t n, float temperature, double uniform, float *scratch) {
    const int whole = n - n % L;
    const vf none = all(-INFINITY);
    vf highest = none;
    float last[L], most = -INFINITY;
    for (int i = 0; i < L; i++) last[i] = whole + i < n ? logits[whole + i] : -INFINITY;
    for (int i = 0; i < n; i += L) {
        const vf x = load(i < whole ? logits + i : last);
        highest = choose(x > highest, x, highest);
    }
    for (int i = 0; i < L; i++) most = highest[i] > most ? highest[i] : most;
    if (!(most > -INFINITY && most < INFINITY)) return -1;
    double total = 0, so_far = 0;
    for (int i = 0; i < n; i += L) {
        const vf x = load(i < whole ? logits + i : last);
        const vf e = choose(x == none, (vf){}, exponential((x - most) / temperature));
        store(scratch + i, e);
        total += sum(e);
    }
    if (!(total < INFINITY)) return -1;   /* one of them was no number */
    int found = 0;
    for (int i = 0; i < n; i += L) {
        const double here = sum(load(scratch + i));
        if (so_far + here >= uniform * total || i + L >= n) {
            for (int j = i; j < i + L && j < n; j++) {
                if (scratch[j] > 0) found = j;
                so_far += scratch[j];
                if (so_far >= uniform * total && scratch[j] > 0) break;
            }
            return found;
        }
        so_far += here;
    }
    return found;
}

/* A draw from each of n_rows rows that lie `stride` floats apart. */
void draw_rows(const float *logits, int64_t stride, int32_t n_rows, int32_t n, float temperature, const double *uniform,
               float *scratch, int32_t *found) {
    for (int r = 0; r < n_rows; r++) found[r] = draw(logits + r * stride, n, temperature, uniform[r], scratch);
}
