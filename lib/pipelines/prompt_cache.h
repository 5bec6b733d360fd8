#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pipelines/prefill.h"

namespace atelier::pipelines {

/// Keys and values of prompts, kept in a folder for other processes.
///
/// A prompt is cut into blocks of 128 tokens. A block's file, FOLDER/IDENTITY/KEY.safetensors, holds the keys and values of its
/// positions in every layer (`layers.N.key`, `layers.N.value`, each (kv_heads, 128, head_dim); of a cache in 8 bits the codes,
/// and `layers.N.key_scale`, `layers.N.value_scale`, each (kv_heads, 128, 1)). Its key is the hash of the block before it and
/// of its own tokens, so prompts with a common beginning share its blocks, whatever follows. The
/// identity is a hash of the weights (header and size of every file, samples of its data, its time of change), the config,
/// the adapters, the number format, the device and this format's version. Such a prompt is always computed in blocks of 128,
/// whether they were found or not, so a hit gives the same bytes as a miss.
///
/// Entries are written whole or not at all and never changed, so any number of processes can share a folder. Each carries a
/// hash of its data: what is damaged or does not fit is ignored with a warning, and replaced. When the folder is larger than
/// its limit, the blocks that were not used for the longest time go. A folder that cannot be written is one warning; what is
/// in it is still used.
class PromptCache {
 public:
  static constexpr std::int64_t block = 128;

  /// `adapters`: whatever tells the model's adapters apart, in order; `limit`: bytes.
  PromptCache(std::string folder, std::uint64_t limit, const TextModelFiles& files, const std::vector<std::string>& adapters);

  /// For one request. The cache must outlive it.
  std::shared_ptr<PromptState> state();

  const std::string& folder() const { return folder_; }

 private:
  class State;
  using Key = std::string;  ///< 64 hex digits

  std::vector<Key> keys_of(std::span<const text::TokenId> tokens) const;
  std::string path_of(const Key& key) const;
  /// Loads the longest chain of blocks that is there; returns how many.
  std::size_t load(const TextModel& model, const std::vector<Key>& keys, nn::KvCache& cache);
  /// A block's tensors, layer by layer in the order of nn::cache_parts; empty where there is none, or none that can be used.
  std::vector<at::Tensor> read_block(const TextModel& model, const Key& key);
  void store(const TextModel& model, nn::KvCache& recorded, const std::vector<Key>& keys, std::size_t known);
  void write_block(const TextModel& model, const Key& key, const std::vector<at::Tensor>& tensors);
  void note_use(const std::vector<Key>& keys, std::size_t count) const;
  void shrink() const;
  void stop_writing(const std::string& why);

  std::string folder_, identity_;
  std::uint64_t limit_;
  bool writable_ = true, warned_ = false;
};

}  // namespace atelier::pipelines
