"""The network: a small LLaMA-architecture decoder, and the Muon/Adam optimiser that trains it.

The conventions are those of the GGUF architecture `llama`: rotary pairs are neighbours (2i, 2i+1), key/value heads are
shared by consecutive query heads, the feed-forward gate is SiLU, norms are RMS norms before each half block, and the
output matrix is the embedding. Tensors export without permutation.

Matrix products run in bfloat16 where the processor multiplies it natively (about four times the speed of float32 on one
AVX512-BF16 core); the master weights, the norms and the residual stream stay float32.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F

QUERY_CHUNK = 128  # queries attend to the keys up to the end of their chunk: skips most of the masked triangle


@dataclasses.dataclass(frozen=True)
class Config:
    vocab: int = 1536
    dim: int = 256
    ffn: int = 768
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    context: int = 1024
    rope_base: float = 10000.0
    eps: float = 1e-5

    @property
    def head_dim(self):
        return self.dim // self.heads


def tensor_shapes(config):
    """Name and shape (rows, columns) of every tensor, under the names GGUF gives them."""
    kv_dim = config.kv_heads * config.head_dim
    shapes = {"token_embd.weight": (config.vocab, config.dim), "output_norm.weight": (config.dim,)}
    for i in range(config.layers):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (config.dim,),
            f"blk.{i}.attn_q.weight": (config.dim, config.dim),
            f"blk.{i}.attn_k.weight": (kv_dim, config.dim),
            f"blk.{i}.attn_v.weight": (kv_dim, config.dim),
            f"blk.{i}.attn_output.weight": (config.dim, config.dim),
            f"blk.{i}.ffn_norm.weight": (config.dim,),
            f"blk.{i}.ffn_gate.weight": (config.ffn, config.dim),
            f"blk.{i}.ffn_up.weight": (config.ffn, config.dim),
            f"blk.{i}.ffn_down.weight": (config.dim, config.ffn),
        }
    return shapes


def initial_weights(config, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in tensor_shapes(config).items():
        if len(shape) == 1:
            weights[name] = torch.ones(shape)
            continue
        scale = 0.02 if name == "token_embd.weight" else 1.0 / math.sqrt(shape[1])
        if name.endswith(("attn_output.weight", "ffn_down.weight")):
            scale /= math.sqrt(2 * config.layers)
        weights[name] = torch.randn(shape, generator=generator) * scale
    return weights


def rope_table(config, length, start=0):
    """e^(i * position * frequency) as complex numbers, one column a pair."""
    half = config.head_dim // 2
    frequency = config.rope_base ** (-torch.arange(half, dtype=torch.float64) * 2 / config.head_dim)
    angle = torch.arange(start, start + length, dtype=torch.float64)[:, None] * frequency
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


class RmsNorm(torch.autograd.Function):
    """x / rms(x) * gain, with its backward written out: autograd's own chain takes three times as long here."""

    @staticmethod
    def forward(ctx, x, gain, eps, dtype):
        inverse = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        unit = x * inverse
        ctx.save_for_backward(unit, gain, inverse)
        return (unit * gain).to(dtype)

    @staticmethod
    def backward(ctx, grad):
        unit, gain, inverse = ctx.saved_tensors
        grad = grad.float()
        grad_gain = (grad * unit).flatten(0, -2).sum(0)
        scaled = grad * gain
        mean = (scaled * unit).mean(-1, keepdim=True)
        return (scaled - unit * mean) * inverse, grad_gain, None, None


class GatedSilu(torch.autograd.Function):
    """silu(gate) * up; PyTorch's bfloat16 silu backward is ten times slower than these products."""

    @staticmethod
    def forward(ctx, gate, up):
        sigmoid = torch.sigmoid(gate)
        silu = gate * sigmoid
        ctx.save_for_backward(sigmoid, silu, up)
        return silu * up

    @staticmethod
    def backward(ctx, grad):
        sigmoid, silu, up = ctx.saved_tensors
        return grad * up * (sigmoid + silu * (1 - sigmoid)), grad * silu


