// What the drivers of this folder call and every instruction set provides (isa/kernels.cpp): tasks, each on
// one thread, that together make a whole operation.
#pragma once

#include <stddef.h>

#include "../problem.h"
#include "../storage.h"

namespace fastkan {

struct Range {
  int64_t begin, end;
  FASTKAN_INLINE int64_t size() const { return end - begin; }
};

// The size of the next block: what is left, but at most that many
FASTKAN_HD int block_size(int64_t left, int64_t most) { return int(left < most ? left : most); }

// How the rows of a tile go: sorted by interval; one by one, where F has few; or in the lanes of vectors,
// where there are few outputs. The rules are measured: benchmarks/crossovers.py.
enum class Way { sorted, direct, narrow };

// F one by one reads each row's weight rows, sorted the rows of all intervals.
FASTKAN_HD bool is_direct(const Problem& problem) {
  return problem.batch * (problem.degree + 2) < problem.slots() + problem.slots() / 2 + 4;
}

// `entries`, of a table that lanes read from, are as many as two vectors have lanes: one for each interval
// and one for x outside must fit. What sorted rows waste on padded outputs, an edge in lanes costs more.
FASTKAN_HD bool is_narrow(const Problem& problem, int entries, int most_outputs) {
  return problem.num_knots <= entries && problem.out_features <= most_outputs;
}

FASTKAN_HD Way forward_way(const Problem& problem, int entries) {
  return is_direct(problem)                         ? Way::direct
         : is_narrow(problem, entries, entries / 4) ? Way::narrow
                                                    : Way::sorted;
}

// A works on every slot in lanes, not on those alive.
FASTKAN_HD Way gradients_way(const Problem& problem, int entries, bool input, bool weight) {
  const int most = !weight ? 3 * entries / 8 : input ? entries / 4 : entries / 8;
  return is_narrow(problem, entries, most) ? Way::narrow : Way::sorted;
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

// Tasks take a workspace of as many bytes as the function beside them says.
template <class T>
struct Kernels {
  const char* isa;
  int entries;  // of a table in registers, 0 where lanes cannot read from one

  size_t (*forward_bytes)(const Call<T>&, Range outputs);
  void (*forward)(const Call<T>&, Range rows, Range outputs, char* workspace);

  // What is wanted of X, A, X for the row weights and, where `inputs` are all and one chunk, F: the rows in
  // tiles, one after another
  size_t (*gradients_bytes)(const Call<T>&);
  void (*gradients)(const Call<T>&, Range rows, Range inputs, char* workspace);

  size_t (*gram_bytes)(const Call<T>&);  // of quadratic too
  void (*gram)(const Call<T>&, Range inputs, T* out, char* workspace);
  void (*quadratic)(const Call<T>&, Range rows, Range inputs, const T* form, T* out, char* workspace);
};

// The best instruction set of this machine, or the one that FASTKAN_ISA names (isa.cpp).
template <class T>
const Kernels<T>& kernels();

}  // namespace fastkan
