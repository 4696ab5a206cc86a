#include "server/engine/library_product.h"

#include <dnnl.h>
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
#include <random>
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
      if (transpose_a && transpose_b) continue;
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
        LibraryProduct(transpose_a, transpose_b, kM, kK, kN, a.data(), b.data(), add, c.data(),
                       Serial::Get());
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

class CountedPauses final : public Parallel {
 public:
  void For(int64_t, PartTask) override { FAIL() << "a product runs on the calling thread"; }
  void Pause() override { ++count; }
  int count = 0;
};

std::vector<float> RandomNumbers(int64_t count, std::mt19937* random) {
  std::vector<float> numbers;
  for (int64_t i = 0; i < count; ++i) {
    numbers.push_back(static_cast<float>((*random)()) / 2147483648.0F - 1);
  }
  return numbers;
}

// A product is divided into blocks of columns only where that changes no bit.
TEST(LibraryProductTest, PausesDoNotChangeABit) {
  std::mt19937 random(1);
  const auto draw = [&](int64_t least, int64_t most) {
    const double exponent = static_cast<double>(random()) / 4294967296.0;
    const double ratio = static_cast<double>(most) / static_cast<double>(least);
    return static_cast<int64_t>(static_cast<double>(least) * std::pow(ratio, exponent));
  };
  int split = 0;
  while (split < 90) {
    const bool transpose_a = split % 3 == 1, transpose_b = split % 3 == 2, add = random() % 2 == 0;
    const int64_t m = draw(20, 600), k = draw(20, 1200), n = draw(97, 900);
    const int64_t columns = ColumnsBetweenPauses(transpose_b, m, k, n);
    if (m * k * n > 100'000'000 || n < 2 * columns) continue;
    ++split;
    const std::vector<float> a = RandomNumbers(m * k, &random), b = RandomNumbers(k * n, &random);
    std::vector<float> c = RandomNumbers(m * n, &random), whole = c;
    CountedPauses pauses;
    LibraryProduct(transpose_a, transpose_b, m, k, n, a.data(), b.data(), add, c.data(), &pauses);
    EXPECT_EQ(pauses.count, n / columns - 1);
    ASSERT_EQ(dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, 1, a.data(),
                         transpose_a ? m : k, b.data(), transpose_b ? k : n, add ? 1 : 0,
                         whole.data(), n),
              dnnl_success);
    EXPECT_EQ(c, whole) << m << 'x' << k << 'x' << n << ' ' << transpose_a << transpose_b;
  }
}

TEST(LibraryProductTest, TheLongestProductOfALargeNetworkPauses) {
  EXPECT_LE(ColumnsBetweenPauses(false, 256, 784, 256), 64);
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
