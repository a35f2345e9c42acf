"""Sound and symbolic music.

Not built yet: this package holds the place of the wing, and every public name asked of it raises
`NotImplementedError`.
"""

from .. import _unbuilt

__getattr__ = _unbuilt(__name__)
