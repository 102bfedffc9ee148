from recray.api import Comparison as Comparison
from recray.api import Dataset as Dataset
from recray.api import LaunchConfig as LaunchConfig
from recray.api import Model as Model
from recray.api import compare as compare
from recray.api import fit as fit
from recray.api import load as load
from recray.api import open as open

__version__: str
