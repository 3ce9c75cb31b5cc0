// Products of the emulated tensor cores against plain triple loops; the fragments are written down here once
// more, element by element, as the PTX manual has them.
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "device.h"

namespace fastkan {
namespace {

enum class Kind { float16, bfloat16, tf32, two_four_float16, two_four_bfloat16 };
constexpr bool sparse(Kind kind) { return kind >= Kind::two_four_float16; }
constexpr bool brain(Kind kind) { return kind == Kind::bfloat16 || kind == Kind::two_four_bfloat16; }
constexpr int depth(Kind kind) { return sparse(kind) ? 32 : kind == Kind::tf32 ? 8 : 16; }

template <Kind kind>
uint32_t packed(float low, float high) {
  return brain(kind) ? pack_bfloat16(low, high) : pack_float16(low, high);
}

struct Matrices {
  float a[16][32], b[32][8], c[16][8];
  unsigned char kept[16][16];  // columns of a in the order they are stored in
};

// PTX manual, "Matrix Fragments for mma.m16n8k16", "... mma.m16n8k8", "... sparse mma.m16n8k32". b16
// operands: row of a_i is groupID for i = 0, 1, 4, 5 and groupID + 8 else, column 2 t + i % 2, + 8 from i = 4
// on.
template <Kind kind>
FASTKAN_KERNEL(32)
product(const Matrices* in, uint32_t fault, float* out) {
  const int lane = int(threadIdx.x), g = lane >> 2, t = lane & 3;
  float d[4] = {in->c[g][2 * t], in->c[g][2 * t + 1], in->c[g + 8][2 * t], in->c[g + 8][2 * t + 1]};
  if constexpr (kind == Kind::tf32) {
    const float a[4] = {in->a[g][t], in->a[g + 8][t], in->a[g][t + 4], in->a[g + 8][t + 4]};
    const float b[2] = {in->b[t][g], fault ? 1 + 0x1p-20f : in->b[t + 4][g]};
    mma_tf32(d, a, b);
  } else {
    const auto pair = [&](int row, int j) {
      const int first = sparse(kind) ? in->kept[row][j] : j,
                next = sparse(kind) ? in->kept[row][j + 1] : j + 1;
      return packed<kind>(in->a[row][first], in->a[row][next]);
    };
    const uint32_t a[4] = {pair(g, 2 * t), pair(g + 8, 2 * t), pair(g, 2 * t + 8), pair(g + 8, 2 * t + 8)};
    uint32_t b[4];
    for (int r = 0; r < depth(kind) / 8; ++r)
      b[r] = packed<kind>(in->b[8 * r + 2 * t][g], in->b[8 * r + 2 * t + 1][g]);
    uint32_t metadata = fault;
    for (int i = 0; i < 16; ++i) {  // indices of two bits; lanes with t = 2, 3 have no say
      const int row = i < 8 ? g : g + 8, stored = 8 * t + i % 8;
      if (t < 2 && !fault) metadata |= uint32_t(in->kept[row][stored] % 4) << 2 * i;
    }
    if constexpr (kind == Kind::float16) mma_float16(d, a, {b[0], b[1]});
    if constexpr (kind == Kind::bfloat16) mma_bfloat16(d, a, {b[0], b[1]});
    if constexpr (kind == Kind::two_four_float16) mma_two_four_float16(d, a, b, metadata);
    if constexpr (kind == Kind::two_four_bfloat16) mma_two_four_bfloat16(d, a, b, metadata);
  }
  for (int q = 0; q < 4; ++q) out[(g + 8 * (q / 2)) * 8 + 2 * t + q % 2] = d[q];
}

template <Kind kind>
Matrices draw(std::minstd_rand& random) {
  Matrices all{};
  const auto number = [&] { return float(int(random() % 255) - 127) / 64; };  // exact in bfloat16
  for (int row = 0; row < 16; ++row)
    for (int j = 0; j < 16; ++j) {
      const bool first = j % 2 == 0;
      const int previous = first ? -1 : all.kept[row][j - 1] % 4;
      const int column = first ? int(random() % 3) : previous + 1 + int(random() % unsigned(3 - previous));
      all.kept[row][j] = (unsigned char)(j / 2 * 4 + column);
      all.a[row][sparse(kind) ? all.kept[row][j] : j] = number();
    }
  for (auto& row : all.b)
    for (float& value : row) value = number();
  for (auto& row : all.c)
    for (float& value : row) value = number();
  return all;
}

template <Kind kind>
bool product_is_right(uint32_t fault = 0) {
  std::minstd_rand random(7);
  for (int repeat = 0; repeat < 5; ++repeat) {
    const Matrices in = draw<kind>(random);
    std::vector<float> out(16 * 8);
    launch(product<kind>, "product", 0, nullptr, Grid{}, 32, 0, &in, fault, out.data());
    for (int row = 0; row < 16; ++row)
      for (int n = 0; n < 8; ++n) {
        double sum = in.c[row][n];
        for (int k = 0; k < depth(kind); ++k) sum += double(in.a[row][k]) * in.b[k][n];
        if (out[size_t(row * 8 + n)] != float(sum)) return false;
      }
  }
  return true;
}

// ---- load_transposed: shared memory [16][8] of the numbers 0 .. 127

FASTKAN_KERNEL(32) transpose(uint32_t* out, int offset) {
  auto* const shared = reinterpret_cast<uint16_t*>(shared_memory());
  for (unsigned i = threadIdx.x; i < 128; i += 32) shared[i] = uint16_t(i);
  __syncwarp();
  uint32_t pair[2];
  load_transposed(pair, shared + 8 * (threadIdx.x % 16) + offset);
  for (unsigned square = 0; square < 2; ++square) out[2 * threadIdx.x + square] = pair[square];
}

bool transposes(int offset) {
  std::vector<uint32_t> out(64);
  launch(transpose, "transpose", 0, nullptr, Grid{}, 32, 300, out.data(), offset);
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t square = 0; square < 2; ++square) {
      const uint32_t low = (8 * square + 2 * (lane % 4)) * 8 + lane / 4;
      if (out[2 * lane + square] != (low | (low + 8) << 16)) return false;
    }
  return true;
}

// ---- rounding, against its definition in float64

// To nearest with `bits` explicit bits and exponents from `least` on; ties to even, or away from zero.
double rounded(double value, int bits, int least, bool away) {
  if (value == 0) return value;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(value), least) - bits), scaled = value / unit;
  return unit * (away ? std::round(scaled) : std::nearbyint(scaled));
}

