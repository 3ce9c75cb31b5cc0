#include "stack.h"

namespace fastkan {
namespace {

template <class T>
Source source(const T* data) {
  return {data, kStorage<T>};
}

template <class T>
Target target(T* data) {
  return {data, kStorage<T>};
}

template <class T>
void add_rows(const T* row, int64_t rows, int64_t columns, T* out) {
  for (int64_t b = 0; b < rows; ++b)
    for (int64_t o = 0; o < columns; ++o) out[b * columns + o] += row[o];
}

}  // namespace

template <class T>
void stack_forward(const Cpu& cpu, const std::vector<StackLayer<T>>& layers) {
  for (const StackLayer<T>& layer : layers) {
    const Problem& problem = layer.problem;
    cpu.forward<T>(problem, source(layer.x), source(layer.weight), {}, layer.knots, target(layer.y));
    if (layer.bias) add_rows(layer.bias, problem.batch, problem.out_features, layer.y);
  }
}

template <class T>
void stack_gradients(const Cpu& cpu, const std::vector<StackLayerGradients<T>>& layers) {
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    if (!layer->grad_input && !layer->grad_weight) continue;
    cpu.fused_gradients<T>(layer->problem, 1, source(layer->x), source(layer->weight), source(layer->g), {},
                           layer->knots, {target(layer->grad_input), target(layer->grad_weight), {}, {}});
    const int64_t count = layer->problem.batch * layer->problem.in_features;
    if (layer->grad_input && layer->added) add_rows(layer->added, 1, count, layer->grad_input);
  }
}

#define FASTKAN_INSTANTIATE(T)                                                \
  template void stack_forward(const Cpu&, const std::vector<StackLayer<T>>&); \
  template void stack_gradients(const Cpu&, const std::vector<StackLayerGradients<T>>&);
FASTKAN_INSTANTIATE(float)
FASTKAN_INSTANTIATE(double)

}  // namespace fastkan
