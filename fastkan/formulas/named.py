"""A pruned KAN whose edges have names: the function of its few numbers, and their exact Jacobian.

Every edge is c f(a x + b), every sum has one offset. Some of these numbers say the same: the amplitude of a sine's argument can
stand in front of the sine's argument or inside it. `free` says which are free once the others are fixed, and `fixed` moves what
they held into those, so that what is left can be read and snapped.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fastkan.nn import FUNCTIONS, KAN
from fastkan.nn.edges import alive
from fastkan.nn.stack import columns, stages


class Named:
    """The function of the numbers p [P] that a model is with these names on its edges, in float64.

    p holds a, b, c of every edge [E, 3], then the offset of every output of every layer.
    names: of the edges in `where`, which lists (layer, input, output) of all
    rigid: a last layer of edges "x" with a = c = 1, b = 0: the model is the sum of its last nodes
    """

    def __init__(self, model: KAN, names: Sequence[str]) -> None:
        self.model, self.names = model, list(names)
        self.where, self.rigid = edges_of(model)
        self.stages = stages(model)
        outputs = [stage.layer.out_features for stage in self.stages]
        starts = torch.tensor([0, *outputs]).cumsum(0).tolist()
        self.at = [3 * len(self.where) + start for start in starts]  # of each layer's offsets in p
        self.size = self.at[-1]
        self.columns = columns(model)
        self.of_layer = [[e for e, (k, _, _) in enumerate(self.where) if k == layer] for layer in range(len(outputs))]

    def offset(self, layer: int, o: int) -> int:
        """Its place in p."""
        return self.at[layer] + o

    def into(self, layer: int, o: int) -> list[int]:
        """The edges into an output of a layer."""
        return [e for e in self.of_layer[layer] if self.where[e][2] == o]

    def onward(self, layer: int, node: int) -> list[int]:
        """The edges that read a node."""
        return [] if layer + 1 == len(self.stages) else [e for e in self.of_layer[layer + 1] if self.where[e][1] == node]

    def factors(self, layer: int) -> list[tuple[int, list[int]]]:
        """(node, outputs of the layer) of each product."""
        nodes = self.stages[layer].nodes
        found, first = [], nodes.sums
        for k, arity in enumerate(nodes.arities):
            found.append((nodes.sums + k, list(range(first, first + arity))))
            first += arity
        return found

    # ---- values and derivatives

    def _walk(self, x: Tensor, p: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor, list[Tensor]]]]:
        numbers = p[: self.at[0]].view(-1, 3)
        tape = []
        x = x[:, self.columns]
        for k, stage in enumerate(self.stages):
            sums = p[self.at[k] : self.at[k + 1]].expand(len(x), -1).clone()
            values = []
            for e in self.of_layer[k]:
                _, i, o = self.where[e]
                a, b, c = numbers[e]
                values.append(FUNCTIONS[self.names[e]].call(a * x[:, i] + b))
                sums[:, o] += c * values[-1]
            tape.append((x, sums, p, values))
            x = stage.nodes(sums)
        return x, tape

    def __call__(self, x: Tensor, p: Tensor) -> Tensor:
        """x [B, I] -> [B]."""
        return self._walk(x, p)[0][:, 0]

    def jacobian(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        """The values [B] and their derivatives by p [B, P]."""
        y, tape = self._walk(x, p)
        numbers, made = p[: self.at[0]].view(-1, 3), x.new_zeros(len(x), self.size)
        g = torch.ones_like(y)
        for k in range(len(self.stages) - 1, -1, -1):
            inputs, sums, _, values = tape[k]
            g = self._through_nodes(k, sums, g)
            made[:, self.at[k] : self.at[k + 1]] = g
            back = torch.zeros_like(inputs)
            for value, e in zip(values, self.of_layer[k], strict=True):
                _, i, o = self.where[e]
                a, b, c = numbers[e]
                slope = g[:, o] * c * FUNCTIONS[self.names[e]].slope(a * inputs[:, i] + b)
                made[:, 3 * e], made[:, 3 * e + 1], made[:, 3 * e + 2] = slope * inputs[:, i], slope, g[:, o] * value
                back[:, i] += slope * a
            g = back
        return y[:, 0], made

    def _through_nodes(self, layer: int, sums: Tensor, g: Tensor) -> Tensor:
        """From derivatives by nodes [B, N] to those by the layer's outputs [B, O]."""
        nodes = self.stages[layer].nodes
        parts = [g[:, : nodes.sums]]
        for node, outputs in self.factors(layer):
            for o in outputs:
                rest = [sums[:, other] for other in outputs if other != o]
                parts.append((g[:, node] * math.prod(rest))[:, None])
        return torch.cat(parts, dim=1)

    # ---- which numbers are free

    def free(self) -> Tensor:
        """Which of p are free; bool [P]."""
        found = torch.ones(self.size, dtype=torch.bool)
        for e, name in enumerate(self.names):
            f = FUNCTIONS[name]
            found[3 * e], found[3 * e + 1] = not f.scaling, not f.shifting
        last = len(self.stages) - 1
        for k, stage in enumerate(self.stages):
            for o in range(stage.nodes.sums):
                if k == last:
                    continue
                found[self.offset(k, o)] = False
                inner, readers = self.into(k, o), self.onward(k, o)
                if len(readers) == 1 and not (self.rigid and k + 1 == last):
                    if FUNCTIONS[self.names[readers[0]]].scaling:
                        found[3 * inner[0] + 2] = False
                    else:
                        found[3 * readers[0]] = False
            for node, outputs in self.factors(k):
                readers = self.onward(k, node)
                bound = len(readers) == 1 and not (self.rigid and k + 1 == last)
                if bound and not FUNCTIONS[self.names[readers[0]]].scaling:
                    found[3 * readers[0]] = False
                for place, o in enumerate(outputs):
                    if place or (bound and FUNCTIONS[self.names[readers[0]]].scaling):
                        found[3 * self.into(k, o)[0] + 2] = False
        if self.rigid:
            for e in self.of_layer[last]:
                found[3 * e : 3 * e + 3] = False
        return found

    def fixed(self, p: Tensor) -> Tensor:
        """Other numbers of the same function, where those that are not free have simple values."""
        p, last = p.clone(), len(self.stages) - 1
        for k, stage in enumerate(self.stages):
            for e in self.of_layer[k]:
                self._turn(p, e)
            rigid = self.rigid and k + 1 == last
            for o in range(stage.nodes.sums if k < last else 0):
                self._shift(p, k, o)
                if len(self.onward(k, o)) == 1 and not rigid:
                    self._scale(p, k, o, [o], self.onward(k, o)[0])
            for node, outputs in self.factors(k):
                for o in outputs[1:]:
                    lead = 3 * self.into(k, o)[0] + 2
                    size = p[lead].item()
                    self._multiply(p, k, o, 1 / size)
                    p[lead] = 1  # to the last digit
                    self._multiply(p, k, outputs[0], size)
                if len(self.onward(k, node)) == 1 and not rigid:
                    self._scale(p, k, node, outputs[:1], self.onward(k, node)[0])
        return p

    def _turn(self, p: Tensor, e: int) -> None:
        """Odd and even functions with a > 0, periodic ones with b within half a period."""
        f = FUNCTIONS[self.names[e]]
        if f.parity and p[3 * e] < 0:
            p[3 * e : 3 * e + 2] *= -1
            p[3 * e + 2] *= f.parity
        if f.period:
            p[3 * e + 1] -= f.period * torch.round(p[3 * e + 1] / f.period)
        size = abs(p[3 * e].item())
        if f.scaling and size != 1 and size > 0:
            p[3 * e : 3 * e + 2] /= size
            self._scaled(p, e, size)
        if f.shifting:
            self._shifted(p, e, p[3 * e + 1].item())
            p[3 * e + 1] = 0

    def _scaled(self, p: Tensor, e: int, size: float) -> None:
        """f(size z) was meant where f(z) stands now."""
        k, _, o = self.where[e]
        f, one = FUNCTIONS[self.names[e]], torch.ones((), dtype=p.dtype)
        if f.scaling == "amplitude":
            p[3 * e + 2] *= f.call(one * size) / f.call(one)
        else:
            p[self.offset(k, o)] += p[3 * e + 2] * (f.call(one * size) - f.call(one))

    def _shifted(self, p: Tensor, e: int, shift: float) -> None:
        """f(z + shift) was meant where f(z) stands now."""
        k, _, o = self.where[e]
        f, zero = FUNCTIONS[self.names[e]], torch.zeros((), dtype=p.dtype)
        if f.shifting == "amplitude":
            p[3 * e + 2] *= f.call(zero + shift) / f.call(zero)
        else:
            p[self.offset(k, o)] += p[3 * e + 2] * (f.call(zero + shift) - f.call(zero))

    def _shift(self, p: Tensor, layer: int, o: int) -> None:
        """The offset of a hidden sum goes into what reads it."""
        at = self.offset(layer, o)
        for e in self.onward(layer, o):
            shift = (p[3 * e] * p[at]).item()
            if FUNCTIONS[self.names[e]].shifting:
                self._shifted(p, e, shift)
            else:
                p[3 * e + 1] += shift
        p[at] = 0

    def _scale(self, p: Tensor, layer: int, node: int, outputs: list[int], reader: int) -> None:
        """The only reader's slope goes into what it reads, or the size of that into the reader."""
        f = FUNCTIONS[self.names[reader]]
        if not f.scaling:
            size = p[3 * reader].item()
            p[3 * reader] = 1
            self._multiply(p, layer, outputs[0], size)
            return
        lead = 3 * self.into(layer, outputs[0])[0] + 2
        size = abs(p[lead].item())
        if size == 0:
            return
        self._multiply(p, layer, outputs[0], 1 / size)
        p[lead] = p[lead].sign()
        p[3 * reader + 1] /= size
        self._scaled(p, reader, size)

    def _multiply(self, p: Tensor, layer: int, o: int, size: float) -> None:
        p[self.offset(layer, o)] *= size
        for e in self.into(layer, o):
            p[3 * e + 2] *= size

    # ---- units and models

    def in_units(self, p: Tensor, center: Tensor, half: Tensor, mean: float, deviation: float) -> Tensor:
        """The numbers for x and y as they were, where p is for (x - center) / half and (y - mean) / deviation."""
        p, last = p.clone(), len(self.stages) - 1
        for e in self.of_layer[0] if not (self.rigid and last == 0) else ():
            column = self.columns[self.where[e][1]]
            p[3 * e] /= half[column]
            p[3 * e + 1] -= p[3 * e] * center[column]
        top = last - 1 if self.rigid else last
        for o in range(self.stages[top].nodes.sums):
            self._multiply(p, top, o, deviation)
        for _, outputs in self.factors(top):
            self._multiply(p, top, outputs[0], deviation)
        if self.rigid:
            p[self.offset(last, 0)] *= deviation
        p[self.offset(last, 0)] += mean
        return p

    def built(self, p: Tensor) -> KAN:
        """A model of formulas with these numbers."""
        made = copy.deepcopy(self.model)
        with torch.no_grad():
            for k, stage in enumerate(stages(made)):
                formulas = {}
                for e in self.of_layer[k]:
                    _, i, o = self.where[e]
                    formulas[i, o] = (self.names[e], (*p[3 * e : 3 * e + 3].tolist(), 0.0))
                stage.layer.set_symbolic(formulas)
                stage.layer.bias = torch.nn.Parameter(p[self.at[k] : self.at[k + 1]].clone().to(stage.layer.weight))
        return made


def edges_of(model: KAN) -> tuple[list[tuple[int, int, int]], bool]:
    """(layer, input, output) of every edge, and whether the last layer is a plain sum of its inputs, which is not trained."""
    found = stages(model)
    last = found[-1].layer.symbolic
    rigid = last is not None and not last.affine.requires_grad
    return [(k, i, o) for k, stage in enumerate(found) for i, o in alive(stage.layer).nonzero().tolist()], rigid
