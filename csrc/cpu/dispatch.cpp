// Chooses among the compiled instruction sets, when first asked: the best that this machine has, or the one
// that FASTKAN_ISA names.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace fastkan {

// FASTKAN_ISAS(X) calls X(name, condition) for each instruction set of this build, the best first.
#if defined(FASTKAN_ONLY)  // tests link one at a time
#define FASTKAN_ISAS(X) X(FASTKAN_ONLY, true)
#elif defined(FASTKAN_X86)
#define FASTKAN_ISAS(X)                                                                     \
  X(avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&      \
                __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512bw") && \
                __builtin_cpu_supports("avx512vl") && has_avx2())                           \
  X(avx2, has_avx2())                                                                       \
  X(baseline, true)
#else
#define FASTKAN_ISAS(X) X(baseline, true)
#endif

#define FASTKAN_DECLARE(name, condition)   \
  namespace name {                         \
  extern const Kernels<float> in_float32;  \
  extern const Kernels<double> in_float64; \
  }
FASTKAN_ISAS(FASTKAN_DECLARE)

namespace {

#if defined(FASTKAN_X86)
// What -march=x86-64-v3 lets the compiler use
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("movbe");
}
#endif

struct Choice {
  const Kernels<float>* in_float32;
  const Kernels<double>* in_float64;
};

Choice choose() {
#if defined(FASTKAN_X86)
  __builtin_cpu_init();
#endif
  const char* const named = std::getenv("FASTKAN_ISA");
  std::string here;
#define FASTKAN_CHOOSE(name, condition)                                  \
  if (condition) {                                                       \
    if (!named || !*named || std::string(name::in_float32.isa) == named) \
      return {&name::in_float32, &name::in_float64};                     \
    here += std::string(" ") + name::in_float32.isa;                     \
  }
  FASTKAN_ISAS(FASTKAN_CHOOSE)
  throw std::invalid_argument("fastkan: FASTKAN_ISA must be one of" + here + " on this machine, got '" +
                              named + "'");
}

const Choice& choice() {
  static const Choice chosen = choose();
  return chosen;
}

}  // namespace

template <>
const Kernels<float>& kernels<float>() {
  return *choice().in_float32;
}

template <>
const Kernels<double>& kernels<double>() {
  return *choice().in_float64;
}

}  // namespace fastkan
