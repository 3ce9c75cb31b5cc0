// How functions are marked. FASTKAN_HD: formulas that CUDA shares. FASTKAN_INLINE: members of types that CUDA
// shares. On the host both are local to their object file: csrc/cpu/simd is compiled for several instruction
// sets, and if the linker merged an inline function across them, a machine without AVX-512 could run its
// AVX-512 code. FASTKAN_INLINE_LAMBDA stands after the parameters of a lambda.
#pragma once

#if defined(__GNUC__)
#define FASTKAN_INLINE_LAMBDA __attribute__((always_inline))
#else
#define FASTKAN_INLINE_LAMBDA
#endif
#if defined(__CUDACC__)
#define FASTKAN_INLINE __host__ __device__
#define FASTKAN_HD inline FASTKAN_INLINE
#elif defined(__GNUC__)
#define FASTKAN_INLINE inline __attribute__((always_inline))
#define FASTKAN_HD static FASTKAN_INLINE
#else
#define FASTKAN_INLINE __forceinline
#define FASTKAN_HD static FASTKAN_INLINE
#endif
