// FASTKAN_CLONES compiles a function once per x86-64 level and picks at load time what the machine has.
#pragma once

// GCC on Linux only (it takes ifunc). Off under sanitizers, whose runtime is not up when the choice is made.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    __GNUC__ >= 12 && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FASTKAN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FASTKAN_CLONES
#endif
