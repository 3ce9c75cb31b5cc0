// Blocks of threads, and the tiles that they take.
#pragma once

#include "../core/inline.h"
#include "device.h"

namespace fastkan {

constexpr int kThreads = 128;  // of a block

FASTKAN_HD int64_t blocks_of(int64_t total, int64_t size) { return (total + size - 1) / size; }

// Tiles are numbered along one axis of the grid: `columns` of them side by side.
struct TileIndex {
  int64_t row, column;
  FASTKAN_DEVICE static TileIndex here(int64_t columns) {
    const auto divisor = unsigned(columns);  // at most as many as blocks; division in 64 bit is a call
    return {int64_t(blockIdx.x / divisor), int64_t(blockIdx.x % divisor)};
  }
};

}  // namespace fastkan
