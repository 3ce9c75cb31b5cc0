// Fused gradients for the rows and inputs of one task, with forward where it joins.
#pragma once

#include "forward_tasks.h"

namespace fastkan {
namespace FASTKAN_ISA {

template <class T>
struct FusedGradientsSpace {
  Chunk<T> chunk;
  // g, slots, tile: a block of g, of the weight and of y. grads, row_grads: grad_input and grad_row_weight of
  // sorted rows; column: one of them in order of the rows. total: grad_weight, where it cannot be summed in
  // place.
  T *g, *slots, *tile, *grads, *row_grads, *column, *total;

  explicit FusedGradientsSpace(const Call<T>& call, Arena& arena) {
    const Problem& problem = call.problem;
    const int width = 4 * kLanes<T>, inputs = call.chunk_inputs;
    chunk = make_chunk(call, fused_gradients_sets(call), call.tile_rows, inputs, arena);
    const auto take = [&](const void* wanted, int64_t count) {
      return wanted ? arena.take<T>(count) : nullptr;
    };
    g = arena.take<T>(int64_t(call.tile_rows) * width);
    slots = arena.take<T>(inputs * problem.slots() * width);
    tile = take(call.y.data, int64_t(call.tile_rows) * width);
    grads = take(call.grad_input.data, inputs * chunk.stride);
    row_grads = take(call.grad_row_weight.data, inputs * chunk.stride);
    column = arena.take<T>(inputs * chunk.stride);
    const bool in_place = call.grad_weight.storage == kStorage<T> && problem.out_features % kLanes<T> == 0;
    total = take(in_place ? nullptr : call.grad_weight.data,
                 inputs * problem.slots() * padded<T>(problem.out_features));
  }
};

// grad_weight, then what a block of the weight gives: grad_input, grad_row_weight and, for rows [first_row,
// ...), y.
template <class T>
void fused_gradients_block(const Call<T>& call, FusedGradientsSpace<T>& space, int64_t first_row,
                           int64_t first_input, int64_t o, int vectors, int columns, const T* g,
                           const Slots<T>& sums) {
  const Chunk<T>& chunk = space.chunk;
  if (call.grad_weight.data)
    with_sizes(chunk.sets.first.splines, vectors, [&](auto r, auto v) {
      if (chunk.sets.first.weighted)
        grad_weight_block<T, r.value, v.value, true>(call.problem, chunk, g, sums);
      else
        grad_weight_block<T, r.value, v.value, false>(call.problem, chunk, g, sums);
    });
  if (!call.grad_input.data && !call.grad_row_weight.data && !call.y.data) return;
  const int width = vectors * kLanes<T>;
  const Slots<const T> weight = weight_block(call, first_input, chunk.inputs, o, columns, width, space.slots);
  const auto add_grads = [&](const Values& set, T* grads) {
    if (!grads) return;
    with_sizes(set.splines, vectors, [&](auto r, auto v) {
      grad_input_block<T, r.value, v.value>(call.problem, chunk, set, weight, g, grads);
    });
  };
  add_grads(chunk.sets.second, space.grads);
  add_grads(chunk.sets.plain, space.row_grads);
  if (!call.y.data) return;
  const int64_t O = call.problem.out_features;
  sorted_forward_block(call.problem, chunk, weight, vectors, space.tile);
  write_block(space.tile, width, chunk.rows, columns, false, call.y, first_row * O + o, O);
}

// Puts the sorted rows of a gradient back in order, and writes them.
template <class T>
void write_grads(const Call<T>& call, FusedGradientsSpace<T>& space, const T* grads, const Target& out,
                 int64_t first_row, int64_t first_input) {
  const Chunk<T>& chunk = space.chunk;
  for (int i = 0; i < chunk.inputs; ++i) {
    const uint16_t* const order = chunk.order_of(i);
    for (int q = 0; q < chunk.rows; ++q)
      space.column[i * chunk.stride + order[q]] = grads[i * chunk.stride + q];
  }
  write_columns(space.column, chunk.stride, out, call.problem.in_features, first_row, chunk.rows, first_input,
                chunk.inputs);
}

// Every slot of an input with a NaN x has a NaN gradient.
template <class T>
void spread_nan(const Call<T>& call, const Chunk<T>& chunk, const Slots<T>& sums) {
  for (int i = 0; i < chunk.inputs; ++i)
    if (has_nan(chunk, i))
      for (int64_t m = 0; m < call.problem.slots(); ++m)
        for (int64_t o = 0; o < call.problem.out_features; ++o)
          sums.data[i * sums.input_stride + m * sums.slot_stride + o] = T(NAN);
}

template <class T>
void fused_gradients_tile(const Call<T>& call, FusedGradientsSpace<T>& space, Range rows, int64_t first_input,
                          int inputs, const Slots<T>& sums) {
  const int64_t O = call.problem.out_features;
  Chunk<T>& chunk = space.chunk;
  const int count = int(rows.size());
  const int most = widest(chunk.sets.most_splines());
  fill_chunk(call, chunk, rows.begin, count, first_input, inputs);
  T* const all_grads[] = {space.grads, space.row_grads};
  for (T* const grads : all_grads)
    if (grads) memset(grads, 0, size_t(inputs) * chunk.stride * sizeof(T));
  for (int64_t o = 0; o < O;) {
    const int vectors = block_vectors(most, O - o, kLanes<T>), width = vectors * kLanes<T>;
    const int columns = block_size(O - o, width);
    const T* g = space.g;
    if (O == width && call.g.storage == kStorage<T>)
      g = static_cast<const T*>(call.g.data) + rows.begin * O;
    else
      read_block(call.g, rows.begin * O + o, O, count, columns, width, space.g);
    fused_gradients_block(call, space, rows.begin, first_input, o, vectors, columns, g,
                          {sums.data + o, sums.input_stride, sums.slot_stride});
    o += columns;
  }
  if (call.grad_weight.data) spread_nan(call, chunk, sums);
  if (space.grads) write_grads(call, space, space.grads, call.grad_input, rows.begin, first_input);
  if (space.row_grads)
    write_grads(call, space, space.row_grads, call.grad_row_weight, rows.begin, first_input);
}

template <class T>
size_t fused_gradients_bytes(const Call<T>& call) {
#ifdef FASTKAN_LOOKUP
  if (call.way == Way::few_outputs) return few_outputs_fused_gradients_bytes(call);
#endif
  Arena arena(nullptr);
  FusedGradientsSpace<T>(call, arena);
  return arena.used();
}

template <class T>
void fused_gradients(const Call<T>& call, Range rows, Range inputs, char* workspace) {
#ifdef FASTKAN_LOOKUP
  if (call.way == Way::few_outputs) return few_outputs_fused_gradients(call, rows, inputs, workspace);
#endif
  Arena arena(workspace);
  FusedGradientsSpace<T> space(call, arena);
  const int64_t O = call.problem.out_features, M = call.problem.slots();
  for (int64_t i = inputs.begin; i < inputs.end; i += call.chunk_inputs) {
    const int count = block_size(inputs.end - i, call.chunk_inputs);
    Slots<T> sums{space.total, M * padded<T>(O), padded<T>(O)};
    if (call.grad_weight.data) {
      if (!space.total) sums = {static_cast<T*>(call.grad_weight.data) + i * M * O, M * O, O};
      memset(sums.data, 0, size_t(count) * sums.input_stride * sizeof(T));
    }
    for (int64_t b = rows.begin; b < rows.end; b += call.tile_rows)
      fused_gradients_tile(call, space, {b, b + block_size(rows.end - b, call.tile_rows)}, i, count, sums);
    if (space.total)
      write_block(space.total, sums.slot_stride, count * M, int(O), false, call.grad_weight, i * M * O, O);
  }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
