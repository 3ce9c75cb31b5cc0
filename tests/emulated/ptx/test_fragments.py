"""mma, mma.sp, ldmatrix and wgmma through the interpreter: fragments and metadata, and what must stay untouched until a wait."""

import struct

import numpy as np
import pytest
from machine import Machine
from memory import Fault, Global
from numbers16 import BITS, rounded, tf32_values
from program import Program

PRODUCTS = """
#include "cuda/device.h"
namespace fastkan {
#define FASTKAN_PRODUCT(name, words, call)                                                        \\
  extern "C" FASTKAN_KERNEL(32) name(const uint32_t* a, const uint32_t* b, const uint32_t* m, float* d) { \\
    const int lane = threadIdx.x;                                                                 \\
    uint32_t left[4], right[words];                                                               \\
    float sum[4] = {0, 0, 0, 0};                                                                  \\
    for (int k = 0; k < 4; ++k) left[k] = a[4 * lane + k];                                        \\
    for (int k = 0; k < words; ++k) right[k] = b[words * lane + k];                               \\
    call;                                                                                         \\
    for (int k = 0; k < 4; ++k) d[4 * lane + k] = sum[k];                                         \\
  }
FASTKAN_PRODUCT(dense_f16, 2, mma_float16(sum, left, right))
FASTKAN_PRODUCT(dense_bf16, 2, mma_bfloat16(sum, left, right))
FASTKAN_PRODUCT(sparse_f16, 4, mma_two_four_float16(sum, left, right, m[lane]))
FASTKAN_PRODUCT(sparse_bf16, 4, mma_two_four_bfloat16(sum, left, right, m[lane]))
extern "C" FASTKAN_KERNEL(32) dense_tf32(const float* a, const float* b, const uint32_t*, float* d) {
  const int lane = threadIdx.x;
  float left[4], right[2], sum[4] = {0, 0, 0, 0};
  for (int k = 0; k < 4; ++k) left[k] = tf32(a[4 * lane + k]);
  for (int k = 0; k < 2; ++k) right[k] = tf32(b[2 * lane + k]);
  mma_tf32(sum, left, right);
  for (int k = 0; k < 4; ++k) d[4 * lane + k] = sum[k];
}
extern "C" FASTKAN_KERNEL(32) transposed(const uint32_t* a, const uint32_t*, const uint32_t*, uint32_t* d) {
  const int lane = threadIdx.x;
  auto* const words = reinterpret_cast<uint32_t*>(shared_memory());
  for (int k = 0; k < 2; ++k) words[2 * lane + k] = a[2 * lane + k];
  __syncwarp();
  uint32_t pair[2];
  load_transposed(pair, words + 4 * (lane % 16));
  for (int k = 0; k < 2; ++k) d[2 * lane + k] = pair[k];
}
}
"""
LANES = np.arange(32)
G, T = LANES // 4, LANES % 4  # as in the PTX manual


def run(ptx, name, *arrays, words=4):
    memory = Global()
    addresses = [memory.put(array) for array in arrays] + [memory.room(4 * 32 * words)]
    machine = Machine(Program.from_text(ptx, name), memory, shared_bytes=256)
    machine.launch(1, *[struct.pack("<Q", address) for address in addresses])
    return memory.get(addresses[-1], (32, words), np.uint32)


def pairs(values, kind):
    """[lane, register, 2] of numbers as words."""
    bits = BITS[kind](values)
    return bits[..., 0] | bits[..., 1] << np.uint32(16)


def fragment_a(a, kind):
    """a [16, 16] -> [lane, register]: a0 (g, 2t), a1 (g + 8, 2t), a2 (g, 2t + 8), a3 (g + 8, 2t + 8), each with the next."""
    rows, columns = np.stack([G, G + 8, G, G + 8], 1), np.stack([2 * T, 2 * T, 2 * T + 8, 2 * T + 8], 1)
    return pairs(a[rows[..., None], columns[..., None] + np.arange(2)], kind)


