// Jets row by row, lanes along the outputs. A row's slopes are made once and multiplied with every direction:
// d + 3 (p + 2) multiply-adds an edge, where d + 3 operations take (d + 3) (p + 2).
#pragma once

#include "../sorted/rows.h"
#include "records.h"

namespace fastkan {
namespace FASTKAN_ISA {

template <class T>
struct JetRows {
  Records<T, 3> records;
  T *squares, *slots, *slopes;  // slopes: of one row, by all inputs

  JetRows(const JetCall<T>& jet, Arena& arena) : records(jet.layer, arena) {
    const int width = 4 * kLanes<T>, inputs = jet.layer.chunk_inputs;
    squares = arena.take<T>(int64_t(jet.layer.tile_rows) * inputs);
    slots = arena.take<T>(inputs * jet.layer.problem.slots() * width);
    slopes = arena.take<T>(inputs * width);
  }
};

// How many of `columns` are in vector v
template <class T>
FASTKAN_HD int columns_in(int columns, int v) {
  return block_size(columns - v * kLanes<T>, kLanes<T>);
}

// Writes the first `columns` of NV vectors, or adds them to what is there.
template <class T, int NV>
FASTKAN_HD void put(const Lanes<T> (&values)[NV], T* out, int columns, bool add) {
  constexpr int w = kLanes<T>;
  if (columns == NV * w)
    for (int v = 0; v < NV; ++v) store(out + v * w, add ? load(out + v * w) + values[v] : values[v]);
  else
    for (int v = 0; v < NV; ++v) {
      const int count = columns_in<T>(columns, v);
      store_first(out + v * w, count, add ? load_first(out + v * w, count) + values[v] : values[v]);
    }
}

// y_first of one row along ND directions: their sums stay in registers while the inputs run past.
template <class T, int NV, int ND>
FASTKAN_HD void along(const T* directions, int64_t stride, const T* slopes, int inputs, T* y,
                      int64_t y_stride, int columns, bool add) {
  constexpr int w = kLanes<T>;
  Lanes<T> sums[ND][NV] = {};
  for (int i = 0; i < inputs; ++i, slopes += NV * w)
    for (int k = 0; k < ND; ++k)
      for (int v = 0; v < NV; ++v) sums[k][v] += directions[k * stride + i] * load(slopes + v * w);
  for (int k = 0; k < ND; ++k) put<T, NV>(sums[k], y + k * y_stride, columns, add);
}

template <class T, int NV>
FASTKAN_HD void along_all(const JetCall<T>& jet, int64_t row, int64_t first_input, int inputs,
                          const T* slopes, int64_t o, int columns) {
  const int64_t B = jet.layer.problem.batch, I = jet.layer.problem.in_features,
                O = jet.layer.problem.out_features;
  T* const y = jet.y_first + row * O + o;
  if (!jet.first) {  // a unit vector meets the edges of its own input alone
    for (int i = 0; i < inputs; ++i) {
      Lanes<T> own[NV];
      for (int v = 0; v < NV; ++v) own[v] = load(slopes + (i * NV + v) * kLanes<T>);
      put<T, NV>(own, y + (first_input + i) * B * O, columns, false);
    }
    return;
  }
  const T* const t = jet.first + row * I + first_input;
  int64_t k = 0;
  for (; k + 4 <= jet.directions; k += 4)
    along<T, NV, 4>(t + k * B * I, B * I, slopes, inputs, y + k * B * O, B * O, columns, first_input > 0);
  for (; k < jet.directions; ++k)
    along<T, NV, 1>(t + k * B * I, B * I, slopes, inputs, y + k * B * O, B * O, columns, first_input > 0);
}

// All rows of a tile against a block of outputs [o, o + columns), NV vectors wide
template <class T, int NV>
FASTKAN_NOINLINE void jet_block(const JetCall<T>& jet, const JetRows<T>& space, const Slots<const T>& weight,
                                int64_t first_row, int64_t first_input, int64_t o, int columns) {
  constexpr int w = kLanes<T>;
  const Problem& problem = jet.layer.problem;
  const Records<T, 3>& records = space.records;
  const int n = records.slots, inputs = records.chunk.inputs;
  const int64_t I = problem.in_features, O = problem.out_features;
  for (int b = 0; b < records.chunk.rows; ++b) {
    const int64_t row = first_row + b;
    const T* const seconds = jet.second ? jet.second + row * I + first_input : nullptr;
    Lanes<T> value[NV] = {}, second[NV] = {};
    for (int i = 0; i < inputs; ++i) {
      const T* const f = records.at(b, i);
      const AliveRows<const T> slots = alive_rows(problem, records, weight, b, i);
      Lanes<T> y[NV] = {}, slope[NV] = {}, curve[NV] = {};
      for (int m = 0; m < n; ++m)
        for (int v = 0; v < NV; ++v) {
          const Lanes<T> own = load(slots.at(m, n - 1) + v * w);
          y[v] += f[m] * own;
          slope[v] += f[n + m] * own;
          curve[v] += f[2 * n + m] * own;
        }
      const T square = space.squares[records.place(b, i)], s = seconds ? seconds[i] : T(0);
      for (int v = 0; v < NV; ++v) {
        value[v] += y[v];
        second[v] += square * curve[v];
        if (seconds) second[v] += s * slope[v];
        store(space.slopes + (i * NV + v) * w, slope[v]);
      }
    }
    put<T, NV>(value, jet.y + row * O + o, columns, first_input > 0);
    put<T, NV>(second, jet.y_second + row * O + o, columns, first_input > 0);
    along_all<T, NV>(jet, row, first_input, inputs, space.slopes, o, columns);
  }
}

// Calls body(Size<NV>, o, columns) for blocks of outputs.
template <class T, class Body>
FASTKAN_HD void in_output_blocks(int64_t outputs, const Body& body) {
  const int most = kRegisters == 32 ? 4 : 2;
  for (int64_t o = 0; o < outputs;) {
    const int vectors = block_vectors(most, outputs - o, kLanes<T>);
    const int columns = block_size(outputs - o, vectors * kLanes<T>);
    if (vectors == 4)
      body(Size<4>{}, o, columns);
    else if (vectors == 2)
      body(Size<2>{}, o, columns);
    else
      body(Size<1>{}, o, columns);
    o += columns;
  }
}

template <class T>
static void jet_rows(const JetCall<T>& jet, Range rows, char* workspace) {
  Arena arena(workspace);
  JetRows<T> space(jet, arena);
  const Problem& problem = jet.layer.problem;
  for (int64_t b = rows.begin; b < rows.end; b += jet.layer.tile_rows)
    for (int64_t i = 0; i < problem.in_features; i += jet.layer.chunk_inputs) {
      const int count = block_size(rows.end - b, jet.layer.tile_rows);
      const int inputs = block_size(problem.in_features - i, jet.layer.chunk_inputs);
      fill_records(jet.layer, space.records, b, count, i, inputs);
      fill_squares(jet, b, count, i, inputs, space.squares);
      in_output_blocks<T>(problem.out_features, [&](auto vectors, int64_t o, int columns) {
        const int width = vectors.value * kLanes<T>;
        const Slots<const T> weight = weight_block(jet.layer, i, inputs, o, columns, width, space.slots);
        jet_block<T, vectors.value>(jet, space, weight, b, i, o, columns);
      });
    }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
