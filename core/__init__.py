"""The ground floor: schedules, spaces, denoisers, grids, samplers, guidance. It knows no scientific field."""

from .. import __version__ as __version__  # first: makes a bare `import core` from the repository root fail loudly
