// The 2:4 sparse forward of fastkan._C; what it computes is written down in cuda/sparse/sparse.h.
#include "bind.h"
#include "check.h"
#include "cuda/sparse/sparse.h"

namespace fastkan {
namespace {

constexpr int64_t kMostFeatures = 1 << 24;  // offsets within a tile of rows are 32-bit
constexpr int64_t kMostSplines = 8192;      // u = (x - t_0) / h keeps 11 bits behind the point

Storage narrow_or_float32(const char* argument, Name dtype, Storage operand) {
  const Storage storage = parse_storage(argument, dtype);
  if (storage != Storage::float32 && storage != operand)
    refuse(argument, "float32 or the operands' type", "'" + dtype + "'");
  return storage;
}

Sparse make_backend(Name operand, int64_t device, Address stream) {
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
  return sparse::packed_bytes(I, M - 1, O);
}

void* checked_packed(Address packed, int64_t I, int64_t M, int64_t O) {
  check_address("packed", packed, sparse::kPiece, {checked_bytes(I, M, O) / sparse::kPiece});
  return reinterpret_cast<void*>(packed);
}

}  // namespace

void bind_sparse(py::module_& module) {
  const py::call_guard<py::gil_scoped_release> without_gil;

  module.def("cuda_packed_bytes", checked_bytes);

  module.def(
      "cuda_pack_sparse",
      [](Address weight, Address packed, int64_t I, int64_t M, int64_t O, Name dtype, Name operand,
         int64_t device, Address stream) {
        const Sparse backend = make_backend(operand, device, stream);
        void* const target = checked_packed(packed, I, M, O);
        const Storage storage = narrow_or_float32("dtype", dtype, backend.operand);
        backend.pack(checked_source("weight", weight, storage, {I, M, O}), target, I, M - 1, O);
      },
      without_gil);

  module.def(
      "cuda_forward_sparse",
      [](Address x, Address grid, Address packed, Address y, int64_t B, int64_t I, int64_t O, int64_t K,
         Name base, Name x_dtype, Name operand, Name y_dtype, Name tile, int64_t device, Address stream) {
        const Sparse backend = make_backend(operand, device, stream);
        const Problem problem =
            checked_problem(B, checked("in_features", I, 1, kMostFeatures), O, K, 3, base, 0, 0);
        const void* const weight = checked_packed(packed, I, problem.slots(), O);
        const Storage from = narrow_or_float32("x_dtype", x_dtype, backend.operand);
        const Storage to = narrow_or_float32("y_dtype", y_dtype, backend.operand);
        check_address("grid", grid, 16, {sparse::units(I, sparse::kInputs) * sparse::kInputs / 2});
        backend.forward(problem, checked_source("x", x, from, {B, I}), reinterpret_cast<const void*>(grid),
                        weight, checked_target("y", y, to, {B, O}), parse_tile(tile));
      },
      without_gil);
}

}  // namespace fastkan