def fragment_b(b, kind):
    """b [k, 8] -> [lane, register]: register r has rows 8 r + 2 t and the next, column g."""
    rows = 8 * np.arange(len(b) // 8)[None] + 2 * T[:, None]
    return pairs(b[rows[..., None] + np.arange(2), G[:, None, None]], kind)


def matrix_d(words):
    d = np.zeros((16, 8), np.float32)
    for q in range(4):
        d[G + 8 * (q // 2), 2 * T + q % 2] = words[:, q].view(np.float32)
    return d


def sparse_matrix(seed, rows=16, depth=32):
    """A random 2:4 sparse matrix, its stored half, and the metadata nibble [row, group] of every group."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 3, (rows, depth // 4))
    second = first + 1 + (rng.random(first.shape) * (3 - first)).astype(int)
    stored = rng.standard_normal((rows, depth // 2))
    a = np.zeros((rows, depth // 4, 4))
    for place, values in ((first, stored[:, ::2]), (second, stored[:, 1::2])):
        np.put_along_axis(a, place[..., None], values[..., None], axis=2)
    return a.reshape(rows, depth), stored, first | second << 2


def metadata_words(nibbles):
    """[lane] of mma.sp with selector 0: lane 4 g has groups 0 .. 3, lane 4 g + 1 groups 4 .. 7 of rows g and g + 8."""
    words = np.zeros(32, np.uint32)
    for row in range(16):
        for group in range(8):
            words[4 * (row % 8) + group // 4] |= int(nibbles[row, group]) << (4 * (group % 4) + 16 * (row // 8))
    return words


@pytest.fixture(scope="module")
def products(compiler):
    return compiler.ptx(PRODUCTS)


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_dense_and_sparse_products(products, kind):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((16, 16)), rng.standard_normal((32, 8))
    none = np.zeros(32, np.uint32)
    d = matrix_d(run(products, f"dense_{kind}", fragment_a(a, kind), fragment_b(b[:16], kind), none))
    assert np.allclose(d, rounded(a, kind) @ rounded(b[:16], kind), rtol=1e-6, atol=1e-6)
    sparse, stored, nibbles = sparse_matrix(2)
    d = matrix_d(run(products, f"sparse_{kind}", fragment_a(stored, kind), fragment_b(b, kind), metadata_words(nibbles)))
    assert np.allclose(d, rounded(sparse, kind) @ rounded(b, kind), rtol=1e-6, atol=1e-6)


def test_tf32_products(products):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((16, 8)).astype(np.float32), rng.standard_normal((8, 8)).astype(np.float32)
    left = np.stack([a[G, T], a[G + 8, T], a[G, T + 4], a[G + 8, T + 4]], 1)
    right = np.stack([b[T, G], b[T + 4, G]], 1)
    d = matrix_d(run(products, "dense_tf32", left, right, np.zeros(32, np.uint32)))
    near = [tf32_values(m.view(np.uint32) + np.uint32(0x1000)).astype(np.float64) for m in (a, b)]
    assert np.allclose(d, near[0] @ near[1], rtol=1e-6, atol=1e-6)


def test_load_transposed(products):
    squares = np.arange(128, dtype=np.uint16).reshape(2, 8, 8)
    none = np.zeros(32, np.uint32)
    words = run(products, "transposed", squares.view(np.uint32), none, none, words=2)
    halves = words.view(np.uint16).reshape(32, 2, 2)
    for square in range(2):
        assert (halves[:, square, 0] == squares[square, 2 * T, G]).all()
        assert (halves[:, square, 1] == squares[square, 2 * T + 1, G]).all()


def test_mma_sp_agrees_with_a_gpu(products):
    """LLVM's integration test sparse-mma-2-4-f16.mlir, whose expected numbers an sm_80 GPU gave: a stored[i, j] = i + j + 1 at
    places 0 and 2 of every four, b[k, n] = n - k."""
    stored = np.add.outer(np.arange(16), np.arange(16)) + 1.0
    b = np.subtract.outer(np.arange(8), np.arange(32)).T.astype(float)
    metadata = np.full(32, 0x88888888, np.uint32)
    d = matrix_d(run(products, "sparse_f16", fragment_a(stored, "f16"), fragment_b(b, "f16"), metadata))
    assert d[0].tolist() == [-2720, -2584, -2448, -2312, -2176, -2040, -1904, -1768]
    assert d[7].tolist() == [-4400, -4152, -3904, -3656, -3408, -3160, -2912, -2664]
    assert d[9].tolist() == [-4880, -4600, -4320, -4040, -3760, -3480, -3200, -2920]
    assert d[15].tolist() == [-6320, -5944, -5568, -5192, -4816, -4440, -4064, -3688]


def test_metadata_out_of_order_is_refused(products):
    a, b = np.zeros((16, 16)), np.zeros((32, 8))
    with pytest.raises(Fault, match="not in order"):
        run(products, "sparse_f16", fragment_a(a, "f16"), fragment_b(b, "f16"), np.zeros(32, np.uint32))


# ---- wgmma: a [64, k] from registers, b [k, 16] from shared memory, K-major in rows of 128 swizzled bytes

GROUP = """
#include "cuda/device.h"
using namespace fastkan;
__device__ uint64_t descriptor(const void* tile) {
  const auto address = uint64_t(__cvta_generic_to_shared(tile));
  return (address & 0x3ffff) >> 4 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}
#define FASTKAN_SUMS                                                                               \\
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
extern "C" FASTKAN_KERNEL(128) group(const uint32_t* a, const uint4* b, const uint32_t* m, float* out) {
  auto* const tile = reinterpret_cast<uint4*>(shared_memory());
  for (int k = 0; k < 2; ++k) tile[2 * threadIdx.x + k] = b[2 * threadIdx.x + k];
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  uint32_t left[4];
  for (int k = 0; k < 4; ++k) left[k] = a[4 * threadIdx.x + k];
  float d[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  asm volatile("%s"
               : FASTKAN_SUMS
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(descriptor(tile)), "r"(m[threadIdx.x]));
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  %s
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  for (int k = 0; k < 8; ++k) out[8 * threadIdx.x + k] = d[k];
}
"""
SUMS = "{%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9, %10, %11}, %12"
DENSE = f"wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {SUMS}, 1, 1, 1, 0;"
SPARSE = f"wgmma.mma_async.sp.sync.aligned.m64n16k32.f32.bf16.bf16 {SUMS}, %13, 0, 1, 1, 1, 0;"


def group_product(compiler, instruction, stored, b, nibbles=None, between=""):
    source = GROUP.replace("%s", instruction, 1).replace("%s", between, 1)
    ptx = compiler.ptx(source, "sm_90a")
    tile = np.zeros(16 * 64, np.uint16)  # [column, k], 64 numbers a row
    column, k = np.meshgrid(np.arange(16), np.arange(len(b)), indexing="ij")
    plain = 128 * column + 2 * k
    tile[(plain ^ (column % 8 << 4)) // 2] = BITS["bf16"](b.T).astype(np.uint16)
    parts = stored.reshape(4, 16, -1)
    words = np.concatenate([fragment_a(part, "bf16") for part in parts])
    metadata = np.zeros(128, np.uint32)
    if nibbles is not None:
        metadata = np.concatenate([metadata_words(part) for part in nibbles.reshape(4, 16, -1)])
    memory = Global()
    addresses = [memory.put(words), memory.put(np.concatenate([tile, np.zeros(1024, np.uint16)])), memory.put(metadata)]
    addresses.append(memory.room(128 * 32))
    machine = Machine(Program.from_text(ptx, "group"), memory, shared_bytes=4096)
    machine.launch(1, *[struct.pack("<Q", address) for address in addresses])
    out = memory.get(addresses[-1], (4, 32, 2, 4), np.float32)  # warp, lane, 8 columns, register
    d = np.zeros((64, 16))
    for warp in range(4):
        for half in range(2):
            d[16 * warp :, 8 * half : 8 * half + 8][:16] = matrix_d(out[warp, :, half].copy().view(np.uint32))
    return d


def test_wgmma_dense_and_sparse(compiler):
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((64, 16)), rng.standard_normal((32, 16))
    expected = rounded(a, "bf16") @ rounded(b[:16], "bf16")
    assert np.allclose(group_product(compiler, DENSE, a, b[:16]), expected, rtol=1e-6, atol=1e-5)
    sparse, stored, nibbles = sparse_matrix(6, rows=64)
    expected = rounded(sparse, "bf16") @ rounded(b, "bf16")
    assert np.allclose(group_product(compiler, SPARSE, stored, b, nibbles), expected, rtol=1e-6, atol=1e-5)


def test_wgmma_operands_stay_until_the_wait(compiler):
    a, b = np.ones((64, 16)), np.ones((16, 16))
    overwrite = "tile[threadIdx.x] = make_uint4(1, 2, 3, 4);"
    with pytest.raises(Fault, match="shared memory was overwritten"):
        group_product(compiler, DENSE, a, b, between=overwrite)
    instruction = DENSE + "\\n mov.b32 %8, 7;"
    with pytest.raises(Fault, match="was overwritten while wgmma"):
        group_product(compiler, instruction, a, b)
