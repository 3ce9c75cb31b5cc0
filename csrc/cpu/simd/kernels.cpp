// Compiled once per instruction set, with FASTKAN_ISA (its name and namespace) and FASTKAN_VECTOR_BYTES.
#include "fused_gradients_tasks.h"
#include "gram/gram.h"
#include "jet/tasks.h"
#include "peaks.h"

#define FASTKAN_STRING(name) FASTKAN_STRING_(name)
#define FASTKAN_STRING_(name) #name

namespace fastkan {
namespace FASTKAN_ISA {
namespace {

template <class T>
constexpr Kernels<T> kTable = {FASTKAN_STRING(FASTKAN_ISA),
                               kLanes<T>,
                               kEntries<T>,
                               forward_bytes<T>,
                               forward<T>,
                               fused_gradients_bytes<T>,
                               fused_gradients<T>,
                               gram_bytes<T>,
                               gram<T>,
                               quadratic<T>,
                               jet_bytes<T>,
                               jet<T>,
                               jet_gradients_bytes<T>,
                               jet_gradients<T>,
                               kSums,
                               multiply_add_steps<T>,
                               read_words};

}  // namespace

extern const Kernels<float> in_float32;
extern const Kernels<double> in_float64;
const Kernels<float> in_float32 = kTable<float>;
const Kernels<double> in_float64 = kTable<double>;

}  // namespace FASTKAN_ISA
}  // namespace fastkan