def rotate(x, table):
    """Rotates neighbouring pairs of the last axis; x is (batch, time, heads, head_dim)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table[:, None, :]).flatten(-2)


def attention(q, k, v, allowed):
    """Causal attention; q is (batch, kv_heads, group, time, head_dim), k and v (batch, kv_heads, time, head_dim).

    `allowed` (batch, time, time) is true where a query may see a key."""
    batch, kv_heads, group, time, head_dim = q.shape
    q = q * (1.0 / math.sqrt(head_dim))
    parts = []
    for start in range(0, time, QUERY_CHUNK):
        end = min(start + QUERY_CHUNK, time)
        rows = end - start
        queries = q[:, :, :, start:end].reshape(batch, kv_heads, group * rows, head_dim)
        scores = queries @ k[:, :, :end].transpose(-1, -2)
        mask = allowed[:, None, None, start:end, :end]
        scores = scores.view(batch, kv_heads, group, rows, end).masked_fill(~mask, float("-inf"))
        weights = scores.softmax(-1).view(batch, kv_heads, group * rows, end)
        parts.append((weights @ v[:, :, :end]).view(batch, kv_heads, group, rows, head_dim))
    return torch.cat(parts, 3)


def hidden_states(weights, config, tokens, allowed, dtype=torch.float32):
    """The last layer's output after the final norm, for tokens (batch, time)."""
    batch, time = tokens.shape
    kv_dim = config.kv_heads * config.head_dim
    table = rope_table(config, time)
    x = F.embedding(tokens, weights["token_embd.weight"])
    for i in range(config.layers):
        def w(name):
            return weights[f"blk.{i}.{name}.weight"]

        normed = RmsNorm.apply(x, w("attn_norm"), config.eps, dtype)
        qkv = F.linear(normed, torch.cat([w("attn_q"), w("attn_k"), w("attn_v")]).to(dtype))
        qk = rotate(qkv[..., : config.dim + kv_dim].reshape(batch, time, -1, config.head_dim), table).to(dtype)
        q = qk[:, :, : config.heads].permute(0, 2, 1, 3)
        q = q.reshape(batch, config.kv_heads, -1, time, config.head_dim)
        k = qk[:, :, config.heads :].permute(0, 2, 1, 3).contiguous()
        v = qkv[..., config.dim + kv_dim :].reshape(batch, time, -1, config.head_dim).permute(0, 2, 1, 3).contiguous()
        mixed = attention(q, k, v, allowed).flatten(1, 2).permute(0, 2, 1, 3).reshape(batch, time, config.dim)
        x = x + F.linear(mixed, w("attn_output").to(dtype))

        normed = RmsNorm.apply(x, w("ffn_norm"), config.eps, dtype)
        gate, up = F.linear(normed, torch.cat([w("ffn_gate"), w("ffn_up")]).to(dtype)).split(config.ffn, -1)
        x = x + F.linear(GatedSilu.apply(gate, up), w("ffn_down").to(dtype))
    return RmsNorm.apply(x, weights["output_norm.weight"], config.eps, dtype)


def loss_of(weights, config, tokens, loss_weights, documents, dtype):
    """Mean weighted cross-entropy of predicting each next token; documents do not see each other."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    time = inputs.shape[1]
    ids = documents[:, :-1]
    allowed = (ids[:, :, None] == ids[:, None, :]) & torch.ones(time, time, dtype=torch.bool).tril()
    hidden = hidden_states(weights, config, inputs, allowed, dtype).flatten(0, 1)
    wanted = loss_weights[:, 1:].flatten()
    rows = wanted.nonzero().squeeze(1)
    logits = F.linear(hidden[rows], weights["token_embd.weight"].to(dtype)).float()
    losses = F.cross_entropy(logits, targets.flatten()[rows], reduction="none")
    return (losses * wanted[rows]).sum() / wanted.sum()


class Optimiser:
    """Muon for the matrices of the blocks, Adam for the embedding and the norms.

    Muon steps along the nearest semi-orthogonal matrix to the momentum, found by a quintic Newton-Schulz iteration: every
    direction of a matrix learns equally fast, which takes about half the steps of Adam here."""

    def __init__(self, weights):
        self.step_count = 0
        self.muon = [n for n, w in weights.items() if w.ndim == 2 and n != "token_embd.weight"]
        self.adam = [n for n in weights if n not in self.muon]
        self.first = {n: torch.zeros_like(w) for n, w in weights.items()}
        self.second = {n: torch.zeros_like(weights[n]) for n in self.adam}

    def state(self):
        return {"step_count": self.step_count, "first": self.first, "second": self.second}

    def load(self, state):
        self.step_count, self.first, self.second = state["step_count"], state["first"], state["second"]

    @torch.no_grad()
    def step(self, weights, rate, muon_rate=0.02, adam_rate=0.003, decay=0.02, dtype=torch.float32):
        """One update; `rate` is the schedule's factor in 0..1."""
        self.step_count += 1
        t = self.step_count
        for name in self.muon:
            w, momentum = weights[name], self.first[name]
            momentum.mul_(0.95).add_(w.grad)
            update = orthogonalise(w.grad + 0.95 * momentum, dtype)
            lr = rate * muon_rate
            w.mul_(1 - lr * decay)
            w.add_(update, alpha=-lr * math.sqrt(max(1.0, w.shape[0] / w.shape[1])))
        for name in self.adam:
            w, first, second = weights[name], self.first[name], self.second[name]
            first.mul_(0.9).add_(w.grad, alpha=0.1)
            second.mul_(0.98).addcmul_(w.grad, w.grad, value=0.02)
            denominator = (second / (1 - 0.98**t)).sqrt_().add_(1e-10)
            w.addcdiv_(first / (1 - 0.9**t), denominator, value=-rate * adam_rate)
        for w in weights.values():
            w.grad = None


