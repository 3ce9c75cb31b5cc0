// F, X and A for the rows, inputs and outputs of one task.
#pragma once

#include "blocks.h"
#include "direct.h"
#include "narrow_tasks.h"

namespace fastkan {
namespace FASTKAN_ISA {

#if FASTKAN_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int kRegisters = 32;
#elif FASTKAN_VECTOR_BYTES > 0
constexpr int kRegisters = 16;
#else
constexpr int kRegisters = 64;  // single values: as wide as the widest vectors above
#endif

// R rows, the base row, a row of y or g, and a broadcast and a load in flight
constexpr bool fits(int splines, int vectors) {
  return vectors == 1 || vectors * (splines + 2) + 2 <= kRegisters;
}

FASTKAN_HD int widest(int splines) { return fits(splines, 4) ? 4 : fits(splines, 2) ? 2 : 1; }

// The vectors of the next block: 4, 2 or 1, the last of them perhaps with padding
FASTKAN_HD int block_vectors(int most, int64_t left, int lanes) {
  while (most > 1 && (most - 1) * lanes >= left) most /= 2;
  return most;
}

// Calls body(Size<R>, Size<NV>) for the pair given at run time.
template <class Body>
FASTKAN_HD void with_sizes(int splines, int vectors, const Body& body) {
  with_splines(splines, [&](auto r) {
    if constexpr (fits(r.value, 4))
      if (vectors == 4) return body(r, Size<4>{});
    if constexpr (fits(r.value, 2))
      if (vectors == 2) return body(r, Size<2>{});
    body(r, Size<1>{});
  });
}

template <class T>
int64_t padded(int64_t outputs) {
  return (outputs + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// ---- F

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
      chunk = make_chunk(call, set, Values{}, call.tile_rows, call.chunk_inputs, arena);
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

// tile = what the chunk of inputs gives to a block of outputs, `vectors` wide
template <class T>
void forward_block_of(const Call<T>& call, ForwardSpace<T>& space, int64_t first_input, int inputs, int64_t o,
                      int vectors, int columns, T* tile) {
  if (call.way == Way::direct)
    return with_sizes(space.direct.splines, vectors, [&](auto r, auto v) {
      direct_block<T, r.value, v.value>(call, space.direct, first_input, o, columns, tile);
    });
  const int width = vectors * kLanes<T>;
  memset(tile, 0, size_t(space.chunk.rows) * width * sizeof(T));
  const Slots<const T> weight = weight_block(call, first_input, inputs, o, columns, width, space.slots);
  with_sizes(space.chunk.first.splines, vectors, [&](auto r, auto v) {
    if (space.chunk.first.weighted)
      forward_block<T, r.value, v.value, true>(call.problem, space.chunk, weight, tile);
    else
      forward_block<T, r.value, v.value, false>(call.problem, space.chunk, weight, tile);
  });
}

template <class T>
void forward_tile(const Call<T>& call, ForwardSpace<T>& space, Range rows, Range outputs, const Target& y,
                  int64_t y_offset, int64_t y_stride) {
  const Problem& problem = call.problem;
  const int count = int(rows.size());
  const int most = widest(call.way == Way::direct ? space.direct.splines : space.chunk.first.splines);
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
  if (call.way == Way::narrow) return narrow_forward_bytes(call);
#endif
  Arena arena(nullptr);
  ForwardSpace<T>(call, outputs, arena);
  return arena.used();
}

template <class T>
void forward(const Call<T>& call, Range rows, Range outputs, char* workspace) {
#ifdef FASTKAN_LOOKUP
  if (call.way == Way::narrow) return narrow_forward(call, rows, workspace);
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

// ---- X and A

template <class T>
struct GradientsSpace {
  Chunk<T> chunk;
  // blocks of g and the weight; X sorted and not; the weight's gradient, if it cannot be summed where it goes
  T *g, *slots, *grads, *column, *total;

  explicit GradientsSpace(const Call<T>& call, Arena& arena) {
    const Problem& problem = call.problem;
    const int width = 4 * kLanes<T>, inputs = call.chunk_inputs;
    const Values a = call.grad_weight.data ? Values(problem, problem.nu, call.row_weight.data) : Values();
    const Values x = call.grad_input.data ? Values(problem, call.grad_input_nu, false) : Values();
    chunk = make_chunk(call, a, x, call.tile_rows, inputs, arena);
    g = arena.take<T>(int64_t(call.tile_rows) * width);
    slots = arena.take<T>(inputs * problem.slots() * width);
    grads = arena.take<T>(inputs * chunk.stride);
    column = arena.take<T>(inputs * chunk.stride);
    const bool in_place = call.grad_weight.storage == kStorage<T> && problem.out_features % kLanes<T> == 0;
    total = call.grad_weight.data && !in_place
                ? arena.take<T>(inputs * problem.slots() * padded<T>(problem.out_features))
                : nullptr;
  }
};

template <class T>
void gradients_block(const Call<T>& call, GradientsSpace<T>& space, int64_t first_input, int64_t o,
                     int vectors, int columns, const T* g, const Slots<T>& sums) {
  const Chunk<T>& chunk = space.chunk;
  if (chunk.first.splines >= 0)
    with_sizes(chunk.first.splines, vectors, [&](auto r, auto v) {
      if (chunk.first.weighted)
        grad_weight_block<T, r.value, v.value, true>(call.problem, chunk, g, sums);
      else
        grad_weight_block<T, r.value, v.value, false>(call.problem, chunk, g, sums);
    });
  if (chunk.second.splines >= 0) {
    const int width = vectors * kLanes<T>;
    const Slots<const T> weight =
        weight_block(call, first_input, chunk.inputs, o, columns, width, space.slots);
    with_sizes(chunk.second.splines, vectors, [&](auto r, auto v) {
      grad_input_block<T, r.value, v.value>(call.problem, chunk, chunk.second, weight, g, space.grads);
    });
  }
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
void gradients_tile(const Call<T>& call, GradientsSpace<T>& space, Range rows, int64_t first_input,
                    int inputs, const Slots<T>& sums) {
  const int64_t O = call.problem.out_features, I = call.problem.in_features;
  Chunk<T>& chunk = space.chunk;
  const int count = int(rows.size());
  const int most =
      widest(chunk.first.splines > chunk.second.splines ? chunk.first.splines : chunk.second.splines);
  fill_chunk(call, chunk, rows.begin, count, first_input, inputs);
  if (call.grad_input.data) memset(space.grads, 0, size_t(inputs) * chunk.stride * sizeof(T));
  for (int64_t o = 0; o < O;) {
    const int vectors = block_vectors(most, O - o, kLanes<T>), width = vectors * kLanes<T>;
    const int columns = block_size(O - o, width);
    const T* g = space.g;
    if (O == width && call.g.storage == kStorage<T>)
      g = static_cast<const T*>(call.g.data) + rows.begin * O;
    else
      read_block(call.g, rows.begin * O + o, O, count, columns, width, space.g);
    gradients_block(call, space, first_input, o, vectors, columns, g,
                    {sums.data + o, sums.input_stride, sums.slot_stride});
    o += columns;
  }
  if (call.grad_weight.data) spread_nan(call, chunk, sums);
  if (!call.grad_input.data) return;
  for (int i = 0; i < inputs; ++i) {
    const uint16_t* const order = chunk.order_of(i);
    for (int q = 0; q < count; ++q)
      space.column[i * chunk.stride + order[q]] = space.grads[i * chunk.stride + q];
  }
  write_columns(space.column, chunk.stride, call.grad_input, I, rows.begin, count, first_input, inputs);
}

template <class T>
size_t gradients_bytes(const Call<T>& call) {
#ifdef FASTKAN_LOOKUP
  if (call.way == Way::narrow) return narrow_gradients_bytes(call);
#endif
  Arena arena(nullptr);
  GradientsSpace<T>(call, arena);
  return arena.used();
}

template <class T>
void gradients(const Call<T>& call, Range rows, Range inputs, char* workspace) {
#ifdef FASTKAN_LOOKUP
  if (call.way == Way::narrow) return narrow_gradients(call, rows, inputs, workspace);
#endif
  Arena arena(workspace);
  GradientsSpace<T> space(call, arena);
  const int64_t O = call.problem.out_features, M = call.problem.slots();
  for (int64_t i = inputs.begin; i < inputs.end; i += call.chunk_inputs) {
    const int count = block_size(inputs.end - i, call.chunk_inputs);
    Slots<T> sums{space.total, M * padded<T>(O), padded<T>(O)};
    if (call.grad_weight.data) {
      if (!space.total) sums = {static_cast<T*>(call.grad_weight.data) + i * M * O, M * O, O};
      memset(sums.data, 0, size_t(count) * sums.input_stride * sizeof(T));
    }
    for (int64_t b = rows.begin; b < rows.end; b += call.tile_rows)
      gradients_tile(call, space, {b, b + block_size(rows.end - b, call.tile_rows)}, i, count, sums);
    if (space.total)
      write_block(space.total, sums.slot_stride, count * M, int(O), false, call.grad_weight, i * M * O, O);
  }
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
