// Fills the tiles of the operands: blocks of matrices, and the expansion f_m^(nu)(x[b,i]) of x. A tile sees a
// window of the flattened slots (i, m), slot after slot, input after input, as in the weight.
#pragma once

#include "operands.h"

namespace fastkan {

// A matrix of rows side by side, as tensors lie in memory.
struct Matrix {
  Source source;
  int64_t rows, columns;
};

struct alignas(16) Bytes16 {
  uint32_t words[4];
};

FASTKAN_DEVICE bool copies_vectors(const Matrix& matrix, Storage storage) {
  return matrix.source.storage == storage && matrix.columns * bytes_of(storage) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(matrix.source.data) % 16 == 0;
}

// tile[r * stride + c] = matrix[row + r, column + c] as an operand, 0 past the matrix's end.
template <class Kind, int ROWS, int COLUMNS>
FASTKAN_DEVICE void load_block(const Matrix& matrix, int64_t row, int64_t column, int stride,
                               typename Kind::Operand* tile) {
  using Operand = typename Kind::Operand;
  constexpr int width = 16 / int(sizeof(Operand)), groups = COLUMNS / width;
  static_assert(COLUMNS % width == 0, "rows of whole vectors");
  const bool vectors = copies_vectors(matrix, Kind::storage);
  for (int n = int(threadIdx.x); n < ROWS * groups; n += kThreads) {
    const int r = n / groups, c = n % groups * width;
    Operand* const out = tile + r * stride + c;
    const bool inside = row + r < matrix.rows;
    const int64_t index = (row + r) * matrix.columns + column + c;
    if (inside && vectors && column + c < matrix.columns) {
      const auto* const source = static_cast<const Operand*>(matrix.source.data) + index;
      *reinterpret_cast<Bytes16*>(out) = *reinterpret_cast<const Bytes16*>(source);
      if constexpr (sizeof(Operand) == 4)
        for (int e = 0; e < width; ++e) out[e] = Kind::operand(out[e]);
    } else {
      for (int e = 0; e < width; ++e) {
        const bool there = inside && column + c + e < matrix.columns;
        out[e] = there ? Kind::operand(read<float>(matrix.source, index + e)) : Operand(0);
      }
    }
  }
}

// What evaluating x needs; x and row_weight are [B, I].
struct Inputs {
  Problem problem;
  Source x, row_weight;
  const float* knots;
};

// The inputs that the window [begin, end) of flattened slots meets.
struct Window {
  int64_t begin, end;
  FASTKAN_DEVICE int64_t first_input(int64_t slots) const { return begin / slots; }
  FASTKAN_DEVICE int count(int64_t slots) const { return int((end + slots - 1) / slots - begin / slots); }
};

// tile = 0, all of it
template <class Operand>
FASTKAN_DEVICE void clear(Operand* tile, int numbers) {
  constexpr int width = 16 / int(sizeof(Operand));
  for (int n = int(threadIdx.x) * width; n < numbers; n += kThreads * width)
    *reinterpret_cast<Bytes16*>(tile + n) = Bytes16{};
}

// Calls put(row, column, value) for what is not zero in the window, for `rows` rows from first_row on that
// the batch has. scratch: value_count() numbers of each thread's own.
template <class Put>
FASTKAN_DEVICE void expand(const Inputs& inputs, const Window& window, int64_t first_row, int rows,
                           float* scratch, const Put& put) {
  const Problem& problem = inputs.problem;
  const int64_t M = problem.slots(), first_input = window.first_input(M);
  const int count = window.count(M), values = value_count(problem), width = int(window.end - window.begin);
  const int64_t left = problem.batch - first_row;
  const int pairs = (left < rows ? int(left) : rows) * count;
  for (int pair = int(threadIdx.x); pair < pairs; pair += kThreads) {
    const int row = pair / count;
    const int64_t i = first_input + pair % count, index = (first_row + row) * problem.in_features + i;
    const float x = read<float>(inputs.x, index), factor = row_factor<float>(inputs.row_weight, index);
    const int64_t first = evaluate(problem, inputs.knots + i * problem.num_knots, problem.nu, x, scratch);
    const int64_t begin = i * M - window.begin;  // where its slots begin in the window
    if (x != x) {
      for (int64_t c = begin < 0 ? 0 : begin; c < begin + M && c < width; ++c) put(row, int(c), x);
      continue;
    }
    for (int k = 0; k < values; ++k) {
      const int64_t c = begin + (k < values - 1 ? first + k : M - 1);
      if (c >= 0 && c < width) put(row, int(c), factor * scratch[k]);
    }
  }
}

// Bytes of every thread's scratch.
inline size_t scratch_bytes(const Problem& problem, size_t number) {
  return size_t(kThreads) * size_t(value_count(problem)) * number;
}

}  // namespace fastkan
