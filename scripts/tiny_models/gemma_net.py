"""Gemma 2 in plain PyTorch, for training on a CPU.

Parameters carry the names of Hugging Face's checkpoints. Only what training needs is here: whole
sequences, right padding, no cache. The saved folder is evaluated with transformers, so that a
difference between the two could not pass unseen.
"""
import torch
from torch import nn
from torch.nn import functional as F

CONFIG = {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "attention_bias": False, "attention_dropout": 0.0,
    "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 107],
    "final_logit_softcapping": 30.0, "head_dim": 64, "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 256, "initializer_range": 0.02, "intermediate_size": 512,
    "max_position_embeddings": 1024, "num_attention_heads": 4, "num_hidden_layers": 6, "num_key_value_heads": 2,
    "pad_token_id": 0, "query_pre_attn_scalar": 64, "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 128,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 4096,
}


class Norm(torch.autograd.Function):
    """x / rms(x) * scale in fewer passes over memory than the library's composite; x: (..., width)."""

    @staticmethod
    def forward(ctx, x, scale):
        inverse = (torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(CONFIG["rms_norm_eps"])).rsqrt_()
        plain = x * inverse
        ctx.save_for_backward(plain, inverse, scale)
        return plain * scale

    @staticmethod
    def backward(ctx, grad):
        plain, inverse, scale = ctx.saved_tensors
        product = grad * plain
        along = (product @ scale).unsqueeze(-1).div_(-plain.shape[-1])
        return torch.addcmul(grad * scale, plain, along).mul_(inverse), product.flatten(0, -2).sum(0)


class RMSNorm(nn.Module):
    """Root mean square norm times (1 + weight)."""

    def __init__(self, width, start=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), start))

    def forward(self, x):  # (..., width)
        return Norm.apply(x, 1 + self.weight)


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
        t = (q @ k.transpose(-1, -2)).tanh_()
        p = (t * cap).exp_().mul_(mask)
        p.div_(p.sum(-1, keepdim=True))
        out = p @ v
        ctx.save_for_backward(q, k, v, t, p, out)
        ctx.cap = cap
        return out

    @staticmethod
    def backward(ctx, grad):
        q, k, v, t, p, out = ctx.saved_tensors
        ds = grad @ v.transpose(-1, -2)
        ds.sub_((grad * out).sum(-1, keepdim=True)).mul_(p)
        ds.addcmul_(ds, t.square_(), value=-1).mul_(ctx.cap)  # t is not needed again
        return ds @ k, ds.transpose(-1, -2) @ q, p.transpose(-1, -2) @ grad, None, None


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

    def forward(self, x, cos, sin, mask):  # x (B, T, d); mask (T, T), 0 or 1
        b, t, _ = x.shape
        q = self.q_proj(x * (self.scale / self.cap)).view(b, t, self.heads, self.width)
        k = self.k_proj(x).view(b, t, self.kv, self.width)
        v = self.v_proj(x).view(b, t, self.kv, self.width).transpose(1, 2)
        q, k = Rotate.apply(q, cos, sin).transpose(1, 2), Rotate.apply(k, cos, sin).transpose(1, 2)
        repeat = self.heads // self.kv
        out = CappedAttention.apply(q, k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1), mask, self.cap)
        return self.o_proj(out.transpose(1, 2).reshape(b, t, -1))


class MLP(nn.Module):
    """Gated GELU."""

    def __init__(self, c):
        super().__init__()
        d, f = c["hidden_size"], c["intermediate_size"]
        self.gate_proj = nn.Linear(d, f, bias=False)
        self.up_proj = nn.Linear(d, f, bias=False)
        self.down_proj = nn.Linear(f, d, bias=False)

    def forward(self, x):
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class Layer(nn.Module):
    """One block with norms before and after each half."""

    def __init__(self, c):
        super().__init__()
        d = c["hidden_size"]
        self.self_attn, self.mlp = Attention(c), MLP(c)
        self.input_layernorm, self.pre_feedforward_layernorm = RMSNorm(d), RMSNorm(d)
        # Each half starts by adding little, so that deep layers learn from the first step on.
        self.post_attention_layernorm, self.post_feedforward_layernorm = RMSNorm(d, -0.6), RMSNorm(d, -0.6)

    def forward(self, x, cos, sin, mask):
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), cos, sin, mask))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


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
                nn.init.normal_(p, std=0.05 if "embed" in name else p.shape[1] ** -0.5)

    def _tables(self, t):
        """cos and sin (T, 1, head_dim / 2), the full and the sliding mask (T, T) of zeros and ones."""
        if t not in self.tables:
            c = self.config
            frequency = c["rope_theta"] ** (-torch.arange(0, c["head_dim"], 2) / c["head_dim"])
            angle = torch.outer(torch.arange(t), frequency)[:, None]
            full = torch.ones(t, t).tril()
            self.tables[t] = angle.cos(), angle.sin(), full, full - full.tril(-c["sliding_window"])
        return self.tables[t]

    def forward(self, ids, where, targets):
        """ids (B, T); where: flat positions whose next token is learned; targets: those tokens."""
        cos, sin, full, sliding = self._tables(ids.shape[1])
        x = self.model.embed_tokens(ids) * self.config["hidden_size"] ** 0.5  # (B, T, d)
        for i, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, full if i % 2 else sliding)
        x = self.model.norm(x.flatten(0, 1)[where])  # (N, d): the head is needed only where something is learned
        cap = self.config["final_logit_softcapping"]
        logits = cap * torch.tanh(x @ self.model.embed_tokens.weight.T / cap)
        return F.cross_entropy(logits, targets, reduction="sum")
