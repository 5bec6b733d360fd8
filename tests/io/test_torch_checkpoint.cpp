// The restricted reader of torch.save files: tensors come out, programs never run.
#include "io/torch_checkpoint.h"

#include <cstring>

#include "base/json.h"
#include "io/pickle.h"
#include "io/zip_archive.h"
#include "support/scratch.h"

#include "support/doctest_last.h"

#include "support/errors.h"

namespace {

using namespace atelier;
using base::ExitCode;

std::string little(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xFF);
  return text;
}

/// A ZIP file of stored entries.
std::string zip(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string file, directory;
  for (const auto& [name, data] : entries) {
    const std::string sizes = little(data.size(), 4) + little(data.size(), 4) + little(name.size(), 2) + little(0, 2);
    directory += "PK\x01\x02" + little(20, 2) + little(20, 2) + little(0, 2) + little(0, 2) + little(0, 8) + sizes +
                 little(0, 2) + little(0, 2) + little(0, 2) + little(0, 4) + little(file.size(), 4) + name;
    file += "PK\x03\x04" + little(20, 2) + little(0, 2) + little(0, 2) + little(0, 8) + sizes + name + data;
  }
  const std::size_t at = file.size();
  return file + directory + "PK\x05\x06" + little(0, 4) + little(entries.size(), 2) + little(entries.size(), 2) +
         little(directory.size(), 4) + little(at, 4) + little(0, 2);
}

std::string text(const std::string& s) { return "X" + little(s.size(), 4) + s; }
std::string integer(std::int32_t n) { return "J" + little(static_cast<std::uint32_t>(n), 4); }
std::string tuple(const std::string& items) { return "(" + items + "t"; }

/// The opcodes of one tensor in storage "0", which has `elements` floats.
std::string tensor(const std::string& shape, const std::string& strides, int offset = 0, int elements = 6) {
  const std::string storage =
      tuple(text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + integer(elements)) + "Q";
  return "ctorch._utils\n_rebuild_tensor_v2\n" +
         tuple(storage + integer(offset) + shape + strides + "\x89" + "ccollections\nOrderedDict\n)R") + "R";
}
std::string two_by_three() { return tensor(tuple(integer(2) + integer(3)), tuple(integer(3) + integer(1))); }
std::string dictionary(const std::string& items) { return "}(" + items + "u"; }
std::string program(const std::string& body) { return "\x80\x02" + body + "."; }

std::string numbers() {
  std::string bytes;
  for (float value : {0.0F, 1.0F, 2.0F, 3.0F, 4.0F, 5.0F}) {
    char raw[4];
    std::memcpy(raw, &value, 4);
    bytes.append(raw, 4);
  }
  return bytes;
}

class Files {
 public:
  std::string checkpoint(const std::string& pickle, const std::string& storage = numbers()) const {
    const std::string path = scratch_.file("a.ckpt");
    test::put_file(path, zip({{"archive/data.pkl", pickle}, {"archive/data/0", storage}, {"archive/version", "3\n"}}));
    return path;
  }
  std::string refused(const std::string& pickle, const std::string& storage = numbers()) const {
    const std::string path = checkpoint(pickle, storage);
    return test::error_of(ExitCode::data, [&] { io::open_torch_checkpoint(path); });
  }

 private:
  test::Scratch scratch_;
};

}  // namespace

TEST_CASE("tensors come out by their names, with offsets and strides") {
  const Files files;
  const auto transposed = tensor(tuple(integer(3) + integer(2)), tuple(integer(1) + integer(3)));
  const auto last = tensor(tuple(integer(2)), tuple(integer(1)), 4);
  const std::string state = dictionary(text("w") + two_by_three() + text("t") + transposed + text("last") + last);
  const auto source = io::open_torch_checkpoint(
      files.checkpoint(program(dictionary(text("epoch") + integer(3) + text("state_dict") + state))));
  CHECK(source->names() == std::vector<std::string>{"w", "t", "last"});
  CHECK(source->info("w").shape == std::vector<std::int64_t>{2, 3});
  const at::Tensor w = source->load("w", at::kFloat, at::kCPU), t = source->load("t", at::kFloat, at::kCPU);
  CHECK(w[1][0].item<float>() == 3);
  CHECK(t[0][1].item<float>() == 3);
  CHECK(t.is_contiguous());
  CHECK(source->load("last", at::kDouble, at::kCPU)[1].item<double>() == 5);
  CHECK(source->unused().empty());
  CHECK(test::contains(test::error_of(ExitCode::data, [&] { source->load("x", at::kFloat, at::kCPU); }), "missing"));
  CHECK(source->missing() == std::vector<std::string>{"x"});

  const auto nested = io::open_torch_checkpoint(
      files.checkpoint(program(dictionary(text("string_to_param") + dictionary(text("*") + two_by_three())))));
  CHECK(nested->names() == std::vector<std::string>{"string_to_param.*"});
}

