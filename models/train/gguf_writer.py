"""Writes GGUF version 3 files (little-endian, data aligned to 32 bytes) and quantises to Q8_0.

Q8_0: a row is cut into blocks of 32; a block is a float16 scale d = max|x| / 127 followed by 32 signed bytes
round(x / d), halves to even.
"""

import os
import struct

import numpy as np

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
BLOCK = 32
TYPE_F32, TYPE_Q8_0 = 0, 8
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


def quantise_q8_0(x):
    """float32 of any shape whose last axis is a multiple of 32 -> (scales float16, values int8), one row a block."""
    blocks = np.ascontiguousarray(x, np.float32).reshape(-1, BLOCK)
    scale = np.abs(blocks).max(1) / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    values = np.rint(blocks * inverse[:, None]).astype(np.int8)
    return scale.astype(np.float16), values


def dequantise_q8_0(scales, values, shape):
    return (values.astype(np.float32) * scales.astype(np.float32)[:, None]).reshape(shape)


def q8_0_bytes(x):
    scales, values = quantise_q8_0(x)
    return np.concatenate([scales.astype("<f2").view(np.uint8).reshape(-1, 2), values.view(np.uint8)], 1).tobytes()


def string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def typed(kind, value):
    """A metadata value with its type in front; a pair (ARRAY, element type) makes an array."""
    if isinstance(kind, tuple):
        element = kind[1]
        body = b"".join(typed(element, v)[4:] for v in value)
        return struct.pack("<IIQ", ARRAY, element, len(value)) + body
    if kind == STRING:
        return struct.pack("<I", STRING) + string(value)
    return struct.pack("<I" + {UINT32: "I", INT32: "i", FLOAT32: "f", BOOL: "?"}[kind], kind, value)


def aligned(size):
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def write_gguf(path, metadata, tensors):
    """`metadata`: [(key, type, value)]; `tensors`: {name: float32 array}. Matrices become Q8_0, vectors stay F32.

    The file appears under its name only when it is complete."""
    header = MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(metadata))
    header += b"".join(string(key) + typed(kind, value) for key, kind, value in metadata)
    data, offset = [], 0
    for name, array in tensors.items():
        matrix = array.ndim == 2
        payload = q8_0_bytes(array) if matrix else np.ascontiguousarray(array, "<f4").tobytes()
        header += string(name) + struct.pack("<I", array.ndim)
        header += b"".join(struct.pack("<Q", n) for n in reversed(array.shape))
        header += struct.pack("<IQ", TYPE_Q8_0 if matrix else TYPE_F32, offset)
        data.append(payload.ljust(aligned(len(payload)), b"\0"))
        offset += len(data[-1])
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(header.ljust(aligned(len(header)), b"\0") + b"".join(data))
    os.replace(temporary, path)
