"""scripts/convert-metrics: what it makes of files like the public ones, and what it refuses. Needs .venv-fixtures."""
import hashlib
import json
import pathlib
import struct
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-fixtures" / "bin" / "python"
SCRIPT = ROOT / "scripts" / "convert-metrics"

LPIPS = """
import sys, torch
torch.save({"features.0.weight": torch.ones(64, 3, 11, 11, dtype=torch.float16), "classifier.1.bias": torch.ones(3)}, sys.argv[1])
torch.save({f"lin{i}.model.1.weight": torch.full((1, c, 1, 1), float(i)) for i, c in enumerate((64, 192, 384, 256, 256))}, sys.argv[2])
"""

# A CLIPModel under OpenCLIP's names, and the same as transformers saves it.
CLIP = """
import sys, torch
from transformers import CLIPConfig, CLIPModel
tower = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=1, hidden_act="gelu")
model = CLIPModel(CLIPConfig(text_config=dict(tower, vocab_size=99, eos_token_id=98), vision_config=dict(tower, image_size=32, patch_size=8),
                             projection_dim=24))
state, renamed = model.state_dict(), {}
for prefix, name in (("visual.", "vision_model"), ("", "text_model")):
    for i in range(2):
        layer, block = f"{name}.encoder.layers.{i}.", f"{prefix}transformer.resblocks.{i}."
        for kind in ("weight", "bias"):
            for norm in (1, 2):
                renamed[f"{block}ln_{norm}.{kind}"] = state[f"{layer}layer_norm{norm}.{kind}"]
            renamed[f"{block}attn.in_proj_{kind}"] = torch.cat([state[f"{layer}self_attn.{p}_proj.{kind}"] for p in "qkv"])
            renamed[f"{block}attn.out_proj.{kind}"] = state[f"{layer}self_attn.out_proj.{kind}"]
            renamed[f"{block}mlp.c_fc.{kind}"], renamed[f"{block}mlp.c_proj.{kind}"] = (state[f"{layer}mlp.fc{n}.{kind}"] for n in (1, 2))
for kind in ("weight", "bias"):
    renamed[f"visual.ln_pre.{kind}"] = state[f"vision_model.pre_layrnorm.{kind}"]
    renamed[f"visual.ln_post.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
    renamed[f"ln_final.{kind}"] = state[f"text_model.final_layer_norm.{kind}"]
renamed.update({"visual.class_embedding": state["vision_model.embeddings.class_embedding"],
                "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
                "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
                "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
                "positional_embedding": state["text_model.embeddings.position_embedding.weight"], "logit_scale": state["logit_scale"],
                "visual.proj": state["visual_projection.weight"].T, "text_projection": state["text_projection.weight"].T})
torch.save({"epoch": 1, "state_dict": renamed}, sys.argv[1])
model.save_pretrained(sys.argv[2])
"""
SAME_CLIP = """
import sys
from transformers import CLIPModel
ours, theirs = (CLIPModel.from_pretrained(path) for path in sys.argv[1:3])
a, b = ours.state_dict(), theirs.state_dict()
assert set(a) == set(b) and all((a[name] == b[name]).all() for name in a)
assert ours.config.vision_config.num_attention_heads == 1 and ours.config.text_config.hidden_act == "gelu"
"""

# An ImageReward under the published file's names and transformers', with heads of 64 numbers.
REWARD = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from fixtures import _metrics_networks as networks
from fixtures.bert_text import write_vocabulary
from safetensors.torch import save_file
pieces = [*networks.seeded_pieces(), "[DEC]", "[ENC]"]
model = networks.fill(networks.ImageReward(
    dict(hidden_size=128, intermediate_size=96, num_hidden_layers=3, num_attention_heads=2, image_size=48, patch_size=16),
    dict(hidden_size=64, intermediate_size=80, num_hidden_layers=2, num_attention_heads=1, max_position_embeddings=50), pieces))
