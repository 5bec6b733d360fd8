"""The parts of scripts/quickstart and scripts/test that can be tried without installing anything."""
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*command, **environment):
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False,
                          stdin=subprocess.DEVNULL)


def shell(script, *arguments, **environment):
    """Runs `script` with the functions of scripts/setup."""
    sources = "".join(f'source "{ROOT}/scripts/setup/{name}.sh"; ' for name in ("common", "system", "python"))
    return run("bash", "-euo", "pipefail", "-c", sources + script, "test", *arguments, **environment)


class Arguments(unittest.TestCase):
    def test_wrong_ones_are_named(self):
        for command, wrong in ((["quickstart", "--nonsense"], "--nonsense"), (["quickstart", "--preset", "fast"], "fast"),
                               (["quickstart", "--preset"], "--preset"), (["test", "--nonsense"], "--nonsense"),
                               (["make-fixtures", "nonsense"], "nonsense")):
            result = run(str(ROOT / "scripts" / command[0]), *command[1:])
            self.assertEqual((result.returncode, result.stdout), (1, ""), command)
            self.assertRegex(result.stderr, f"^{command[0]}: error: .*{wrong}.*\nhint: .*\n$")

    def test_help(self):
        for name in ("quickstart", "test", "make-fixtures", "fetch-model"):
            result = run(str(ROOT / "scripts" / name), "--help")
            self.assertEqual(result.returncode, 0)
            self.assertIn("usage: ", result.stdout)


class Setup(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name) / "with blanks"
        self.folder.mkdir()

    def path_with(self, *tools):
        """A PATH of only these tools."""
        for tool in tools:
            (self.folder / tool).symlink_to(shutil.which(tool))
        return str(self.folder)

    def test_no_compiler(self):
        path = self.path_with("bash", "dirname", "basename", "sort", "head", "sed", "nproc")
        result = run(str(self.folder / "bash"), str(ROOT / "scripts/quickstart"), "--dry-run", PATH=path, CXX="")
        self.assertEqual(result.returncode, 1)
        self.assertIn("no C++20 compiler found (g++ 11 or newer)\nhint: ", result.stderr)

    def test_old_compiler_is_not_taken(self):
        old = self.folder / "old-c++"
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
        result = shell("find_compiler", CXX=str(old))
        self.assertNotIn("old-c++", result.stdout)

    def test_versions(self):
        for wanted, found, enough in (("3.25", "3.25.1", 0), ("3.25", "3.22.1", 1), ("3.25", "4.0", 0), ("3.25", "", 1),
                                      ("1.10", "1.9", 1), ("1.10", "1.11.1", 0)):
            self.assertEqual(shell('at_least "$@"', wanted, found).returncode, enough, (wanted, found))

    def test_missing_header_names_its_package(self):
        result = shell('library_headers=(no/such.h libno-such-dev string libstdc++-dev); missing_packages "$(find_compiler)"')
        self.assertEqual(result.stdout, "libno-such-dev\n", result.stderr)

    def fake_torch(self, version):
        (self.folder / "lib").mkdir()
        (self.folder / "lib/libtorch_cpu.so").touch()
        (self.folder / "include/ATen").mkdir(parents=True)
        (self.folder / "include/ATen/ATen.h").touch()
        header = self.folder / "include/torch/headeronly/version.h"
        header.parent.mkdir(parents=True)
        header.write_text("".join(f"#define TORCH_VERSION_{n} {v}\n" for n, v in
                                  zip(("MAJOR", "MINOR", "PATCH"), version.split("."))))

    def test_torch_that_the_user_names(self):
        self.fake_torch("2.13.0")
        for name, value in (("ATELIER_TORCH_ROOT", ""), ("CMAKE_PREFIX_PATH", ""), ("Torch_DIR", "/share/cmake/Torch")):
            (self.folder / "share/cmake/Torch").mkdir(parents=True, exist_ok=True)
            result = shell("find_torch", **{name: str(self.folder) + value})
            self.assertEqual(result.stdout, f"{self.folder}\n", result.stderr)

    def test_other_series_is_not_taken(self):
        self.fake_torch("2.12.1")
        self.assertNotIn(str(self.folder), shell("find_torch", ATELIER_TORCH_ROOT=str(self.folder)).stdout)

    def test_what_the_cpu_part_of_a_cuda_wheel_needs(self):
        new = ("Requires-Dist: filelock\nRequires-Dist: cuda-toolkit[cublas,cudart,cupti,nvtx]==13.0.3; platform_system == \"Linux\"\n"
               "Requires-Dist: nvidia-cudnn-cu13==9.20.0.48; platform_system == \"Linux\"\n")
        old = ("Requires-Dist: nvidia-cuda-nvrtc-cu12==12.8.93\nRequires-Dist: nvidia-cuda-runtime-cu12==12.8.90; x\n"
               "Requires-Dist: nvidia-cuda-cupti-cu12==12.8.90; x\n")
        self.assertEqual(shell('cuda_runtime "$1"', new).stdout, "cuda-toolkit[cudart,cupti]==13.0.3\n")
        self.assertEqual(shell('cuda_runtime "$1"', old).stdout,
                         "nvidia-cuda-runtime-cu12==12.8.90\nnvidia-cuda-cupti-cu12==12.8.90\n")


if __name__ == "__main__":
    unittest.main()
