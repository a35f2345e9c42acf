"""Medical imaging: reconstruction (CT, MRI) and segmentation.

Not built yet: this package holds the place of the wing, and every public name asked of it raises
`NotImplementedError`.
"""

from .. import _unbuilt

__getattr__ = _unbuilt(__name__)