torch.save(networks.published_names(model), sys.argv[2])
write_vocabulary(sys.argv[3], pieces[:-2])
save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, sys.argv[4])
"""
SAME_TENSORS = """
import sys
from safetensors.torch import load_file
a, b = (load_file(path) for path in sys.argv[1:3])
assert set(a) == set(b), set(a) ^ set(b)
assert all((a[name] == b[name]).all() for name in a)
"""
STATISTICS = """
import sys
import numpy as np
np.savez(sys.argv[1], mu=np.arange(2048.0), sigma=np.eye(2048))
np.savez(sys.argv[2], mu=np.arange(64.0), sigma=np.eye(64))
"""


def header(path):
    with open(path, "rb") as file:
        return json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))


@unittest.skipUnless(PYTHON.exists(), "scripts/make-fixtures --setup makes what it needs")
class ConvertMetrics(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def python(self, code, *paths):
        subprocess.run([PYTHON, "-c", code, *map(str, paths)], check=True, stderr=subprocess.DEVNULL)

    def convert(self, *arguments):
        return subprocess.run([SCRIPT, *map(str, arguments)], text=True, capture_output=True)

    def test_trunk_and_linear_layers_become_one_file(self):
        trunk, linear, output = (self.folder / name for name in ("trunk.pth", "alex.pth", "alex.safetensors"))
        self.python(LPIPS, trunk, linear)
        refused = self.convert("alex", trunk, linear, output)
        self.assertEqual(refused.returncode, 65)
        self.assertIn("expected 7be5be79", refused.stderr)
        self.assertFalse(output.exists())
        self.assertEqual(self.convert("alex", trunk, linear, output, "--any-hash").returncode, 0)
        made = header(output)
        self.assertEqual(made["features.0.weight"]["dtype"], "F32")
        self.assertEqual(made["lin4.model.1.weight"]["shape"], [1, 256, 1, 1])
        self.assertNotIn("classifier.1.bias", made)
        refused = self.convert("vgg", trunk, linear, output, "--any-hash")
        self.assertEqual(refused.returncode, 65)
        self.assertIn("lin1.model.1.weight", refused.stderr)
        named = trunk.rename(self.folder / "alexnet-01234567.pth")
        self.assertIn("expected 01234567", self.convert("alex", named, linear, output, "--any-hash").stderr)
        self.assertEqual(self.convert("alex", self.folder / "none", linear, output).returncode, 66)
        self.assertEqual(self.convert("alex", linear, output).returncode, 64)

    def test_open_clip_checkpoints_become_the_same_clip_model(self):
        checkpoint, theirs, ours = self.folder / "hps.pt", self.folder / "theirs", self.folder / "ours"
        self.python(CLIP, checkpoint, theirs)
        done = self.convert("clip", checkpoint, ours)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.python(SAME_CLIP, ours, theirs)
        self.assertEqual(json.loads((ours / "preprocessor_config.json").read_text())["crop_size"], {"height": 32, "width": 32})

    def test_image_reward_becomes_a_folder_with_its_vocabulary(self):
        checkpoint, vocabulary, theirs, ours = (self.folder / name for name in ("reward.pt", "vocab.txt", "theirs.safetensors", "ours"))
        self.python(REWARD, ROOT / "scripts", checkpoint, vocabulary, theirs)
        refused = self.convert("imagereward", checkpoint, vocabulary, ours)
        self.assertEqual(refused.returncode, 65)
        self.assertIn("expected 07eced37", refused.stderr)
        self.assertFalse(ours.exists())
        done = self.convert("imagereward", checkpoint, vocabulary, ours, "--any-hash")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.python(SAME_TENSORS, ours / "model.safetensors", theirs)
        config = json.loads((ours / "config.json").read_text())
        vision, text = config["vision_config"], config["text_config"]
        self.assertEqual([vision[key] for key in ("hidden_size", "num_attention_heads", "num_hidden_layers", "image_size", "patch_size")], [128, 2, 3, 48, 16])
        self.assertEqual([text[key] for key in ("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size")], [64, 1, 2, 82])
        self.assertEqual((ours / "vocab.txt").read_text().split()[-2:], ["[DEC]", "[ENC]"])
        with open(vocabulary, "a", encoding="utf-8") as file:
            file.write("one\nmore\nand more\n")
        self.assertIn("do not belong to a table of 82", self.convert("imagereward", checkpoint, vocabulary, ours, "--any-hash").stderr)
        self.assertIn("is no file of tensors", self.convert("imagereward", vocabulary, vocabulary, ours, "--any-hash").stderr)

    def test_statistics_carry_the_hash_of_the_weights_and_the_number_of_pictures(self):
        good, other, weights, output = (self.folder / name for name in ("good.npz", "other.npz", "inception.safetensors", "out.safetensors"))
        self.python(STATISTICS, good, other)
        weights.write_bytes(b"weights")
        self.assertIn("--count", self.convert("statistics", good, weights, output).stderr)
        self.assertEqual(self.convert("statistics", good, weights, output, "--count", "500").returncode, 0)
        made = header(output)
        self.assertEqual(made["covariance"]["shape"], [2048, 2048])
        self.assertEqual(made["__metadata__"]["count"], "500")
        self.assertEqual(made["__metadata__"]["weights_sha256"], hashlib.sha256(b"weights").hexdigest())
        self.assertEqual(self.convert("statistics", other, weights, output, "--count", "500").returncode, 65)


if __name__ == "__main__":
    unittest.main()
