// Checks of the arguments from Python. A refusal names the argument, what was expected and what was received.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <string>

#include "../core/problem.h"
#include "../core/storage.h"

namespace fastkan {

using Address = std::uintptr_t;
using Name = const std::string&;

[[noreturn]] inline void refuse(const std::string& argument, const std::string& expected,
                                const std::string& received) {
  throw std::invalid_argument("fastkan: " + argument + " must be " + expected + ", got " + received);
}

inline int64_t checked(const char* argument, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return value;
  const bool bounded = high < std::numeric_limits<int32_t>::max();
  refuse(argument,
         bounded ? std::to_string(low) + ".." + std::to_string(high) : "at least " + std::to_string(low),
         std::to_string(value));
}

inline Activation parse_activation(Name name) {
#define FASTKAN_PARSE(activation) \
  if (name == #activation) return Activation::activation;
  FASTKAN_ACTIVATIONS(FASTKAN_PARSE)
#undef FASTKAN_PARSE
#define FASTKAN_LIST(activation) ", " #activation
  constexpr const char* known = FASTKAN_ACTIVATIONS(FASTKAN_LIST);
#undef FASTKAN_LIST
  refuse("activation", "one of " + std::string(known + 2), "'" + name + "'");
}

inline Problem checked_problem(int64_t batch, int64_t in_features, int64_t out_features, int64_t num_knots,
                               int64_t degree, Name activation, int64_t nu, int64_t mu) {
  constexpr int64_t kAny = std::numeric_limits<int64_t>::max();
  Problem problem;
  problem.batch = checked("batch", batch, 0, kAny);
  problem.in_features = checked("in_features", in_features, 0, kAny);
  problem.out_features = checked("out_features", out_features, 0, kAny);
  problem.degree = int(checked("degree", degree, 1, kMaxDegree));
  problem.num_knots = checked("num_knots", num_knots, 2 * degree + 2, kAny);
  problem.nu = checked("nu", nu, 0, kAny);
  problem.mu = checked("mu", mu, 0, kAny);
  problem.activation = parse_activation(activation);
  const int64_t order = nu > mu ? nu : mu, limit = highest_order(problem.activation);
  if (limit >= 0 && order > limit)
    refuse("the derivative order of activation '" + activation + "'", "at most " + std::to_string(limit),
           std::to_string(order));
  return problem;
}

// Refuses what cannot be the address of a contiguous tensor of that shape. 0: an absent optional tensor, or
// an empty one.
inline void check_address(const char* argument, std::uintptr_t address, int64_t item_size,
                          std::initializer_list<int64_t> shape, bool optional = false) {
  int64_t bytes = item_size;
  for (const int64_t size : shape)
    if (size == 0) bytes = 0;
  for (const int64_t size : shape) {
    if (size != 0 && bytes > std::numeric_limits<int64_t>::max() / size)
      refuse("the size of " + std::string(argument), "less than 2^63 bytes", "more");
    bytes *= size;
  }
  if (address == 0 && bytes != 0 && !optional)
    refuse(argument, "the address of " + std::to_string(bytes) + " bytes", "0");
  if (address % std::uintptr_t(item_size) != 0)
    refuse(argument, "aligned to " + std::to_string(item_size) + " bytes", std::to_string(address));
}

// Calls body(T()) with the type that dtype names.
template <class Body>
void with_type(Name dtype, const Body& body) {
  if (dtype == "float32") return body(float());
  if (dtype == "float64") return body(double());
  refuse("dtype", "float32 or float64", "'" + dtype + "'");
}

template <class T>
T* checked_pointer(const char* argument, std::uintptr_t address, std::initializer_list<int64_t> shape,
                   bool optional = false) {
  check_address(argument, address, sizeof(T), shape, optional);
  return reinterpret_cast<T*>(address);
}

inline Storage parse_storage(const char* argument, Name dtype) {
  if (dtype == "float32") return Storage::float32;
  if (dtype == "float64") return Storage::float64;
  if (dtype == "bfloat16") return Storage::bfloat16;
  if (dtype == "float16") return Storage::float16;
  refuse(argument, "float32, float64, bfloat16 or float16", "'" + dtype + "'");
}

// Calls body(T()) with the type that computes: float64 for float64, float32 for all others.
template <class Body>
void with_compute_type(Storage x, Storage values, const Body& body) {
  if ((x == Storage::float64) != (values == Storage::float64))
    refuse("dtype and value_dtype", "both float64 or neither", "one of each");
  if (x == Storage::float64) return body(double());
  body(float());
}

inline Source checked_source(const char* argument, Address address, Storage storage,
                             std::initializer_list<int64_t> shape, bool optional = false) {
  check_address(argument, address, bytes_of(storage), shape, optional);
  return {reinterpret_cast<const void*>(address), storage};
}

inline Target checked_target(const char* argument, Address address, Storage storage,
                             std::initializer_list<int64_t> shape, bool optional = false) {
  check_address(argument, address, bytes_of(storage), shape, optional);
  return {reinterpret_cast<void*>(address), storage};
}

}  // namespace fastkan
