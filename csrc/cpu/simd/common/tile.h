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
    for (; r + n <= rows; r += n) {
      int c = 0;
      for (; c + n <= columns; c += n)
        transpose_square(src + r * src_stride + c, src_stride, dst + c * dst_stride + r, dst_stride);
      for (; c < columns; ++c)
        for (int q = r; q < r + n; ++q) dst[c * dst_stride + q] = src[q * src_stride + c];
    }
  }
  for (; r < rows; ++r)
    for (int c = 0; c < columns; ++c) {
      if constexpr (sizeof(S) == sizeof(T))
        dst[c * dst_stride + r] = src[r * src_stride + c];
      else
        dst[c * dst_stride + r] = widen(src[r * src_stride + c]);
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