TEST_CASE("gadgets are refused, whatever they call and however") {
  const Files files;
  const std::string names[] = {"posix\nsystem",
                               "os\nsystem",
                               "nt\nsystem",
                               "subprocess\nPopen",
                               "subprocess\ncheck_output",
                               "builtins\neval",
                               "builtins\nexec",
                               "__builtin__\neval",
                               "builtins\ngetattr",
                               "builtins\n__import__",
                               "builtins\nopen",
                               "builtins\ncompile",
                               "operator\nattrgetter",
                               "functools\npartial",
                               "importlib\nimport_module",
                               "pty\nspawn",
                               "socket\nsocket",
                               "webbrowser\nopen",
                               "shutil\nrmtree",
                               "pickle\nloads",
                               "torch\nload",
                               "torch.hub\nload",
                               "torch.serialization\nload",
                               "numpy.core.multiarray\nscalar",
                               "numpy\nload",
                               "types\nFunctionType",
                               "runpy\nrun_path",
                               "timeit\ntimeit",
                               "torch._utils\n_rebuild_tensor_v3",
                               "torch\nFloatStorage.__class__",
                               "collections\ndefaultdict",
                               "_codecs\nencode"};
  for (const std::string& name : names) {
    CAPTURE(name);
    CHECK(test::contains(files.refused(program("c" + name + "\n" + tuple(text("id")) + "R")), "is refused"));
  }
  // The same through other doors.
  const std::string doors[] = {
      "\x8c\x05posix\x8c\x06system\x93" + tuple(text("id")) + "R",  // STACK_GLOBAL
      "(iposix\nsystem\n",                                          // INST
      "(S'id'\nios\nsystem\n",                                      // INST with arguments
      "(cposix\nsystem\n" + text("id") + "o",                       // OBJ
      "cposix\nsystem\n)\x81",                                      // NEWOBJ
      "cposix\nsystem\n)}\x92",                                     // NEWOBJ_EX
      "\x82\x01",                                                   // EXT1
      "Pid\n",                                                      // PERSID
      "I01\n",
      "S'x'\n",
      "\x96" + little(1, 8) + "x",              // text-mode opcodes, BYTEARRAY8
      dictionary(text("a") + "cos\nsystem\n"),  // never called, still refused
      "ctorch\nFloatStorage\n)R",               // known, but nothing to call
  };
  for (const std::string& door : doors) {
    CAPTURE(door);
    CHECK(files.refused(program(door)) != "(no error)");
  }
}

TEST_CASE("damaged pickles and tensors beyond their storage are refused") {
  const Files files;
  for (const std::string& body :
       {std::string("q"), std::string("h\x05"), std::string("t"), std::string("R"), std::string("}a"),
        std::string("]s"), std::string("\x8b" + little(4, 4)), std::string("X\xff\xff\xff\xff"), std::string("("),
        std::string("b"), std::string("Q"), std::string("\x80\x09")}) {
    CAPTURE(body);
    CHECK(files.refused(program(body)) != "(no error)");
  }
  CHECK(files.refused("") != "(no error)");
  CHECK(files.refused(program("}")) == "(no error)");  // opens: it has no tensors
  const auto one = [&](const std::string& t) { return files.refused(program(dictionary(text("w") + t))); };
  const auto dim = [](int n) { return tuple(integer(n)); };
  CHECK(test::contains(one(tensor(dim(7), dim(1))), "beyond its storage"));
  CHECK(test::contains(one(tensor(dim(2), dim(6))), "beyond its storage"));
  CHECK(test::contains(one(tensor(dim(1), dim(1), 6)), "beyond its storage"));
  CHECK(test::contains(one(tensor(dim(7), dim(1), 0, 1000)), "beyond its storage"));
  CHECK(test::contains(one(tensor(dim(1000000), dim(0))), "more elements"));
  const std::string big = tuple(integer(2147483647) + integer(2147483647) + integer(2147483647));
  CHECK(one(tensor(big, big)) != "(no error)");
  CHECK(one(tensor(dim(-1), dim(1))) != "(no error)");
  CHECK(one(tensor(dim(1), tuple(""))) != "(no error)");
}

TEST_CASE("deep nesting and circles end quickly") {
  const Files files;
  std::string deep(1000000, ']');
  for (int i = 1; i < 1000000; ++i) deep += 'a';
  CHECK_NOTHROW(io::open_torch_checkpoint(files.checkpoint(program(deep))));
  // A dictionary that holds itself under two keys.
  const std::string circle = "}q\x01(" + text("a") + "h\x01" + text("b") + "h\x01" + "u";
  CHECK(test::contains(files.refused(program(circle)), "too deeply"));
}

TEST_CASE("every cut of a file, and every flipped bit of its directory, is an error or the same tensors") {
  const test::Scratch scratch;
  const std::string good =
      zip({{"a/data.pkl", program(dictionary(text("w") + two_by_three()))}, {"a/data/0", numbers()}});
  const std::string path = scratch.file("a.pt");
  const auto attempt = [&](const std::string& bytes) {
    test::put_file(path, bytes);
    try {
      const auto source = io::open_torch_checkpoint(path);
      for (const std::string& name : source->names()) source->load(name, at::kFloat, at::kCPU);
    } catch (const base::Error& error) {
      CHECK((error.code() == ExitCode::data || error.code() == ExitCode::no_input));
    }
  };
  for (std::size_t size = 0; size < good.size(); size += 3) attempt(good.substr(0, size));
  for (std::size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
    attempt(bad);
  }
}
