// Compiled once per instruction set, with FASTKAN_ISA (its name and namespace) and FASTKAN_VECTOR_BYTES.
#include "gradients_tasks.h"
#include "gram.h"

#define FASTKAN_STRING(name) FASTKAN_STRING_(name)
#define FASTKAN_STRING_(name) #name

namespace fastkan {
namespace FASTKAN_ISA {
namespace {

template <class T>
constexpr Kernels<T> kTable = {FASTKAN_STRING(FASTKAN_ISA),
                               kEntries<T>,
                               forward_bytes<T>,
                               forward<T>,
                               gradients_bytes<T>,
                               gradients<T>,
                               gram_bytes<T>,
                               gram<T>,
                               quadratic<T>};

}  // namespace

extern const Kernels<float> in_float32;
extern const Kernels<double> in_float64;
const Kernels<float> in_float32 = kTable<float>;
const Kernels<double> in_float64 = kTable<double>;

}  // namespace FASTKAN_ISA
}  // namespace fastkan
