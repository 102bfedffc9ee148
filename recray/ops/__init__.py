"""Heavy or optional dependencies and their plain twins, behind one signature each."""
