"""What pyproject.toml cannot say: two folders of the checkout lie inside the package once it is installed."""

from setuptools import find_packages, setup

BESIDE = ("serve_apps", "tune_spaces")

setup(
    packages=[*find_packages(include=["recray*"]), *(f"recray.{folder}" for folder in BESIDE)],
    package_dir={f"recray.{folder}": folder for folder in BESIDE},
)
