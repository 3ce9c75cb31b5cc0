// What every instruction set provides (simd/kernels.cpp) and operations.cpp calls: tasks, each on one thread,
// that together make an operation.
#pragma once

#include <stddef.h>

#include "../core/problem.h"
#include "../core/storage.h"

namespace fastkan {

struct Range {
  int64_t begin, end;
  FASTKAN_INLINE int64_t size() const { return end - begin; }
};

// The size of the next block: what is left, but at most that many
FASTKAN_HD int block_size(int64_t left, int64_t most) { return int(left < most ? left : most); }

// How a task takes the rows of a tile: sorted by interval; one by one (direct), where there are few rows; or
// in the lanes of vectors, where there are few outputs. The limits are measured: benchmarks/crossovers.py.
enum class Way { sorted, direct, few_outputs };

// One by one, a forward reads the weight rows of every row; sorted, those of every interval.
FASTKAN_HD bool is_direct(const Problem& problem) {
  return problem.batch * (problem.degree + 2) < problem.slots() + problem.slots() / 2 + 4;
}

// entries: of a table in registers, as many as two vectors have lanes. Every interval needs one, and so does
// x outside. Sorted rows pad outputs to whole vectors; lanes take longer an edge.
FASTKAN_HD bool has_few_outputs(const Problem& problem, int entries, int most_outputs) {
  return problem.num_knots <= entries && problem.out_features <= most_outputs;
}

FASTKAN_HD Way forward_way(const Problem& problem, int entries) {
  return is_direct(problem)                               ? Way::direct
         : has_few_outputs(problem, entries, entries / 4) ? Way::few_outputs
                                                          : Way::sorted;
}

// grad_weight in lanes works on every slot, not on the p + 1 alive alone.
FASTKAN_HD Way fused_gradients_way(const Problem& problem, int entries, bool input, bool weight) {
  const int most = !weight ? 3 * entries / 8 : input ? entries / 4 : entries / 8;
  return has_few_outputs(problem, entries, most) ? Way::few_outputs : Way::sorted;
}

// One call of an operation; the arguments it does not have are null. T computes.
template <class T>
struct Call {
  Problem problem;
  Source x, weight, g, row_weight;
  const T* knots = nullptr;
  Target y, grad_input, grad_weight, grad_row_weight;
  int64_t grad_input_nu = 0;  // its order; that of the others is problem.nu
  int tile_rows = 0;          // rows a task sorts at once
  int chunk_inputs = 0;       // inputs it works on at once
  Way way = Way::sorted;
};

// One call of a jet (jet.h), or of its gradients. Tensors are contiguous and of type T.
template <class T>
struct JetCall {
  Call<T> layer;              // problem, x, weight, knots; tile_rows, chunk_inputs; few_outputs or direct
  int64_t directions = 0;     // d
  const T* first = nullptr;   // [d, B, I]; null: the unit vectors, d = I
  const T* second = nullptr;  // [B, I]; null: 0
  const T* coefficients = nullptr;                                // [d]; null: 1
  T *y = nullptr, *y_first = nullptr, *y_second = nullptr;        // [B, O], [d, B, O], [B, O]
  const T *g = nullptr, *g_first = nullptr, *g_second = nullptr;  // their cotangents
  // null: not wanted. grad_squares [B, I] is that of sum_k coefficients[k] first[k]^2.
  T *grad_x = nullptr, *grad_weight = nullptr, *grad_first = nullptr, *grad_second = nullptr,
    *grad_squares = nullptr;

  FASTKAN_INLINE T coefficient(int64_t k) const { return coefficients ? coefficients[k] : T(1); }
};

// Tasks take a workspace of as many bytes as the function beside them says.
template <class T>
struct Kernels {
  const char* isa;
  int lanes;    // of a vector
  int entries;  // of a table in registers, 0 where lanes cannot read from one

  size_t (*forward_bytes)(const Call<T>&, Range outputs);
  void (*forward)(const Call<T>&, Range rows, Range outputs, char* workspace);

  // What is wanted of grad_input, grad_weight, grad_row_weight and, where `inputs` are all the inputs in one
  // chunk, forward.
  size_t (*fused_gradients_bytes)(const Call<T>&);
  void (*fused_gradients)(const Call<T>&, Range rows, Range inputs, char* workspace);

  size_t (*gram_bytes)(const Call<T>&);  // of quadratic too
  void (*gram)(const Call<T>&, Range inputs, T* out, char* workspace);
  void (*quadratic)(const Call<T>&, Range rows, Range inputs, const T* form, T* out, char* workspace);

  size_t (*jet_bytes)(const JetCall<T>&);
  void (*jet)(const JetCall<T>&, Range rows, char* workspace);
  size_t (*jet_gradients_bytes)(const JetCall<T>&);
  void (*jet_gradients)(const JetCall<T>&, Range rows, Range inputs, char* workspace);

  // Loops that find the machine's limits (simd/peaks.h); sums: multiply-adds of vectors in a step
  int sums;
  T (*multiply_add_steps)(int64_t steps, T factor, T term);
  uint32_t (*read_words)(const uint32_t* words, int64_t count, int64_t passes);
};

// The best instruction set of this machine, or the one that FASTKAN_ISA names (dispatch.cpp).
template <class T>
const Kernels<T>& kernels();

}  // namespace fastkan