float widened(uint32_t half, bool bfloat16) {
  const uint32_t sign = half >> 15, exponent = half >> 10 & 31, mantissa = half & 1023;
  float brain_value;
  const uint32_t bits = half << 16;
  std::memcpy(&brain_value, &bits, 4);
  if (bfloat16) return brain_value;
  const double magnitude = exponent == 31  ? (mantissa ? NAN : INFINITY)
                           : exponent == 0 ? std::ldexp(double(mantissa), -24)
                                           : std::ldexp(double(1024 + mantissa), int(exponent) - 25);
  return float(sign ? -magnitude : magnitude);
}

bool rounds() {
  std::mt19937 random(3);
  bool right = pack_float16(NAN, INFINITY) == 0x7c007fff && pack_bfloat16(-INFINITY, NAN) == 0x7fffff80;
  right &= std::isnan(tf32(NAN)) && tf32(-INFINITY) == -INFINITY && pack_float16(65520, -65519) == 0xfbff7c00;
  for (int i = 0; i < 200'000; ++i) {
    const bool tie = i % 4 == 0;
    const auto drawn = float(int32_t(random()) >> (tie ? 20 : 0)) * std::ldexp(1.0f, -int(random() % 60));
    if (std::abs(drawn) >= 65520) continue;
    right &= widened(pack_float16(drawn, 0) & 0xffff, false) == float(rounded(drawn, 10, -14, false));
    right &= widened(pack_bfloat16(0, drawn) >> 16, true) == float(rounded(drawn, 7, -126, false));
    right &= tf32(drawn) == float(rounded(drawn, 10, -126, true));
  }
  return right;
}

}  // namespace

bool products_are_right() {
  return product_is_right<Kind::float16>() && product_is_right<Kind::bfloat16>() &&
         product_is_right<Kind::tf32>() && product_is_right<Kind::two_four_float16>() &&
         product_is_right<Kind::two_four_bfloat16>() && transposes(0) && rounds();
}

bool products_with(const std::string& fault) {
  if (fault == "metadata") return product_is_right<Kind::two_four_float16>(0x44444444 ^ 5);
  if (fault == "tf32") return product_is_right<Kind::tf32>(1);
  return transposes(1);
}

}  // namespace fastkan
