"""The report of scripts/bench image, and how its record grows."""
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmarks import image  # noqa: E402


def line(row, who, **figures):
    return {"row": row, "who": who, "model": row.split("-")[0], "side": 512, "threads": 2, "processor": "a processor", **figures}


def run(row, who, seconds, **more):
    return line(row, who, text_s=0.1, step_s=seconds, decode_s=1.0, rss_gib=4.0, load_s=0.5, **more)


class Report(unittest.TestCase):
    def test_ratios_are_of_runs_side_by_side(self):
        lines = []
        for ours, theirs in ((1.0, 2.0), (10.0, 40.0), (2.0, 6.0)):
            lines += [run("sd15-bf16", "atelier", ours), run("sd15-bf16", "diffusers", theirs, torch="2.13.0", diffusers="0.42")]
        text = image.drawn(lines)
        self.assertIn("| sd15-bf16, 512x512: one step | 2 (1–10) s | 6 (2–40) s | 3.00 x |", text)
        self.assertIn("3 alternate runs", text)
        self.assertIn("diffusers 0.42", text)

    def test_one_side_alone_and_a_side_without_the_memory(self):
        text = image.drawn([run("sdxl-fp32", "atelier", 80.0), line("sdxl-fp32", "diffusers", failed="out of memory")])
        self.assertIn("| sdxl-fp32, 512x512: one step | 80 (80–80) s | out of memory | – |", text)
        self.assertIn("| 80 (80–80) s | – | – |", image.drawn([run("sdxl-fp32", "atelier", 80.0)]))

    def test_previews(self):
        text = image.drawn([line("previews", "atelier", preview_s=1.0, denoise_s=101.0, share=1.0)])
        self.assertIn("add 1.00 % to denoising", text)

    def test_the_record_grows_and_forgets_rows(self):
        with tempfile.TemporaryDirectory() as folder:
            record = pathlib.Path(folder) / "image.jsonl"
            record.write_text("".join(json.dumps(run(row, who, 1.0)) + "\n" for row in ("sd15-fp32", "sd15-bf16")
                                      for who in ("atelier", "diffusers")))
            with contextlib.redirect_stdout(io.StringIO()):
                image.main(["--report-only", "--fresh", "--rows", "sd15-fp32", "--record", str(record)])
            self.assertEqual({json.loads(each)["row"] for each in record.read_text().splitlines()}, {"sd15-bf16"})
            self.assertIn("sd15-bf16", record.with_suffix(".md").read_text())

    def test_unknown_rows_are_refused(self):
        with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
            image.arguments(["--rows", "sd15-fp31"])


if __name__ == "__main__":
    unittest.main()
