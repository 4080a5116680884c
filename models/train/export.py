"""Turns trained weights and the tokeniser into a GGUF file of the architecture `llama`."""

import torch

import gguf_writer as gguf
import tokenizer as tok

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
NORMAL, CONTROL = 1, 3
MOSTLY_Q8_0 = 7


def metadata_for(config, tokenizer):
    end_of_text, end_of_turn = tokenizer.special_ids["<|endoftext|>"], tokenizer.special_ids["<|im_end|>"]
    u32, f32, text = gguf.UINT32, gguf.FLOAT32, gguf.STRING
    return [
        ("general.architecture", text, "llama"),
        ("general.type", text, "model"),
        ("general.name", text, "tandem-demo"),
        ("general.description", text, "Demo model of Tandem: small stories, questions about them, small sums, Tandem."),
        ("general.license", text, "apache-2.0"),
        ("general.languages", (gguf.ARRAY, text), ["en"]),
        ("general.file_type", u32, MOSTLY_Q8_0),
        ("general.quantization_version", u32, 2),
        ("general.alignment", u32, gguf.ALIGNMENT),
        ("llama.vocab_size", u32, config.vocab),
        ("llama.context_length", u32, config.context),
        ("llama.embedding_length", u32, config.dim),
        ("llama.block_count", u32, config.layers),
        ("llama.feed_forward_length", u32, config.ffn),
        ("llama.attention.head_count", u32, config.heads),
        ("llama.attention.head_count_kv", u32, config.kv_heads),
        ("llama.attention.key_length", u32, config.head_dim),
        ("llama.attention.value_length", u32, config.head_dim),
        ("llama.attention.layer_norm_rms_epsilon", f32, config.eps),
        ("llama.rope.dimension_count", u32, config.head_dim),
        ("llama.rope.freq_base", f32, config.rope_base),
        ("tokenizer.ggml.model", text, "gpt2"),
        ("tokenizer.ggml.pre", text, "qwen2"),
        ("tokenizer.ggml.tokens", (gguf.ARRAY, text), tokenizer.tokens),
        ("tokenizer.ggml.token_type", (gguf.ARRAY, gguf.INT32), [CONTROL if t in tok.SPECIALS else NORMAL for t in tokenizer.tokens]),
        ("tokenizer.ggml.merges", (gguf.ARRAY, text), [f"{a} {b}" for a, b in tokenizer.merges]),
        ("tokenizer.ggml.bos_token_id", u32, end_of_text),
        ("tokenizer.ggml.eos_token_id", u32, end_of_turn),
        ("tokenizer.ggml.eot_token_id", u32, end_of_text),  # a plain story ends with it: generation stops there as well
        ("tokenizer.ggml.padding_token_id", u32, end_of_text),
        ("tokenizer.ggml.add_bos_token", gguf.BOOL, False),
        ("tokenizer.chat_template", text, CHAT_TEMPLATE),
    ]


def write_model(path, weights, config, tokenizer):
    gguf.write_gguf(path, metadata_for(config, tokenizer), {name: w.numpy() for name, w in weights.items()})


def as_stored(weights):
    """The weights as an engine reads them back from the file."""
    stored = {}
    for name, w in weights.items():
        array = w.numpy()
        stored[name] = w if w.ndim == 1 else torch.from_numpy(gguf.dequantise_q8_0(*gguf.quantise_q8_0(array), array.shape))
    return stored
