#include "metrics/pictures.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/progress.h"
#include "base/stop.h"
#include "image/read.h"

namespace atelier::metrics {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ExitCode;

constexpr std::array<std::string_view, 3> kReadable{".png", ".jpg", ".jpeg"};
constexpr std::array<std::string_view, 12> kOther{".bmp", ".gif",  ".webp", ".tif", ".tiff", ".ppm",
                                                  ".pgm", ".avif", ".heic", ".jxl", ".jp2",  ".tga"};

/// The ending in lower case, with its dot.
std::string ending(const fs::path& path) {
  std::string text = path.extension().native();
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

template <std::size_t n>
bool among(const std::array<std::string_view, n>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

/// An error's message without the path that it begins with.
std::string reason_of(const Error& error, const std::string& path) {
  std::string_view message = error.what();
  if (message.starts_with(path + ": ")) message.remove_prefix(path.size() + 2);
  return std::string(message);
}

/// One file's outcome.
struct Item {
  at::Tensor picture;         // undefined where the file is unreadable
  std::string reason;         // why it is
  std::exception_ptr failed;  // anything else
};

Item read_item(const std::string& path, const Prepare& prepare) {
  Item item;
  try {
    image::Image rgb;
    try {
      rgb = image::to_rgb(image::read_image(path));
    } catch (const Error& error) {
      if (error.code() != ExitCode::data && error.code() != ExitCode::no_input) throw;
      item.reason = reason_of(error, path);
      return item;
    }
    item.picture = prepare(rgb);
  } catch (...) {
    item.failed = std::current_exception();
  }
  return item;
}

/// Reads files ahead on threads of its own, at most `window` beyond what has been taken; hands them out in order.
class Readers {
 public:
  Readers(const std::vector<std::string>& files, const Prepare& prepare, std::size_t window)
      : files_(files), prepare_(prepare), slots_(std::max<std::size_t>(window, 1)) {
    // One thread keeps two cores of a network fed; a card wants more.
    const std::size_t threads = std::clamp<std::size_t>(std::thread::hardware_concurrency() / 4, 1, 4);
    for (std::size_t i = 0; i < std::min(threads, files.size()); ++i) threads_.emplace_back([this] { work(); });
  }

  ~Readers() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  Readers(const Readers&) = delete;
  Readers& operator=(const Readers&) = delete;

  Item next() {
    std::unique_lock lock(mutex_);
    std::optional<Item>& slot = slots_[taken_ % slots_.size()];
    changed_.wait(lock, [&] { return slot.has_value(); });
    Item item = std::move(*slot);
    slot.reset();
    ++taken_;
    changed_.notify_all();
    return item;
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stopped_ || started_ == files_.size() || started_ < taken_ + slots_.size(); });
      if (stopped_ || started_ == files_.size()) return;
      const std::size_t i = started_++;
      lock.unlock();
      Item item = read_item(files_[i], prepare_);
      lock.lock();
      slots_[i % slots_.size()] = std::move(item);
      changed_.notify_all();
    }
  }

  const std::vector<std::string>& files_;
  const Prepare& prepare_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::optional<Item>> slots_;
  std::size_t started_ = 0, taken_ = 0;
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

PictureSet list_pictures(const std::string& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    throw Error(ExitCode::no_input,
                fmt::format("{}: {}", folder, fs::exists(folder, error) ? "is no folder" : "no such folder"));
  PictureSet set;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    const std::string kind = ending(entry->path()), path = entry->path().native();
    if (entry->is_directory(ignored)) continue;
    if (among(kOther, kind)) {
      set.unreadable.emplace_back(path, fmt::format("{} pictures are not read; PNG and JPEG are", kind.substr(1)));
    } else if (among(kReadable, kind)) {
      if (entry->is_regular_file(ignored) && entry->file_size(ignored) == 0)
        set.unreadable.emplace_back(path, "is empty");
      else
        set.files.push_back(path);
    }
  }
  if (error) throw Error(ExitCode::no_input, fmt::format("{}: {}", folder, error.message()));
  std::sort(set.files.begin(), set.files.end());
  std::sort(set.unreadable.begin(), set.unreadable.end());
  return set;
}

at::Tensor to_byte_tensor(const image::Image& picture) {
  at::Tensor bytes = at::empty({picture.height, picture.width, picture.channels}, at::kByte);
  std::memcpy(bytes.mutable_data_ptr(), picture.data.data(), picture.data.size());
  return bytes;
}

std::vector<Unreadable> read_batches(const std::vector<std::string>& files, std::int64_t batch_size,
                                     const Prepare& prepare, const TakeBatch& take, const std::string& label) {
  std::vector<Unreadable> unreadable;
  if (files.empty()) return unreadable;
  const auto size = static_cast<std::size_t>(std::max<std::int64_t>(1, batch_size));
  std::optional<base::Progress> progress;
  if (!label.empty()) progress.emplace(label, files.size(), "pictures");
  Readers readers(files, prepare, 2 * size);
  PictureBatch batch;
  for (std::size_t i = 0; i < files.size(); ++i) {
    base::throw_if_stopped();
    Item item = readers.next();
    if (item.failed) std::rethrow_exception(item.failed);
    if (item.picture.defined()) {
      batch.pictures.push_back(std::move(item.picture));
      batch.indices.push_back(i);
    } else {
      unreadable.emplace_back(files[i], std::move(item.reason));
    }
    if (batch.pictures.size() == size || (i + 1 == files.size() && !batch.pictures.empty())) {
      take(batch);
      batch = {};
      if (progress) progress->update(i + 1);
    }
  }
  return unreadable;
}

}  // namespace atelier::metrics
