#include "server/engine/library_product.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace backprop::engine {
namespace {

// Forbids this process to make memory executable, as MemoryDenyWriteExecute= of systemd does.
bool ForbidExecutableMemory() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{sizeof filter / sizeof filter[0], filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// Returns the largest error of products whose sums are exact, over all transpositions.
template <class T>
double LargestError() {
  constexpr int64_t kM = 33, kK = 48, kN = 65;
  double largest = 0;
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      for (const bool add : {false, true}) {
        std::vector<T> a(kM * kK), b(kK * kN), c(kM * kN, 5);
        const auto at = [](int64_t row, int64_t col, int64_t rows, int64_t cols, bool transposed) {
          return static_cast<size_t>(transposed ? col * rows + row : row * cols + col);
        };
        const auto value = [](int64_t i, int64_t j) { return static_cast<T>((i * 7 + j) % 5); };
        for (int64_t p = 0; p < kK; ++p) {
          for (int64_t i = 0; i < kM; ++i) a[at(i, p, kM, kK, transpose_a)] = value(i, p);
          for (int64_t j = 0; j < kN; ++j) b[at(p, j, kK, kN, transpose_b)] = value(p, j);
        }
        LibraryProduct(transpose_a, transpose_b, kM, kK, kN, a.data(), b.data(), add, c.data());
        for (int64_t i = 0; i < kM; ++i) {
          for (int64_t j = 0; j < kN; ++j) {
            T sum = add ? 5 : 0;
            for (int64_t p = 0; p < kK; ++p) sum += value(i, p) * value(p, j);
            const double error = std::abs(c[static_cast<size_t>(i * kN + j)] - sum);
            largest = std::max(largest, error);
          }
        }
      }
    }
  }
  return largest;
}

TEST(LibraryProductTest, IsRight) {
  EXPECT_EQ(LargestError<float>(), 0);
  EXPECT_EQ(LargestError<double>(), 0);
}

// In a process of its own, which has compiled no kernel before.
TEST(LibraryProductDeathTest, IsRightWithoutExecutableMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        if (!ForbidExecutableMemory()) std::exit(3);
        if (mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
            MAP_FAILED) {
          std::exit(4);
        }
        const double error = LargestError<float>();
        std::fprintf(stderr, "largest error %g\n", error);
        std::exit(error == 0 ? 0 : 5);
      },
      testing::ExitedWithCode(0), "largest error 0\n");
}

}  // namespace
}  // namespace backprop::engine
