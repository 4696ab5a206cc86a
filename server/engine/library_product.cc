#include "server/engine/library_product.h"

#include <dnnl.h>

#include <Eigen/Core>
#include <algorithm>
#include <vector>

#include "server/engine/vector.h"

// From OpenMP's run-time library, whose header not every compiler finds.
extern "C" void omp_set_num_threads(int threads);

namespace backprop::engine {
namespace {

// Both libraries choose kernels by the processor's features and cache sizes. Here they are
// restricted to the instruction set of this build, so that the bits of a result depend on the build
// alone.
struct Libraries {
  Libraries() {
    dnnl_set_max_cpu_isa(kVectorBytes == 64   ? dnnl_cpu_isa_avx512_core
                         : kVectorBytes == 32 ? dnnl_cpu_isa_avx2
                                              : dnnl_cpu_isa_sse41);
    Eigen::setCpuCacheSizes(32 << 10, 512 << 10, 8 << 20);
  }
};

// oneDNN distributes a product over OpenMP's threads unless this setting of the calling thread
// disables it.
void UseOneThread() {
  thread_local bool done = false;
  if (done) return;
  static const Libraries libraries;
  omp_set_num_threads(1);
  done = true;
}

template <class A, class B, class C>
void Multiply(const A& a, const B& b, bool add, C* c) {
  if (add) {
    c->noalias() += a * b;
  } else {
    c->noalias() = a * b;
  }
}

// Computes the first `columns` columns of C, whose rows are n elements long, as those of B are
// unless B is transposed.
void EigenProduct(bool transpose_a, bool transpose_b, int64_t m, int64_t k, int64_t n,
                  int64_t columns, const double* A, const double* B, bool add, double* C) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Rows = Eigen::OuterStride<>;
  const Eigen::Map<const Matrix> a(A, transpose_a ? k : m, transpose_a ? m : k);
  const Eigen::Map<const Matrix, 0, Rows> b(B, transpose_b ? columns : k, transpose_b ? k : columns,
                                            Rows(transpose_b ? k : n));
  Eigen::Map<Matrix, 0, Rows> c(C, m, columns, Rows(n));
  if (transpose_a) {
    Multiply(a.transpose(), b, add, &c);
  } else if (transpose_b) {
    Multiply(a, b.transpose(), add, &c);
  } else {
    Multiply(a, b, add, &c);
  }
}

// Like EigenProduct(), by oneDNN.
void OneDnnProduct(bool transpose_a, bool transpose_b, int64_t m, int64_t k, int64_t n,
                   int64_t columns, const float* A, const float* B, bool add, float* C) {
  const dnnl_status_t status =
      dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, columns, k, 1, A,
                 transpose_a ? m : k, B, transpose_b ? k : n, add ? 1 : 0, C, n);
  // oneDNN compiles its kernels, which the system may not allow (executable memory), or which may
  // find no memory. C is unchanged then.
  if (status != dnnl_success) {
    const std::vector<double> a(A, A + m * k);
    const std::vector<double> b(B, B + (transpose_b ? columns * k : (k - 1) * n + columns));
    std::vector<double> c(C, C + (m - 1) * n + columns);
    EigenProduct(transpose_a, transpose_b, m, k, n, columns, a.data(), b.data(), add, c.data());
    std::transform(c.begin(), c.end(), C, [](double x) { return static_cast<float>(x); });
  }
}

}  // namespace

int64_t ColumnsBetweenPauses(bool transpose_b, int64_t m, int64_t k, int64_t n) {
  constexpr int64_t kLongProduct = 8 << 20;  // multiplications; about 0.1 ms
  constexpr int64_t kTall = 256;             // rows; then the bits depend on the columns
  if (m * k * n <= kLongProduct) return n;
  if (m > kTall && (transpose_b || kVectorBytes < 64)) return n;
  return transpose_b ? 128 : 48;
}

void LibraryProduct(bool transpose_a, bool transpose_b, int64_t m, int64_t k, int64_t n,
                    const float* A, const float* B, bool add, float* C, Parallel* pauses) {
  UseOneThread();
  const int64_t block = ColumnsBetweenPauses(transpose_b, m, k, n);
  for (int64_t j = 0, columns = 0; j < n; j += columns) {
    if (j > 0) pauses->Pause();
    columns = n - j < 2 * block ? n - j : block;
    OneDnnProduct(transpose_a, transpose_b, m, k, n, columns, A, B + (transpose_b ? j * k : j), add,
                  C + j);
  }
}

void LibraryProduct(bool transpose_a, bool transpose_b, int64_t m, int64_t k, int64_t n,
                    const double* A, const double* B, bool add, double* C, Parallel* /*pauses*/) {
  UseOneThread();
  EigenProduct(transpose_a, transpose_b, m, k, n, n, A, B, add, C);
}

}  // namespace backprop::engine
