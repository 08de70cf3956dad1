"""What can go wrong in this room, ignorant of HTTP.

WatermarkError
├── KeyRingError       a key file or variable that cannot be used (the message never holds key material)
├── UnknownKey         a key id that the ring does not hold
├── CommonplacesError  a file of commonplaces that cannot be used
└── SchemeError        an unknown scheme, or a parameter outside its range
"""


class WatermarkError(Exception):
    """Base of every error of this room."""


class KeyRingError(WatermarkError):
    """A key ring that cannot be read; says where, never what the secret was."""


class UnknownKey(WatermarkError):
    """No key of this id."""


class CommonplacesError(WatermarkError):
    """A file of commonplaces that cannot be read, or is of another vocabulary."""


class SchemeError(WatermarkError):
    """An unknown scheme, or a parameter outside its range."""
