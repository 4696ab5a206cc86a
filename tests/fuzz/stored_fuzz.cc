// A store whose records have right checksums and any contents, as a backup from another source
// can bring it. A part is one record (record_kinds.h).
//
// A server opens it, lists, loads and uses all that is in it: each thing answers, or is refused as
// damaged, and a run that resumes can be stopped.
#include <future>
#include <memory>

#include "backprop/v1/dataset.pb.h"
#include "backprop/v1/model.pb.h"
#include "backprop/v1/training.pb.h"
#include "server/codec/dataset_codec.h"
#include "server/codec/parameters_codec.h"
#include "server/codec/training_codec.h"
#include "server/datasets/datasets.h"
#include "server/exec/compute_pool.h"
#include "server/records/frame.h"
#include "server/records/upgrade.h"
#include "server/registry/registry.h"
#include "server/rpc/describe_model.h"
#include "server/store/memory_store.h"
#include "tests/fuzz/harness.h"
#include "tests/fuzz/harnesses.h"
#include "tests/fuzz/networks.h"
#include "tests/fuzz/program.h"
#include "tests/fuzz/record_kinds.h"
#include "tests/fuzz/world.h"
#include "tests/session/fixture.h"

namespace backprop::fuzz {
namespace {

using session::Session;
using session::Waiter;

constexpr int kMostEvents = 300;

// What may be said of damaged or missing things.
void CheckRefusal(const absl::Status& status) {
  using enum absl::StatusCode;
  BP_HOLDS(IsOneOf(status, {kOk, kDataLoss, kNotFound, kInvalidArgument, kFailedPrecondition,
                            kResourceExhausted, kUnavailable, kAborted}),
           status.ToString());
}

// A server's models and datasets on such a store.
class Server {
 public:
  explicit Server(store::Store* store)
      : environment_{pool_.get(), &clock_, SmallLimits(), {}, store, store, {}} {
    environment_.row_source = &datasets_;
  }
  ~Server() {
    datasets_.Stop();
    registry_.Drain();
    pool_.reset();
    store::WaitForAnswers(environment_.store);
  }

  void UseAll() {
    const auto upgraded = records::UpgradeStore(environment_.store);
    BP_HOLDS(upgraded.ok(), upgraded.status().ToString());
    const auto datasets = datasets_.Open();
    CheckRefusal(datasets.status());
    if (!datasets.ok()) return;
    const auto opened = registry_.Open();
    CheckRefusal(opened.status());
    if (!opened.ok()) return;
    List();
    for (const char* id : {"default/m", "default/r", "default/t", "default/x"}) {
      const auto model = session::FindIn(&registry_, id);
      CheckRefusal(model.status());
      if (model.ok()) Use(model->get());
    }
  }

 private:
  static session::IsCancelled Never() {
    return [] { return false; };
  }

  void List() {
    const auto models = registry_.List("default/", "", 100, {});
    CheckRefusal(models.status());
    if (models.ok()) {
      for (const registry::Description& description : *models) {
        v1::Model message;
        rpc::DescribeModel(description, &message);
      }
    }
    for (const records::DatasetInfo& info : datasets_.List("default/", "", 100)) {
      v1::Dataset message;
      codec::EncodeDataset(info, &message);
    }
  }

  void Use(Session* model) {
    v1::Model description;
    rpc::DescribeModel(*model, model->activity(), &description);
    v1::Parameters parameters;
    codec::EncodeParameters(model->network(), *model->Read(), v1::TENSOR_ENCODING_VALUES, true,
                            &parameters);
    ReadRun(*model);
    UseDatasets(*model);
    Stop(model);
    Step(model);
    UseCheckpoints(model);
  }

  static void ReadRun(const Session& model) {
    const auto run = model.FindRun(0);
    CheckRefusal(run.status());
    if (!run.ok()) return;
    int64_t next = 1;
    for (int i = 0; i < kMostEvents; ++i) {
      const auto event = (*run)->log().Read(&next);
      if (!event.has_value()) return;
      v1::TrainingEvent message;
      codec::EncodeEvent((*run)->name(), (*run)->config(), *event, &message);
    }
  }

  void UseDatasets(const Session& model) {
    for (const char* id : {"default/d", "default/e"}) {
      Waiter<session::RowsInUse> rows;
      datasets_.Use(id, model.info(), model.network(), "dataset", rows.callback());
      CheckRefusal(rows.Wait().status());
    }
  }

  static void Stop(Session* model) {
    Waiter<std::shared_ptr<session::Run>> stopped;
    model->StopTraining(0, {}, stopped.callback());
    CheckRefusal(stopped.Wait().status());
  }

  // One row of zeros.
  static void Step(Session* model) {
    const engine::Network& network = model->network();
    engine::Dataset row;
    row.rows = 1;
    row.inputs_per_row = network.inputs();
    row.inputs = engine::Buffer(network.spec().data_type, network.inputs());
    if (network.spec().loss.kind == engine::Loss::kSoftmaxCrossEntropy) {
      row.classes = {0};
    } else {
      row.targets_per_row = network.outputs();
      row.targets = engine::Buffer(network.spec().data_type, network.outputs());
    }
    Session::StepArgs args;
    args.work = std::move(row);
    args.key = {"request-1", 1};
    args.cancelled = Never();
    Waiter<records::StepOutcome> stepped;
    model->Step(std::move(args), stepped.callback());
    CheckRefusal(stepped.Wait().status());
  }

  static void UseCheckpoints(Session* model) {
    for (const records::CheckpointPtr& checkpoint : model->ListCheckpoints("", 10)) {
      Waiter<int64_t> restored;
      model->RestoreCheckpoint({checkpoint->id, {}, Never()}, {}, restored.callback());
      CheckRefusal(restored.Wait().status());
    }
  }

  session::FakeClock clock_;
  std::unique_ptr<exec::ComputePool> pool_ = std::make_unique<exec::ComputePool>(1);
  session::Environment environment_;
  datasets::Datasets datasets_{&environment_, ""};
  registry::Registry registry_{&environment_};
};

void Fill(const Program& program, store::Store* store) {
  RecordPlaces places;
  store::WriteBatch batch;
  for (const Part& part : program) {
    const auto message = NewRecord(part.kind);
    if (!message->ParseFromString(part.bytes)) continue;
    RecordPlaces::Place place = places.Next(part.kind, *message);
    batch.Put(*place.table, std::move(place.key), records::Seal(*message));
  }
  std::promise<absl::Status> done;
  store->Commit(std::move(batch), store::Durability::kNone, nullptr,
                [&](const absl::Status& status) { done.set_value(status); });
  const absl::Status status = done.get_future().get();
  BP_HOLDS(status.ok(), status.ToString());
}

}  // namespace

Type StoredType(uint8_t kind) { return TypeOfRecord(kind); }

void RunStored(absl::string_view input) {
  store::MemoryStore store;
  Fill(ReadProgram(input), &store);
  Server(&store).UseAll();
}

// All records of a server, and those of each model and dataset alone.
Seeds StoredSeeds() {
  const Program all = RecordsOfAServer();
  Seeds seeds = {WriteProgram(all)};
  Program one;
  for (const Part& part : all) {
    if ((part.kind == kModel || part.kind == kDataset) && !one.empty()) {
      seeds.push_back(WriteProgram(std::exchange(one, {})));
    }
    one.push_back(part);
  }
  seeds.push_back(WriteProgram(one));
  return seeds;
}

}  // namespace backprop::fuzz
