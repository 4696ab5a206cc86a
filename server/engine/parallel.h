// The interface through which the engine runs independent parts of its work in parallel. The engine
// has no threads; the layer above provides them.
#ifndef BACKPROP_SERVER_ENGINE_PARALLEL_H_
#define BACKPROP_SERVER_ENGINE_PARALLEL_H_

#include <cstdint>

namespace backprop::engine {

// A reference to a callable that takes a part's number. The callable must outlive it.
class PartTask {
 public:
  template <class F>
  PartTask(const F& f)  // NOLINT(google-explicit-constructor): stands for the callable
      : context_(&f),
        run_([](const void* context, int64_t part) { (*static_cast<const F*>(context))(part); }) {}
  void operator()(int64_t part) const { run_(context_, part); }

 private:
  const void* context_;
  void (*run_)(const void*, int64_t);
};

class Parallel {
 public:
  virtual ~Parallel() = default;
  // Runs task(0) … task(parts − 1), each once, in any order and on any threads, and returns when
  // all have finished.
  virtual void For(int64_t parts, PartTask task) = 0;
  // Called repeatedly during long work, for example between two products, on the thread that
  // computes. The layer above may use it to yield the processor.
  virtual void Pause() {}
};

// Runs the parts in sequence on the calling thread. Thread-safe.
class Serial final : public Parallel {
 public:
  static Serial* Get() {
    static Serial serial;
    return &serial;
  }
  void For(int64_t parts, PartTask task) override {
    for (int64_t part = 0; part < parts; ++part) task(part);
  }
};

}  // namespace backprop::engine

#endif  // BACKPROP_SERVER_ENGINE_PARALLEL_H_
