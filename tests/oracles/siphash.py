"""SipHash-2-4 written from the paper's text, byte by byte, in Python's own integers."""

_64 = (1 << 64) - 1


def siphash_2_4(message: bytes, key: bytes) -> int:
    """The 64-bit hash of `message` under a 16-byte key."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    initial = b"somepseudorandomlygeneratedbytes"
    constants = [int.from_bytes(initial[i : i + 8], "big") for i in range(0, 32, 8)]
    state = [constant ^ part for constant, part in zip(constants, (k0, k1, k0, k1), strict=True)]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    state[2] ^= 0xFF
    _rounds(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _rotated(x: int, bits: int) -> int:
    return (x << bits | x >> 64 - bits) & _64


def _rounds(v: list[int], count: int) -> None:
    for _ in range(count):
        v[0] = (v[0] + v[1]) & _64
        v[2] = (v[2] + v[3]) & _64
        v[1] = _rotated(v[1], 13) ^ v[0]
        v[3] = _rotated(v[3], 16) ^ v[2]
        v[0] = _rotated(v[0], 32)
        v[2] = (v[2] + v[1]) & _64
        v[0] = (v[0] + v[3]) & _64
        v[1] = _rotated(v[1], 17) ^ v[2]
        v[3] = _rotated(v[3], 21) ^ v[0]
        v[2] = _rotated(v[2], 32)
