// The parts of the Python module fastkan._C.
#pragma once

#include <pybind11/pybind11.h>

namespace fastkan {

namespace py = pybind11;

void bind_cpu(py::module_& module);
void bind_jet(py::module_& module);
void bind_roofline(py::module_& module);
void bind_stack(py::module_& module);
void bind_cuda(py::module_& module);
void bind_two_four(py::module_& module);

}  // namespace fastkan
