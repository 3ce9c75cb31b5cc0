// The forward on 2:4 sparse tensor cores in fastkan._C. cuda/two_four/two_four.h says what it computes.
#include "../cuda/two_four/two_four.h"

#include "bind.h"
#include "check.h"

namespace fastkan {
namespace {

constexpr int64_t kMostFeatures = 1 << 24;  // offsets within a tile of rows have 32 bits
constexpr int64_t kMostSplines = 8192;      // (x - t_0) / h keeps 11 fractional bits

Storage operand_or_float32(const char* argument, Name dtype, Storage operand) {
  const Storage storage = parse_storage(argument, dtype);
  if (storage != Storage::float32 && storage != operand)
    refuse(argument, "float32 or the operands' type", "'" + dtype + "'");
  return storage;
}

TwoFour make_backend(Name operand, int64_t device, Address stream) {
  const Storage storage = parse_storage("operand", operand);
  if (storage != Storage::float16 && storage != Storage::bfloat16)
    refuse("operand", "float16 or bfloat16", "'" + operand + "'");
  return {int(checked("device", device, 0, std::numeric_limits<int32_t>::max())),
          reinterpret_cast<void*>(stream), storage};
}

Tile parse_tile(Name name) {
  if (name == "small") return Tile::small;
  if (name == "large") return Tile::large;
  refuse("tile", "small or large", "'" + name + "'");
}

// M slots of an input, checked with the features; S = M - 1 of them are splines.
int64_t checked_bytes(int64_t I, int64_t M, int64_t O) {
  checked("in_features", I, 0, kMostFeatures);
  checked("out_features", O, 0, kMostFeatures);
  checked("slots", M, 5, kMostSplines + 1);
  return two_four::packed_bytes(I, M - 1, O);
}

void* checked_packed(Address packed, int64_t I, int64_t M, int64_t O) {
  check_address("packed", packed, two_four::kPiece, {checked_bytes(I, M, O) / two_four::kPiece});
  return reinterpret_cast<void*>(packed);
}

}  // namespace

void bind_two_four(py::module_& module) {
  const py::call_guard<py::gil_scoped_release> without_gil;

  module.def("cuda_two_four_bytes", checked_bytes);

  module.def(
      "cuda_two_four_pack",
      [](Address weight, Address packed, int64_t I, int64_t M, int64_t O, Name dtype, Name operand,
         int64_t device, Address stream) {
        const TwoFour backend = make_backend(operand, device, stream);
        void* const target = checked_packed(packed, I, M, O);
        const Storage storage = operand_or_float32("dtype", dtype, backend.operand);
        backend.pack(checked_source("weight", weight, storage, {I, M, O}), target, I, M - 1, O);
      },
      without_gil);

  module.def(
      "cuda_two_four_forward",
      [](Address x, Address grid, Address packed, Address y, int64_t B, int64_t I, int64_t O, int64_t K,
         Name activation, Name x_dtype, Name operand, Name y_dtype, Name tile, int64_t device,
         Address stream) {
        const TwoFour backend = make_backend(operand, device, stream);
        const Problem problem =
            checked_problem(B, checked("in_features", I, 1, kMostFeatures), O, K, 3, activation, 0, 0);
        const void* const weight = checked_packed(packed, I, problem.slots(), O);
        const Storage from = operand_or_float32("x_dtype", x_dtype, backend.operand);
        const Storage to = operand_or_float32("y_dtype", y_dtype, backend.operand);
        check_address("grid", grid, 16, {two_four::units(I, two_four::kInputs) * two_four::kInputs / 2});
        backend.forward(problem, checked_source("x", x, from, {B, I}), reinterpret_cast<const void*>(grid),
                        weight, checked_target("y", y, to, {B, O}), parse_tile(tile));
      },
      without_gil);
}

}  // namespace fastkan
