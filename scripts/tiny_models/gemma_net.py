"""Gemma 2 in plain PyTorch, for training on a CPU.

Parameters carry the names of Hugging Face's checkpoints. Only what training needs is here: whole
sequences, right padding, no cache. The saved folder is evaluated with transformers, so that a
difference between the two could not pass unseen. Products are taken in bfloat16, which CPUs with
instructions for it do up to four times as fast; sums over layers, norms and softmax stay in float32.
"""
import math

import torch
from torch import nn
from torch.nn import functional as F

CONFIG = {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "attention_bias": False, "attention_dropout": 0.0,
    "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 107],
    "final_logit_softcapping": 30.0, "head_dim": 32, "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 256, "initializer_range": 0.02, "intermediate_size": 512,
    "max_position_embeddings": 1024, "num_attention_heads": 8, "num_hidden_layers": 4, "num_key_value_heads": 4,
    "pad_token_id": 0, "query_pre_attn_scalar": 32, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 128,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 4096,
}
LOW = torch.bfloat16
EMBEDDING_STD = 0.05
# How the heads of the first layer start: head i looks i + 1 tokens back. The strengths (in nats) of the fastest rotary pairs
# put 95 % of the attention there.
PAIR_STRENGTHS = (10.0, 6.0, 3.0, 2.0)
# How the residual stream starts: a direction common to all tokens, what tells them apart, and for each head of the first layer
# the place where it writes which token it saw.
OWN, SLOT = 96, 20
# How heads of the full layers start: (what their queries compare, what their keys), as tokens back; 0 is the token itself. Two
# heads share a key.
MATCHES = {1: (((1,), (0,)), ((2,), (0,)), ((0,), (1,)), ((1,), (1,)), ((0, 1), (1, 2)), ((1, 2), (1, 2))),
           3: (((1, 2), (0, 1)), ((2, 3), (0, 1)), ((0, 1), (1, 2)), ((1, 2), (1, 2)), ((1, 2, 3), (1, 2, 3)), ((2, 3, 4), (1, 2, 3)))}
MATCH = 2.0  # strength: two equal tokens score about ten nats
# Tokens back of which units of the first layer's gated product start by telling whether they are the same.
ALIKE = ((1, 2), (1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (3, 5))
ALIKE_STRENGTH = 0.3
FIRST_SLOW = 6  # rotary pairs from here on turn too little to disturb the comparison of tokens in one dialogue


class Norm(torch.autograd.Function):
    """x / rms(x) * scale in fewer passes over memory than the library's composite; x: (..., width), result in `dtype`."""

    @staticmethod
    def forward(ctx, x, scale, dtype):
        full = x.float()
        inverse = (torch.linalg.vector_norm(full, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(CONFIG["rms_norm_eps"])).rsqrt_()
        plain = full * inverse
        ctx.save_for_backward(plain, inverse, scale)
        ctx.dtype = x.dtype
        return (plain * scale).to(dtype)

    @staticmethod
    def backward(ctx, grad):
        plain, inverse, scale = ctx.saved_tensors
        grad = grad.float()
        product = grad * plain
        along = (product @ scale).unsqueeze(-1).div_(-plain.shape[-1])
        return torch.addcmul(grad * scale, plain, along).mul_(inverse).to(ctx.dtype), product.flatten(0, -2).sum(0), None


class RMSNorm(nn.Module):
    """Root mean square norm times (1 + weight)."""

    def __init__(self, width, start=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), start))

    def forward(self, x, dtype):  # (..., width)
        return Norm.apply(x, 1 + self.weight, dtype)


class Rotate(torch.autograd.Function):
    """Rotary position embedding, half-split. x: (B, T, heads, head_dim); cos, sin: (T, 1, head_dim / 2)."""

    @staticmethod
    def turn(x, cos, sin):
        out, half = torch.empty_like(x), x.shape[-1] // 2
        a, b = x[..., :half], x[..., half:]
        torch.mul(a, cos, out=out[..., :half]).addcmul_(b, sin, value=-1)
        torch.mul(b, cos, out=out[..., half:]).addcmul_(a, sin)
        return out

    @staticmethod
    def forward(ctx, x, cos, sin):
        ctx.save_for_backward(cos, sin)
        return Rotate.turn(x, cos, sin)

    @staticmethod
    def backward(ctx, grad):
        cos, sin = ctx.saved_tensors
        return Rotate.turn(grad.contiguous(), cos, -sin), None, None


