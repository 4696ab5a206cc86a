// Reads files, and explains why a file cannot be read.
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include "client/cli/table.h"

namespace backprop::cli {
namespace {

// File formats that are mistaken for tables, by their first bytes.
struct Format {
  std::string magic;
  const char* advice;
};

void RefuseArchives(const std::string& name, const std::string& bytes) {
  using std::string_literals::operator""s;
  static const Format formats[] = {
      {"\x1f\x8b"s, "is compressed by gzip; decompress it first: gunzip"},
      {"PK\x03\x04"s,
       "is a zip archive, as .npz and .xlsx files are; save one array with numpy.save, or the "
       "sheet as CSV"},
      {"BZh"s, "is compressed by bzip2; decompress it first: bunzip2"},
      {"\xfd"s + "7zXZ\0"s, "is compressed by xz; decompress it first: unxz"},
      {"\x28\xb5\x2f\xfd"s, "is compressed by zstd; decompress it first: unzstd"},
      {"PAR1"s, "is a Parquet file; save it as CSV or with numpy.save"},
      {"\x89HDF\r\n"s, "is an HDF5 file; save it as CSV or with numpy.save"},
      {"\x80\x04\x95"s, "is a Python pickle; save it as CSV or with numpy.save"},
      {"\xff\xfe"s, "is text in UTF-16; save it in UTF-8"},
      {"\xfe\xff"s, "is text in UTF-16; save it in UTF-8"},
  };
  for (const Format& format : formats) {
    if (bytes.compare(0, format.magic.size(), format.magic) == 0) {
      throw DataError{name + ": " + format.advice};
    }
  }
}

}  // namespace

std::string ReadFile(const std::string& file) {
  if (file == "-") {
    std::string bytes{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
    RefuseArchives("stdin", bytes);
    return bytes;
  }
  struct stat about {};
  if (stat(file.c_str(), &about) == 0 && S_ISDIR(about.st_mode)) {
    throw DataError{file + ": is a directory"};
  }
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  if (!stream || bytes.fail()) {
    // Copying an empty file fails without a system error.
    if (stream.is_open() && bytes.str().empty() && stream.peek() == EOF) return "";
    throw DataError{file + ": " + std::strerror(errno)};
  }
  RefuseArchives(file, bytes.str());
  return bytes.str();
}

}  // namespace backprop::cli
