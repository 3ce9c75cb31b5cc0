// forward for cubic splines on uniform grids, on 2:4 sparse tensor cores: y = sum_i sum_m f_m(x_i) W[i, m]. A
// block of 4 warps makes kRows x kColumns of y; copies bring the packed weight, step by step, one block of 8
// slots of 16 inputs each; every lane makes the operand a of its rows and inputs from x, in registers.
#pragma once

#include "activation.h"
#include "pack.h"

namespace fastkan::two_four {

struct alignas(8) Cell {
  float start, scale;  // position in intervals: (x - start) * scale
};

// What a call is about. x [batch, in_features], grid [in_features, padded to units], y [batch, out_features]
struct Call {
  const void* x;
  const Cell* grid;
  const unsigned char* weight;  // packed
  void* y;
  int64_t batch;
  uint32_t in_features, out_features, blocks;  // blocks: of slots
  Activation activation;
  Storage result;
  bool vector;  // four neighbouring x may be loaded at once
};

FASTKAN_DEVICE void multiply_two_four(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4],
                                      uint32_t metadata, Float16) {
  mma_two_four_float16(d, a, b, metadata);
}
FASTKAN_DEVICE void multiply_two_four(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[4],
                                      uint32_t metadata, Bfloat16) {
  mma_two_four_bfloat16(d, a, b, metadata);
}
FASTKAN_DEVICE void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Float16) {
  mma_float16(d, a, b);
}
FASTKAN_DEVICE void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Bfloat16) {
  mma_bfloat16(d, a, b);
}

template <class T>
struct alignas(4 * sizeof(T)) Four {
  T value[4];
};

// A block of threads: kTiles x 16 rows a warp, kHalves x 8 columns.
template <class X, class Operand, int kTiles, int kHalves>
class Forward {
 public:
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kRows = kWarps * kTiles * 16, kColumns = 8 * kHalves;
  static constexpr int kUnits = kColumns / kOutputs;              // of outputs
  static constexpr int kUnitStage = kBaseBytes + kBlockBytes;     // of one unit in a stage
  static constexpr int kGridBytes = kInputs * int(sizeof(Cell));  // at the end of a stage
  static constexpr int kStageBytes = kUnits * kUnitStage + kGridBytes;
  // Two stages of the large tile leave room for two blocks on a processor, whose warps hide each other's
  // waits.
  static constexpr int kStages = kTiles > 1 ? 2 : 3, kSharedBytes = kStages * kStageBytes;

  FASTKAN_DEVICE Forward(const Call& call, unsigned char* shared)
      : call_(call),
        shared_(shared),
        lane_(int(threadIdx.x) & 31),
        bytes_(window_bytes(lane_)),
        metadata_(lane_),
        steps_(int(units(call.in_features, kInputs) * call.blocks)),
        first_unit_(first_unit()) {
    const int64_t row = first_row(), last = call.batch - 1;
    x_ = static_cast<const X*>(call.x) + (row < last ? row : last) * call.in_features;
    rows_after_ = row + 16 * kTiles < last ? 16 * kTiles : row < last ? uint32_t(last - row) : 0;
#pragma unroll
    for (int i = 0; i < kTiles; ++i)
#pragma unroll
      for (int j = 0; j < kHalves; ++j)
#pragma unroll
        for (int k = 0; k < 4; ++k) sum_[i][j][k] = 0;
  }

  FASTKAN_DEVICE void run() {
    for (int step = 0; step < kStages - 1; ++step) copy(step);
    load(0);
    uint32_t unit = 0, block = 0;  // of the step
    for (int step = 0; step < steps_; ++step) {
      wait_for_copies<kStages - 2>();
      __syncthreads();
      copy(step + kStages - 1);
      const unsigned char* const stage = shared_ + step % kStages * kStageBytes;
      if (block == 0) {
        take(unit);
        load(unit + 1);
        add_base(stage);
      }
      add_splines(stage, -3.5f - float(kSlots * block));
      if (++block == call_.blocks) {
        block = 0;
        ++unit;
      }
    }
  }

  FASTKAN_DEVICE void store() const {
    if (call_.result == Storage::float32)
      store_as(static_cast<float*>(call_.y));
    else
      store_as(static_cast<Operand*>(call_.y));
  }

 private:
  FASTKAN_DEVICE uint32_t row_tiles() const { return uint32_t((call_.batch + kRows - 1) / kRows); }
  FASTKAN_DEVICE int64_t first_row() const {
    return int64_t(blockIdx.x % row_tiles()) * kRows + int(threadIdx.x) / 32 * kTiles * 16 + lane_ / 4;
  }
  FASTKAN_DEVICE uint32_t first_unit() const { return blockIdx.x / row_tiles() * kUnits; }

  // Sends the weight and the grid of a step on their way; a group of copies in any case. Outputs past the
  // last unit are computed from it, and not stored.
  FASTKAN_DEVICE void copy(int step) const {
    if (step < steps_) {
      const uint32_t unit = uint32_t(step) / call_.blocks, block = uint32_t(step) % call_.blocks;
      const uint32_t input_units = (call_.in_features + kInputs - 1) / kInputs;
      const uint32_t last = (call_.out_features - 1) / kOutputs;
      const int begin = block == 0 ? 0 : kBaseBytes;  // the base slots come with the first block
      unsigned char* const stage = shared_ + step % kStages * kStageBytes;
#pragma unroll
      for (int k = 0; k < kUnits; ++k) {
        const uint32_t outputs = first_unit_ + k < last ? first_unit_ + k : last;
        const unsigned char* const source =
            call_.weight + (int64_t(outputs) * input_units + unit) * unit_bytes(call_.blocks) +
            block * kBlockBytes;
        for (int at = begin + int(threadIdx.x) * kPiece; at < kUnitStage; at += kThreads * kPiece)
          copy_async(stage + k * kUnitStage + at, source + at);
      }
      if (threadIdx.x * kPiece < kGridBytes)
        copy_async(
            stage + kUnits * kUnitStage + threadIdx.x * kPiece,
            reinterpret_cast<const unsigned char*>(call_.grid + unit * kInputs) + threadIdx.x * kPiece);
    }
    end_copy_group();
  }

