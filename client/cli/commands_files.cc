// export, import, backup, restore: models and whole servers as files.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>

#include "client/cli/command.h"
#include "client/cli/live_line.h"
#include "client/cli/spec_flags.h"
#include "client/cli/table.h"

namespace backprop::cli {
namespace {

// Counts transferred bytes and shows the count on a terminal.
class Counter {
 public:
  void Add(size_t bytes) {
    bytes_ += bytes;
    char text[32];
    std::snprintf(text, sizeof(text), "%.1f MB", static_cast<double>(bytes_) / 1e6);
    line_.Show({{text, 0}});
  }
  void Reset() { bytes_ = 0; }
  size_t bytes() const { return bytes_; }

 private:
  LiveLine line_{stderr, IsTerminal(stderr)};
  size_t bytes_ = 0;
};

// Syncs a file to disk, so that it survives a crash once the command has reported it.
bool SyncFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool synced = fsync(fd) == 0;
  close(fd);
  return synced;
}

// The formats of the file of a model, by their names on the command line.
const std::map<std::string, ModelFileFormat>& Formats() {
  static const std::map<std::string, ModelFileFormat> formats = {
      {"auto", ModelFileFormat::kDefault},
      {"backprop", ModelFileFormat::kBackprop},
      {"onnx", ModelFileFormat::kOnnx}};
  return formats;
}

// The format of a file to write. By default its name says so.
ModelFileFormat FormatOf(const std::string& format, const std::string& path) {
  const std::string suffix = ".onnx";
  const bool onnx = path.size() > suffix.size() &&
                    path.compare(path.size() - suffix.size(), suffix.size(), suffix) == 0;
  return format == "auto" && onnx ? ModelFileFormat::kOnnx : Formats().at(format);
}

void AddFormat(CLI::App* command, std::string* format, const std::string& otherwise) {
  std::vector<std::string> names;
  for (const auto& [name, value] : Formats()) names.push_back(name);
  command->add_option("--format", *format, "Format of the file; auto: " + otherwise)
      ->check(CLI::IsMember(names))
      ->capture_default_str();
}

// Writes a download to a file, completely or not at all; "-" is standard output.
int Save(const Globals& globals, const std::string& path,
         const std::function<Status(const ByteSink&)>& download) {
  Counter counter;
  int error = 0;  // errno of the first failed write
  const auto keep_error = [&error](bool good) {
    if (!good && error == 0) error = errno;
    return good;
  };
  if (path == "-") {
    const Status status = download([&](std::string_view bytes) {
      return keep_error(std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size());
    });
    keep_error(std::fflush(stdout) == 0);
    if (error != 0) {
      throw DataError{std::string("standard output: cannot write: ") + std::strerror(error)};
    }
    return status.ok() ? kOk : globals.Fail(status);
  }
  const std::string partial = path + ".partial";
  std::ofstream file(partial, std::ios::binary | std::ios::trunc);
  if (!file) throw DataError{path + ": cannot write: " + std::strerror(errno)};
  const Status status = download([&](std::string_view bytes) {
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    keep_error(file.good());
    counter.Add(bytes.size());
    return file.good();
  });
  file.close();
  const bool written = keep_error(file.good() && SyncFile(partial));
  if (status.ok() && written && std::rename(partial.c_str(), path.c_str()) == 0) {
    globals.SetDocument(R"({"file":)" + JsonString(path) + R"(,"bytes":)" +
                        std::to_string(counter.bytes()) + "}");
    if (!globals.json) std::printf("%s: %zu bytes\n", path.c_str(), counter.bytes());
    return kOk;
  }
  keep_error(false);
  std::remove(partial.c_str());
  if (!status.ok() && written) return globals.Fail(status);
  throw DataError{path + ": cannot write: " + std::strerror(error)};
}

// Reads a file in chunks of a megabyte; "-" is standard input.
ByteSource Open(const std::string& path, Counter* counter) {
  std::shared_ptr<std::istream> file;
  if (path == "-") {
    file = std::shared_ptr<std::istream>(&std::cin, [](std::istream*) {});
  } else {
    file = std::make_shared<std::ifstream>(path, std::ios::binary);
    if (!*file) throw DataError{path + ": cannot read: " + std::strerror(errno)};
  }
  return [file, counter]() -> std::optional<std::string> {
    std::string bytes(size_t{1} << 20, '\0');
    file->read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    bytes.resize(static_cast<size_t>(file->gcount()));
    if (bytes.empty()) return std::nullopt;
    counter->Add(bytes.size());
    return bytes;
  };
}

int Import(const Globals& globals, const std::string& path, const ImportOptions& options) {
  Client client = globals.Connect();
  Counter counter;
  const RepeatableSource file{[&] {
    counter.Reset();
    return Open(path, &counter);
  }};
  const auto model = path == "-" ? client.ImportModel(Open(path, &counter), options, globals.Call())
                                 : client.ImportModel(file, options, globals.Call());
  if (!model.ok()) return globals.Fail(model.status());
  if (!globals.json) {
    std::printf("%s: %lld parameters, step %lld\n", model->name.c_str(),
                static_cast<long long>(model->parameter_count),
                static_cast<long long>(model->step));
  }
  return kOk;
}

int Restore(const Globals& globals, const std::string& path) {
  Client client = globals.Connect();
  Counter counter;
  const auto restored = client.RestoreBackup(Open(path, &counter), globals.Call());
  if (!restored.ok()) return globals.Fail(restored.status());
  if (!globals.json) {
    std::printf("restored %lld models; %lld runs resume\n",
                static_cast<long long>(restored->models), static_cast<long long>(restored->runs));
  }
  return kOk;
}

}  // namespace

void AddFileCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto model = std::make_shared<std::string>();
  auto file = std::make_shared<std::string>();

  auto* to_file = app->add_subcommand(
      "export", "Export a model to a file: without loss, or its predictions as ONNX");
  auto format = std::make_shared<std::string>("auto");
  to_file->add_option("model", *model, "Id of the model")->required();
  to_file->add_option("file", *file, "The file; - for standard output")->required();
  AddFormat(to_file, format.get(), "onnx if the file's name ends with .onnx, else backprop");
  to_file->callback([=] {
    *chosen = [=] {
      Client client = globals->Connect();
      return Save(*globals, *file, [&](const ByteSink& sink) {
        return client.ExportModel(*model, FormatOf(*format, *file), sink, globals->Call());
      });
    };
  });

  auto* from_file = app->add_subcommand(
      "import", "Create a model from an exported file, or from an ONNX file of another program");
  auto training = std::make_shared<SpecFlags>();
  auto options = std::make_shared<ImportOptions>();
  from_file->add_option("file", *file, "The file; - for standard input")->required();
  from_file->add_option("id", options->model_id, "Id of the model; default: chosen by the server");
  AddFormat(from_file, format.get(), "detected from the first bytes");
  training->AddTrainingTo(from_file, "that of the file, or chosen by its graph; ONNX only");
  from_file->callback([=] {
    options->format = Formats().at(*format);
    options->loss = training->GivenLoss();
    options->optimizer = training->GivenOptimizer();
    *chosen = [=] { return Import(*globals, *file, *options); };
  });

  auto* backup = app->add_subcommand("backup", "Back up everything that a server stores to a file");
  auto project = std::make_shared<std::string>();
  backup->add_option("file", *file, "The file; - for standard output")->required();
  backup->add_option("--project", *project, "Id of a project, to back up only that");
  backup->callback([=] {
    *chosen = [=] {
      Client client = globals->Connect();
      return Save(*globals, *file, [&](const ByteSink& sink) {
        return client.CreateBackup(*project, sink, globals->Call());
      });
    };
  });

  auto* restore = app->add_subcommand("restore", "Restore a backup to an empty server");
  restore->add_option("file", *file, "The file; - for standard input")->required();
  restore->callback([=] { *chosen = [=] { return Restore(*globals, *file); }; });
}

}  // namespace backprop::cli
