"""The exact Jacobian of residuals with respect to the parameters of KAN layers, one row of x at a time.

A residual of row b depends on row b alone, so its gradient towards a weight is the term of row b in the sum that grad_weight
makes. The calls of grad_weight in one backward pass say all of it: derivatives of the model in the residual, of any order, too.
Biases and the numbers of formulas are few: every row gets its own.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastkan.nn.edges import present, slot_values
from fastkan.nn.linear import KANLinear
from fastkan.nn.watch import Call, GradWeights, calls_watched, in_eager_mode, rows_watched

Residuals = Callable[[], Sequence[Tensor]]


class _Term(NamedTuple):
    """One tensor of residuals [B, K]: its values, and for each of the K columns its calls and, by their places among the
    parameters, the gradients [B, numel] of those that are no weights.
    """

    values: Tensor
    calls: list[list[Call]]
    others: list[dict[int, Tensor]]


def parameters_of(model: nn.Module) -> list[tuple[KANLinear, str]]:
    """(layer, name of its parameter) of everything trainable, in the order of the Jacobian's columns.

    raises: ValueError naming a trainable parameter of another kind
    """
    found: list[tuple[KANLinear, str]] = []
    known = set()
    for layer in model.modules():
        if isinstance(layer, KANLinear):
            if layer.scale is not None:
                raise ValueError("model: expected plain splines, received a layer with spline_scale; use set_spline_scale(None)")
            own = dict(layer.named_parameters())
            for name in ("weight", "bias", "symbolic.affine"):
                if name in own and own[name].requires_grad:
                    found.append((layer, name))
                    known.add(id(own[name]))
    if other := [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in known]:
        raise ValueError(
            f"model: expected weights, biases and formulas of KANLinear alone to train, received {', '.join(other)} too"
        )
    if len(known) != len(found):
        raise ValueError("model: expected a parameter in one layer only, received one that layers share")
    return found


class Columns(NamedTuple):
    """What stands in the columns of a Jacobian: it stays while a model's weights and grids change.

    parameters: see parameters_of. layers: theirs. there: which of their entries have a column; bool. size: P, how many have
    """

    parameters: list[tuple[KANLinear, str]]
    layers: list[KANLinear]
    there: Tensor
    size: int

    @classmethod
    def of(cls, model: nn.Module) -> "Columns":
        parameters = parameters_of(model)
        there = torch.cat([active(layer, name) for layer, name in parameters])
        return cls(parameters, list(dict.fromkeys(layer for layer, _ in parameters)), there, int(there.sum()))


class RowJacobian:
    """The residuals and their Jacobian at a model's present weights.

    model: trainable parameters are weights, biases and formulas of KANLinear. Weights of edges that are gone have no column.
    residuals: returns tensors [B, ...], whose row b depends on row b of the layers' inputs alone
    columns: the model's, where they are known
    plain: True where the weights act in calls of their layers alone, as in the residuals of model(x): the gradients of what the
        layers return are all that is needed then, in half the time of the calls of grad_weight
    raises: ValueError where a residual's rows are not those of the layers' inputs
    """

    def __init__(
        self, model: nn.Module, residuals: Residuals, columns: Columns | None = None, plain: bool = False
    ) -> None:  # fmt: skip
        self.columns = Columns.of(model) if columns is None else columns
        self.parameters, self.layers, self.there, self.size = self.columns
        added: list[tuple[int, Tensor]] = []
        met: list[tuple[int, Tensor, Tensor]] = []
        with torch.enable_grad(), in_eager_mode():
            with (
                calls_watched(self.parameters, met) if plain else contextlib.nullcontext(),
                rows_watched(self.parameters, added),
            ):
                terms = [term.reshape(len(term), -1) for term in residuals()]
            watch = None if plain else GradWeights(self.layers)
            with watch or contextlib.nullcontext():  # of the backward pass alone: a forward pass under it took 3 times as long
                self.terms = [self._term(term, watch, met, added, keep=k < len(terms) - 1) for k, term in enumerate(terms)]

    def _term(
        self, values: Tensor, watch: GradWeights | None, met: list[tuple[int, Tensor, Tensor]], added: list[tuple[int, Tensor]],
        keep: bool,
    ) -> _Term:  # fmt: skip
        firsts = [y for *_, y in met]
        if watch is not None:
            firsts = [layer.weight for layer, name in self.parameters if name == "weight"]
        tensors = firsts + [zero for _, zero in added]
        sizes = [tensor.numel() for tensor in self._tensors]
        term = _Term(values.detach(), [], [])
        for k in range(values.shape[1]):
            if watch is not None:
                watch.calls = []
            last = k == values.shape[1] - 1 and not keep
            gradients = torch.autograd.grad(values[:, k].sum(), tensors, retain_graph=not last, allow_unused=True)
            others: dict[int, Tensor] = {}
            for (place, _), gradient in zip(added, gradients[len(firsts) :], strict=True):
                if gradient is not None:
                    gradient = gradient.reshape(-1, sizes[place])
                    others[place] = others[place] + gradient if place in others else gradient
            if watch is None:
                pairs = zip(met, gradients, strict=False)
                calls = [Call(place, x, gradient, None, 0) for (place, x, _), gradient in pairs if gradient is not None]
            else:
                calls = watch.calls
            rows = {len(call.x) for call in calls} | {len(g) for g in others.values()}
            if rows - {len(values)}:
                raise ValueError(
                    f"residual: expected a row for each of the {min(rows)} rows that the layers received, received {len(values)}"
                )
            term.calls.append(calls)
            term.others.append(others)
        return term

    @property
    def _tensors(self) -> list[Tensor]:
        return [layer.get_parameter(name) for layer, name in self.parameters]

    @torch.no_grad()
    def weights(self) -> Tensor:
        """The present values of the columns' weights [P]."""
        every = torch.cat([tensor.flatten() for tensor in self._tensors])
        return every if self.size == len(every) else every[self.there]

    @torch.no_grad()
    def set_weights(self, values: Tensor) -> None:
        """Write values [P] into the model."""
        whole = values
        if self.size < len(self.there):
            whole = values.new_zeros(len(self.there)).masked_scatter_(self.there, values)
        parameters = self._tensors
        for parameter, part in zip(parameters, whole.split([p.numel() for p in parameters]), strict=True):
            parameter.copy_(part.view_as(parameter))

    def every(self, step: int, first: int) -> "RowJacobian":
        """The rows first, first + step, ... of every term."""
        rows = slice(first, None, step)
        part = copy.copy(self)
        part.terms = [
            _Term(
                term.values[rows],
                [
                    [
                        call._replace(
                            x=call.x[rows],
                            grad_output=call.grad_output[rows],
                            row_weight=None if call.row_weight is None else call.row_weight[rows],
                        )
                        for call in calls
                    ]
                    for calls in term.calls
                ],
                [{place: gradient[rows] for place, gradient in others.items()} for others in term.others],
            )
            for term in self.terms
        ]
        return part

    def blocks(self, term: _Term, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(Jacobian [R K, P], residuals [R K]) of `rows` rows after another."""
        total = len(term.values)
        for start in range(0, total, rows):
            part = slice(start, min(start + rows, total))
            yield self._block(term, part), term.values[part].flatten()

    @torch.no_grad()
    def _block(self, term: _Term, part: slice) -> Tensor:
        """The rows `part` [R K, P]. All is written where it stays: pieces that were put together took twice the time."""
        sizes = [tensor.numel() for tensor in self._tensors]
        block = term.values.new_empty(part.stop - part.start, term.values.shape[1], sum(sizes))
        values: dict[Any, Tensor] = {}
        for k, column in enumerate(block.unbind(1)):
            for place, piece in enumerate(column.split(sizes, dim=1)):
                self._write(piece, term, k, part, place, values)
        jacobian = block.flatten(0, 1)
        return jacobian if self.size == len(self.there) else jacobian[:, self.there]

    def check(self, residuals: Residuals) -> None:
        """Raise ValueError unless a combination of the rows has the gradient that the rows say."""
        with torch.enable_grad():
            terms = [term.reshape(len(term), -1) for term in residuals()]
            signs = [(1 + torch.arange(len(term), dtype=term.dtype, device=term.device)).sin()[:, None] for term in terms]
            total = torch.stack([(term * sign).sum() for term, sign in zip(terms, signs, strict=True)]).sum()
            gradients = torch.autograd.grad(total, self._tensors, allow_unused=True, materialize_grads=True)
        expected = torch.cat([gradient.flatten() for gradient in gradients])[self.there]
        made, scale = torch.zeros_like(expected), torch.zeros_like(expected)
        for term, sign in zip(self.terms, signs, strict=True):
            ((jacobian, _),) = self.blocks(term, len(term.values))
            rows = sign.expand_as(term.values).reshape(-1, 1) * jacobian
            made, scale = made + rows.sum(0), scale + rows.abs().sum(0)
        if not ((made - expected).abs() <= scale.max() * torch.finfo(made.dtype).eps ** 0.5).all():
            raise ValueError("residual: expected row b to depend on row b alone, received one that mixes rows; use 'lbfgs'")

    def _write(self, piece: Tensor, term: _Term, k: int, part: slice, place: int, values: dict[Any, Tensor]) -> None:
        """Write the columns of one parameter for column k of the residuals into piece [R, numel]."""
        layer, name = self.parameters[place]
        if name == "weight":
            self._write_weight(piece.unflatten(1, (-1, layer.out_features)), term.calls[k], part, layer, values)
        elif place in term.others[k]:
            piece.copy_(term.others[k][place][part])
        else:
            piece.zero_()

    def _write_weight(self, piece: Tensor, calls: list[Call], part: slice, layer: KANLinear, values: dict[Any, Tensor]) -> None:
        """piece: [R, I M, O]"""
        place, empty = self.layers.index(layer), True
        for call in calls:
            if call.layer != place:
                continue
            key = (place, call.nu, call.x.data_ptr())
            if key not in values:
                values[key] = slot_values(layer, call.x[part], call.nu)
            left = values[key] if call.row_weight is None else values[key] * call.row_weight[part][..., None]
            left, right = left.flatten(1)[..., None], call.grad_output[part][:, None]
            if empty:
                torch.mul(left, right, out=piece)
            else:
                piece.addcmul_(left, right)
            empty = False
        if empty:
            piece.zero_()


def active(layer: KANLinear, name: str) -> Tensor:
    """Which entries of a parameter, flat, belong to edges that are there; bool."""
    if name == "weight":
        return present(layer)[:, None].expand(layer.weight.shape).flatten()
    return torch.ones_like(layer.get_parameter(name), dtype=torch.bool).flatten()