  // Reads the four inputs 16 unit + 4 (lane mod 4) + 0 .. 3 of every row. Inputs and rows past the end are
  // read elsewhere: rows are computed from the last one, and not stored.
  FASTKAN_DEVICE void load(uint32_t unit) {
    const uint32_t column = kInputs * unit + 4 * (lane_ & 3);
#pragma unroll
    for (int k = 0; k < 2 * kTiles; ++k) {
      const uint32_t after = 8 * k;
      const X* const row = x_ + (after < rows_after_ ? after : rows_after_) * call_.in_features;
      if (call_.vector) {
        next_[k] = *reinterpret_cast<const Four<X>*>(row + (column < call_.in_features ? column : 0));
      } else {
#pragma unroll
        for (int c = 0; c < 4; ++c) next_[k].value[c] = row[column + c < call_.in_features ? column + c : 0];
      }
    }
  }

  // What was loaded becomes the x of this unit; inputs past the end are 0, where every activation is 0.
  FASTKAN_DEVICE void take(uint32_t unit) {
    const uint32_t column = kInputs * unit + 4 * (lane_ & 3);
#pragma unroll
    for (int k = 0; k < 2 * kTiles; ++k)
#pragma unroll
      for (int c = 0; c < 4; ++c)
        now_[k][c] = column + c < call_.in_features ? value_of(next_[k].value[c]) : 0.0f;
  }

  FASTKAN_DEVICE void add_base(const unsigned char* stage) {
    uint32_t a[kTiles][4];
    with_activation(call_.activation, [&](auto activation) {
#pragma unroll
      for (int k = 0; k < 2 * kTiles; ++k)
#pragma unroll
        for (int c = 0; c < 4; c += 2)
          a[k / 2][k % 2 + c] = pack(base_slot<activation.value>(now_[k][c]),
                                     base_slot<activation.value>(now_[k][c + 1]), Operand());
    });
#pragma unroll
    for (int j = 0; j < kHalves; j += 2) {
      const Piece piece = piece_at(stage + j / 2 * kUnitStage);
      const uint32_t left[2] = {piece.word[0], piece.word[1]}, right[2] = {piece.word[2], piece.word[3]};
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        multiply(sum_[i][j], a[i], left, Operand());
        multiply(sum_[i][j + 1], a[i], right, Operand());
      }
    }
  }

  FASTKAN_DEVICE void add_splines(const unsigned char* stage, float offset) {
    const auto* const grid = reinterpret_cast<const Cell*>(stage + kUnits * kUnitStage) + 4 * (lane_ & 3);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const Cell cell = grid[c];
      uint32_t a[kTiles][4], metadata[kTiles];
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        Window rows[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          rows[r] = window_at<Operand>(fmaf(now_[2 * i + r][c] - cell.start, cell.scale, offset), bytes_);
          a[i][r] = rows[r].even;
          a[i][2 + r] = rows[r].odd;
        }
        metadata[i] = metadata_.word(rows[0], rows[1]);
      }
#pragma unroll
      for (int j = 0; j < kHalves; ++j) {
        const Piece b = piece_at(stage + j / 2 * kUnitStage + kBaseBytes + (2 * c + j % 2) * kFragment);
#pragma unroll
        for (int i = 0; i < kTiles; ++i) multiply_two_four(sum_[i][j], a[i], b.word, metadata[i], Operand());
      }
    }
  }

  FASTKAN_DEVICE Piece piece_at(const unsigned char* fragment) const {
    return reinterpret_cast<const Piece*>(fragment)[lane_];
  }

  template <class Y>
  FASTKAN_DEVICE void store_as(Y* y) const {
    const int64_t first = first_row();
    const uint32_t first_column = first_unit_ * kOutputs + 2 * (lane_ & 3);
#pragma unroll
    for (int k = 0; k < 2 * kTiles; ++k) {
      const int64_t row = first + 8 * k;
      if (row < call_.batch) {
#pragma unroll
        for (int j = 0; j < kHalves; ++j)
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            const uint32_t column = first_column + 8 * j + c;
            if (column < call_.out_features)
              narrow(sum_[k / 2][j][2 * (k % 2) + c], y + row * call_.out_features + column);
          }
      }
    }
  }

  const Call& call_;
  unsigned char* const shared_;
  const int lane_;
  const uint32_t bytes_;
  const Metadata metadata_;
  const int steps_;
  const uint32_t first_unit_;
  const X* x_;           // rows g, g + 8, g + 16, ... of the warp, for lane 4 g + t
  uint32_t rows_after_;  // the first of them, up to the last row
  Four<X> next_[2 * kTiles];
  float now_[2 * kTiles][4];
  float sum_[kTiles][kHalves][4];
};

template <class X, class Operand, int kTiles, int kHalves>
FASTKAN_KERNEL(128)
forward(const Call call) {
  Forward<X, Operand, kTiles, kHalves> forward(call, shared_memory());
  forward.run();
  forward.store();
}

}  // namespace fastkan::two_four
