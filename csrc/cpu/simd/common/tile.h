// Copies tiles between tensors and the workspace: columns of x, transposed, and blocks of outputs, padded.
#pragma once

#include "../../../core/storage.h"
#include "lookup.h"

namespace fastkan {
namespace FASTKAN_ISA {

#ifdef FASTKAN_LOOKUP
// Matrices of up to that many columns, which squares do not suit. kLanes rows of them fill as many vectors as
// there are columns, and each vector, of the rows or of a column, is picked from those of the other side.
constexpr int kFewColumns = 8;

// columns[c * stride + r] = matrix[r * width + c] for the first rows; returns how many
template <class T>
static int separate_columns(const T* matrix, int rows, int width, T* columns, int64_t stride) {
  constexpr int w = kLanes<T>;
  for (int c = 0; c < width; ++c) {
    const Mask<T> place = lane_numbers<T>() * width + c;
    const Pick<T> pick(place / w, place, width);
    for (int r = 0; r + w <= rows; r += w) store(columns + c * stride + r, pick(matrix + r * width, w));
  }
  return rows / w * w;
}

// matrix[r * width + c] = columns[c * stride + r], likewise
template <class T>
static int join_columns(const T* columns, int64_t stride, int rows, int width, T* matrix) {
  constexpr int w = kLanes<T>;
  for (int v = 0; v < width; ++v) {
    Mask<T> row{}, column{};
    for (int k = 0; k < w; ++k) {
      row[k] = (v * w + k) / width;
      column[k] = (v * w + k) % width;
    }
    const Pick<T> pick(column, row, width);
    for (int r = 0; r + w <= rows; r += w) store(matrix + r * width + v * w, pick(columns + r, stride));
  }
  return rows / w * w;
}
#endif

// A vector of which only the first `count` numbers are read; `rest` in the lanes after them.
template <class T>
FASTKAN_HD Lanes<T> load_first(const T* from, int count, T rest = T(0)) {
  if (count >= kLanes<T>) return load(from);
  Lanes<T> lanes = broadcast(rest);
#ifdef FASTKAN_LOOKUP
  const unsigned mask = (1u << count) - 1;
  if constexpr (sizeof(T) == 4)
    return Lanes<T>(_mm512_mask_loadu_ps(__m512(lanes), __mmask16(mask), from));
  else
    return Lanes<T>(_mm512_mask_loadu_pd(__m512d(lanes), __mmask8(mask), from));
#else
  for (int k = 0; k < count; ++k) set_lane<T>(lanes, k, from[k]);
  return lanes;
#endif
}

template <class T>
FASTKAN_HD void store_first(T* to, int count, Lanes<T> lanes) {
#ifdef FASTKAN_LOOKUP
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_ps(to, __mmask16((1u << count) - 1), __m512(lanes));
  else
    _mm512_mask_storeu_pd(to, __mmask8((1u << count) - 1), __m512d(lanes));
#else
  for (int k = 0; k < count; ++k) to[k] = lane<T>(lanes, k);
#endif
}

// A square that is not whole: with masks that costs as much as a whole one.
template <class T>
FASTKAN_HD void transpose_part(const T* src, int64_t src_stride, int rows, int columns, T* dst,
                               int64_t dst_stride) {
#if defined(FASTKAN_LOOKUP) && defined(FASTKAN_SHUFFLES)
  constexpr int n = kLanes<T>;
  if (rows * columns > 2 * n) {
    Lanes<T> a[n] = {};
    for (int r = 0; r < n; ++r)
      if (r < rows) a[r] = load_first(src + r * src_stride, columns);
    transpose_lanes<T>(a);
    for (int c = 0; c < n; ++c)
      if (c < columns) store_first(dst + c * dst_stride, rows, a[c]);
    return;
  }
#endif
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) dst[c * dst_stride + r] = src[r * src_stride + c];
}

// dst[c * dst_stride + r] = src[r * src_stride + c]
template <class T, class S>
static void transpose(const S* src, int64_t src_stride, int rows, int columns, T* dst, int64_t dst_stride) {
  constexpr int n = kLanes<T>;
  int r = 0;
  if constexpr (sizeof(S) == sizeof(T)) {
#ifdef FASTKAN_LOOKUP
    if (src_stride == columns && columns <= kFewColumns)
      r = separate_columns(src, rows, columns, dst, dst_stride);
    if (dst_stride == rows && rows <= kFewColumns) {
      const int done = join_columns(src, src_stride, columns, rows, dst);
      src += done;
      dst += done * dst_stride;
      columns -= done;
    }
#endif
    for (; r < rows; r += n)
      for (int c = 0; c < columns; c += n) {
        const T* const from = src + r * src_stride + c;
        T* const to = dst + c * dst_stride + r;
        if (r + n <= rows && c + n <= columns)
          transpose_square(from, src_stride, to, dst_stride);
        else
          transpose_part(from, src_stride, rows - r < n ? rows - r : n, columns - c < n ? columns - c : n, to,
                         dst_stride);
      }
  } else {
    for (; r < rows; ++r)
      for (int c = 0; c < columns; ++c) dst[c * dst_stride + r] = widen(src[r * src_stride + c]);
  }
}

// Columns [first_column, + columns) of rows [first_row, + rows) of a matrix of `width` columns, each column
// in a row of dst.
template <class T>
static void read_columns(const Source& source, int64_t width, int64_t first_row, int rows,
                         int64_t first_column, int columns, T* dst, int64_t dst_stride) {
  with_elements<T>(source, [&](const auto* data) {
    transpose(data + first_row * width + first_column, width, rows, columns, dst, dst_stride);
  });
}

template <class T>
static void write_columns(const T* src, int64_t src_stride, const Target& target, int64_t width,
                          int64_t first_row, int rows, int64_t first_column, int columns) {
  with_elements<T>(target, [&](auto* data) {
    auto* const out = data + first_row * width + first_column;
    if constexpr (sizeof(*data) == sizeof(T)) {
      transpose(src, src_stride, columns, rows, out, width);
    } else {
      for (int r = 0; r < rows; ++r)
        for (int c = 0; c < columns; ++c) narrow(src[c * src_stride + r], out + r * width + c);
    }
  });
}

// A block [rows, columns] of a matrix, its rows `stride` apart, into rows of `padded` numbers; 0 past
// `columns`.
template <class T>
static void read_block(const Source& source, int64_t offset, int64_t stride, int64_t rows, int columns,
                       int padded, T* dst) {
  with_elements<T>(source, [&](const auto* data) {
    const auto* row = data + offset;
    for (int64_t r = 0; r < rows; ++r, row += stride, dst += padded) {
      for (int c = 0; c < columns; ++c) dst[c] = widen(row[c]);
      for (int c = columns; c < padded; ++c) dst[c] = 0;
    }
  });
}

// The reverse: writes the first `columns` of each row, or adds them to what is there.
template <class T>
static void write_block(const T* src, int64_t padded, int64_t rows, int columns, bool add,
                        const Target& target, int64_t offset, int64_t stride) {
  with_elements<T>(target, [&](auto* data) {
    auto* row = data + offset;
    for (int64_t r = 0; r < rows; ++r, row += stride, src += padded)
      for (int c = 0; c < columns; ++c) narrow(add ? src[c] + widen(row[c]) : src[c], row + c);
  });
}

}  // namespace FASTKAN_ISA
}  // namespace fastkan
