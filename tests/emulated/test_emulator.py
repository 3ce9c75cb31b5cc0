"""The emulated device itself: it runs right kernels, and each way to be wrong shows, in the way that is written here."""

from collections.abc import Callable

import pytest
from emulated import device

# cases of test_emulator.cpp; what the program says without a sanitizer, and what sanitizers see
RIGHT = [
    "barrier", "warp_barrier", "own_output", "all_at_the_barrier", "shuffles", "shared", "copies", "copies_in_order", "launch",
    "products",
]  # fmt: skip
WRONG = {
    "no_barrier": "wrong",
    "no_warp_barrier": "wrong",
    "shared_not_written": "wrong",
    "copies_not_awaited": "wrong",
    "copies_at_the_end": "a thread ended with copies on their way",
    "some_end": "threads wait for ever: 32 of 64 have ended; __syncthreads at",
    "some_at_another_barrier": "while others of the block wait in __syncthreads at",
    "some_shuffle": "threads wait for ever: 0 of 64 have ended; __syncthreads at",
    "some_of_a_warp_end": "reached by 16 of 32 of a warp",
    "shuffle_from_outside": "__shfl_sync from a lane outside the mask at",
    "copy_to_misaligned": "copy_async to: an address not aligned to 16 bytes at",
    "copy_from_misaligned": "copy_async from an address not aligned to 16 bytes at",
    "copy_outside_shared": "copy_async to outside shared memory at",
    "empty_grid": "an empty grid",
    "wide_grid": "a grid past the limits",
    "many_threads": "1025 threads in a block",
    "much_shared_memory": "101377 bytes of shared memory",
    "metadata_not_in_order": "metadata of lane",
    "not_tf32": "an operand is not TF32 at",
    "misaligned_row": "load_transposed: an address not aligned to 16 bytes at",
}
RACES = ["no_barrier", "no_warp_barrier", "same_output_before_a_barrier", "same_output_after_a_barrier", "copies_not_awaited"]
SEEN_BY = {
    "address": {"shared_overrun": "heap-buffer-overflow"},
    "thread": dict.fromkeys(RACES, "ThreadSanitizer: data race"),
}
IN_PROOF = [pytest.param(name, marks=pytest.mark.proof) for name in device.SANITIZERS if name != "plain"]


@pytest.fixture(scope="module", params=["plain", *IN_PROOF])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Callable[..., str]]:
    """(sanitizer, what the program says to a case)."""
    target = tmp_path_factory.mktemp("emulator") / "test_emulator"
    device.build([device.HERE / f"{name}.cpp" for name in ("test_emulator", "test_products")], target, request.param)

    def says(case: str, seed: int = 1) -> str:
        result = device.run(target, case, FASTKAN_EMULATED_SEED=str(seed), ASAN_OPTIONS="detect_leaks=0")
        return result.stdout + result.stderr

    return request.param, says


@pytest.mark.parametrize("case", RIGHT)
def test_right_kernels_are_right(case: str, program: tuple[str, Callable[..., str]]) -> None:
    assert program[1](case) == "right\n"


@pytest.mark.parametrize("case", WRONG)
def test_wrong_kernels_are_wrong(case: str, program: tuple[str, Callable[..., str]]) -> None:
    sanitizer, says = program
    assert SEEN_BY.get(sanitizer, {}).get(case, WRONG[case]) in says(case)


@pytest.mark.parametrize("case", sorted({case for seen in SEEN_BY.values() for case in seen}))
def test_sanitizers_see_what_gives_right_answers(case: str, program: tuple[str, Callable[..., str]]) -> None:
    """Races without effect in the order drawn, and reads past the end whose value does not matter."""
    sanitizer, says = program
    expected = SEEN_BY.get(sanitizer, {}).get(case)
    assert (expected is None) or all(expected in says(case, seed) for seed in (1, 2, 3))


def test_every_order_is_right_or_shows_the_missing_barrier(program: tuple[str, Callable[..., str]]) -> None:
    sanitizer, says = program
    if sanitizer == "plain":
        assert {says("barrier", seed) for seed in range(10)} == {"right\n"}
        assert {says("no_barrier", seed) for seed in range(10)} == {"wrong\n"}
