"""Where the project keeps its committed inputs and what it produces."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
DEMO = DATA / "demo"
FIGURES = ROOT / "figures"
NOTEBOOKS = ROOT / "notebooks"