def orthogonalise(matrix, dtype):
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(dtype)
    x = x / (x.float().norm() + 1e-7).to(dtype)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * (square @ square)) @ x
    return (x.T if tall else x).float()


class Decoder:
    """Greedy decoding with a key/value cache, float32, one sequence: the reference that the engine is compared with."""

    def __init__(self, weights, config):
        self.weights, self.config = weights, config
        self.reset()

    def reset(self):
        self.cache = [None] * self.config.layers
        self.length = 0

    @torch.no_grad()
    def feed(self, ids):
        """Logits after the last of `ids`."""
        c, time = self.config, len(ids)
        table = rope_table(c, time, self.length)
        x = self.weights["token_embd.weight"][torch.tensor(ids)]
        causal = torch.ones(time, self.length + time, dtype=torch.bool).tril(self.length)
        for i in range(c.layers):
            def w(name):
                return self.weights[f"blk.{i}.{name}.weight"]

            normed = RmsNorm.apply(x, w("attn_norm"), c.eps, torch.float32)
            q = rotate(F.linear(normed, w("attn_q")).view(1, time, c.heads, c.head_dim), table)[0]
            k = rotate(F.linear(normed, w("attn_k")).view(1, time, c.kv_heads, c.head_dim), table)[0]
            v = F.linear(normed, w("attn_v")).view(time, c.kv_heads, c.head_dim)
            if self.cache[i] is not None:
                k, v = torch.cat([self.cache[i][0], k]), torch.cat([self.cache[i][1], v])
            self.cache[i] = (k, v)
            group = c.heads // c.kv_heads
            keys = k.repeat_interleave(group, 1).permute(1, 2, 0)
            scores = q.permute(1, 0, 2) @ keys / math.sqrt(c.head_dim)
            scores = scores.masked_fill(~causal, float("-inf")).softmax(-1)
            mixed = (scores @ v.repeat_interleave(group, 1).permute(1, 0, 2)).permute(1, 0, 2).reshape(time, c.dim)
            x = x + F.linear(mixed, w("attn_output"))
            normed = RmsNorm.apply(x, w("ffn_norm"), c.eps, torch.float32)
            x = x + F.linear(F.silu(F.linear(normed, w("ffn_gate"))) * F.linear(normed, w("ffn_up")), w("ffn_down"))
        self.length += time
        last = RmsNorm.apply(x[-1:], self.weights["output_norm.weight"], c.eps, torch.float32)
        return F.linear(last, self.weights["token_embd.weight"])[0]

    def greedy(self, ids, stop, limit):
        """The continuation of `ids` up to and including a token of `stop`, and each step's gap between the two highest logits."""
        self.reset()
        logits, out, margins = self.feed(ids), [], []
        while len(out) < limit and self.length < self.config.context:
            best = logits.topk(2)
            margins.append(float(best.values[0] - best.values[1]))
            out.append(int(best.indices[0]))
            if out[-1] in stop:
                break
            logits = self.feed(out[-1:])
        return out, margins
