// forward for the rows and outputs of one task, and the blocks that fused gradients share with it.
#pragma once

#include "direct/direct.h"
#include "few_outputs/tasks.h"
#include "sorted/blocks.h"

namespace fastkan {
namespace FASTKAN_ISA {

template <class T>
struct ForwardSpace {
  Chunk<T> chunk;  // or, for few rows,
  Direct<T> direct;
  // a block of y; of the weight, if it must be copied; y in 32 bit, if it is stored in 16
  T *tile, *slots, *total;

  ForwardSpace(const Call<T>& call, Range outputs, Arena& arena) {
    const int width = 4 * kLanes<T>;
    const Values set(call.problem, call.problem.nu, call.row_weight.data != nullptr);
    if (call.way == Way::direct)
      direct = make_direct(call, call.tile_rows, call.chunk_inputs, arena);
    else
      chunk = make_chunk(call, Sets{set, {}, {}}, call.tile_rows, call.chunk_inputs, arena);
    tile = arena.take<T>(int64_t(call.tile_rows) * width);
    slots =
        call.way == Way::direct ? nullptr : arena.take<T>(call.chunk_inputs * call.problem.slots() * width);
    total = call.y.storage == kStorage<T> ? nullptr : arena.take<T>(call.tile_rows * outputs.size());
  }
};

// The weight rows of a block of outputs: where they lie, or a copy that is widened and padded
template <class T>
Slots<const T> weight_block(const Call<T>& call, int64_t first_input, int inputs, int64_t o, int columns,
                            int width, T* copy) {
  const int64_t O = call.problem.out_features, M = call.problem.slots(), offset = first_input * M * O + o;
  if (columns == width && call.weight.storage == kStorage<T>)
    return {static_cast<const T*>(call.weight.data) + offset, M * O, O};
  read_block(call.weight, offset, O, inputs * M, columns, width, copy);
  return {copy, M * width, width};
}

// tile = what a chunk of inputs, sorted, gives to a block of outputs, `vectors` wide
template <class T>
void sorted_forward_block(const Problem& problem, const Chunk<T>& chunk, const Slots<const T>& weight,
                          int vectors, T* tile) {
  memset(tile, 0, size_t(chunk.rows) * vectors * kLanes<T> * sizeof(T));
  with_sizes(chunk.sets.first.splines, vectors, [&](auto r, auto v) {
    if (chunk.sets.first.weighted)
      forward_block<T, r.value, v.value, true>(problem, chunk, weight, tile);
    else
      forward_block<T, r.value, v.value, false>(problem, chunk, weight, tile);
  });
}

// The same, sorted or row by row
template <class T>
void forward_block_of(const Call<T>& call, ForwardSpace<T>& space, int64_t first_input, int inputs, int64_t o,
                      int vectors, int columns, T* tile) {
  if (call.way == Way::direct)
    return with_sizes(space.direct.splines, vectors, [&](auto r, auto v) {
      direct_block<T, r.value, v.value>(call, space.direct, first_input, o, columns, tile);
    });
  const int width = vectors * kLanes<T>;
  const Slots<const T> weight = weight_block(call, first_input, inputs, o, columns, width, space.slots);
  sorted_forward_block(call.problem, space.chunk, weight, vectors, tile);
}

template <class T>
void forward_tile(const Call<T>& call, ForwardSpace<T>& space, Range rows, Range outputs, const Target& y,
                  int64_t y_offset, int64_t y_stride) {
  const Problem& problem = call.problem;
  const int count = int(rows.size());
  const int most = widest(call.way == Way::direct ? space.direct.splines : space.chunk.sets.first.splines);
  for (int64_t i = 0; i < problem.in_features; i += call.chunk_inputs) {
    const int inputs = block_size(problem.in_features - i, call.chunk_inputs);
    if (call.way == Way::direct)
      fill_direct(call, space.direct, rows.begin, count, i, inputs);
    else
      fill_chunk(call, space.chunk, rows.begin, count, i, inputs);
    for (int64_t o = outputs.begin; o < outputs.end;) {
      const int vectors = block_vectors(most, outputs.end - o, kLanes<T>), width = vectors * kLanes<T>;
      const int columns = block_size(outputs.end - o, width);
      const bool in_place = i == 0 && y_stride == width && columns == width && y.storage == kStorage<T>;
      T* const tile = in_place ? static_cast<T*>(y.data) + y_offset : space.tile;
      forward_block_of(call, space, i, inputs, o, vectors, columns, tile);
      // Sums of a chunk of inputs, then of chunks: float32 rounds like a blocked GEMM and not like one long
      // chain.
      if (!in_place)
        write_block(tile, width, count, columns, i > 0, y, y_offset + o - outputs.begin, y_stride);
      o += columns;
    }
  }
}

template <class T>
size_t forward_bytes(const Call<T>& call, Range outputs) {
#ifdef FASTKAN_LOOKUP
  if (call.way == Way::few_outputs) return few_outputs_forward_bytes(call);
#endif
  Arena arena(nullptr);
  ForwardSpace<T>(call, outputs, arena);
  return arena.used();
}

template <class T>
void forward(const Call<T>& call, Range rows, Range outputs, char* workspace) {
#ifdef FASTKAN_LOOKUP
  if (call.way == Way::few_outputs) return few_outputs_forward(call, rows, workspace);
#endif
  Arena arena(workspace);
  ForwardSpace<T> space(call, outputs, arena);
  const int64_t O = call.problem.out_features;
  for (int64_t b = rows.begin; b < rows.end; b += call.tile_rows) {
    const Range tile{b, b + block_size(rows.end - b, call.tile_rows)};
    const int64_t offset = b * O + outputs.begin;
    if (space.total) {
      forward_tile(call, space, tile, outputs, Target{space.total, kStorage<T>}, 0, outputs.size());
      write_block(space.total, outputs.size(), tile.size(), int(outputs.size()), false, call.y, offset, O);
    } else {
      forward_tile(call, space, tile, outputs, call.y, offset, O);
    }
  }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
