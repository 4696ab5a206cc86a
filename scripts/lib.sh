# Functions shared by the scripts; source it, do not run it. Sets ROOT and changes to that
# directory.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
# On some container hosts the checkout belongs to another user.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0="$ROOT"

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "Missing packages must be installed as root: run this as root, or install sudo."
  fi
}

# Packages needed to build: compiler, generator, libraries.
BUILD_PACKAGES="g++ cmake ninja-build ccache git patch libgrpc++-dev protobuf-compiler
  protobuf-compiler-grpc libprotobuf-dev libssl-dev libabsl-dev libspdlog-dev libcli11-dev libtomlplusplus-dev libxxhash-dev zlib1g-dev libzip-dev librocksdb-dev
  libdnnl-dev ocl-icd-opencl-dev libeigen3-dev libboost-dev libonnx-dev prometheus-cpp-dev libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev nlohmann-json3-dev"
# Additional packages needed to test.
TEST_PACKAGES="python3 python3-venv ca-certificates clang-format clang-tidy zsh fish
  openssl nginx-light prometheus curl"
# Additional packages needed to make Debian packages.
PACKAGE_PACKAGES="dpkg-dev file python3"
# Additional packages needed to fuzz.
FUZZ_PACKAGES="clang-14 libclang-rt-14-dev llvm-14"

# Installs the given Debian packages that are missing.
need() {
  local missing="" package
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  say "Installing$missing"
  as_root apt-get update -qq
  # shellcheck disable=SC2086
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# All checkouts and scripts/mutants share the compiler cache.
export CCACHE_BASEDIR="$ROOT" CCACHE_NOHASHDIR=1

# Configures a preset unless it is configured, and builds it or only the given targets. With the
# environment variable BACKPROP_UNITY=ON the sources of a folder of the client or the tests are
# compiled together, which takes less time for a whole build and more for a change.
build() {
  local preset=$1
  shift
  if [ ! -f "build/$preset/build.ninja" ]; then
    say "Configuring $preset"
    cmake --preset "$preset" -DBACKPROP_UNITY="${BACKPROP_UNITY:-OFF}" >/dev/null
  fi
  say "Building $preset"
  cmake --build --preset "$preset" ${1:+--target "$@"}
}

# Installs Python packages (grpcio, buf, codespell) into the build directory.
need_python_tools() {
  local venv=build/tools/venv stamp=build/tools/venv/requirements.stamp
  cmp -s scripts/requirements.txt "$stamp" && return 0
  say "Installing Python tools into $venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r scripts/requirements.txt ||
    fail "The Python tools could not be installed."
  cp scripts/requirements.txt "$stamp"
}

# Installs the frameworks used for comparison into a separate environment (gigabytes). Not used by
# tests.
need_peers() {
  local venv=build/peers/venv stamp=build/peers/venv/requirements.stamp
  cmp -s scripts/requirements-peers.txt "$stamp" && return 0
  say "Installing PyTorch, JAX, scikit-learn, NumPy and ONNX Runtime into $venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check \
    -r scripts/requirements-peers.txt || fail "The peers could not be installed."
  cp scripts/requirements-peers.txt "$stamp"
}

# Installs client/python into the environment of the frameworks, for the benchmark of its estimators.
need_python_package() {
  build/peers/venv/bin/python -m pip install --quiet --disable-pip-version-check ./client/python ||
    fail "client/python could not be installed."
}

GRPCURL_VERSION=v1.8.9
need_grpcurl() {
  [ -x build/tools/bin/grpcurl ] && return 0
  command -v go >/dev/null || need golang-go
  say "Installing grpcurl $GRPCURL_VERSION into build/tools/bin"
  GOBIN="$ROOT/build/tools/bin" go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$GRPCURL_VERSION" ||
    fail "grpcurl could not be installed."
}

# Starts a server of the release build on a free port and sets SERVER_ADDRESS. The server is stopped
# when the script ends for any reason.
start_server() {
  SERVER_DIR=$(mktemp -d)
  trap stop_server EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  build/release/bin/backpropd --listen 127.0.0.1:0 --port-file "$SERVER_DIR/address" "$@" \
    2>"$SERVER_DIR/log" &
  SERVER_PID=$!
  local tries
  for tries in $(seq 200); do
    [ -s "$SERVER_DIR/address" ] && break
    kill -0 "$SERVER_PID" 2>/dev/null || { cat "$SERVER_DIR/log" >&2; fail "The server did not start."; }
    sleep 0.05
  done
  [ -s "$SERVER_DIR/address" ] || fail "The server did not start within 10 seconds."
  SERVER_ADDRESS=$(cat "$SERVER_DIR/address")
}

stop_server() {
  trap - EXIT
  if [ -n "${SERVER_PID:-}" ]; then
    kill "$SERVER_PID" 2>/dev/null || :
    wait "$SERVER_PID" 2>/dev/null || :
  fi
  rm -rf "${SERVER_DIR:-}"
}

# Sets the options of programs built with a sanitizer; others ignore them.
sanitizer_options() {
  export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
  export LSAN_OPTIONS=suppressions=$ROOT/tests/sanitizers/lsan.supp:print_suppressions=0
  # Calls to memcpy and similar functions by uninstrumented libraries are not reported.
  export TSAN_OPTIONS=suppressions=$ROOT/tests/sanitizers/tsan.supp:halt_on_error=1:second_deadlock_stack=1:ignore_noninstrumented_modules=1:print_suppressions=0
  export UBSAN_OPTIONS=print_stacktrace=1
}
