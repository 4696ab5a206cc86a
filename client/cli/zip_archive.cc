#include "client/cli/zip_archive.h"

#include <sys/stat.h>
#include <zip.h>

#include <memory>

#include "client/cli/table.h"

namespace backprop::cli {
namespace {

constexpr zip_uint32_t kUnixMode = 16;  // number of bits below the mode, in the attributes

[[noreturn]] void Fail(zip_error_t* error) {
  throw DataError{std::string("the archive cannot be made: ") + zip_error_strerror(error)};
}

// The errors of functions that have no archive yet.
class Error {
 public:
  Error() { zip_error_init(&error_); }
  ~Error() { zip_error_fini(&error_); }
  Error(const Error&) = delete;
  Error& operator=(const Error&) = delete;
  zip_error_t* get() { return &error_; }

 private:
  zip_error_t error_;
};

using Archive = std::unique_ptr<zip_t, decltype(&zip_discard)>;
using Source = std::unique_ptr<zip_source_t, decltype(&zip_source_free)>;

void Add(const ArchiveFile& file, std::time_t time, zip_t* archive) {
  // The contents are read when the archive is closed.
  zip_source_t* const contents =
      zip_source_buffer(archive, file.contents.data(), file.contents.size(), /*freep=*/0);
  if (contents == nullptr) Fail(zip_get_error(archive));
  const zip_int64_t index = zip_file_add(archive, file.name.c_str(), contents, ZIP_FL_ENC_UTF_8);
  if (index < 0) {
    zip_source_free(contents);
    Fail(zip_get_error(archive));
  }
  const auto entry = static_cast<zip_uint64_t>(index);
  const zip_uint32_t mode = S_IFREG | S_IRUSR | S_IWUSR;
  if (zip_file_set_mtime(archive, entry, time, 0) != 0 ||
      zip_file_set_external_attributes(archive, entry, 0, ZIP_OPSYS_UNIX, mode << kUnixMode) != 0) {
    Fail(zip_get_error(archive));
  }
}

std::string BytesOf(zip_source_t* source) {
  zip_stat_t about;
  if (zip_source_stat(source, &about) != 0 || zip_source_open(source) != 0) {
    Fail(zip_source_error(source));
  }
  std::string bytes(about.size, '\0');
  const zip_int64_t read = zip_source_read(source, bytes.data(), bytes.size());
  zip_source_close(source);
  if (read != static_cast<zip_int64_t>(bytes.size())) Fail(zip_source_error(source));
  return bytes;
}

}  // namespace

std::string ZipArchive(const std::vector<ArchiveFile>& files, std::time_t time) {
  Error error;
  const Source memory(zip_source_buffer_create(nullptr, 0, 0, error.get()), &zip_source_free);
  if (memory == nullptr) Fail(error.get());
  Archive archive(zip_open_from_source(memory.get(), ZIP_TRUNCATE, error.get()), &zip_discard);
  if (archive == nullptr) Fail(error.get());
  zip_source_keep(memory.get());  // the archive owns a reference as well
  for (const ArchiveFile& file : files) Add(file, time, archive.get());
  if (zip_close(archive.get()) != 0) Fail(zip_get_error(archive.get()));
  static_cast<void>(archive.release());  // closed
  return BytesOf(memory.get());
}

}  // namespace backprop::cli
