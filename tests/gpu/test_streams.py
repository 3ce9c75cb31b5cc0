"""Work goes to the caller's current stream and device, and to no other."""

import pytest
import torch
from contract.cases import Case, make_inputs
from gpu.operations import call, prepared, same

import fastkan
from fastkan.functional import kan_linear
from fastkan.ops import OPERATIONS

pytestmark = pytest.mark.gpu
CASE = Case(300, 17, 40, row_weight=True)
SPIN = 2_000_000_000  # clock cycles: about a second


def many_gpus():
    return pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs a second GPU")


@pytest.mark.parametrize("name", OPERATIONS)
def test_producer_on_another_stream(name, serving):
    """x arrives late from one stream; the operation, on a second, waits for it because that stream does."""
    tensors, late = make_inputs(CASE, torch.float32, "cuda"), make_inputs(CASE, torch.float32, "cuda", seed=1)
    expected = call(name, CASE, tensors | {"x": late["x"]}, serving)
    producer, consumer = torch.cuda.Stream(), torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(producer):
        torch.cuda._sleep(SPIN // 20)
        tensors["x"].copy_(late["x"])
        arrived = producer.record_event()
    with torch.cuda.stream(consumer):
        consumer.wait_event(arrived)
        answer = call(name, CASE, tensors, serving)
        found = answer.cpu()
    torch.cuda.synchronize()
    assert torch.equal(found, expected.cpu())


def test_default_stream_is_left_alone(serving):
    """While the default stream is busy, everything on a side stream begins and ends, results included."""
    side = torch.cuda.Stream()
    tensors, run = prepared(CASE, torch.float32, "cuda", serving)
    layer = fastkan.KANLinear(17, 40, device="cuda", backend=serving)
    x = torch.randn(300, 17, device="cuda", requires_grad=True)

    def everything():
        y = layer(x)
        return [*run(), y.detach(), *torch.autograd.grad(y.sum(), (x, *layer.parameters()))]

    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):  # the allocator gets its blocks for this stream, the kernels are loaded
            copies = [answer.cpu() for answer in everything()]
    torch.cuda.synchronize()
    with torch.no_grad():  # so that what the warm-up left in those blocks is not the answer
        x.neg_()
        tensors["x"].neg_()
    expected = [answer.cpu() for answer in everything()]
    torch.cuda.synchronize()
    torch.cuda._sleep(SPIN)
    busy = torch.cuda.current_stream().record_event()
    with torch.cuda.stream(side):
        copies = [answer.cpu() for answer in everything()]
    still_busy = not busy.query()
    torch.cuda.synchronize()
    assert still_busy, "something waited for the default stream"
    assert same(copies, expected)


@many_gpus()
@pytest.mark.parametrize("current", [0, 1])
@pytest.mark.parametrize("home", ["cuda:0", "cuda:1"])
def test_device_of_the_tensors_counts(current, home, serving):
    """Whichever device is current, and it stays current."""
    with torch.cuda.device(home):
        expected = prepared(CASE, torch.float32, home, serving)[1]()
    with torch.cuda.device(current):
        answers = prepared(CASE, torch.float32, home, serving)[1]()
        assert torch.cuda.current_device() == current
    assert all(answer.device == torch.device(home) for answer in answers)
    assert same(answers, expected)


@many_gpus()
def test_two_devices_at_once(serving):
    runs = [prepared(CASE, torch.float32, f"cuda:{k}", serving)[1] for k in range(2)]
    first, second = runs[0](), runs[1]()
    assert same([answer.cpu() for answer in first], [answer.cpu() for answer in second])


@many_gpus()
def test_tensors_on_two_devices_are_refused(serving):
    tensors = make_inputs(CASE, torch.float32, "cuda:0")
    with pytest.raises((ValueError, RuntimeError), match="cuda:1"):
        kan_linear(tensors["x"], tensors["weight"].to("cuda:1"), tensors["knots"], backend=serving)