class CappedAttention(torch.autograd.Function):
    """softmax(cap * tanh(q k)) v, with q already scaled by 1 / cap.

    The cap keeps every score within +-50, whose exponential float32 can hold: so no row maximum is needed, and
    everything on the (T, T) squares happens in place.
    """

    @staticmethod
    def forward(ctx, q, k, v, mask, cap):  # q, k, v: (B, heads, T, head_dim); mask: (T, T), 0 or 1
        t = (q @ k.transpose(-1, -2)).float().tanh_()
        p = (t * cap).exp_().mul_(mask)
        p = p.div_(p.sum(-1, keepdim=True)).to(q.dtype)
        out = p @ v
        ctx.save_for_backward(q, k, v, t, p, out)
        ctx.cap = cap
        return out

    @staticmethod
    def backward(ctx, grad):
        q, k, v, t, p, out = ctx.saved_tensors
        ds = (grad @ v.transpose(-1, -2)).float()
        ds.sub_((grad.float() * out.float()).sum(-1, keepdim=True)).mul_(p)
        ds = ds.addcmul_(ds, t.square_(), value=-1).mul_(ctx.cap).to(q.dtype)  # t is not needed again
        return ds @ k, ds.transpose(-1, -2) @ q, p.transpose(-1, -2) @ grad, None, None


def product(x, weight):
    """x (..., in) in bfloat16 times the float32 weight (out, in)."""
    return F.linear(x, weight.to(LOW))


class Attention(nn.Module):
    """Grouped-query attention with soft-capped scores."""

    def __init__(self, c):
        super().__init__()
        d, self.heads, self.kv, self.width = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        self.scale, self.cap = c["query_pre_attn_scalar"] ** -0.5, c["attn_logit_softcapping"]
        self.q_proj = nn.Linear(d, self.heads * self.width, bias=False)
        self.k_proj = nn.Linear(d, self.kv * self.width, bias=False)
        self.v_proj = nn.Linear(d, self.kv * self.width, bias=False)
        self.o_proj = nn.Linear(self.heads * self.width, d, bias=False)

    def forward(self, x, cos, sin, mask, where=None):  # x (B, T, d); mask (T, T), 0 or 1
        b, t, _ = x.shape
        q = product(x, self.q_proj.weight * (self.scale / self.cap)).view(b, t, self.heads, self.width)
        k = product(x, self.k_proj.weight).view(b, t, self.kv, self.width)
        v = product(x, self.v_proj.weight).view(b, t, self.kv, self.width).transpose(1, 2)
        q, k = Rotate.apply(q, cos, sin).transpose(1, 2), Rotate.apply(k, cos, sin).transpose(1, 2)
        repeat = self.heads // self.kv
        out = CappedAttention.apply(q, k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1), mask, self.cap)
        out = out.transpose(1, 2).reshape(b, t, -1)
        return product(out if where is None else out.flatten(0, 1)[where], self.o_proj.weight)


class MLP(nn.Module):
    """Gated GELU."""

    def __init__(self, c):
        super().__init__()
        d, f = c["hidden_size"], c["intermediate_size"]
        self.gate_proj = nn.Linear(d, f, bias=False)
        self.up_proj = nn.Linear(d, f, bias=False)
        self.down_proj = nn.Linear(f, d, bias=False)

    def forward(self, x):
        gate = F.gelu(product(x, self.gate_proj.weight), approximate="tanh")
        return product(gate * product(x, self.up_proj.weight), self.down_proj.weight)


class Layer(nn.Module):
    """One block with norms before and after each half."""

    def __init__(self, c):
        super().__init__()
        d = c["hidden_size"]
        self.self_attn, self.mlp = Attention(c), MLP(c)
        self.input_layernorm, self.pre_feedforward_layernorm = RMSNorm(d), RMSNorm(d)
        # Each half starts by adding little, so that deep layers learn from the first step on.
        self.post_attention_layernorm, self.post_feedforward_layernorm = RMSNorm(d, -0.6), RMSNorm(d, -0.6)

    def forward(self, x, cos, sin, mask, where=None):
        """x (B, T, d) -> (B, T, d), or (N, d) at the flat positions `where`."""
        attended = self.post_attention_layernorm(self.self_attn(self.input_layernorm(x, LOW), cos, sin, mask, where), torch.float32)
        x = (x if where is None else x.flatten(0, 1)[where]) + attended
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x, LOW)), torch.float32)


