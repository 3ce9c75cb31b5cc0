#include "../launches.h"
#include "forward.h"
#include "two_four.h"

namespace fastkan {
namespace {

template <class Operand, class Body>
void with_source(Storage storage, const Body& body) {
  if (storage == Storage::float32) return body(float());
  body(Operand());
}

template <class Body>
void with_operand(Storage storage, const Body& body) {
  if (storage == Storage::float16) return body(Float16());
  body(Bfloat16());
}

template <class X, class Operand, int kTiles, int kHalves>
void launch_forward(const TwoFour& where, const two_four::Call& call) {
  using Kernel = two_four::Forward<X, Operand, kTiles, kHalves>;
  const int64_t row_tiles = (call.batch + Kernel::kRows - 1) / Kernel::kRows;
  const int64_t column_tiles = (int64_t(call.out_features) + Kernel::kColumns - 1) / Kernel::kColumns;
  Grid grid;
  grid.x = checked_blocks("the 2:4 forward", row_tiles * column_tiles);
  launch(two_four::forward<X, Operand, kTiles, kHalves>, "2:4 forward", where.device, where.stream, grid,
         Kernel::kThreads, size_t(Kernel::kSharedBytes), call);
}

}  // namespace

void TwoFour::pack(const Source& weight, void* packed, int64_t in_features, int64_t splines,
                   int64_t out_features) const {
  const two_four::Sizes sizes = {in_features, splines, out_features};
  if (sizes.pieces() == 0) return;
  Grid grid;
  grid.x = checked_blocks("packing a weight", (sizes.pieces() + 255) / 256);
  with_operand(operand, [&](auto operand) {
    using Operand = decltype(operand);
    with_source<Operand>(weight.storage, [&](auto from) {
      using From = decltype(from);
      launch(two_four::pack_weight<From, Operand>, "pack", device, stream, grid, 256, 0,
             static_cast<const From*>(weight.data), static_cast<two_four::Piece*>(packed), sizes);
    });
  });
}

void TwoFour::forward(const Problem& problem, const Source& x, const void* grid, const void* packed,
                      const Target& y, Tile tile) const {
  if (problem.batch == 0 || problem.out_features == 0) return;
  two_four::Call call;
  call.x = x.data;
  call.grid = static_cast<const two_four::Cell*>(grid);
  call.weight = static_cast<const unsigned char*>(packed);
  call.y = y.data;
  call.batch = problem.batch;
  call.in_features = uint32_t(problem.in_features);
  call.out_features = uint32_t(problem.out_features);
  call.blocks = uint32_t(two_four::slot_blocks(problem.splines()));
  call.activation = problem.activation;
  call.result = y.storage;
  const auto four = uintptr_t(4 * bytes_of(x.storage));
  call.vector = problem.in_features % 4 == 0 && reinterpret_cast<uintptr_t>(x.data) % four == 0;
  with_operand(operand, [&](auto operand) {
    using Operand = decltype(operand);
    with_source<Operand>(x.storage, [&](auto from) {
      using X = decltype(from);
      if (tile == Tile::large)
        launch_forward<X, Operand, 2, 16>(*this, call);
      else
        launch_forward<X, Operand, 1, 8>(*this, call);
    });
  });
}

}  // namespace fastkan
