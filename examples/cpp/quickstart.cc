// A complete program: creates a model, trains it and predicts with it. Usage: quickstart
// [host:port]
#include <backprop/client.h>
#include <backprop/datasets.h>

#include <cstdio>

namespace {

int Fail(const backprop::Status& status) {
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  for (const auto& violation : status.field_violations) {
    std::fprintf(stderr, "  %s: %s\n", violation.field.c_str(), violation.description.c_str());
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  backprop::Client client(argc > 1 ? argv[1] : "localhost:50051");

  backprop::ModelSpec spec;
  spec.input_size = 2;
  spec.layers = {{8}, {2}};
  spec.optimizer = backprop::Sgd{.learning_rate = 0.1};
  spec.class_names = {"different signs", "same sign"};
  const auto model = client.CreateModel(spec);
  if (!model.ok()) return Fail(model.status());

  // Any rows can be used: a Tensor of inputs, and labels, label names or targets.
  const backprop::Batch data = *backprop::MakeDataset("xor");
  const auto summary = client.Train(
      model->name, data, {.iterations = 3000, .report_every = 1000},
      [](const backprop::TrainingEvent& event) {
        if (const auto* progress = std::get_if<backprop::Progress>(&event.body)) {
          std::printf("iteration %lld: loss %.4f\n", static_cast<long long>(progress->iteration),
                      progress->metrics.loss);
        }
        return true;
      });
  if (!summary.ok()) return Fail(summary.status());
  std::printf("accuracy %.2f\n", summary->metrics->accuracy.value_or(0));

  const backprop::Tensor rows(2, 2, std::vector<float>{0.5F, 0.5F, 0.5F, -0.5F});
  const auto prediction = client.Predict(model->name, rows);
  if (!prediction.ok()) return Fail(prediction.status());
  for (int64_t i = 0; i < rows.rows(); ++i) {
    std::printf("(%.1f, %.1f): %s\n", rows.at(i, 0), rows.at(i, 1),
                prediction->class_names[static_cast<size_t>(i)].c_str());
  }

  const backprop::Status deleted = client.DeleteModel(model->name);
  return deleted.ok() ? 0 : Fail(deleted);
}