class Gemma2(nn.Module):
    """The whole model; `forward` gives the loss summed over the learned tokens."""

    def __init__(self, config=CONFIG):
        super().__init__()
        self.config = c = config
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.model.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.model.norm = RMSNorm(c["hidden_size"])
        self.tables = {}
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=EMBEDDING_STD if "embed" in name else p.shape[1] ** -0.5)
        self._look_back()
        self._match()
        self._alike()

    @torch.no_grad()
    def _look_back(self):
        """Let each head of the first layer look at another one of the tokens just before, and note which one it is.

        To look up a word means to know which words stood before it. Gemma has no biases, and random embeddings have nothing in
        common from which a head could learn to look at a place whatever stands there: so all of them get a common half, on
        which queries and keys act. It shifts all logits alike, which changes no probability.
        """
        c, layer = self.config, self.model.layers[0]
        d, width, heads = c["hidden_size"], c["head_dim"], c["num_attention_heads"]
        embedding = self.model.embed_tokens.weight
        nn.init.normal_(embedding[:, 1:OWN], std=EMBEDDING_STD * (d / (OWN - 1)) ** 0.5)
        embedding[:, 0], embedding[:, OWN:] = EMBEDDING_STD * d ** 0.5, 0
        common = torch.zeros(d)
        common[0] = 1
        along = (d / 2) ** 0.5  # a normed embedding's share in `common`
        q, k = (w.view(-1, 2, width // 2, d) for w in (layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight))
        pairs = len(PAIR_STRENGTHS)
        q[:, :, pairs:] *= 0.1
        k[:, :, pairs:] *= 0.3
        for j, nats in enumerate(PAIR_STRENGTHS):
            size = (nats * c["query_pre_attn_scalar"] ** 0.5) ** 0.5 / along
            frequency = c["rope_theta"] ** (-2 * j / width)
            k[:, 0, j], k[:, 1, j] = common * size, 0
            for head in range(heads):
                angle = -frequency * (head + 1)
                q[head, 0, j], q[head, 1, j] = common * size * math.cos(angle), common * size * math.sin(angle)
        # What a token is, in few numbers: the same ones for all heads and for _match.
        self.gist = nn.init.orthogonal_(torch.empty(SLOT, OWN - 1))
        v, o = layer.self_attn.v_proj.weight.view(-1, width, d), layer.self_attn.o_proj.weight.view(d, heads, width)
        v[:, :SLOT] = 0
        v[:, :SLOT, 1:OWN] = self.gist
        o *= 0.1
        for head in range(heads):
            o[:, head, :SLOT] = 0
            o[self._slot(head + 1), head, :SLOT] = torch.eye(SLOT)
        layer.post_attention_layernorm.weight.zero_()

    def _slot(self, back):
        """Where the residual stream holds which token stood so many places back."""
        return slice(OWN + SLOT * (back - 1), OWN + SLOT * back)

    @torch.no_grad()
    def _match(self):
        """Let heads of the full layers look where the same token stands, or where it stood just before."""
        c = self.config
        width, heads, kv = c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
        slow = [half * width // 2 + FIRST_SLOW + j for half in (0, 1) for j in range(SLOT // 2)]
        for index, matches in MATCHES.items():
            attention = self.model.layers[index].self_attn
            q, k = attention.q_proj.weight.view(heads, width, -1), attention.k_proj.weight.view(kv, width, -1)
            for head, (asked, given) in enumerate(matches):
                for weight, backs in ((q[head], asked), (k[head * kv // heads], given)):
                    weight *= 0.2
                    weight[slow] = 0
                    for back in backs:
                        if back:
                            weight[slow, self._slot(back)] = MATCH * torch.eye(SLOT) / len(backs) ** 0.5
                        else:
                            weight[slow, 1:OWN] = MATCH * self.gist / len(backs) ** 0.5

    @torch.no_grad()
    def _alike(self):
        """Let some units of the first layer tell whether two of the tokens just before are the same: `orange star, orange?`.

        The gated product of two places' gists, summed over their numbers, is their scalar product, once the half that
        the gate closes is added with both signs turned. From random weights that sum is found late: each of its terms alone says
        almost nothing.
        """
        c, mlp = self.config, self.model.layers[0].mlp
        for n, pair in enumerate(ALIKE):
            plus = slice(2 * SLOT * n, 2 * SLOT * n + SLOT)
            minus = slice(plus.stop, plus.stop + SLOT)
            for weight, back in zip((mlp.gate_proj.weight, mlp.up_proj.weight), pair):
                weight[plus] = 0
                weight[plus, self._slot(back)] = torch.eye(SLOT)
                weight[minus] = -weight[plus]
            told = torch.randn(c["hidden_size"], 1)
            mlp.down_proj.weight[:, plus.start:minus.stop] = ALIKE_STRENGTH * told / told.norm()

    def _tables(self, t):
        """cos and sin (T, 1, head_dim / 2), the full and the sliding mask (T, T) of zeros and ones."""
        if t not in self.tables:
            c = self.config
            frequency = c["rope_theta"] ** (-torch.arange(0, c["head_dim"], 2) / c["head_dim"])
            angle = torch.outer(torch.arange(t), frequency)[:, None]
            full = torch.ones(t, t).tril()
            self.tables[t] = angle.cos().to(LOW), angle.sin().to(LOW), full, full - full.tril(-c["sliding_window"])
        return self.tables[t]

    def logits(self, ids, where):
        """Scores (N, vocabulary) of the tokens that follow the flat positions `where` of ids (B, T), before the cap."""
        cos, sin, full, sliding = self._tables(ids.shape[1])
        x = self.model.embed_tokens(ids) * self.config["hidden_size"] ** 0.5  # (B, T, d)
        last = len(self.model.layers) - 1
        for i, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, full if i % 2 else sliding, where if i == last else None)
        # (N, d): no more than attention is needed where nothing is learned
        return product(self.model.norm(x, LOW), self.model.embed_tokens.weight)

    def forward(self, ids, where, targets):
        """ids (B, T); where: flat positions whose next token is learned; targets: those tokens."""
        cap = self.config["final_logit_softcapping"]
        logits = cap * torch.tanh(self.logits(ids, where).float() / cap)
        return F.cross_entropy(logits, targets, reduction="sum")
